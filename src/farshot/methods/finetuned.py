"""What fine-tuned methods share: a list of parts, groups of parameters and a recipe become adapted
classifiers.

Shapes: T tasks, N classes, B images, E joint width.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.methods.base import Adapted, Method, alike, count_parameters, finite, row_batches
from farshot.model.encoder import Encoder
from farshot.model.tower import Part, Pass, TextFeatures
from farshot.parts.lora import LoRA
from farshot.parts.part import one_task
from farshot.parts.prompt import PromptContext
from farshot.task import Task
from farshot.training.batches import QUERY_READING, SUPPORT_READING, StepSource, image_numbers
from farshot.training.loop import Objective, Progress, Stepper, class_logits, finetune
from farshot.training.recipe import ParameterGroup, Recipe

Parts = dict[str, nn.Module]
"""Name -> part, in the order in which they act."""


def acting(parts: Mapping[str, nn.Module]) -> list[Part]:
    """The parts as a forward pass takes them."""
    return [part for part in parts.values() if isinstance(part, Part)]


def contexts(parts: Mapping[str, nn.Module]) -> list[PromptContext]:
    """The learnable contexts among parts, and within them."""
    return [one for part in parts.values() for one in part.modules() if isinstance(one, PromptContext)]


class FinetunedAdapted(Adapted):
    """Parts of one task on the encoder, with its class texts computed once from its template, which is the
    method's where that words prompts itself."""

    def __init__(
        self,
        encoder: Encoder,
        class_names: Sequence[str],
        parts: Parts,
        texts: TextFeatures,
        *,
        template: str,
        scale: float,
        reading: str,
        losses: Float[NDArray[np.float64], " steps"] | None = None,
        trained: int = 0,
    ) -> None:
        self.encoder, self.class_names, self.parts, self.texts = encoder, tuple(class_names), parts, texts
        self.scale, self.reading, self.trained, self.template = scale, reading, trained, template
        self.losses = np.zeros(0) if losses is None else losses
        lora = parts.get("lora")
        self.lora = lora if isinstance(lora, LoRA) else None

    @torch.no_grad()
    def logits(
        self,
        table: ImageTable,
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        progress: Progress | None = None,
        batch: int = 64,
    ) -> Float[NDArray[np.float32], "rows N"]:
        """s * cosine(image, text) of these rows."""
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        out = np.zeros((len(chosen), len(self.class_names)), dtype=np.float32)
        for part in row_batches(len(chosen), batch):
            pixels = table.pixels(chosen[part], self.reading, self.encoder.size)
            out[part] = self.pixel_logits(torch.from_numpy(pixels)).cpu().numpy()
            if progress:
                progress(part.stop, len(chosen))
        return finite(out)

    def pixel_logits(self, pixels: Tensor) -> Float[Tensor, "B N"]:
        """The same for pixels that are read already, uint8 (B, R, R, 3)."""
        numbers = torch.from_numpy(image_numbers(pixels.numpy()))[None].to(self.encoder.device)
        this = Pass(acting(self.parts), texts=self.texts, images=numbers)
        images = self.encoder.forward_images(pixels[None], this)
        return class_logits(images, self.texts.final, self.scale)[0]

    def class_directions(self) -> Float[Tensor, "N E"]:
        """The adapted class texts."""
        return self.texts.final[0]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters of every part, the class texts and the scale."""
        out = {
            f"{name}.{key}": value
            for name, part in self.parts.items()
            for key, value in part.state_dict().items()
        }
        out |= {
            "texts.final": self.texts.final,
            "texts.tap": self.texts.tap,
            "scale": torch.tensor(self.scale),
        }
        return {name: tensor.detach().cpu().contiguous() for name, tensor in out.items()}


@dataclasses.dataclass(frozen=True)
class FinetunedMethod(Method):
    """A method that is a list of parts, groups and a recipe."""

    @abstractmethod
    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The parts of T tasks, with their initial values."""

    @abstractmethod
    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """Which parameters learn, and how."""

    @abstractmethod
    def recipe(self, classes: int, shots: int) -> Recipe:
        """How long and how, for tasks of N classes and K shots; a scale of 0 means the encoder's own."""

    def recipe_for(self, task: Task) -> Recipe:
        """The same for a task, whose classes may be of unequal size."""
        return self.recipe(len(task.class_names), task.shots)

    def for_task(self, encoder: Encoder, task: Task) -> FinetunedMethod:
        """With steps and scale, where these are 0."""
        recipe = self.recipe_for(task)
        steps = recipe.steps + self.later_steps(len(task.class_names), task.shots)
        given = self.settings()
        derived = {"steps": steps, "scale": recipe.scale}
        return dataclasses.replace(self, **{name: x for name, x in derived.items() if given.get(name) == 0})

    def helpers(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Modules that learn with the parts and are dropped after training; `groups` takes both."""
        return {}

    def stepper(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> Stepper | None:
        """What computes the gradients of a step from parts and helpers; None where the objective has them."""
        return None

    def images(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> StepSource | None:
        """The images of each step; None for support images as the recipe says."""
        return None

    @property
    def further_images(self) -> int:
        """How many images of each task `images` adds to those of the recipe in a step."""
        return 0

    def objective(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> Objective | None:
        """What is minimised for these T tasks; None for the cross-entropy."""
        return None

    def penalty(self, tasks: Sequence[Task], parts: Parts) -> Callable[[], Float[Tensor, " T"]] | None:
        """What is added to the loss of every task in each step, of its parameters alone; None for nothing."""
        return None

    def later_steps(self, classes: int, shots: int) -> int:
        """Optimiser steps of `last_stage`."""
        return 0

    def later_parameters(self, encoder: Encoder, classes: int) -> int:
        """Elements that `last_stage` trains for a task of N classes, beyond those of `groups`."""
        return 0

    @property
    def classes_are_texts(self) -> bool:
        """Whether the text tower gives the class vectors."""
        return True

    def last_stage(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        parts: Parts,
        texts: TextFeatures,
        recipe: Recipe,
        progress: Progress | None,
    ) -> tuple[TextFeatures, Float[NDArray[np.float64], "steps T"]]:
        """Go on after the recipe's steps: class vectors to use in place of the adapted texts, and the loss of
        each further step. Nothing by default."""
        return texts, np.zeros((0, len(tasks)))

    def worded(self, task: Task) -> Task:
        """The task with the prompt this method uses; its own unless the method says otherwise."""
        return task

    def start(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> None:
        """Prepare the parts from the tasks, as they were given, before training."""

    def finish(self, parts: Parts) -> None:
        """Change the parts after training."""

    def adapt(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        micro_batch: int | None = None,
        progress: Progress | None = None,
    ) -> list[Adapted]:
        """One batch for all tasks of as many classes and shots, one template and one recipe; most often that
        is one batch."""
        out: dict[int, Adapted] = {}
        worded = [self.worded(task) for task in tasks]
        batches = alike(worded, self._batch_of)
        costs = [self._step_costs([worded[i] for i in members]) for members in batches]
        unit = math.gcd(*(each for each, _ in costs)) or 1
        of, done = sum(each // unit * steps for each, steps in costs), 0
        for (cost, whole), members in zip(costs, batches, strict=True):
            together = [worded[i] for i in members]
            recipe = self.recipe_for(together[0])
            scale = recipe.scale or encoder.logit_scale
            recipe = dataclasses.replace(recipe, micro_batch=micro_batch, scale=scale)
            parts = self.parts(encoder, together)
            for context in contexts(parts):
                for task in together:
                    context.check_names(encoder, task.template, task.prompts)
            helpers = self.helpers(encoder, together)
            groups = self.groups(parts | helpers)
            self.start(encoder, [tasks[i] for i in members], parts)
            report = _part_of_whole(progress, done, cost // unit, of)
            losses = finetune(
                encoder,
                together,
                acting(parts),
                groups,
                recipe,
                images=self.images(encoder, together, recipe),
                objective=self.objective(encoder, together, recipe),
                stepper=self.stepper(encoder, together, parts | helpers),
                penalty=self.penalty(together, parts),
                progress=report,
            )
            self.finish(parts)
            trained = _trained(groups) + self.later_parameters(encoder, len(together[0].class_names))
            report = _part_of_whole(progress, done + cost // unit * recipe.steps, cost // unit, of)
            texts = _final_texts(encoder, together, parts)
            texts, more = self.last_stage(encoder, together, parts, texts, recipe, report)
            losses = np.concatenate([losses, more])
            done += cost // unit * whole
            for t, i in enumerate(members):
                out[i] = FinetunedAdapted(
                    encoder,
                    tasks[i].class_names,
                    {name: one_task(part, t) for name, part in parts.items()},
                    TextFeatures(texts.final[t : t + 1], texts.tap[t : t + 1]),
                    template=together[t].template,
                    scale=recipe.scale,
                    reading=encoder.reading(QUERY_READING[recipe.views]),
                    losses=losses[:, t],
                    trained=trained,
                )
        return [out[i] for i in range(len(tasks))]

    def _batch_of(self, task: Task) -> Hashable:
        """Equal for tasks that can be trained in one batch."""
        return len(task.class_names), task.shots, task.template, self.recipe_for(task)

    def _step_costs(self, tasks: Sequence[Task]) -> tuple[int, int]:
        """Images that all tasks of a batch forward in a step, and its number of steps."""
        recipe, classes = self.recipe_for(tasks[0]), len(tasks[0].class_names)
        images = max(recipe.images_in_step(np.bincount(task.labels).tolist()) for task in tasks)
        steps = recipe.steps + self.later_steps(classes, tasks[0].shots)
        return len(tasks) * (images + self.further_images), steps

    def support_reading(self, classes: int, shots: int) -> str:
        """By the recipe's views."""
        return SUPPORT_READING[self.recipe(classes, shots).views]

    def restore(self, encoder: Encoder, task: Task, tensors: Mapping[str, Tensor]) -> Adapted:
        """Build the parts again and load the saved values."""
        worded = [self.worded(task)]
        parts = self.parts(encoder, worded)
        for name, part in parts.items():
            values = {
                key.removeprefix(f"{name}."): value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
            part.load_state_dict(values)
        texts = TextFeatures(
            tensors["texts.final"].to(encoder.device), tensors["texts.tap"].to(encoder.device)
        )
        return FinetunedAdapted(
            encoder,
            task.class_names,
            {name: one_task(part, 0) for name, part in parts.items()},
            texts,
            template=worded[0].template,
            scale=float(tensors["scale"]),
            reading=encoder.reading(QUERY_READING[self.recipe_for(task).views]),
            trained=self._parameters(encoder, worded, parts),
        )

    def parameters(self, encoder: Encoder, task: Task) -> int:
        """Elements of all parameters in the groups."""
        worded = [self.worded(task)]
        return self._parameters(encoder, worded, self.parts(encoder, worded))

    def _parameters(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> int:
        """The same where the parts of these tasks are there already."""
        own = _trained(self.groups(parts | self.helpers(encoder, tasks)))
        return own + self.later_parameters(encoder, len(tasks[0].class_names))


def _trained(groups: Sequence[ParameterGroup]) -> int:
    return count_parameters(*(parameter for group in groups for parameter in group.parameters))


def _part_of_whole(progress: Progress | None, before: int, each: int, of: int) -> Progress | None:
    """Progress of one batch in that of all, in which a step counts as much as it costs."""
    if progress is None:
        return None
    return lambda done, _: progress(before + each * done, of)


@torch.no_grad()
def _final_texts(encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> TextFeatures:
    return encoder.forward_texts(encoder.prompts([task.prompts for task in tasks]), Pass(acting(parts)))

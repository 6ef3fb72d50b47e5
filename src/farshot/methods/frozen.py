"""What methods on frozen features share: each image is encoded once per encoder, T tasks are fitted side by
side.

A method says what it makes of the features of T support sets (`fit`) and how it scores the features of one
task's images (`scores`); everything else is here. Support images are read once, as they are; what adds random
crops of them is in farshot.methods.augmented.
Shapes: T tasks, N classes, S support images, A crops of each, B images, E joint width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import FarshotError
from farshot.methods.base import Adapted, Method, alike, finite, require, row_batches
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.sanitize import short
from farshot.task import Task
from farshot.training.loop import Progress
from farshot.training.recipe import ParameterGroup, schedule

CLIP_TEMPLATES = (
    # the seven that the authors of CLIP chose for ImageNet: notebooks/Prompt_Engineering_for_ImageNet.ipynb
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

TEMPLATES = {
    # the prompts that the authors of CoOp, Tip-Adapter and others use for these sets:
    # KaiyangZhou/CoOp, trainers/zsclip.py
    "clip": CLIP_TEMPLATES,
    "aircraft": ("a photo of a {}, a type of aircraft.",),
    "caltech101": ("a photo of a {}.",),
    "cars": ("a photo of a {}.",),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "flowers": ("a photo of a {}, a type of flower.",),
    "food101": ("a photo of {}, a type of food.",),
    "imagenet": ("a photo of a {}.",),
    "pets": ("a photo of a {}, a type of pet.",),
    "sun397": ("a photo of a {}.",),
    "ucf101": ("a photo of a person doing {}.",),
}
"""By the name that the setting `templates` takes."""

_TEXTS_AT_ONCE = 256

PUBLISHED_SCALE = 100.0
"""s of the CLIP for which published learning rates were chosen."""
_LEAST_SCALE = 1.0

State = dict[str, Tensor]
"""Name -> what a fitted method keeps; with a leading T while tasks are fitted together."""


@dataclass(frozen=True)
class Support:
    """What a method sees of T tasks with equally many classes, support images and shots.

    Attributes:
        images: features of length 1, (T, S, E).
        labels: class of each, (T, S).
        texts: class texts, not normalised, (T, N, E); zero for a method that needs none on an encoder that
            has none.
        keys: of the tasks, for random draws.
        shots: images of the smallest class.
        scale: s in s * cosine(image, text).
        crops: features of random crops of the same images, not normalised, (T, A, S, E); None where a method
            looks at none.
        units: equal for images of a task that are not independent, (T, S); None: all are independent.
    """

    images: Float[Tensor, "T S E"]
    labels: Int[Tensor, "T S"]
    texts: Float[Tensor, "T N E"]
    keys: tuple[int, ...]
    shots: int
    scale: float
    crops: Float[Tensor, "T A S E"] | None = None
    units: Int[Tensor, "T S"] | None = None

    @property
    def copies(self) -> list[Support]:
        """A support set of the first crop of every image, one of the second, and so on; itself without
        crops."""
        if self.crops is None:
            return [self]
        return [replace(self, images=F.normalize(crop, dim=-1), crops=None) for crop in self.crops.unbind(1)]

    @property
    def directions(self) -> Float[Tensor, "T N E"]:
        """Class texts of length 1."""
        return F.normalize(self.texts, dim=-1)

    @property
    def targets(self) -> Float[Tensor, "T S N"]:
        """1 where an image belongs to a class."""
        return F.one_hot(self.labels, self.texts.shape[1]).float()

    @property
    def class_means(self) -> Float[Tensor, "T N E"]:
        """Mean feature of each class, not normalised."""
        return self.targets.mT @ self.images / self.targets.sum(1)[..., None]

    @property
    def zero_shot(self) -> Float[Tensor, "T S N"]:
        """Zero-shot logits of the support images."""
        return self.scale * self.images @ self.directions.mT


@dataclass(frozen=True)
class Fitted:
    """The result of a fit: tensors with a leading T, and the loss before each step, (steps, T)."""

    state: State
    losses: Float[NDArray[np.float64], "steps T"] | None = field(default=None)


class FrozenAdapted(Adapted):
    """A fitted method for one task."""

    def __init__(
        self,
        method: FrozenMethod,
        encoder: Encoder,
        class_names: Sequence[str],
        state: State,
        losses: Float[NDArray[np.float64], " steps"] | None = None,
    ) -> None:
        self.method, self.encoder, self.class_names = method, encoder, tuple(class_names)
        self.state, self.reading = state, encoder.reading(method.reading)
        self.losses = np.zeros(0) if losses is None else losses
        self.trained = sum(state[name].numel() for name in method.learned(1, 1, 1))

    @torch.no_grad()
    def logits(
        self,
        table: ImageTable,
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Float[NDArray[np.float32], "rows N"]:
        """Scores of these rows; all features are gathered first, and scored in one call."""
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        if not len(chosen):
            return np.zeros((0, len(self.class_names)), dtype=np.float32)
        images = image_features(self.encoder, table, chosen, self.reading, progress=progress)
        scale = self.method.scale_of(self.encoder)
        return finite(self.method.scores(images, self.state, scale).float().numpy())

    def class_directions(self) -> Float[Tensor, "N E"] | None:
        """As the method says."""
        return self.method.directions(self.state)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state."""
        return dict(self.state)


@dataclass(frozen=True)
class FrozenMethod(Method):
    """A method on frozen features.

    Attributes:
        scale: s of the zero-shot logits; 0 takes the checkpoint's own, as it was trained.
        reading: how images are resized: "model", as the encoder's own program does; "squash" or "centre", as
            the queries of the fine-tuned methods.
        templates: "task" for the task's own prompt; "clip" for the seven of CLIP's authors; the name of a
            data set, such as "eurosat", for the one that others use for it (TEMPLATES); or prompts separated
            by "|", each with one {}. Several make an ensemble.

    Class attributes:
        needs_images: whether `fit` looks at the support images.
    """

    kind: ClassVar[Literal["features", "transductive"]] = "features"
    needs_images: ClassVar[bool] = True

    scale: float = 0.0
    reading: Literal["model", "squash", "centre"] = "model"
    templates: str = "task"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "scale")
        for template in self.prompt_templates:
            require(
                template.count("{}") == 1,
                f"In the setting templates of {self.name}, the prompt {short(template)} needs {{}} exactly "
                f"once; or write task, {', '.join(TEMPLATES)}.",
            )

    @abstractmethod
    def fit(self, support: Support) -> Fitted:
        """What the method makes of T support sets."""

    @abstractmethod
    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Class scores of one task's images from what `fit` made of that task."""

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of what is trained of the state, for N classes, S support images and width E."""
        return {}

    def directions(self, state: State) -> Float[Tensor, "N E"] | None:
        """One direction per class, for explanations: class texts unless a method has better."""
        return state.get("texts")

    @classmethod
    def stored_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The reading "model" was called "checkpoint"."""
        renamed = {"reading": "model"} if settings.get("reading") == "checkpoint" else {}
        return super().stored_settings({**settings, **renamed})

    def support_reading(self, classes: int, shots: int) -> str:
        """As the setting says."""
        return self.reading

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        """The templates that are not the task's own; empty for "task"."""
        if self.templates == "task":
            return ()
        if self.templates in TEMPLATES:
            return TEMPLATES[self.templates]
        return tuple(part.strip() for part in self.templates.split("|"))

    @property
    def needs_text(self) -> bool:
        """Whether `fit` looks at the class texts, so that the encoder must have a text tower."""
        return True

    def scale_of(self, encoder: Encoder) -> float:
        """s: the setting, or the checkpoint's own."""
        return self.scale or encoder.logit_scale

    def parameters(self, encoder: Encoder, task: Task) -> int:
        """Elements of all that is learned."""
        shapes = self.learned(len(task.class_names), len(task.support), encoder.embed_dim)
        return sum(math.prod(shape) for shape in shapes.values())

    def adapt(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        micro_batch: int | None = None,
        progress: Progress | None = None,
    ) -> list[Adapted]:
        """One fit for all tasks of as many classes and images; most often that is one fit."""
        out: dict[int, Adapted] = {}
        for members in alike(tasks, lambda task: (len(task.class_names), len(task.support), task.shots)):
            fitted = self.fit(self.support(encoder, [tasks[i] for i in members]))
            for t, i in enumerate(members):
                state = {name: value[t].detach().clone() for name, value in fitted.state.items()}
                losses = None if fitted.losses is None else fitted.losses[:, t]
                out[i] = FrozenAdapted(self, encoder, tasks[i].class_names, state, losses)
            if progress:
                progress(len(out), len(tasks))
        return [out[i] for i in range(len(tasks))]

    def restore(self, encoder: Encoder, task: Task, tensors: Mapping[str, Tensor]) -> Adapted:
        """The same state."""
        return FrozenAdapted(self, encoder, task.class_names, dict(tensors))

    def support(self, encoder: Encoder, tasks: Sequence[Task]) -> Support:
        """Features of tasks of one size."""
        if self.needs_text or encoder.has_text:
            texts = class_texts(encoder, tasks, self.prompt_templates)
        else:
            texts = torch.zeros(len(tasks), len(tasks[0].class_names), encoder.embed_dim)
        if self.needs_images:
            found = [image_features(encoder, task.table, task.support, self.reading) for task in tasks]
            images, labels = torch.stack(found), torch.stack([torch.as_tensor(t.labels) for t in tasks])
        else:
            images = torch.zeros(len(tasks), 0, texts.shape[-1])
            labels = torch.zeros(len(tasks), 0, dtype=torch.int64)
        keys = tuple(task.key for task in tasks)
        return Support(images, labels, texts, keys, tasks[0].shots, self.scale_of(encoder))


@torch.no_grad()
def class_texts(
    encoder: Encoder, tasks: Sequence[Task], templates: Sequence[str] = ()
) -> Float[Tensor, "T N E"]:
    """Class texts of tasks of N classes each, not normalised, on the CPU; equal prompts are encoded once.

    Of several templates: the mean of the texts at length 1 (Radford et al. 2021, 3.1.4), at their mean
    length.

    Args:
        templates: take the place of the tasks' own; empty keeps those.
    """
    prompts = [[task.prompts_of(t) for t in (templates or [task.template])] for task in tasks]
    flat = [prompt for task in prompts for template in task for prompt in template]
    distinct = list(dict.fromkeys(flat))
    found = [
        encoder.forward_texts(encoder.prompts([distinct[part]])).final[0].cpu()
        for part in row_batches(len(distinct), _TEXTS_AT_ONCE)
    ]
    place = {prompt: row for row, prompt in enumerate(distinct)}
    shape = (len(tasks), len(prompts[0]), len(tasks[0].class_names), -1)
    texts = torch.cat(found)[[place[prompt] for prompt in flat]].view(shape)  # (T, templates, N, E)
    if texts.shape[1] == 1:
        return texts[:, 0]
    length = texts.norm(dim=-1, keepdim=True).mean(1)
    return length * F.normalize(F.normalize(texts, dim=-1).mean(1), dim=-1)


def rate_factor(scale: float) -> float:
    """By what a rate of SGD on directions in s * cosine is multiplied for another s than 100: (100 / s)^2.

    A step of the published rate moves directions by an amount in proportion to s, and logits by s times that.
    With this factor logits move as far in a step at any s, as far as cosines are linear in the directions;
    penalties and weight decay, divided by it, act as strongly against the steps. It is 1 for CLIP's own s,
    which checkpoints store as a rounded logarithm of 100, and constant below s = 1.
    """
    if math.isclose(scale, PUBLISHED_SCALE, rel_tol=1e-3):
        return 1.0
    return (PUBLISHED_SCALE / max(scale, _LEAST_SCALE)) ** 2


def mean_cross_entropy(logits: Float[Tensor, "T S N"], labels: Int[Tensor, "T S"]) -> Float[Tensor, " T"]:
    """Cross-entropy of each task, a mean over its images."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(-1)


def train(
    loss: Callable[[], Float[Tensor, " T"]],
    groups: Sequence[ParameterGroup],
    steps: int,
    *,
    cosine_to: float | None,
) -> Float[NDArray[np.float64], "steps T"]:
    """Full-batch steps on parameters with a leading T; the loss of each step before its update.

    Tasks do not mix: the sum over tasks is minimised, and the optimisers work element by element.

    Raises:
        FarshotError: a loss or a parameter is no longer finite.
    """
    optimisers = [group.optimiser.build(list(group.parameters)) for group in groups]
    schedules = [schedule(optimiser, steps, cosine_to) for optimiser in optimisers]
    losses = []
    for _ in range(steps):
        value = loss()
        value.sum().backward()
        for optimiser, falling in zip(optimisers, schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad()
            falling.step()
        losses.append(value.detach().double().numpy())
    found = np.stack(losses)
    learned = all(p.isfinite().all() for group in groups for p in group.parameters)
    if not learned or not np.isfinite(found).all():
        raise FarshotError(
            "What is learned from these images is no longer finite; lower the learning rates or the scale."
        )
    return found

"""coop: a learned prompt context. Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022.

The words before the class name are replaced by n learned tokens, shared by all classes; nothing else is
trained. Defaults are those of its authors' program (KaiyangZhou/CoOp: trainers/coop.py and
configs/trainers/CoOp/vit_b16*.yaml): 16 tokens that start at random, the class name behind them, 50 epochs at
1 shot, 100 up to 4, 200 above.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method coop --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import PromptContext
from farshot.task import Task
from farshot.training.recipe import SGD, ParameterGroup, Recipe, dassl_recipe


@register
@dataclass(frozen=True)
class CoOp(FinetunedMethod):
    """Settings of coop.

    Attributes:
        steps: optimiser steps; 0 means the authors' number of epochs.
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "crops", a fresh one in each step; or "five" fixed ones, "turn", one of these, or "none".
        batch: images of a step.
        lr, momentum, weight_decay: of SGD; the rate falls along a cosine from one pass to the next.
        warm_epochs: first passes over the support set, with a rate of 1e-5.
        context: n, tokens that start at random; 0 means to start from the words before the class name in the
            task's own prompt.
        class_specific: whether each class learns a separate context, as with the authors' CSC.
    """

    name = "coop"
    kind = "fine-tuned"
    reference = "Zhou et al. 2022 (arXiv 2109.01134)"
    doc = "learned prompt context, shared by all classes; images are left as they are"
    revision = 2  # scale, learning rates, batches and readings are those of the authors' program
    plain = "learns words that describe your pictures; how pictures are seen stays as it is"

    steps: int = 0
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "crops"
    batch: int = 32
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_epochs: int = 1
    context: int = 16
    class_specific: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "steps", "scale", "warm_epochs", "lr", "weight_decay")
        self.check(0, "momentum", high=1)
        self.check(1, "batch")
        self.check(0, "context")

    def worded(self, task: Task) -> Task:
        """A word for each token of the context, then the class name."""
        return replace(task, template="a " * self.context + "{}.") if self.context else task

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The context."""
        keys = [task.key for task in tasks] if self.context else None
        classes = len(tasks[0].prompts) if self.class_specific else None
        templates = [task.template for task in tasks]
        return {"context": PromptContext(encoder, templates, keys=keys, classes=classes)}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """SGD for all parameters."""
        return [
            ParameterGroup(
                list(parts["context"].parameters()), SGD(self.lr, self.momentum, self.weight_decay)
            )
        ]

    def recipe(self, classes: int, shots: int, images: int | None = None) -> Recipe:
        """Epochs of batches, the first ones at a low rate, then a cosine; of N K images if not given."""
        epochs = 50 if shots <= 1 else 100 if shots <= 4 else 200  # as in the authors' scripts
        return dassl_recipe(
            images or classes * max(shots, 1),
            epochs,
            batch=self.batch,
            warm_epochs=self.warm_epochs,
            steps=self.steps,
            scale=self.scale,
            views=self.views,
        )

    def recipe_for(self, task: Task) -> Recipe:
        """Passes through all images of the task."""
        return self.recipe(len(task.class_names), task.shots, len(task.support))

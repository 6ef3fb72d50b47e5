"""maple: linked prompts in both towers. Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023.

The first n words of the prompt are learned, and before each of the next text blocks their tokens are replaced
by learned ones; a linear layer per block turns them into tokens of the vision tower. Defaults are those of
its authors' program (muzairkhattak/multimodal-prompt-learning: trainers/maple.py, configs/trainers/MaPLe/
vit_b16_c2_ep5_batch4_2ctx.yaml), which trains in float16; here in the model's precision.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method maple --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import LinkedPrompts, PromptContext
from farshot.task import Task
from farshot.training.recipe import SGD, ParameterGroup, Recipe, dassl_recipe

_EPOCHS = 5  # independent of the number of shots, as in MaPLe's program


@register
@dataclass(frozen=True)
class MaPLe(FinetunedMethod):
    """Settings of maple.

    Attributes:
        steps: optimiser steps; 0 means the authors' number of epochs.
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "crops", a fresh one in each step; or "five" fixed ones, "turn", one of these, or "none".
        batch: images of a step.
        lr, momentum, weight_decay: of SGD; the rate falls along a cosine from one pass to the next.
        warm_epochs: first passes over the support set, with a rate of 1e-5.
        tokens: n, learned tokens.
        depth: blocks with learned tokens, at most the shallower tower's.
    """

    name = "maple"
    kind = "fine-tuned"
    reference = "Khattak et al. 2023 (arXiv 2210.03117)"
    doc = "learned tokens in both towers, those of the images a linear map of those of the text"
    revision = 2  # scale, learning rates, batches and readings are those of the authors' program
    plain = "learns words and picture tokens that belong together"

    steps: int = 0
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "crops"
    batch: int = 4
    lr: float = 3.5e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_epochs: int = 1
    tokens: int = 2
    depth: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "steps", "scale", "warm_epochs", "lr", "weight_decay")
        self.check(0, "momentum", high=1)
        self.check(1, "batch", "tokens", "depth")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The tokens of both towers and the layers that link them."""
        context = PromptContext(encoder, [task.template for task in tasks], self.tokens)
        return {"prompts": LinkedPrompts(encoder, context, [task.key for task in tasks], self.depth)}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """SGD for all parameters."""
        return [
            ParameterGroup(
                list(parts["prompts"].parameters()), SGD(self.lr, self.momentum, self.weight_decay)
            )
        ]

    def recipe(self, classes: int, shots: int, images: int | None = None) -> Recipe:
        """Epochs of batches, the first ones at a low rate, then a cosine; of N K images if not given."""
        return dassl_recipe(
            images or classes * max(shots, 1),
            _EPOCHS,
            batch=self.batch,
            warm_epochs=self.warm_epochs,
            steps=self.steps,
            scale=self.scale,
            views=self.views,
        )

    def recipe_for(self, task: Task) -> Recipe:
        """Passes through all images of the task."""
        return self.recipe(len(task.class_names), task.shots, len(task.support))

"""vpt: learned tokens in the vision tower. Jia et al., Visual Prompt Tuning, ECCV 2022 (VPT-deep).

n learned tokens follow the patches, with separate values before each block; the prompt is fixed.
Jia et al. chose number and rates for each data set. Defaults are those of the version for CLIP in the program
of MaPLe (muzairkhattak/multimodal-prompt-learning: trainers/vpt.py, configs/trainers/VPT/
vit_b16_c2_ep5_batch4_4.yaml): 8 tokens before each of 12 blocks, 5 epochs of batches of 4.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method vpt --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import VisualPrompts
from farshot.task import Task
from farshot.training.recipe import SGD, ParameterGroup, Recipe, dassl_recipe

_EPOCHS = 5  # independent of the number of shots, as in MaPLe's program


@register
@dataclass(frozen=True)
class VPT(FinetunedMethod):
    """Settings of vpt.

    Attributes:
        steps: optimiser steps; 0 means the authors' number of epochs.
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "crops", a fresh one in each step; or "five" fixed ones, "turn", one of these, or "none".
        batch: images of a step.
        lr, momentum, weight_decay: of SGD; the rate falls along a cosine from one pass to the next.
        warm_epochs: first passes over the support set, with a rate of 1e-5.
        tokens: n, learned tokens.
        depth: blocks with learned tokens, at most the tower's.
    """

    name = "vpt"
    kind = "fine-tuned"
    reference = "Jia et al. 2022 (arXiv 2203.12119)"
    doc = "learned tokens next to the patches, new ones before each vision block"
    revision = 2  # scale, learning rates, batches and readings are those of the authors' program
    plain = "learns extra tokens that tell CLIP how to look at your pictures"

    steps: int = 0
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "crops"
    batch: int = 4
    lr: float = 2.5e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_epochs: int = 1
    tokens: int = 8
    depth: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "steps", "scale", "warm_epochs", "lr", "weight_decay")
        self.check(0, "momentum", high=1)
        self.check(1, "batch", "tokens", "depth")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The tokens."""
        keys = [task.key for task in tasks]
        return {"prompts": VisualPrompts(encoder, keys, count=self.tokens, depth=self.depth)}

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

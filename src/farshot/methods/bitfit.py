"""bitfit: biases and norms. Ben Zaken et al., BitFit: Simple Parameter-efficient Fine-tuning for
Transformer-based Masked Language-models, ACL 2022.

All biases of both towers are trained, and the weights of their norms. The paper searches the rate between
1e-4 and 1e-3 and tunes a language model; here the highest of its rates, and the steps and views of
prompt-lora, so that the two differ in what is trained.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method bitfit --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.lora import TOWERS
from farshot.parts.weights import OwnWeights
from farshot.task import Task
from farshot.training.recipe import AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class BitFit(FinetunedMethod):
    """Settings of bitfit.

    Attributes:
        steps: optimiser steps, each on the whole support set (at most 16 images per class).
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "five" fixed ones per image, "turn", one of these in each step, "none", or "crops", a fresh one
            in each step.
        lr, weight_decay: of AdamW; the rate falls to 0 along a cosine.
    """

    name = "bitfit"
    kind = "fine-tuned"
    reference = "Ben Zaken et al. 2022 (arXiv 2106.10199)"
    doc = "biases and norms of both towers, nothing else"
    revision = 2  # the checkpoint's scale
    plain = "adjusts a few numbers in every layer of CLIP, nothing else"

    steps: int = 100
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "five"
    lr: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps")
        self.check(0, "scale", "lr", "weight_decay")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Own biases and norms."""
        return {"weights": OwnWeights(encoder, len(tasks), TOWERS)}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW for all of them."""
        return [ParameterGroup(list(parts["weights"].parameters()), AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The whole support set in every step; the rate falls to 0 along a cosine."""
        return Recipe(steps=self.steps, scale=self.scale, views=self.views, cosine_to=0.0)

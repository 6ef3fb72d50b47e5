"""What methods that tune the model's own weights share: the base recipe of prompt-lora with AdamW."""

from __future__ import annotations

from dataclasses import dataclass

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.training.batches import VIEWS
from farshot.training.recipe import AdamW, Group, Recipe


@dataclass(frozen=True)
class WeightMethod(FinetunedMethod):
    """Settings of every method that tunes the model's own weights.

    Attributes:
        steps: optimiser steps, each on the whole support set (at most 16 images per class).
        scale: of the logits; CLIP's own is 100.
        views: "five" fixed ones per image, "none", or "crops", a fresh one at each step.
        lr, weight_decay: of AdamW; the rate falls to 0 along a cosine.
    """

    steps: int = 100
    scale: float = 100.0
    views: str = "five"
    lr: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check(1, "steps")
        self.check(0, "scale", "lr", "weight_decay")
        self.check_choice("views", VIEWS)

    def groups(self, parts: Parts) -> list[Group]:
        """AdamW for all."""
        parameters = [parameter for part in parts.values() for parameter in part.parameters()]
        return [Group(parameters, AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The whole support set in every step, and a cosine."""
        return Recipe(steps=self.steps, scale=self.scale, views=self.views, cosine_to=0.0)

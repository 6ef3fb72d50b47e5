"""full: the whole vision tower, then averaged with its start. Wortsman et al., Robust fine-tuning of
zero-shot models, CVPR 2022 (WiSE-FT).

Every weight of the vision tower is trained, against class texts that stay fixed; the model that is kept is
(1 - share) * before + share * after. Optimiser and share are the authors' (mlfoundations/wise-ft, README:
AdamW with rate 3e-5 and weight decay 0.1, 500 of about 25,000 steps of rising rates, then a cosine;
src/models/finetune.py: gradients of norm 1 at most; src/args.py: share 0.5). They tune on all of ImageNet and
train the class vectors too; steps and views here are those of prompt-lora. Each task holds a vision tower of
its own: plan 1.4 GB per task with ViT-B/16, optimiser included.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method full --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.weights import OwnWeights
from farshot.task import Task
from farshot.training.recipe import AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class Full(FinetunedMethod):
    """Settings of full.

    Attributes:
        steps: optimiser steps, each on the whole support set (at most 16 images per class).
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "five" fixed ones per image, "turn", one of these in each step, "none", or "crops", a fresh one
            in each step.
        lr, weight_decay: of AdamW; the rate falls to 0 along a cosine.
        rising: share of the steps in which the rate rises to lr before that.
        most_norm: of the gradient; a larger one is scaled down.
        share: of the trained weights in the average; 1 keeps them alone.
    """

    name = "full"
    kind = "fine-tuned"
    reference = "WiSE-FT, Wortsman et al. 2022 (arXiv 2109.01903)"
    doc = "every weight of the vision tower, averaged with where it started"
    revision = 2  # the checkpoint's scale, rising rates, gradients of bounded norm
    plain = "trains all of the part that sees, then goes half-way back to where it started"

    steps: int = 100
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "five"
    lr: float = 3e-5
    weight_decay: float = 0.1
    rising: float = 0.02
    most_norm: float = 1.0
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps")
        self.check(0, "scale", "lr", "weight_decay")
        self.check(0, "share", "rising", high=1)
        self.check(0, "most_norm")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Own weights of the vision tower."""
        return {"weights": OwnWeights(encoder, len(tasks), ["vision"], matrices=True)}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW for all of them."""
        return [ParameterGroup(list(parts["weights"].parameters()), AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The whole support set in every step; the rate rises, then falls to 0 along a cosine."""
        return Recipe(
            steps=self.steps,
            scale=self.scale,
            views=self.views,
            cosine_to=0.0,
            rising_steps=round(self.rising * self.steps),
            most_norm=self.most_norm,
        )

    def finish(self, parts: Parts) -> None:
        """The average with the start."""
        weights = parts["weights"]
        assert isinstance(weights, OwnWeights)
        weights.average(self.share)

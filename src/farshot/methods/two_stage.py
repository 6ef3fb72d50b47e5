"""2sfs: first the norms, then a classifier. Farina et al., Rethinking Few-Shot Adaptation of
Vision-Language Models in Two Stages, CVPR 2025 (2SFS).

Stage 1 trains gains and biases of the two norms of every block of both towers; stage 2 keeps these and trains
one vector per class, started at the adapted class texts. As its authors' program
(FarinaMatteo/rethinking_fewshot_vlms) runs it: 300 steps per shot, of which 0.6 are stage 1, 32 images in
each, fresh crops, AdamW with a fresh cosine per stage. That program lists the norms before and after the
blocks, too, and freezes them by accident; they stay frozen here.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method 2sfs --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.methods.base import require
from farshot.methods.finetuned import FinetunedMethod, Parts, acting
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.model.tower import TextFeatures
from farshot.parts.lora import TOWERS
from farshot.parts.weights import OwnWeights
from farshot.task import Task
from farshot.training.loop import Progress, finetune
from farshot.training.recipe import AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class TwoStage(FinetunedMethod):
    """Settings of 2sfs.

    Attributes:
        steps: optimiser steps of both stages; 0 means 300 per shot.
        first: share of stage 1 in them.
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        views: "crops", a fresh one in each step; or "five" fixed ones, "turn", one of these, or "none".
        batch: images of a step.
        lr, lr_end, weight_decay: of AdamW in both stages, falling along a cosine.
    """

    name = "2sfs"
    kind = "fine-tuned"
    reference = "2SFS, Farina et al. 2025 (arXiv 2503.11609)"
    doc = "the norms of both towers, then one vector per class"
    plain = "adjusts a few numbers in every layer of CLIP, then learns one direction per class"

    steps: int = 0
    first: float = 0.6
    scale: float = 0.0
    views: Literal["five", "turn", "none", "crops"] = "crops"
    batch: int = 32
    lr: float = 2e-4
    lr_end: float = 1e-6
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "steps", "scale", "lr_end", "weight_decay")
        self.check(0, "first", high=1)
        self.check(1, "batch")
        require(self.steps != 1, "The setting steps of 2sfs must be at least 2, one for each stage, or 0.")
        require(self.lr >= self.lr_end, f"The setting lr of {self.name} must not be below its lr_end.")

    @property
    def classes_are_texts(self) -> bool:
        """No: stage 2 learns them."""
        return False

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Own norms of the blocks."""
        return {"norms": OwnWeights(encoder, len(tasks), TOWERS, layers=r"blocks\.\d+\.norm[12]")}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW for all of them."""
        return [ParameterGroup(list(parts["norms"].parameters()), AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """Of stage 1."""
        steps = self.steps or 300 * max(shots, 1)
        return Recipe(
            steps=min(max(1, int(self.first * steps)), steps - 1),
            scale=self.scale,
            views=self.views,
            batch=self.batch,
            batch_total=self.batch,
            passes="keep",
            cosine_to=self.lr_end,
        )

    def later_steps(self, classes: int, shots: int) -> int:
        """Of stage 2."""
        return (self.steps or 300 * max(shots, 1)) - self.recipe(classes, shots).steps

    def later_parameters(self, encoder: Encoder, classes: int) -> int:
        """The class vectors."""
        return classes * encoder.embed_dim

    def last_stage(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        parts: Parts,
        texts: TextFeatures,
        recipe: Recipe,
        progress: Progress | None,
    ) -> tuple[TextFeatures, Float[NDArray[np.float64], "steps T"]]:
        """Train the class vectors on the adapted tower."""
        parts["norms"].requires_grad_(False)
        vectors = nn.Parameter(F.normalize(texts.final.detach(), dim=-1))
        steps = self.later_steps(len(tasks[0].class_names), tasks[0].shots)
        group = ParameterGroup([vectors], AdamW(self.lr, self.weight_decay))
        losses = finetune(
            encoder,
            tasks,
            acting(parts),
            [group],
            replace(recipe, steps=steps, first_step=recipe.steps),
            classes=vectors,
            progress=progress,
        )
        return TextFeatures(vectors.detach(), vectors.detach().clone()), losses

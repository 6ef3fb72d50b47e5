"""mind: Mind the Discriminability Trap (arXiv 2603.13341).

LoRA on the vision tower alone; the prompt is fixed. In the first 3/5 of the steps two terms join the
cross-entropy: classifying against features of random support images, which makes the visual shortcut useless;
and drawing the similarities between images from where they were a step ago towards those of their class
texts. As published: 250 steps per shot (125 on chest X-rays), all views and the plain images in each.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method mind --shots 5 --out adapted/
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.base import require
from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.lora import LoRA
from farshot.randomness import numpy_generator
from farshot.task import Task
from farshot.training.batches import StepImages
from farshot.training.loop import task_losses
from farshot.training.recipe import AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class MIND(FinetunedMethod):
    """Settings of mind.

    Attributes:
        steps: optimiser steps, each on all support images; 0 means 250 per shot.
        scale: of the logits.
        views: "five" fixed ones per image, or "none".
        rank, lora_alpha, lora_dropout: of LoRA.
        lr, lr_end, weight_decay: of AdamW; the rate follows the first eighth of a cosine.
        shortcut, relation, early: weights of the two terms, and the share of the steps that have them.
    """

    name = "mind"
    kind = "fine-tuned"
    reference = "Mind the Discriminability Trap (arXiv 2603.13341)"
    doc = "LoRA on images; early on, no visual shortcut, and image similarities drawn to those of texts"
    plain = "adjusts how pictures are seen, and keeps it from learning by heart"

    steps: int = 0
    scale: float = 100.0
    views: Literal["five", "none"] = "five"
    rank: int = 16
    lora_alpha: float = 8.0
    lora_dropout: float = 0.25
    lr: float = 2e-4
    lr_end: float = 1e-6
    weight_decay: float = 0.01
    shortcut: float = 0.1
    relation: float = 3.0
    early: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "rank")
        self.check(0, "lora_dropout", under=1)
        self.check(0, "steps", "scale", "lora_alpha", "lr_end", "weight_decay", "shortcut", "relation")
        require(self.lr >= self.lr_end, f"The setting lr of {self.name} must not be below its lr_end.")
        self.check(0, "early", high=1)

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """LoRA on the vision tower."""
        keys, alpha, dropout = [task.key for task in tasks], self.lora_alpha, self.lora_dropout
        lora = LoRA(encoder, keys, rank=self.rank, alpha=alpha, dropout=dropout, towers=["vision"])
        return {"lora": lora}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW."""
        return [ParameterGroup(list(parts["lora"].parameters()), AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """All images in every step, with and without views; a nearly constant rate."""
        return Recipe(
            steps=self.steps or 250 * max(shots, 1),
            scale=self.scale,
            views=self.views,
            batch=sys.maxsize,
            plain=True,
            cosine_to=self.lr_end,
            cosine_over=8.0,
        )

    def objective(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> _Objective:
        """Cross-entropy and the two early terms."""
        return _Objective(self, [task.key for task in tasks], recipe)


class _Objective:
    """The loss of mind; it remembers the similarities of the step before."""

    def __init__(self, method: MIND, keys: Sequence[int], recipe: Recipe) -> None:
        self.method, self.keys = method, keys
        self.views, self.early = recipe.views_per_image - 1, method.early * recipe.steps
        self._before: Float[Tensor, "T V P"] | None = None

    def __call__(
        self,
        images: Float[Tensor, "T B E"],
        texts: Float[Tensor, "T N E"],
        batch: StepImages,
        step: int,
        scale: float,
    ) -> Float[Tensor, " T"]:
        viewed = images.shape[1] * self.views // (self.views + 1)  # the plain images come after them
        loss = task_losses(images, texts, batch.labels, batch.weights, scale)
        if step >= self.early:
            return loss
        seen = F.normalize(images, dim=-1)
        picked = self.random_images(batch.weights[:, :viewed], texts.shape[1], step).to(images.device)
        prototypes = seen.gather(1, picked[..., None].expand(-1, -1, seen.shape[-1]))
        loss = loss + self.method.shortcut * task_losses(
            images, prototypes, batch.labels, batch.weights, scale
        )
        found = seen[:, :viewed] @ seen[:, viewed:].mT
        if self._before is not None:
            share = 1 - step / self.early
            labels = batch.labels.to(images.device)[..., None].expand(-1, -1, seen.shape[-1])
            named = F.normalize(texts, dim=-1).gather(1, labels)
            wanted = share * self._before + (1 - share) * named[:, :viewed] @ named[:, viewed:].mT
            loss = loss + self.method.relation * self._mean(wanted.exp() * (wanted - found), batch, viewed)
        self._before = found.detach()
        return loss

    def random_images(self, weights: Float[Tensor, "T V"], classes: int, step: int) -> Int[Tensor, "T N"]:
        """N viewed images of every task, drawn with replacement; padding, which weighs nothing, never."""
        counts = zip(self.keys, (weights > 0).sum(1).tolist(), strict=True)
        drawn = [numpy_generator("mind", key, step).integers(count, size=classes) for key, count in counts]
        return torch.stack([torch.from_numpy(one) for one in drawn])

    def _mean(self, values: Float[Tensor, "T V P"], batch: StepImages, viewed: int) -> Float[Tensor, " T"]:
        """Over pairs of images that are there; the views of padding have no weight."""
        there = (batch.weights[:, :viewed] > 0).to(values.device)
        plain = there[:, :: self.views]  # the first images are there, so this has as many as they
        pairs = there[:, :, None] & plain[:, None, :]
        return (values * pairs).sum((1, 2)) / pairs.sum((1, 2))

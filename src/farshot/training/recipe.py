"""How a batch of tasks is trained: optimisers, learning rates, steps, images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from farshot.training.batches import FIVE


@dataclass(frozen=True)
class AdamW:
    """Settings of torch.optim.AdamW for some parameters."""

    lr: float
    weight_decay: float = 0.01
    eps: float = 1e-8

    def build(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of these parameters; elementwise, so tasks do not mix."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, weight_decay=self.weight_decay, eps=self.eps, fused=True
        )


@dataclass(frozen=True)
class SGD:
    """Settings of torch.optim.SGD for some parameters."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def build(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of these parameters; elementwise, so tasks do not mix."""
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters, all with a leading task dimension, and how they learn.

    Attributes:
        at_least: after each step, what fell below is set to this value; None for no such bound.
    """

    parameters: Sequence[Tensor]
    optimiser: AdamW | SGD
    at_least: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How a batch of tasks is trained.

    Attributes:
        steps: number of optimiser steps.
        scale: s in logits = s * cosine(image, text).
        views: "five" fixed ones per image, "turn": one of them in each step, "none", or "crops": a fresh one
            in each step (farshot.training.batches).
        batch: most support images per class in a step; a class-balanced draw where there are more.
        batch_total: most support images in a step, of any class; None for no such limit.
        plain: every support image is forwarded once more as it is, with weight 0 (farshot.training.batches).
        cosine_to: learning rates fall along a cosine to this value; None keeps them constant.
        cosine_over: length of that cosine, in runs: 2 means that only its first half is run.
        warm_steps, warm_lr: the first steps, and their learning rate.
        micro_batch: most images forwarded at once, over all tasks; the result is that of the full batch.
            None: all.
    """

    steps: int
    scale: float
    views: str = "five"
    batch: int = 16
    batch_total: int | None = None
    plain: bool = False
    cosine_to: float | None = None
    cosine_over: float = 1.0
    warm_steps: int = 0
    warm_lr: float = 1e-5
    micro_batch: int | None = None

    @property
    def views_per_image(self) -> int:
        """How often each support image is forwarded in a step."""
        return (FIVE if self.views == "five" else 1) + self.plain


def dassl_recipe(
    images: int, epochs: int, *, batch: int, warm_epochs: int, steps: int = 0, scale: float, views: str
) -> Recipe:
    """The schedule of the programs that use Dassl: epochs of batches, the first ones at a low learning rate,
    then a cosine to 0.

    Args:
        images: of the support set.
        batch: images in a step.
        steps: in all, where it is not the number of epochs that decides; 0 for that number.
    """
    per_epoch = -(-images // batch)  # steps in which every image is used once
    return Recipe(
        steps=steps or epochs * per_epoch,
        scale=scale,
        views=views,
        batch_total=batch,
        cosine_to=0.0,
        warm_steps=warm_epochs * per_epoch,
    )


def recipe_schedule(optimiser: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rates that a recipe asks for."""
    falling = cosine(
        optimiser.param_groups[0]["lr"], round(recipe.steps * recipe.cosine_over), recipe.cosine_to
    )
    warm = recipe.warm_lr / (optimiser.param_groups[0]["lr"] or 1.0)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warm if step < recipe.warm_steps else falling(step)
    )


def schedule(
    optimiser: torch.optim.Optimizer, steps: int, cosine_to: float | None
) -> torch.optim.lr_scheduler.LRScheduler:
    """Constant rates where cosine_to is None; else they fall to it along a cosine."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, cosine(optimiser.param_groups[0]["lr"], steps, cosine_to)
    )


def cosine(top: float, steps: int, low: float | None) -> Callable[[int], float]:
    """Step -> factor of the rate `top`, which falls to `low` in so many steps; None: it stays."""
    if low is None or not top:
        return lambda _: 1.0
    return lambda step: (low + (top - low) * (1 + math.cos(math.pi * step / steps)) / 2) / top

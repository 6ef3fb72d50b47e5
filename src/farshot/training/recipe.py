"""How a batch of tasks is trained: optimisers, learning rates, steps, images."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
        views: "five" fixed ones per image, "turn": one of them in each step, "single": each by itself,
            "none", or "crops": a fresh one in each step (farshot.training.batches).
        batch: most support images per class in a step; a class-balanced draw where there are more.
        batch_total: most support images in a step, of any class; None for no such limit.
        passes: "" for a fresh draw of them in each step; otherwise the support set is passed through in a new
            order each time, and what is left over at its end is a smaller step ("keep") or left out ("drop").
        least_crop: smallest share of an image's area in a fresh crop.
        first_step: what the first step is called in random draws, so that two stages differ.
        plain: every support image is forwarded once more as it is, with weight 0 (farshot.training.batches).
        cosine_to: learning rates fall along a cosine to this value; None keeps them constant.
        cosine_over: length of that cosine, in runs: 2 means that only its first half is run.
        warm_steps, warm_lr: the first steps, and their learning rate; the cosine starts after them.
        rising_steps: the first steps, in which the rate rises linearly to that of the cosine, which starts
            after them.
        pass_steps: the rate changes after so many steps only, and the cosine is as long as all of them.
        most_norm: gradients of a task are scaled down to this norm over all its parameters; None: never.
        micro_batch: most images forwarded at once, over all tasks; the result is that of the full batch.
            None: all.
    """

    steps: int
    scale: float
    views: str = "five"
    batch: int = 16
    batch_total: int | None = None
    passes: Literal["", "keep", "drop"] = ""
    least_crop: float = 0.08
    first_step: int = 0
    plain: bool = False
    cosine_to: float | None = None
    cosine_over: float = 1.0
    warm_steps: int = 0
    warm_lr: float = 1e-5
    rising_steps: int = 0
    pass_steps: int = 1
    most_norm: float | None = None
    micro_batch: int | None = None

    @property
    def views_per_image(self) -> int:
        """How often each support image is forwarded in a step."""
        return (FIVE if self.views == "five" else 1) + self.plain

    def images_in_step(self, sizes: Sequence[int]) -> int:
        """Images that a task with classes of these sizes forwards in a step, views included."""
        images = sum(min(size, self.batch) for size in sizes) * (FIVE if self.views == "single" else 1)
        images = images if self.batch_total is None else min(images, self.batch_total)
        return images * self.views_per_image


def dassl_recipe(
    images: int, epochs: int, *, batch: int, warm_epochs: int, steps: int = 0, scale: float, views: str
) -> Recipe:
    """The schedule of the programs that use Dassl: passes through the support set in batches, of which the
    last is left out if it is smaller. The first passes have a low learning rate, the others follow a cosine
    that would take as many passes as there are in all to reach 0 and moves after each. Fewer steps than that
    have the same share of a low rate at most, and one step has none.

    Args:
        images: of the support set.
        batch: images in a step.
        steps: in all, where it is not the number of epochs that decides; 0 for that number.
    """
    per_epoch = max(1, images // batch)
    steps = steps or epochs * per_epoch
    warm = min(warm_epochs * per_epoch, math.ceil(steps * warm_epochs / epochs), steps - 1)
    return Recipe(
        steps=steps,
        scale=scale,
        views=views,
        batch=sys.maxsize,
        batch_total=batch,
        passes="drop",
        cosine_to=0.0,
        warm_steps=warm,
        pass_steps=per_epoch,
    )


def recipe_schedule(optimiser: torch.optim.Optimizer, recipe: Recipe) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rates that a recipe asks for."""
    top, each = optimiser.param_groups[0]["lr"], recipe.pass_steps
    length = -(-recipe.steps // each) * each * recipe.cosine_over - recipe.rising_steps
    falling = cosine(top, max(1, round(length)), recipe.cosine_to)

    def factor(step: int) -> float:
        if step < recipe.warm_steps:
            return recipe.warm_lr / (top or 1.0)
        if step < recipe.rising_steps:
            return (step + 1) / recipe.rising_steps
        return falling((step - recipe.warm_steps) // each * each - recipe.rising_steps)

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


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

"""The one training loop: T tasks at once, parts on a frozen encoder, every step on each task's support
images.

A recipe says how long and how; parts say what is trained; `finetune` does it. A single user's task is a batch
of one. Shapes: T tasks, N classes, K shots, V views, B images of a step (support images times views), R side
of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from farshot.errors import FarshotError
from farshot.model.encoder import DualEncoder, Part, Pass, TextFeatures
from farshot.support import StepImages, StepSource, SupportImages
from farshot.task import Task

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) after each step."""


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
class Group:
    """Parameters, all with a leading task dimension, and how they learn."""

    parameters: Sequence[Tensor]
    optimiser: AdamW | SGD


@dataclass(frozen=True)
class Recipe:
    """How a batch of tasks is trained.

    Attributes:
        steps: number of optimiser steps.
        scale: s in logits = s * cosine(image, text).
        views: "five" fixed ones per image, "none", or "crops": a fresh one at each step (farshot.support).
        batch: most support images per class in a step; a class-balanced draw where there are more.
        batch_total: most support images in a step, of any class; None for no such limit.
        cosine_to: learning rates fall along a cosine to this value; None keeps them constant.
        micro_batch: most images forwarded at once, over all tasks; the result is that of the full batch.
            None: all.
    """

    steps: int
    scale: float
    views: str = "five"
    batch: int = 16
    batch_total: int | None = None
    cosine_to: float | None = None
    micro_batch: int | None = None


def finetune(
    encoder: DualEncoder,
    tasks: Sequence[Task],
    parts: Sequence[Part],
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    images: StepSource | None = None,
    progress: Progress | None = None,
) -> Float[NDArray[np.float64], "steps T"]:
    """Trains the parts in place; the encoder is left as it was.

    The loss is a mean within a task and a sum over tasks, so each task learns as if it were alone.

    Args:
        tasks: T tasks with equally many classes; support sets may differ in size.
        parts: what attaches to the encoder, with their initial values.
        groups: which of the parts' parameters learn, and how.
        images: the pixels to train on; by default the tasks' support images, as the recipe's views say.

    Returns:
        The loss of every step before its update, per task.

    Raises:
        FarshotError: if the loss of a task is not finite.
    """
    images = images or SupportImages(tasks, encoder.size, recipe.views, recipe.batch, recipe.batch_total)
    prompts = encoder.prompts([task.prompts for task in tasks])
    classes = torch.arange(prompts.ids.shape[1], device=encoder.device).expand(len(tasks), -1)
    optimisers = [group.optimiser.build(list(group.parameters)) for group in groups]
    schedules = [schedule(optimiser, recipe.steps, recipe.cosine_to) for optimiser in optimisers]
    text_learns = any(_touches_text(part) for part in parts)
    losses = np.zeros((recipe.steps, len(tasks)))

    with encoder.attached(parts):
        texts = None
        for step in range(recipe.steps):
            if texts is None or text_learns:
                texts = encoder.encode_texts(prompts, Pass(step=step, samples=classes))
            losses[step] = _backward(encoder, texts, images.at(step), step, recipe)
            if not np.isfinite(losses[step]).all():
                task = int(np.flatnonzero(~np.isfinite(losses[step]))[0])
                raise FarshotError(
                    f"The loss of task {task} is not finite at step {step + 1}; lower the learning rates "
                    "or use float32."
                )
            for optimiser, falling in zip(optimisers, schedules, strict=True):
                optimiser.step()
                optimiser.zero_grad()
                falling.step()
            if progress:
                progress(step + 1, recipe.steps)
    return losses


def _backward(
    encoder: DualEncoder, texts: TextFeatures, batch: StepImages, step: int, recipe: Recipe
) -> Float[NDArray[np.float64], " T"]:
    """Gradients of one step, gathered over micro-batches.

    The texts are cut from their graph while the images pass, gather the gradient of all micro-batches, and
    hand it to the text tower once.
    """
    leaves = texts.detached()
    total = torch.zeros(batch.weights.shape[0], device=encoder.device)
    for part in _micro_batches(batch, recipe.micro_batch):
        this = Pass(
            texts=leaves,
            step=step,
            samples=part.samples.to(encoder.device),
            images=part.images.to(encoder.device),
        )
        embedded = encoder.encode_images(part.pixels, this)
        loss = task_losses(embedded, leaves.final, part.labels, part.weights, recipe.scale)
        if loss.requires_grad:
            loss.sum().backward()
        total += loss.detach()
    grown = [
        (text, leaf.grad)
        for text, leaf in zip((texts.final, texts.tap), (leaves.final, leaves.tap), strict=True)
        if leaf.grad is not None
    ]
    if grown:
        torch.autograd.backward([text for text, _ in grown], [grad for _, grad in grown])
    return total.double().cpu().numpy()


def task_losses(
    images: Float[Tensor, "T B E"],
    texts: Float[Tensor, "T N E"],
    labels: Tensor,
    weights: Tensor,
    scale: float,
) -> Float[Tensor, " T"]:
    """Weighted cross-entropy of every task; the weights of a whole step sum to 1, those of padding are 0."""
    logits = class_logits(images, texts, scale)
    labels, weights = labels.to(logits.device), weights.to(logits.device)
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(weights)
    return (each * weights).sum(-1)


def class_logits(
    images: Float[Tensor, "T B E"], texts: Float[Tensor, "T N E"], scale: float
) -> Float[Tensor, "T B N"]:
    """s * cosine(image, text)."""
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT


def _micro_batches(batch: StepImages, most: int | None) -> Iterator[StepImages]:
    tasks, images = batch.labels.shape
    each = images if most is None else max(1, most // tasks)
    for start in range(0, images, each):
        yield batch.columns(slice(start, start + each))


def _touches_text(part: Part) -> bool:
    return any(place.startswith("text.") for place in part.places())


def schedule(
    optimiser: torch.optim.Optimizer, steps: int, cosine_to: float | None
) -> torch.optim.lr_scheduler.LRScheduler:
    """Constant rates where cosine_to is None; else they fall to it along a cosine."""
    top, low = optimiser.param_groups[0]["lr"], cosine_to
    if low is None or not top:
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (low + (top - low) * (1 + math.cos(math.pi * step / steps)) / 2) / top
    )

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
from typing import Protocol, runtime_checkable

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
        views: "five" fixed ones per image, "none", or "crops": a fresh one at each step (farshot.support).
        batch: most support images per class in a step; a class-balanced draw where there are more.
        batch_total: most support images in a step, of any class; None for no such limit.
        plain: every support image is forwarded once more as it is, with weight 0 (farshot.support).
        cosine_to: learning rates fall along a cosine to this value; None keeps them constant.
        cosine_over: length of that cosine, in runs: 2 means that only its first half is run.
        warm_steps, warm_lr: the first steps, and the learning rate they have in place of their own.
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
        """How often a step forwards each of its support images."""
        return (5 if self.views == "five" else 1) + self.plain


@runtime_checkable
class Objective(Protocol):
    """What is minimised, where it is not the cross-entropy of a step's images."""

    def __call__(
        self,
        images: Float[Tensor, "T B E"],
        texts: Float[Tensor, "T N E"],
        batch: StepImages,
        step: int,
        scale: float,
    ) -> Float[Tensor, " T"]:
        """Loss of every task from all embeddings of the step, not normalised."""
        ...


def finetune(
    encoder: DualEncoder,
    tasks: Sequence[Task],
    parts: Sequence[Part],
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    images: StepSource | None = None,
    objective: Objective | None = None,
    progress: Progress | None = None,
) -> Float[NDArray[np.float64], "steps T"]:
    """Trains the parts in place; the encoder is left as it was.

    The loss is a mean within a task and a sum over tasks, so each task learns as if it were alone.

    Args:
        tasks: T tasks with equally many classes; support sets may differ in size.
        parts: what attaches to the encoder, with their initial values.
        groups: which of the parts' parameters learn, and how.
        images: the pixels to train on; by default the tasks' support images, as the recipe's views say.
        objective: the loss; by default the cross-entropy.

    Returns:
        The loss of every step before its update, per task.

    Raises:
        FarshotError: if the loss of a task is not finite.
    """
    images = images or SupportImages(
        tasks, encoder.size, recipe.views, recipe.batch, recipe.batch_total, plain=recipe.plain
    )
    prompts = encoder.prompts([task.prompts for task in tasks])
    classes = torch.arange(prompts.ids.shape[1], device=encoder.device).expand(len(tasks), -1)
    optimisers = [group.optimiser.build(list(group.parameters)) for group in groups]
    schedules = [recipe_schedule(optimiser, recipe) for optimiser in optimisers]
    text_learns, vision_learns = _touched(parts, "text."), _touched(parts, "vision.")
    losses = np.zeros((recipe.steps, len(tasks)))

    with encoder.attached(parts):
        texts, embedded = None, _Embedded(encoder, recipe.micro_batch)
        for step in range(recipe.steps):
            if texts is None or text_learns:
                texts = encoder.encode_texts(prompts, Pass(step=step, samples=classes))
            batch = images.at(step)
            if not vision_learns:
                loss = _texts_alone(embedded.of(batch), texts, batch, step, recipe, objective)
            elif objective is None:
                loss = _backward(encoder, texts, batch, step, recipe)
            else:
                loss = _backward_jointly(encoder, texts, batch, step, recipe, objective)
            losses[step] = loss.double().cpu().numpy()
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
            for group in groups:
                if group.at_least is not None:
                    with torch.no_grad():
                        torch._foreach_clamp_min_(list(group.parameters), group.at_least)
            if progress:
                progress(step + 1, recipe.steps)
    return losses


def _backward(
    encoder: DualEncoder, texts: TextFeatures, batch: StepImages, step: int, recipe: Recipe
) -> Float[Tensor, " T"]:
    """Gradients of one step, gathered over micro-batches.

    The texts are cut from their graph while the images pass, gather the gradient of all micro-batches, and
    hand it to the text tower once.
    """
    leaves = texts.detached()
    total = torch.zeros(batch.weights.shape[0], device=encoder.device)
    for part in _micro_batches(batch, recipe.micro_batch):
        embedded = encoder.encode_images(part.pixels, _image_pass(encoder, leaves, part, step))
        loss = task_losses(embedded, leaves.final, part.labels, part.weights, recipe.scale)
        if loss.requires_grad:
            loss.sum().backward()
        total += loss.detach()
    _hand_back(texts, leaves)
    return total


def _backward_jointly(
    encoder: DualEncoder,
    texts: TextFeatures,
    batch: StepImages,
    step: int,
    recipe: Recipe,
    objective: Objective,
) -> Float[Tensor, " T"]:
    """Gradients of a loss that ties all images of a step together.

    With more than one micro-batch, images pass twice: once for their embeddings, from which the loss and its
    gradient follow, and once more to carry that gradient back. Random draws are keyed, so both passes agree
    and the result is that of the full batch.
    """
    leaves, parts = texts.detached(), list(_micro_batches(batch, recipe.micro_batch))
    with torch.set_grad_enabled(len(parts) == 1):
        embedded = [encoder.encode_images(p.pixels, _image_pass(encoder, leaves, p, step)) for p in parts]
    joined = torch.cat(embedded, dim=1).detach().requires_grad_()
    loss = objective(joined, leaves.final, batch, step, recipe.scale)
    loss.sum().backward()
    assert joined.grad is not None
    gradients = joined.grad.split([part.shape[1] for part in embedded], dim=1)
    for part, once, gradient in zip(parts, embedded, gradients, strict=True):
        again = once
        if len(parts) > 1:
            again = encoder.encode_images(part.pixels, _image_pass(encoder, leaves, part, step))
        again.backward(gradient)
    _hand_back(texts, leaves)
    return loss.detach()


def _texts_alone(
    embedded: Float[Tensor, "T B E"],
    texts: TextFeatures,
    batch: StepImages,
    step: int,
    recipe: Recipe,
    objective: Objective | None,
) -> Float[Tensor, " T"]:
    """Gradients of one step where nothing acts in the vision tower."""
    if objective is None:
        loss = task_losses(embedded, texts.final, batch.labels, batch.weights, recipe.scale)
    else:
        loss = objective(embedded, texts.final, batch, step, recipe.scale)
    if loss.requires_grad:
        loss.sum().backward()
    return loss.detach()


class _Embedded:
    """Embeddings of a step's images where no part touches them: the same images pass once."""

    def __init__(self, encoder: DualEncoder, micro_batch: int | None) -> None:
        self.encoder, self.micro_batch = encoder, micro_batch
        self._batch: StepImages | None = None
        self._values: Tensor | None = None

    @torch.no_grad()
    def of(self, batch: StepImages) -> Float[Tensor, "T B E"]:
        """Embeddings, not normalised."""
        if self._values is None or batch is not self._batch:
            parts = _micro_batches(batch, self.micro_batch)
            self._values = torch.cat([self.encoder.encode_images(part.pixels) for part in parts], dim=1)
            self._batch = batch
        return self._values


def _image_pass(encoder: DualEncoder, texts: TextFeatures, batch: StepImages, step: int) -> Pass:
    return Pass(
        texts=texts,
        step=step,
        samples=batch.samples.to(encoder.device),
        images=batch.images.to(encoder.device),
    )


def _hand_back(texts: TextFeatures, leaves: TextFeatures) -> None:
    """The gradient that the cut texts gathered goes through the text tower."""
    grown = [
        (text, leaf.grad)
        for text, leaf in zip((texts.final, texts.tap), (leaves.final, leaves.tap), strict=True)
        if leaf.grad is not None
    ]
    if grown:
        torch.autograd.backward([text for text, _ in grown], [grad for _, grad in grown])


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


def _touched(parts: Sequence[Part], tower: str) -> bool:
    return any(place.startswith(tower) for part in parts for place in part.places())


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

"""The one training loop: T tasks at once, parts on a frozen encoder, every step on each task's support
images.

A recipe says how long and how; parts say what is trained; `finetune` does it. A single user's task is a batch
of one. Shapes: T tasks, N classes, K shots, V views, B images of a step (support images times views), R side
of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.errors import FarshotError
from farshot.model.encoder import Encoder
from farshot.model.tower import Part, Pass, TextFeatures
from farshot.task import Task
from farshot.training import tracking
from farshot.training.batches import StepImages, StepSource, SupportImages
from farshot.training.recipe import ParameterGroup, Recipe, recipe_schedule

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) after each step."""


@runtime_checkable
class Objective(Protocol):
    """A loss other than the cross-entropy of a step's images."""

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


@runtime_checkable
class Stepper(Protocol):
    """What computes the gradients of a step where they are not those of one loss."""

    def __call__(
        self, parts: Sequence[Part], texts: TextFeatures, batch: StepImages, step: int, recipe: Recipe
    ) -> Float[Tensor, " T"]:
        """Set the gradients of all parameters that learn; returns the loss of every task."""
        ...


def finetune(
    encoder: Encoder,
    tasks: Sequence[Task],
    parts: Sequence[Part],
    groups: Sequence[ParameterGroup],
    recipe: Recipe,
    *,
    images: StepSource | None = None,
    objective: Objective | None = None,
    stepper: Stepper | None = None,
    penalty: Callable[[], Float[Tensor, " T"]] | None = None,
    classes: Float[Tensor, "T N E"] | None = None,
    progress: Progress | None = None,
) -> Float[NDArray[np.float64], "steps T"]:
    """Train the parts in place; the encoder does not change.

    The loss is a mean within a task and a sum over tasks, so each task learns as if it were alone.

    Args:
        tasks: T tasks with equally many classes; support sets may differ in size.
        parts: what acts in the forward pass, with their initial values.
        groups: which of the parts' parameters learn, and how.
        images: the pixels to train on; by default the tasks' support images, as the recipe's views say.
        objective: the loss; by default the cross-entropy.
        stepper: computes the gradients in place of both.
        penalty: added to the loss of every task in each step; depends on parameters alone.
        classes: class vectors that are trained in place of the class texts.

    Returns:
        The loss of every step before its update, per task.

    Raises:
        FarshotError: if the loss of a task is not finite.
    """
    images = images or SupportImages(
        tasks,
        encoder.size,
        recipe.views,
        recipe.batch,
        recipe.batch_total,
        plain=recipe.plain,
        passes=recipe.passes,
        least_crop=recipe.least_crop,
    )
    prompts = encoder.prompts([task.prompts for task in tasks])
    numbers = torch.arange(prompts.ids.shape[1], device=encoder.device).expand(len(tasks), -1)
    optimisers = [group.optimiser.build(list(group.parameters)) for group in groups]
    schedules = [recipe_schedule(optimiser, recipe) for optimiser in optimisers]
    text_learns, vision_learns = _touched(parts, "text."), _touched(parts, "vision.")
    tracker = tracking.current()
    losses = np.full((recipe.steps, len(tasks)), np.nan)
    texts, frozen_images = None, FrozenImages(encoder, recipe.micro_batch)
    if classes is not None:
        texts, text_learns = TextFeatures(classes, classes), False
    for number in range(recipe.steps):
        step = recipe.first_step + number
        if texts is None or text_learns:
            texts = encoder.forward_texts(prompts, Pass(parts, step=step, samples=numbers))
        batch = images.at(step)
        if stepper is not None:
            loss = stepper(parts, texts, batch, step, recipe)
        elif not vision_learns:
            loss = _backward_texts(frozen_images.of(batch), texts, batch, step, recipe, objective)
        elif objective is None:
            loss = _backward(encoder, parts, texts, batch, step, recipe)
        else:
            loss = _backward_jointly(encoder, parts, texts, batch, step, recipe, objective)
        if penalty is not None:
            added = penalty()
            added.sum().backward()
            loss = loss + added.detach()
        losses[number] = loss.cpu().double().numpy()  # not every device has float64
        if not np.isfinite(losses[number]).all():
            task = int(np.flatnonzero(~np.isfinite(losses[number]))[0])
            raise FarshotError(
                f"The loss of task {task} is not finite at step {number + 1}; lower the learning rates "
                "or use float32."
            )
        if recipe.most_norm is not None:
            clip_each(groups, recipe.most_norm)
        for optimiser, falling in zip(optimisers, schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad()
            falling.step()
        _keep_bounds(groups)
        if tracker is not None:
            tracker.on_step(step + 1, recipe.first_step + recipe.steps, float(losses[number].mean()))
        if progress:
            progress(number + 1, recipe.steps)
    return losses


@torch.no_grad()
def clip_each(groups: Sequence[ParameterGroup], most: float) -> None:
    """Scale the gradients of each task to at most this norm over all its parameters, as
    torch.nn.utils.clip_grad_norm_ does for one."""
    grads = [p.grad for group in groups for p in group.parameters if p.grad is not None]
    if not grads:
        return
    norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)  # of each task
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factors.view(-1, *[1] * (grad.ndim - 1)))


@torch.no_grad()
def _keep_bounds(groups: Sequence[ParameterGroup]) -> None:
    for group in groups:
        if group.at_least is not None:
            for parameter in group.parameters:
                parameter.clamp_(min=group.at_least)


class FrozenImages:
    """Embeddings of a step's images when no part acts in the vision tower: each image is encoded once."""

    def __init__(self, encoder: Encoder, micro_batch: int | None) -> None:
        self.encoder, self.micro_batch = encoder, micro_batch
        self._batch: StepImages | None = None
        self._values: Tensor | None = None

    @torch.no_grad()
    def of(self, batch: StepImages) -> Float[Tensor, "T B E"]:
        """Embeddings, not normalised."""
        if self._values is None or batch is not self._batch:
            parts = batch.parts(self.micro_batch)
            self._values = torch.cat([self.encoder.forward_images(part.pixels) for part in parts], dim=1)
            self._batch = batch
        return self._values


def _backward(
    encoder: Encoder,
    acting: Sequence[Part],
    texts: TextFeatures,
    batch: StepImages,
    step: int,
    recipe: Recipe,
) -> Float[Tensor, " T"]:
    """Gradients of one step, gathered over micro-batches.

    The texts are detached while the images pass, accumulate the gradient of all micro-batches, and pass it to
    the text tower once.
    """
    leaves = texts.detached()
    total = torch.zeros(batch.weights.shape[0], device=encoder.device)
    for part in batch.parts(recipe.micro_batch):
        embedded = _embed(encoder, acting, leaves, part, step)
        loss = task_losses(embedded, leaves.final, part.labels, part.weights, recipe.scale)
        if loss.requires_grad:
            loss.sum().backward()
        total += loss.detach()
    _hand_back(texts, leaves)
    return total


def _backward_jointly(
    encoder: Encoder,
    acting: Sequence[Part],
    texts: TextFeatures,
    batch: StepImages,
    step: int,
    recipe: Recipe,
    objective: Objective,
) -> Float[Tensor, " T"]:
    """Gradients of a loss that depends on all images of a step together.

    With more than one micro-batch, images pass twice: once for their embeddings, from which the loss and its
    gradient follow, and once more to carry that gradient back. Random draws are keyed, so both passes agree
    and the result is that of the full batch.
    """
    leaves, parts = texts.detached(), list(batch.parts(recipe.micro_batch))
    with torch.set_grad_enabled(len(parts) == 1):
        embedded = [_embed(encoder, acting, leaves, part, step) for part in parts]
    joined = torch.cat(embedded, dim=1).detach().requires_grad_()
    loss = objective(joined, leaves.final, batch, step, recipe.scale)
    loss.sum().backward()
    assert joined.grad is not None
    gradients = joined.grad.split([part.shape[1] for part in embedded], dim=1)
    for part, once, gradient in zip(parts, embedded, gradients, strict=True):
        again = once
        if len(parts) > 1:
            again = _embed(encoder, acting, leaves, part, step)
        again.backward(gradient)
    _hand_back(texts, leaves)
    return loss.detach()


def _backward_texts(
    embedded: Float[Tensor, "T B E"],
    texts: TextFeatures,
    batch: StepImages,
    step: int,
    recipe: Recipe,
    objective: Objective | None,
) -> Float[Tensor, " T"]:
    """Gradients of one step where no part acts in the vision tower."""
    if objective is None:
        loss = task_losses(embedded, texts.final, batch.labels, batch.weights, recipe.scale)
    else:
        loss = objective(embedded, texts.final, batch, step, recipe.scale)
    if loss.requires_grad:
        loss.sum().backward()
    return loss.detach()


def _embed(
    encoder: Encoder, acting: Sequence[Part], texts: TextFeatures, batch: StepImages, step: int
) -> Float[Tensor, "T B E"]:
    """Embeddings of a step's images."""
    samples, images = batch.samples.to(encoder.device), batch.images.to(encoder.device)
    this = Pass(acting, texts=texts, step=step, samples=samples, images=images)
    return encoder.forward_images(batch.pixels, this)


def _hand_back(texts: TextFeatures, leaves: TextFeatures) -> None:
    """Backpropagate the gradient accumulated at the detached texts through the text tower."""
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


def _touched(parts: Sequence[Part], tower: str) -> bool:
    return any(place.startswith(tower) for part in parts for place in part.places())

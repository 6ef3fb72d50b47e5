"""Training on the queries of a task in addition to its support images, without their labels.

Source: Language-Aware Information Maximization for Transductive Few-Shot CLIP (LIMO, arXiv 2509.00305), at
second hand (farshot.methods.limo). Shapes: T tasks, B images of a step, N classes, E joint width, R side of
an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farshot.images.views import crop_and_flip
from farshot.model.encoder import Encoder
from farshot.randomness import numpy_generator
from farshot.task import Task
from farshot.training.batches import SUPPORT_READING, StepImages, SupportImages, image_numbers
from farshot.training.loop import class_logits, task_losses
from farshot.training.recipe import Recipe

_LEAST = 1e-5  # added to the mean probability of a class


class WithQueries:
    """The images of each step: support images as the recipe says, behind them fresh crops of queries, of
    weight 0, drawn afresh in each step.

    Args:
        tasks: T tasks with equally many queries, at least one each.
        size: R.
        count: queries in a step; all where a task has fewer.
    """

    def __init__(self, tasks: Sequence[Task], size: int, recipe: Recipe, count: int) -> None:
        self.tasks, self.size, self.count = tasks, size, min(count, *(len(task.query) for task in tasks))
        self.support = SupportImages(
            tasks, size, recipe.views, recipe.batch, recipe.batch_total, passes=recipe.passes
        )
        self._read = [task.table.pixels(task.query, SUPPORT_READING["crops"], size) for task in tasks]
        self._content = [image_numbers(pixels) for pixels in self._read]

    def at(self, step: int) -> StepImages:
        """The images of this step."""
        shape = (len(self.tasks), self.count)
        pixels = np.zeros((*shape, self.size, self.size, 3), dtype=np.uint8)
        samples, images = (np.zeros(shape, dtype=np.int64) for _ in range(2))
        for t, task in enumerate(self.tasks):
            order = numpy_generator("queries", task.key, step).permutation(len(task.query))
            chosen = np.sort(order[: self.count])
            for place, row in enumerate(chosen.tolist()):
                generator = numpy_generator("query crop", task.key, row, step)
                pixels[t, place] = crop_and_flip(self._read[t][row], self.size, generator)
            samples[t], images[t] = len(task.support) + chosen, self._content[t][chosen]
        unlabelled = StepImages(
            torch.from_numpy(pixels),
            torch.zeros(shape, dtype=torch.int64),
            torch.zeros(shape),
            torch.from_numpy(samples),
            torch.from_numpy(images),
        )
        return self.support.at(step).followed_by(unlabelled)


class InformationMaximization:
    """The cross-entropy of the labelled images and three terms of the unlabelled ones behind them.

    Args:
        encoder: untouched; gives the probabilities to stay near to.
        count: unlabelled images in a step, at most.
        weights: of entropy, distance from the untouched encoder, and distance of the mean from equal classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        recipe: Recipe,
        count: int,
        weights: tuple[float, float, float],
    ) -> None:
        self.encoder, self.weights, self.micro_batch = encoder, weights, recipe.micro_batch
        self.count = min(count, *(len(task.query) for task in tasks))
        with torch.no_grad():
            self.texts = encoder.forward_texts(encoder.prompts([task.prompts for task in tasks])).final

    def __call__(
        self,
        images: Float[Tensor, "T B E"],
        texts: Float[Tensor, "T N E"],
        batch: StepImages,
        step: int,
        scale: float,
    ) -> Float[Tensor, " T"]:
        loss = task_losses(images, texts, batch.labels, batch.weights, scale)
        log_p = class_logits(images[:, -self.count :], texts, scale).log_softmax(-1)
        log_p0 = self._untouched(batch, scale)
        entropy = -(log_p.exp() * log_p).sum(-1).mean(1)
        away = (log_p0.exp() * (log_p0 - log_p)).sum(-1).mean(1)
        share = 1 / texts.shape[1]
        mean = log_p.exp().mean(1) + _LEAST
        uneven = share * (share * (share / mean).log()).sum(-1)
        sure, stay, even = self.weights
        return loss + sure * entropy + stay * away + even * uneven

    @torch.no_grad()
    def _untouched(self, batch: StepImages, scale: float) -> Float[Tensor, "T unlabelled N"]:
        """Log-probabilities of the same crops by the encoder as it was."""
        first = batch.labels.shape[1] - self.count
        parts = batch.columns(slice(first, None)).parts(self.micro_batch)
        found = torch.cat([self.encoder.forward_images(part.pixels) for part in parts], dim=1)
        return class_logits(found, self.texts, scale).log_softmax(-1)

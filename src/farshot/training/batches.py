"""The support images of T tasks, step by step, as pixels ready for the encoder.

Views (docs/method.md): "five" fixed ones per image, drawn once per task and all used in every step; "turn",
one of these five in each step, in turn; "single", each of the five by itself, of which a step takes some;
"none", the centre reading; "crops", one fresh random resized crop and flip per image and step. Every draw is
keyed by the task and the number of the image in its support set, so it does not depend on companions or
micro-batches. Shapes: T tasks, V views,
B images of a step, R side of an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from farshot.arrays import NDArray
from farshot.errors import SettingError
from farshot.images.views import crop_and_flip, five_views
from farshot.randomness import numpy_generator
from farshot.task import Task

VIEWS = ("five", "turn", "single", "none", "crops")
QUERY_READING = {
    "five": "squash",
    "turn": "squash",
    "single": "squash",
    "none": "centre",
    "crops": "model",
}
"""How an image is read at prediction, by the views a method was trained with; "model" as the checkpoint's own
program does (farshot.model.encoder)."""

SUPPORT_READING = {**QUERY_READING, "crops": "reduced"}
FIVE = 5
"""Fixed views of an image."""
_MOST_VIEWS_KEPT = 2 << 30  # bytes of fixed views held in memory; beyond it they are made again in every step


@dataclass(frozen=True)
class StepImages:
    """What one step trains on; tasks of fewer images are padded with weight 0.

    Attributes:
        pixels: uint8, (T, B, R, R, 3), or floats that are normalised already, (T, B, 3, R, R).
        labels: class of each image, (T, B).
        weights: of each image in its task's loss; each row sums to 1, (T, B).
        samples: number of each image and view within its task, (T, B).
        images: number that identifies each image's content, (T, B).
    """

    pixels: UInt8[Tensor, "T B R R 3"] | Float[Tensor, "T B 3 R R"]
    labels: Int[Tensor, "T B"]
    weights: Float[Tensor, "T B"]
    samples: Int[Tensor, "T B"]
    images: Int[Tensor, "T B"]

    def columns(self, which: slice) -> StepImages:
        """A part of every task's images."""
        return StepImages(
            self.pixels[:, which],
            self.labels[:, which],
            self.weights[:, which],
            self.samples[:, which],
            self.images[:, which],
        )

    def followed_by(self, other: StepImages) -> StepImages:
        """Every task's images and those of another step behind them."""
        pairs = ((getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        return StepImages(*(torch.cat(pair, dim=1) for pair in pairs))

    def parts(self, most: int | None) -> Iterator[StepImages]:
        """Micro-batches of at most so many images over all tasks; one of all where None."""
        tasks, images = self.labels.shape
        each = images if most is None else max(1, most // tasks)
        for start in range(0, images, each):
            yield self.columns(slice(start, start + each))


@runtime_checkable
class StepSource(Protocol):
    """A source of the images of each step."""

    def at(self, step: int) -> StepImages:
        """Images of this step, for all tasks."""
        ...


class SupportImages:
    """Reads the support sets once and returns each step's images.

    Args:
        tasks: T tasks.
        size: R.
        views: one of VIEWS.
        batch: most images per class in a step; a class-balanced draw without replacement where there are
            more.
        batch_total: most images in a step, of any class.
        passes, least_crop: as in farshot.training.recipe.Recipe.
        plain: behind the views of all images of a step, each of them once more as it was read, with weight 0.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        size: int,
        views: str = "five",
        batch: int = 16,
        batch_total: int | None = None,
        plain: bool = False,
        passes: str = "",
        least_crop: float = 0.08,
    ) -> None:
        if views not in VIEWS:
            raise SettingError(f"Unknown views {views!r}; choose one of {', '.join(VIEWS)}.")
        self.tasks, self.size, self.views = tasks, size, views
        self.batch, self.batch_total, self.plain, self.passes = batch, batch_total, plain, passes
        self.least_crop = least_crop
        reading = SUPPORT_READING[views]
        self._read = [task.table.pixels(task.support, reading, size) for task in tasks]
        self._content = [image_numbers(pixels) for pixels in self._read]
        self._whole = all(len(self._rows(task, 0)) == len(task.support) for task in tasks)
        bytes_kept = sum(len(task.support) for task in tasks) * FIVE * size * size * 3
        self._views: dict[tuple[int, int], NDArray[np.uint8]] | None = (
            {} if bytes_kept <= _MOST_VIEWS_KEPT else None
        )
        self._last: StepImages | None = None

    def at(self, step: int) -> StepImages:
        """The images of this step."""
        if self._last is not None and self._whole and self.views in ("five", "none"):
            return self._last  # fixed views of whole support sets: every step is the same
        if self.views == "single":
            return self._single(step)
        rows = [self._rows(task, step) for task in self.tasks]
        views, first = (FIVE, 0) if self.views == "five" else (1, 0)
        if self.views == "turn":
            first = step % FIVE
        most = max(map(len, rows))
        shape = (len(rows), (views + self.plain) * most)
        pixels = np.zeros((*shape, self.size, self.size, 3), dtype=np.uint8)
        labels, samples, images = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        weights = np.zeros(shape, dtype=np.float32)
        for t, (task, chosen) in enumerate(zip(self.tasks, rows, strict=True)):
            count = views * len(chosen)
            pixels[t, :count] = np.concatenate([self._images(t, int(row), step) for row in chosen])
            labels[t, :count] = np.repeat(task.labels[chosen], views)
            weights[t, :count] = 1 / count
            numbers = FIVE if self.views == "turn" else views
            samples[t, :count] = (chosen[:, None] * numbers + first + np.arange(views)).ravel()
            images[t, :count] = np.repeat(self._content[t][chosen], views)
            if self.plain:
                behind = slice(views * most, views * most + len(chosen))
                pixels[t, behind] = [self._read[t][row] for row in chosen]
                labels[t, behind] = task.labels[chosen]
                samples[t, behind] = views * len(task.support) + chosen
                images[t, behind] = self._content[t][chosen]
        self._last = StepImages(*(torch.from_numpy(x) for x in (pixels, labels, weights, samples, images)))
        return self._last

    def _single(self, step: int) -> StepImages:
        """Views one by one; a pass goes through all five of every image."""
        if self.batch_total is None:
            raise SettingError("Views one by one are taken in batches; give batch_total.")
        chosen = [self._pass_rows(task, step, self.batch_total, FIVE) for task in self.tasks]
        shape = (len(chosen), max(map(len, chosen)))
        pixels = np.zeros((*shape, self.size, self.size, 3), dtype=np.uint8)
        labels, samples, images = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        weights = np.zeros(shape, dtype=np.float32)
        for t, (task, numbers) in enumerate(zip(self.tasks, chosen, strict=True)):
            rows, here = numbers // FIVE, slice(len(numbers))
            pixels[t, here] = [self._five(t, int(n // FIVE))[n % FIVE] for n in numbers]
            labels[t, here], weights[t, here] = task.labels[rows], 1 / len(numbers)
            samples[t, here], images[t, here] = numbers, self._content[t][rows]
        return StepImages(*(torch.from_numpy(x) for x in (pixels, labels, weights, samples, images)))

    def _images(self, t: int, row: int, step: int) -> UInt8[NDArray[np.uint8], "V R R 3"]:
        pixels, task = self._read[t][row], self.tasks[t]
        if self.views == "none":
            return np.asarray(pixels)[None]
        if self.views == "crops":
            generator = numpy_generator("crop", task.key, row, step)
            return crop_and_flip(pixels, self.size, generator, self.least_crop)[None]
        views = self._five(t, row)
        return views[step % FIVE][None] if self.views == "turn" else views

    def _five(self, t: int, row: int) -> UInt8[NDArray[np.uint8], "5 R R 3"]:
        """The fixed views of an image, kept where memory allows."""
        if self._views is not None and (t, row) in self._views:
            return self._views[t, row]
        found = five_views(self._read[t][row], numpy_generator("views", self.tasks[t].key, row))
        if self._views is not None:
            self._views[t, row] = found
        return found

    def _rows(self, task: Task, step: int) -> Int[NDArray[np.int64], " images"]:
        """Support rows of this step: all, or a fresh draw where a class or the whole is too large for one
        step."""
        if self.passes and self.batch_total is not None:
            return self._pass_rows(task, step, self.batch_total)
        sizes = np.bincount(task.labels)
        generator = numpy_generator("batch", task.key, step)
        rows = np.arange(len(task.support))
        if sizes.max() > self.batch:
            rows = np.concatenate(
                [
                    generator.permutation(np.flatnonzero(task.labels == c))[: self.batch]
                    for c in range(len(sizes))
                ]
            )
        if self.batch_total is not None and len(rows) > self.batch_total:
            rows = generator.permutation(rows)[: self.batch_total]
        return np.sort(rows)

    def _pass_rows(
        self, task: Task, step: int, batch: int, times: int = 1
    ) -> Int[NDArray[np.int64], " images"]:
        """Support rows of this step of a pass through all of them, each so many times over."""
        images = times * len(task.support)
        if images <= batch:
            return np.arange(images)
        steps = images // batch if self.passes == "drop" else -(-images // batch)
        number, place = divmod(step, steps)
        order = numpy_generator("pass", task.key, number).permutation(images)
        return np.sort(order[place * batch : (place + 1) * batch])


def image_numbers(
    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
) -> Int[NDArray[np.int64], " images"]:
    """A number per image that depends on its pixels alone, so that it is the same in training and at
    prediction."""
    digests = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in pixels]
    return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], dtype=np.int64)

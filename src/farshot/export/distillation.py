"""Train a small network to answer as an adapted model does, on pictures without labels.

The teacher answers a few fixed views of each picture, once; the student learns its softened probabilities of
the same views (Hinton et al., Distilling the Knowledge in a Neural Network, 2015; the same crop for both:
Beyer et al., A good teacher is patient and consistent, CVPR 2022). All random draws follow from the seed.
Shapes: I pictures, V views of each, N classes, R side of a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.independence import units
from farshot.data.table import ImageTable
from farshot.errors import DataError, FarshotError, SettingError
from farshot.evaluation.unseen import shows_seen
from farshot.export.predictor import Predictor
from farshot.export.student_net import STAGES, Student
from farshot.images.preprocess import at_size, prepare
from farshot.images.views import crop_and_flip
from farshot.randomness import numpy_generator
from farshot.training.loop import Progress
from farshot.training.recipe import AdamW, cosine

LEAST = 20
"""Different pictures without which nothing is trained: 16 to train on and 4 to measure on."""

_HELD_OUT = 5  # one picture in so many is not trained on
_BATCH, _RISING = 64, 0.05  # views in a step; share of the steps in which the rate rises
_LEAST_CROP = 0.3  # of a picture's area
_AT_ONCE = 16  # pictures that are decoded, and views that the teacher answers, at once
_MOST_PIXELS, _MOST_VIEWS = 384, 64


@dataclass(frozen=True)
class Distillation:
    """How a student is trained.

    Attributes:
        size: of the network, "small" or "medium" (farshot.export.student_net).
        pixels: R, the side of its input; 0 for that of the teacher, and at most 128.
        steps: of AdamW, each on 64 views.
        views: of each picture that the teacher answers: the picture as it is, and random crops.
        temperature: by which the scores of both are divided in training.
        lr, weight_decay: of AdamW; the rate rises in the first steps and then falls to 0 along a cosine.
        seed: of every random draw.
    """

    size: str = "small"
    pixels: int = 0
    steps: int = 1000
    views: int = 4
    temperature: float = 2.0
    lr: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in STAGES:
            raise SettingError(f"Unknown size of a student {self.size!r}; choose one of {', '.join(STAGES)}.")
        if self.pixels and not 32 <= self.pixels <= _MOST_PIXELS:
            raise SettingError(f"pixels={self.pixels} must be between 32 and {_MOST_PIXELS}, such as 128.")
        if self.steps < 1:
            raise SettingError(f"steps={self.steps} must be at least 1.")
        if not 1 <= self.views <= _MOST_VIEWS:
            raise SettingError(f"views={self.views} must be between 1 and {_MOST_VIEWS}.")
        for name in ("temperature", "lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingError(f"{name}={getattr(self, name)} must be a number above 0.")

    def side(self, teacher: int) -> int:
        """R for a teacher whose input has so many pixels a side."""
        return self.pixels or min(teacher, 128)


@dataclass(frozen=True)
class Views:
    """What the student learns from.

    Attributes:
        pixels: all views of the first picture, then of the next; not in memory.
        targets: the teacher's log-probabilities of each.
    """

    pixels: UInt8[NDArray[np.uint8], "IV R R 3"]
    targets: Float[NDArray[np.float32], "IV N"]

    def plain(self, views: int) -> Int[NDArray[np.int64], " I"]:
        """The teacher's class of each picture as it is."""
        return self.targets[::views].argmax(1).astype(np.int64)


def split(
    classifier: FewShotClassifier, table: ImageTable, seed: int
) -> tuple[Int[NDArray[np.int64], " train"], Int[NDArray[np.int64], " held_out"]]:
    """Rows to train on, and a fifth to measure on; copies and near copies are on the same side, and pictures
    that the teacher was adapted to, or near copies of them, are not measured on.

    Raises:
        DataError: fewer than LEAST different pictures, or too few that the teacher was not adapted to.
    """
    if table.labels is not None:
        table = ImageTable(table.images, None, (), (), groups=table.groups, options=table.options)
    unit = units(table, range(len(table)))
    known = np.unique(unit[_taught(classifier, table)])
    names = np.unique(unit)
    if len(names) < LEAST:
        raise DataError(
            f"A student needs at least {LEAST} different pictures to learn from, and there are "
            f"{len(names)}; add some: they need no labels."
        )
    order = numpy_generator("student split", seed).permutation(np.setdiff1d(names, known))
    sizes = np.bincount(unit)[order].cumsum()
    chosen = order[: 1 + int(np.searchsorted(sizes, len(table) // _HELD_OUT))]
    held_out = np.isin(unit, chosen)
    if len(chosen) < LEAST // _HELD_OUT or len(table) - held_out.sum() < LEAST - LEAST // _HELD_OUT:
        raise DataError(
            f"Of these pictures {len(names) - len(known)} show nothing that the model was adapted to, too "
            "few to measure the student on; add pictures: they need no labels."
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _taught(classifier: FewShotClassifier, table: ImageTable) -> Bool[NDArray[np.bool_], " rows"]:
    """Which pictures the teacher was adapted to, or near copies of them, or others of their groups."""
    groups = set(classifier.support_groups_)
    return shows_seen(table, set(classifier.support_ids_), groups, classifier.thumbnails_)


def make_views(
    classifier: FewShotClassifier,
    teacher: Predictor,
    table: ImageTable,
    how: Distillation,
    file: Path,
    done: Progress,
) -> Views:
    """Draw the views of a table's pictures, and let the teacher answer them.

    Args:
        file: to write the pixels to, which would fill the memory.
        done: called with (pictures done, in all).

    Raises:
        UnreadableImage: the first that cannot be read.
    """
    theirs = classifier.encoder_.size
    ours, reading = how.side(theirs), classifier.adapted_.reading
    own = at_size(reading, theirs, ours)

    def one(row: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        image = table.image(row)
        found = [(prepare(image, reading, theirs), prepare(image, own, ours))]
        whole = prepare(image, "reduced", max(theirs, ours))
        for view in range(1, how.views):
            name = ("student view", how.seed, table.id(row), view)
            found.append(
                (
                    crop_and_flip(whole, theirs, numpy_generator(*name), _LEAST_CROP),
                    crop_and_flip(whole, ours, numpy_generator(*name), _LEAST_CROP),
                )
            )
        return found

    targets = []
    with file.open("xb") as pixels, ThreadPoolExecutor(4) as pool:
        for start in range(0, len(table), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(table)))
            views = [view for found in pool.map(one, rows) for view in found]
            pixels.write(np.stack([small for _, small in views]).tobytes())
            targets.append(answers(teacher, np.stack([large for large, _ in views])))
            done(rows.stop, len(table))
    shape = (len(table) * how.views, ours, ours, 3)
    return Views(np.memmap(file, np.uint8, "r", shape=shape), np.concatenate(targets))


@torch.no_grad()
def answers(
    model: Predictor | Student, pixels: UInt8[NDArray[np.uint8], "B R R 3"]
) -> Float[NDArray[np.float32], "B N"]:
    """Log-probabilities of a model."""
    parts = torch.from_numpy(pixels).split(_AT_ONCE)
    found = [(model.logits(part) / model.temperature).log_softmax(-1) for part in parts]
    return torch.cat(found).float().numpy()


def train(student: Student, views: Views, how: Distillation, done: Progress) -> None:
    """Train a student in place.

    Args:
        done: called with (steps done, in all).

    Raises:
        FarshotError: the loss is not finite.
    """
    optimiser = AdamW(how.lr, how.weight_decay).build(list(student.parameters()))
    rising = max(1, round(_RISING * how.steps))
    falling = cosine(how.lr, max(1, how.steps - rising), 0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (step + 1) / rising if step < rising else falling(step - rising)
    )
    student.train()
    for step, rows in enumerate(_batches(len(views.targets), how)):
        mirrored = numpy_generator("student flip", how.seed, step).random(len(rows)) < 0.5
        pixels = np.array(views.pixels[rows])
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        scores = student.logits(torch.from_numpy(pixels)) / how.temperature
        wanted = (torch.from_numpy(views.targets[rows]) / how.temperature).log_softmax(-1)
        loss = (
            F.kl_div(scores.log_softmax(-1), wanted, reduction="batchmean", log_target=True)
            * how.temperature**2
        )
        if not torch.isfinite(loss):
            raise FarshotError(
                f"The loss of the student is not finite at step {step + 1}; lower its learning rate."
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        done(step + 1, how.steps)
    student.eval()


def _batches(count: int, how: Distillation) -> Iterator[Int[NDArray[np.int64], " B"]]:
    """Sorted rows of each step; a new order in each pass through the views."""
    order: Sequence[int] = ()
    passes = 0
    for _ in range(how.steps):
        if len(order) < min(_BATCH, count):
            order = numpy_generator("student order", how.seed, passes).permutation(count).tolist()
            passes += 1
        yield np.sort(np.array(order[:_BATCH], dtype=np.int64))
        order = order[_BATCH:]

"""Would more labels help? Accuracy against the number of labelled images, measured on images that were left
out.

In each of many repeats a fifth of every class is left out; of the others K images per class are drawn, a
classifier is adapted to them and measured on those left out. An image's result is its mean over the repeats
that left it out, so that intervals are over images, not over repeats. What more labels would bring is
the slope per doubling at the three largest K, extrapolated; how far that holds was measured (docs/choose.md).
Shapes: S images, P points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import units, worth
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.intervals import Interval, mean_of_shares
from farshot.methods.base import Method
from farshot.model.encoder import Encoder
from farshot.randomness import key, numpy_generator
from farshot.task import DEFAULT_TEMPLATE, Task
from farshot.training.loop import Progress

SIZES = (1, 2, 3, 5, 8, 12, 20, 32, 50, 80, 125, 200)
REPEATS = 20
_LEFT_OUT = 5  # one in so many
_LAST = 3
_LEAST = 4


@dataclass(frozen=True)
class LearningCurve:
    """Balanced accuracy by the number of labelled images per class.

    Attributes:
        sizes: labelled images per class, (P,).
        accuracy: with their 95 % intervals.
        more: how many more per class `gain` is for.
        gain: expected change of the balanced accuracy with them, with its 95 % interval, none of which leads
            from the last accuracy above 1 or below 0; None where fewer than two sizes could be measured.
        gain_from: the number of labelled images per class that it starts from: those that there are.
    """

    sizes: tuple[int, ...]
    accuracy: tuple[Interval, ...]
    more: int
    gain: Interval | None
    gain_from: int


def learning_curve(
    method: Method,
    encoder: Encoder,
    table: ImageTable,
    *,
    more: int = 10,
    repeats: int = REPEATS,
    sizes: Sequence[int] = SIZES,
    template: str = DEFAULT_TEMPLATE,
    seed: int = 0,
    progress: Progress | None = None,
) -> LearningCurve:
    """Measure the curve.

    Args:
        table: labelled images; of one with splits, those of "train" are used. Copies and groups stay on one
            side.
        more: images per class whose gain is forecast.
        progress: called with (points done, in all).

    Raises:
        SettingError: a method that needs queries.
        DataError: no labels, or a class with fewer than four independent images.
    """
    method.check_queries()
    if table.labels is None:
        raise DataError("These images have no labels.")
    table = table.subset(table.train_rows())
    assert table.labels is not None
    unit = units(table, range(len(table)))
    smallest = _smallest(table, unit)
    parts = [_split(table, unit, seed, repeat) for repeat in range(repeats)]
    most = min(len(rows) for order, _ in parts for rows in order)
    chosen = [size for size in sizes if size <= most]
    if not chosen:
        raise DataError(
            "Too few images of a class are left once a fifth of the groups is left out, as groups have "
            "images of several classes; label more groups."
        )
    if most not in chosen and most > 1.2 * chosen[-1]:
        chosen.append(most)
    # one column per size: the mean over repeats of whether an image that was left out is classified correctly
    right = np.zeros((len(table), len(chosen)))
    times = np.zeros(len(table))
    for _, left in parts:
        times[left] += 1
    for column, size in enumerate(chosen):
        tasks = []
        for repeat, (order, left) in enumerate(parts):
            rows = np.concatenate([rows[:size] for rows in order])
            labels = table.labels[rows]
            tasks.append(
                Task(table, table.names, rows, labels, left, template, {}, key("curve", seed, repeat, size))
            )
        for task, adapted in zip(tasks, method.adapt(encoder, tasks), strict=True):
            found = adapted.logits(table, task.query).argmax(1)
            right[task.query, column] += found == table.labels[task.query]
        if progress is not None:
            progress(column + 1, len(chosen))
    seen = times > 0
    shown, labels = right[seen] / times[seen, None], table.labels[seen]
    accuracy = tuple(_accuracy(shown[:, p], labels, unit[seen]) for p in range(len(chosen)))
    last = chosen[-_LAST:]
    gain = None
    if len(last) > 1:
        doublings = math.log2((smallest + more) / smallest)
        gain = _gain(shown[:, -len(last) :], labels, unit[seen], doublings * _slope(np.log2(last)))
        gain = _within(gain, -accuracy[-1].mean, 1 - accuracy[-1].mean)
    return LearningCurve(tuple(chosen), accuracy, more, gain, smallest)


def _smallest(table: ImageTable, unit: Int[NDArray[np.int64], " S"]) -> int:
    """Independent images of the smallest class.

    Raises:
        DataError: fewer than four.
    """
    assert table.labels is not None
    counts = [len(np.unique(unit[table.labels == c])) for c in range(len(table.classes))]
    smallest = min(counts)
    if smallest < _LEAST:
        raise DataError(
            f"A curve needs at least {_LEAST} independent images of every class, and "
            f"{table.classes[counts.index(smallest)]!r} has {smallest}; label more."
        )
    return smallest


def _split(
    table: ImageTable, unit: Int[NDArray[np.int64], " S"], seed: int, repeat: int
) -> tuple[list[Int[NDArray[np.int64], " _"]], Int[NDArray[np.int64], " rows"]]:
    """The rows of each class to draw from, one of each unit, in random order; and the rows that are left
    out."""
    assert table.labels is not None
    generator = numpy_generator("curve", seed, repeat)
    away: set[int] = set()
    members: list[NDArray[np.int64]] = []
    for c in range(len(table.classes)):
        rows = generator.permutation(np.flatnonzero(table.labels == c))
        rows = rows[np.sort(np.unique(unit[rows], return_index=True)[1])]  # the first of each unit
        out = np.isin(unit[rows], list(away))  # with units of other classes, too
        more = max(0, math.ceil(len(rows) / _LEFT_OUT) - int(out.sum()))
        away |= set(unit[rows[~out][:more]].tolist())
        members.append(rows)
    gone = np.array(sorted(away))
    return [rows[~np.isin(unit[rows], gone)] for rows in members], np.flatnonzero(np.isin(unit, gone))


def _accuracy(
    right: Float[NDArray[np.float64], " S"],
    labels: Int[NDArray[np.int64], " S"],
    unit: Int[NDArray[np.int64], " S"],
) -> Interval:
    """Balanced accuracy with an interval that has a width where all images are classified alike, too
    (`mean_of_shares`); a bootstrap of few images has none.

    Args:
        right: how often each image is classified correctly, from 0 to 1.
    """
    classes, number = np.unique(labels, return_inverse=True)
    n = worth(unit, number, len(classes))
    recalls = np.bincount(number, weights=right) / np.bincount(number)
    smoothed = (recalls * n + 0.5) / (n + 1)
    mean = float(recalls.mean())
    low, high = mean_of_shares(mean, smoothed, smoothed * (1 - smoothed) / n)
    return Interval(mean, low, high, math.nan, len(right))


def _slope(steps: Float[NDArray[np.float64], " P"]) -> Float[NDArray[np.float64], " P"]:
    """What each accuracy counts in the slope of the line of least squares over these steps."""
    apart = steps - steps.mean()
    return apart / (apart**2).sum()


def _gain(
    right: Float[NDArray[np.float64], "S P"],
    labels: Int[NDArray[np.int64], " S"],
    unit: Int[NDArray[np.int64], " S"],
    weights: Float[NDArray[np.float64], " P"],
) -> Interval:
    """The mean over classes of a weighted sum of recalls, with its interval. Variances are those with one
    more image of every class, which is right as often as wrong at each size, as half a success and half a
    failure are added to shares: otherwise images that are all right at all sizes would leave no width."""
    classes, number = np.unique(labels, return_inverse=True)
    n = worth(unit, number, len(classes))
    each, count = right @ weights, np.bincount(number)
    means = np.bincount(number, weights=each) / count
    squares = np.bincount(number, weights=each**2) / count
    smoothed = (squares * n + (weights**2).sum() / 4) / (n + 1) - (means * n / (n + 1)) ** 2
    mean, half = float(means.mean()), 1.96 * math.sqrt(float((smoothed / n).sum())) / len(classes)
    return Interval(mean, mean - half, mean + half, math.nan, len(right))


def _within(found: Interval, least: float, most: float) -> Interval:
    """The same with mean and ends moved between these bounds."""
    mean, low, high = (min(max(value, least), most) for value in (found.mean, found.low, found.high))
    return found._replace(mean=mean, low=low, high=high)

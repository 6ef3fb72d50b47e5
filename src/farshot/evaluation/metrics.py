"""How good a classifier is on labelled images, every number with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import worth, worth_alone
from farshot.evaluation.calibration import expected_calibration_error, negative_log_likelihood
from farshot.evaluation.intervals import (
    Interval,
    mean_of_shares,
    paired_proportions,
    proportion_interval,
)

_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Unadapted:
    """The base model without adaptation, which goes by the class names alone, on the same images.

    Attributes:
        accuracy: share of images that it classifies right.
        difference: how much larger the share of the adapted model is, image by image.
    """

    accuracy: Interval
    difference: Interval

    @classmethod
    def of(
        cls,
        labels: Int[NDArray[np.int64], " B"],
        adapted: Int[NDArray[np.int64], " B"],
        zero_shot: Int[NDArray[np.int64], " B"],
        unit: Int[NDArray[np.int64], " B"] | None = None,
        factor: float = 1.0,
    ) -> Unadapted:
        """Compare the classes predicted with and without adaptation.

        Args:
            unit: as for `evaluate`.
            factor: as for `evaluate`, of the adapted model alone.
        """
        return cls(*compare_shares(adapted == labels, zero_shot == labels, unit, factor)[1:])


@dataclass(frozen=True)
class Evaluation:
    """Accuracy, precision and recall with 95 % intervals, confusion matrix and calibration.

    Attributes:
        classes: the N classes.
        accuracy: share of images classified right.
        balanced_accuracy: mean of the recalls of the classes that are shown.
        majority: the accuracy of always answering the most frequent class of these images.
        precision, recall: per class; NaN where nothing was predicted, or shown, of it.
        confusion: true class by predicted class, images, (N, N).
        calibration_error: expected calibration error, 15 bins.
        nll: mean negative log-likelihood of the true class, nats.
        calibrated: whether the probabilities were scaled by a fitted temperature.
        left_out: images that were not measured because the classifier was adapted to them.
        zero_shot: the base model on the same images; None where it was not measured.
    """

    classes: tuple[Hashable, ...]
    accuracy: Interval
    balanced_accuracy: Interval
    majority: float
    precision: tuple[Interval, ...]
    recall: tuple[Interval, ...]
    confusion: Int[NDArray[np.int64], "N N"]
    calibration_error: float
    nll: float
    calibrated: bool = False
    left_out: int = 0
    zero_shot: Unadapted | None = None

    @property
    def majority_class(self) -> Hashable:
        """The most frequent class of these images."""
        return self.classes[int(self.confusion.sum(1).argmax())]

    @property
    def chance(self) -> float:
        """The accuracy of choosing a class at random."""
        return 1 / len(self.classes)

    def lowest(self, most: int) -> list[int]:
        """The classes of the lowest recall, at most so many, in the order of `classes`; classes that are not
        shown come last."""
        recalls = np.array([recall.mean for recall in self.recall], dtype=np.float64)
        return sorted(np.argsort(np.nan_to_num(recalls, nan=np.inf), kind="stable")[:most].tolist())

    def rows(self) -> Iterator[list[Any]]:
        """A header and a row per class, for a table."""
        yield ["class", "images", *(f"{what}{end}" for what in ("recall", "precision") for end in _ENDS)]
        for c, name in enumerate(self.classes):
            numbers = [x for i in (self.recall[c], self.precision[c]) for x in (i.mean, i.low, i.high)]
            shown = ["" if math.isnan(x) else f"{x:.6f}" for x in numbers]
            yield [str(name), int(self.confusion[c].sum()), *shown]

    def values(self) -> dict[str, float]:
        """Single numbers by name, with the ends of their intervals; for experiment trackers."""
        found = {"images": float(self.confusion.sum()), "majority": self.majority, "chance": self.chance}
        for name in ("accuracy", "balanced_accuracy"):
            interval: Interval = getattr(self, name)
            ends = (interval.mean, interval.low, interval.high)
            found |= {f"{name}{end}": value for end, value in zip(_ENDS, ends, strict=True)}
        return found | {"calibration_error": self.calibration_error, "negative_log_likelihood": self.nll}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        per_class = zip(self.classes, self.precision, self.recall, self.confusion.sum(1), strict=True)
        return {
            "images": int(self.confusion.sum()),
            "accuracy": _plain(self.accuracy),
            "balanced_accuracy": _plain(self.balanced_accuracy),
            "majority": {"class": self.majority_class, "accuracy": self.majority},
            "chance": self.chance,
            "calibration_error": self.calibration_error,
            "negative_log_likelihood": self.nll,
            "calibrated": self.calibrated,
            "classes": [
                {"class": name, "images": int(count), "precision": _plain(p), "recall": _plain(r)}
                for name, p, r, count in per_class
            ],
            "confusion": self.confusion.tolist(),
        } | ({} if self.zero_shot is None else {"zero_shot": _comparison(self.zero_shot)})


def evaluate(
    labels: Int[NDArray[np.int64], " B"],
    probabilities: Float[NDArray[np.floating[Any]], "B N"],
    classes: Sequence[Hashable],
    unit: Int[NDArray[np.int64], " B"] | None = None,
    factor: float = 1.0,
) -> Evaluation:
    """Compares predictions with true classes 0..N-1.

    Args:
        unit: equal for images that are not independent, such as copies; all are by default.
        factor: by which the variance is larger than that of independent images.
    """
    predicted = probabilities.argmax(1)
    n = len(classes)
    confusion = np.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)
    right = np.diag(confusion)
    unit = np.arange(len(labels)) if unit is None else unit
    (whole,) = worth(unit, np.zeros_like(labels), 1) / factor
    of_shown, of_predicted = (worth_alone(unit, codes, n) / factor for codes in (labels, predicted))

    def shares(images: NDArray[np.int64], worth: NDArray[np.float64]) -> tuple[Interval, ...]:
        return tuple(
            proportion_interval(int(k), int(m), float(w))
            for k, m, w in zip(right, images, worth, strict=True)
        )

    return Evaluation(
        tuple(classes),
        proportion_interval(int(right.sum()), len(labels), float(whole)),
        balanced_accuracy(right, confusion.sum(1), worth(unit, labels, n) / factor),
        float(confusion.sum(1).max() / max(len(labels), 1)),
        shares(confusion.sum(0), of_predicted),
        shares(confusion.sum(1), of_shown),
        confusion,
        expected_calibration_error(probabilities, labels),
        negative_log_likelihood(probabilities, labels),
    )


def share_interval(
    holds: Bool[NDArray[np.bool_], " B"], unit: Int[NDArray[np.int64], " B"] | None = None
) -> Interval:
    """Share of the images for which something holds, with its 95 % Wilson interval.

    Args:
        unit: as for `evaluate`.
    """
    return proportion_interval(int(holds.sum()), len(holds), _independent(len(holds), unit))


def compare_shares(
    first: Bool[NDArray[np.bool_], " B"],
    second: Bool[NDArray[np.bool_], " B"],
    unit: Int[NDArray[np.int64], " B"] | None = None,
    factor: float = 1.0,
) -> tuple[Interval, Interval, Interval]:
    """The shares of the same images for which two things hold, and how much larger the first is.

    Args:
        unit: as for `evaluate`.
        factor: as for `evaluate`, of the difference, where only the first depends on the other images.
    """
    cells = (first & second, first & ~second, ~first & second, ~first & ~second)
    both, one, other, neither = (int(cell.sum()) for cell in cells)
    difference = paired_proportions(both, one, other, neither, _independent(len(first), unit), factor)
    return share_interval(first, unit), share_interval(second, unit), difference


def _independent(images: int, unit: Int[NDArray[np.int64], " B"] | None) -> float | None:
    """Independent images that these are worth; None for as many."""
    return None if unit is None else float(worth(unit, np.zeros(images, dtype=np.int64), 1)[0])


def mean_recall(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    """Balanced accuracy: mean over the classes that are shown of the share that is classified right."""
    right = np.bincount(true[true == predicted], minlength=int(true.max()) + 1)
    shown = np.bincount(true)
    return float((right[shown > 0] / shown[shown > 0]).mean())


def macro_f1(true: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    """Mean over the classes that are shown or predicted of 2 precision recall / (precision + recall), as
    scikit-learn's f1_score(average="macro")."""
    length = int(max(true.max(), predicted.max())) + 1
    right = np.bincount(true[true == predicted], minlength=length)
    both = np.bincount(true, minlength=length) + np.bincount(predicted, minlength=length)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def class_weights(labels: Int[NDArray[np.int64], " S"]) -> Float[NDArray[np.float64], " S"]:
    """Weight of each image in a mean over the classes that are shown; they sum to 1."""
    counts = np.bincount(labels)
    return 1 / (counts[labels] * (counts > 0).sum())


def balanced_accuracy(
    right: Int[NDArray[np.int64], " N"],
    shown: Int[NDArray[np.int64], " N"],
    independent: Float[NDArray[np.float64], " N"] | None = None,
) -> Interval:
    """Mean recall of the classes that are shown, with its 95 % interval (`mean_of_shares`).

    Args:
        right: images of each class that are classified correctly.
        shown: images of each class.
        independent: images that these are worth; by default as many.
    """
    known = shown > 0
    if not known.any():
        return proportion_interval(0, 0)
    recalls = right[known] / shown[known]
    mean = float(recalls.mean())
    n = (shown if independent is None else independent)[known]
    smoothed = (recalls * n + 0.5) / (n + 1)
    low, high = mean_of_shares(mean, smoothed, smoothed * (1 - smoothed) / n)
    return Interval(mean, low, high, math.nan, int(shown.sum()))


def _comparison(found: Unadapted) -> dict[str, Any]:
    return {"accuracy": _plain(found.accuracy), "difference": _plain(found.difference)}


def _plain(interval: Interval) -> dict[str, float | None]:
    """NaN has no place in JSON: a share of nothing is null."""
    values = {"value": interval.mean, "low": interval.low, "high": interval.high}
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}

"""Calibration of predicted probabilities, and when a prediction is certain enough to be given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import ArrayLike

from farshot.arrays import NDArray
from farshot.data.independence import shares_of_units, worth
from farshot.evaluation.intervals import Interval, proportion_interval

BINS = 15
_ROUNDING = 1e-12  # of a share of images of which some count in part
_LEAST = 1e-12  # probability of the true class, for its logarithm


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence.

    Attributes:
        confidence: mean largest probability.
        accuracy: share classified correctly.
        images: how many.
    """

    confidence: float
    accuracy: float
    images: int


class CalibrationSums:
    """Calibration of any number of images, which are added part by part.

    Attributes:
        images: how many were added.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.images, self._loss = 0, 0.0
        self._counts = np.zeros(bins, dtype=np.int64)
        self._confidence, self._right = np.zeros(bins), np.zeros(bins, dtype=np.int64)

    def add(
        self,
        probabilities: Float[NDArray[np.floating[Any]], "B N"],
        labels: Integer[NDArray[np.integer[Any]], " B"],
    ) -> None:
        """Count more images."""
        true, bins = labels.astype(np.int64), len(self._counts)
        rows, predicted = np.arange(len(true)), probabilities.argmax(1)
        confidence, right = probabilities[rows, predicted], predicted == true
        which = np.minimum((confidence * bins).astype(int), bins - 1)
        self.images += len(true)
        self._counts += np.bincount(which, minlength=bins)
        self._confidence += np.bincount(which, confidence, bins)
        self._right += np.bincount(which[right], minlength=bins)
        of_true = probabilities[rows, true]
        self._loss -= float(np.log(np.maximum(of_true, _LEAST)).sum(dtype=np.float64))

    @property
    def bins(self) -> list[Bin]:
        """The bins of equal width that hold any image, by increasing confidence."""
        sums = zip(self._confidence.tolist(), self._right.tolist(), self._counts.tolist(), strict=True)
        return [Bin(confidence / n, right / n, n) for confidence, right, n in sums if n]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy over the bins (Guo et al.,
        2017)."""
        return sum(b.images * abs(b.confidence - b.accuracy) for b in self.bins) / max(self.images, 1)

    @property
    def nll(self) -> float:
        """Mean of -log p(true class), nats; probabilities are kept above 1e-12."""
        return self._loss / max(self.images, 1)


def calibration_bins(
    probabilities: Float[NDArray[np.floating[Any]], "B N"],
    labels: Integer[NDArray[np.integer[Any]], " B"],
    bins: int = BINS,
) -> list[Bin]:
    """Return the bins of equal width that hold any image, by increasing confidence."""
    return _summed(probabilities, labels, bins).bins


def expected_calibration_error(
    probabilities: Float[NDArray[np.floating[Any]], "B N"],
    labels: Integer[NDArray[np.integer[Any]], " B"],
    bins: int = BINS,
) -> float:
    """The `error` of CalibrationSums."""
    return _summed(probabilities, labels, bins).error


def negative_log_likelihood(
    probabilities: Float[NDArray[np.floating[Any]], "B N"], labels: Integer[NDArray[np.int64], " B"]
) -> float:
    """The `nll` of CalibrationSums."""
    return _summed(probabilities, labels, BINS).nll


def _summed(
    probabilities: Float[NDArray[np.floating[Any]], "B N"],
    labels: Integer[NDArray[np.integer[Any]], " B"],
    bins: int,
) -> CalibrationSums:
    sums = CalibrationSums(bins)
    sums.add(probabilities, labels)
    return sums


class Certainty(NamedTuple):
    """From which probability on a classifier should decide, and what is known of it there.

    Attributes:
        wanted: share of given predictions that should be right.
        threshold: probability of the predicted class from which on it is given; infinite where none is high
            enough.
        decided: share of the images that reach it.
        right: share of these that were right; NaN where none reaches it.
    """

    wanted: float
    threshold: float
    decided: Interval
    right: Interval


@dataclass(frozen=True)
class Limit:
    """When a prediction is not sure: below a probability, as an adapted model keeps it.

    Attributes:
        wanted: share of the sure predictions that should be right.
        probability: calibrated, of the predicted class, from which on it is sure; None where none is high
            enough.
    """

    wanted: float
    probability: float | None

    @classmethod
    def of(cls, found: Certainty) -> Limit:
        """What was found on labelled images."""
        return cls(found.wanted, found.threshold if math.isfinite(found.threshold) else None)

    def sure(self, probability: float) -> bool:
        """Whether a prediction of this probability is sure."""
        return self.probability is not None and probability >= self.probability


def certain_in_words(probability: float, calibrated: bool, digits: int = 1) -> str:
    """A probability as users see it: a percentage only where it says how often it is right, else a score.

    Args:
        digits: of the percentage; a score has two more.
    """
    return f"{100 * probability:.{digits}f} %" if calibrated else f"score {probability:.{digits + 2}f}"


def tempered(
    probabilities: Float[NDArray[np.floating[Any]], "*B N"], temperature: float
) -> Float[NDArray[np.float64], "*B N"]:
    """The probabilities that logits divided by a temperature have, from those at temperature 1."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float64) / temperature
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def certain_from(
    confidence: Float[NDArray[np.floating[Any]], " S"],
    right: ArrayLike,
    wanted: float,
    unit: Int[NDArray[np.int64], " S"] | None = None,
) -> Certainty:
    """The lowest threshold at which predictions that reach it are right often enough (selective
    classification, Geifman and El-Yaniv 2017).

    "Often enough" is judged by Laplace's rule of succession, (right + 1) / (reached + 2): with ten images
    nine right ones prove less than ninety of a hundred. The same predictions choose and measure, so the share
    of right ones and its interval err on the high side. Choosing on nine tenths and measuring on the tenth
    would err on the low side instead: in simulations its interval held the truth in 81 to 93 %.

    Args:
        confidence: probability of the predicted class of each image.
        right: whether it is the true one.
        wanted: in [0, 1].
        unit: equal for images that are not independent, such as copies, which count once; all are by default.
    """
    hits = np.asarray(right, dtype=bool)
    unit = np.arange(len(hits)) if unit is None else unit
    weights = shares_of_units(unit)

    def share(holds: Bool[NDArray[np.bool_], " B"], of: Int[NDArray[np.int64], " B"]) -> Interval:
        (independent,) = worth(of, np.zeros_like(of), 1)
        return proportion_interval(int(holds.sum()), len(holds), float(independent))

    best = math.inf
    for threshold in np.unique(confidence)[::-1]:  # from the surest down: all of one confidence go together
        reached = confidence >= threshold
        k, n = weights[reached & hits].sum(), weights[reached].sum()
        if (k + 1) / (n + 2) >= wanted - _ROUNDING:
            best = float(threshold)
    reached = confidence >= best
    correct = share(hits[reached], unit[reached]) if reached.any() else proportion_interval(0, 0)
    return Certainty(wanted, best, share(reached, unit), correct)

"""What cross-validated predictions show about a classifier that is adapted to all images.

Each of K folds adapts to (K - 1) / K of the images, and so it is a little worse than the classifier that is
adapted to all. Folds that adapt to half of them show how much the number of images matters. Accuracy is taken
to rise by equal steps per doubling of their number, as `farshot curve` takes it. The predictions are not
independent, since the folds share images: Nadeau and Bengio (2003) give the factor by which that increases
the variance of their mean. What was measured: docs/choose.md. Shapes: S labelled images.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.evaluation.intervals import Interval, wilson

LEAST_FOLDS = 4
"""With three, the step from the images of a fold to all would be larger than the one that was measured."""


def gain_to_all(
    right: Float[NDArray[np.float64], " S"], half: Float[NDArray[np.float64], " S"], folds: int
) -> Float[NDArray[np.float64], " S"]:
    """How much more often each image would be classified correctly, on average over images, by a classifier
    adapted to all other images.

    Args:
        right: share of correct predictions of each image by `folds` folds.
        half: the same by folds that adapt to half of the images.
        folds: at least 3; see LEAST_FOLDS.
    """
    known = (folds - 1) / folds
    return math.log(1 / known) / math.log(known / 0.5) * (right - half)


def crossval_interval(
    mean: float,
    right: Float[NDArray[np.float64], " S"],
    labels: Int[NDArray[np.int64], " S"],
    unit: Int[NDArray[np.int64], " S"],
    folds: int,
    gain: Float[NDArray[np.float64], " S"] | None = None,
) -> Interval:
    """A cross-validated balanced accuracy with its 95 % interval.

    Wilson's interval for as many independent images as have the same standard error. That is the standard
    error of the recalls, each from the number of units of its class divided by Nadeau and Bengio's factor and
    half a success and half a failure more (as Agresti and Coull, 1998, add them), and that of the gain.

    Args:
        mean: the balanced accuracy, corrected where it needs to be.
        right: whether each image is classified correctly.
        unit: images that are not independent have the same number.
        gain: what `mean` was raised by, image by image.
    """
    dependence = 1 + folds / (folds - 1)
    _, number, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    size = sizes[number]  # of the unit of each image
    recalls, variances = [], []
    for c in np.unique(labels):
        own = labels == c
        n = float(own.sum() ** 2 / size[own].sum())  # independent images that are worth as much
        recall = (right[own].mean() * n / dependence + 0.5) / (n / dependence + 1)
        variance = recall * (1 - recall) / (n / dependence + 1)
        if gain is not None and n > 1:
            variance += gain[own].var() / (n - 1)
        recalls.append(recall)
        variances.append(variance)
    centre, variance = float(np.mean(recalls)), float(np.sum(variances)) / len(recalls) ** 2
    mean = min(1.0, max(0.0, mean))
    low, high = wilson(mean, centre * (1 - centre) / variance)
    return Interval(mean, low, high, math.nan, len(labels))

"""Prediction sets: as many classes per image as it takes to be right with a wanted probability.

The scores of cross-validated predictions decide which classes are kept: those whose probability is not lower
than that of the true class in all but a share of the labelled images (least ambiguous sets: Sadinle, Lei and
Wasserman, 2019). Adaptive sets (Romano, Sesia and Candes, 2020) were larger at the same coverage. The
model that predicts has seen more images than those of the folds, so this is no exact guarantee; coverage is
measured in docs/trust.md. Shapes: S labelled images, B images, N classes.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import scores_of_units
from farshot.errors import SettingError


def set_threshold(
    probabilities: Float[NDArray[np.float32], "S N"],
    labels: Int[NDArray[np.int64], " S"],
    coverage: float,
    unit: Int[NDArray[np.int64], " S"] | None = None,
) -> float:
    """The probability from which on a class is in a set.

    Args:
        probabilities: cross-validated and calibrated.
        labels: the true classes.
        coverage: share of images whose set should hold the true class.
        unit: equal for images that are not independent, such as copies; all are by default.

    Raises:
        SettingError: a coverage that so few labelled images cannot promise.
    """
    rows = np.arange(len(labels))
    of_true = scores_of_units(probabilities[rows, labels], rows if unit is None else unit)
    rank = promised_rank(len(of_true), coverage, "Sets that hold the true class")
    return float(of_true[len(of_true) - rank])


def promised_rank(n: int, share: float, what: str) -> int:
    """The rank, from 1, among the scores of n labelled images that a new one's does not exceed with this
    probability.

    Args:
        what: is promised: "Sets that hold the true class".

    Raises:
        SettingError: a share that is none, or that so few labelled images cannot promise.
    """
    if not 0 < share < 1:
        raise SettingError(f"The coverage must lie between 0 and 1, not {share}.")
    rank = math.ceil((n + 1) * share - 1e-9)
    if rank > n:
        raise SettingError(
            f"{what} in {100 * share:g} % of the images need at least "
            f"{math.ceil(share / (1 - share) - 1e-9)} labelled images, and there are {n}; label more, "
            f"or ask for a coverage of at most {math.floor(100 * n / (n + 1)) / 100:.2f}."
        )
    return rank


def prediction_sets(
    probabilities: Float[NDArray[np.float32], "B N"], threshold: float
) -> Bool[NDArray[np.bool_], "B N"]:
    """Which classes are in the set of each image; the most probable one always is."""
    chosen = probabilities >= threshold
    chosen[np.arange(len(probabilities)), probabilities.argmax(1)] = True
    return chosen

"""Reliability diagrams: how often a classifier is right, by how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

BINS = 15  # as in farshot.evaluation.intervals.expected_calibration_error


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence.

    Attributes:
        confidence: mean largest probability; accuracy: share classified right; images: how many.
    """

    confidence: float
    accuracy: float
    images: int


def reliability(
    probabilities: Float[NDArray[np.floating[Any]], "B N"],
    labels: Int[NDArray[np.integer[Any]], " B"],
    bins: int = BINS,
) -> list[Bin]:
    """Bins of equal width that hold any image; their gaps, weighted by images, are the calibration error."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(float(confidence[which == b].mean()), float(right[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]

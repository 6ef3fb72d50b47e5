"""What cross-validated predictions show about a classifier that is adapted to all images.

Each of K folds adapts to (K - 1) / K of the images, and so it is a little worse than the classifier that is
adapted to all. Folds that adapt to half of them show how much the number of images matters. Accuracy is taken
to rise by equal steps per doubling of their number, as `farshot curve` takes it. What was measured:
docs/choose.md. Shapes: S labelled images.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from farshot.arrays import NDArray

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

"""Compare the predictions of an export with those of the adapted model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import ModelError
from farshot.randomness import numpy_generator

TOLERANCE = 1e-4
"""Largest difference of a probability that passes."""

_GENERATED, _MOST_CHECKED = 8, 64

Predict = Callable[[UInt8[NDArray[np.uint8], "B R R 3"]], Float[NDArray[np.float32], "B N"]]
"""Probabilities of pixels that are read already."""


def samples(images: ImageTable | None) -> ImageTable:
    """The images to compare on: the user's, evenly spaced if there are many; else generated ones."""
    if images is None:
        return ImageTable(tuple(_generated(i) for i in range(_GENERATED)), None, (), ())
    return images.subset(np.linspace(0, len(images) - 1, min(len(images), _MOST_CHECKED)).astype(np.int64))


def check_same(classifier: FewShotClassifier, predict: Predict, table: ImageTable, what: str) -> float:
    """Compares an export with the adapted model; returns the largest difference of a probability.

    Raises:
        ModelError: a probability differs by more than TOLERANCE.
    """
    ours = classifier.predict_proba(table)
    theirs = predict_table(classifier, predict, table)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:  # so that NaN is refused as well
        raise ModelError(
            f"The {what} gives probabilities that differ from the adapted model's by up to {difference:.1e}, "
            f"more than {TOLERANCE:.0e}, so it is not written; please report it with the versions of your "
            "packages."
        )
    return difference


def check_familiarity(
    classifier: FewShotClassifier, similarity: Predict, table: ImageTable, what: str
) -> None:
    """Compare the similarities of an export to the labelled images with the adapted model's.

    Raises:
        ModelError: one differs by more than TOLERANCE.
    """
    assert classifier.familiarity_ is not None
    ours = classifier.familiarity_.scores(*classifier.seen_by_familiarity(table))
    difference = float(np.abs(ours - predict_table(classifier, similarity, table)[:, 0]).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"The {what} gives similarities that differ from the adapted model's by up to {difference:.1e}, "
            "so it is not written; please report it with the versions of your packages."
        )


def predict_table(
    classifier: FewShotClassifier, predict: Predict, table: ImageTable, batch: int = 16
) -> Float[NDArray[np.float32], "B N"]:
    """Probabilities of a table's images by the export: the first alone, then in batches."""
    table = table.with_options(classifier.read_options_)
    starts = [0, *range(1, len(table), batch)]
    ends = [*starts[1:], len(table)]
    reading, size = classifier.adapted_.reading, classifier.encoder_.size
    found = [
        predict(np.asarray(table.pixels(range(start, end), reading, size)))
        for start, end in zip(starts, ends, strict=True)
    ]
    return np.concatenate(found)


def _generated(number: int) -> Image.Image:
    """Soft patches of colour with some noise, of another size and shape for every number."""
    generator = numpy_generator("export", number)
    width, height = (int(side) for side in generator.integers(48, 320, 2))
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int64)
    noise = generator.integers(-20, 21, soft.shape)
    return Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8))

"""Draws of labelled images and of others to measure on, as several benchmarks make them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from farshot.arrays import NDArray
from farshot.data.table import ImageTable

WAYS = 5


def draw(
    table: ImageTable, shots: int, queries: int, generator: np.random.Generator
) -> tuple[ImageTable, ImageTable, NDArray[np.int64]]:
    """K pictures of each of up to five classes that have more, up to so many others of each to measure on,
    and which classes."""
    assert table.labels is not None
    enough = np.flatnonzero(np.bincount(table.labels) > shots)
    chosen = np.sort(generator.choice(enough, min(WAYS, len(enough)), replace=False))
    support: list[int] = []
    others: list[int] = []
    for c in chosen:
        order = generator.permutation(np.flatnonzero(table.labels == c)).tolist()
        support += order[:shots]
        others += order[shots : shots + queries]
    return narrowed(table.subset(support), chosen), narrowed(table.subset(others), chosen), chosen


def narrowed(table: ImageTable, chosen: NDArray[np.int64]) -> ImageTable:
    """The table with these of its classes only, of which all its images are."""
    assert table.labels is not None
    classes = tuple(table.classes[c] for c in chosen)
    names = tuple(table.names[c] for c in chosen)
    return replace(table, labels=np.searchsorted(chosen, table.labels), classes=classes, names=names)

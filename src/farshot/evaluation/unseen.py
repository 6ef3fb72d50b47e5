"""Which labelled images a classifier may be measured on: those that show nothing it was adapted to."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from jaxtyping import Bool, Int, UInt8

from farshot.arrays import NDArray
from farshot.data.names import nfc
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.likeness import near_parts, thumbnails
from farshot.sanitize import short


def unseen(
    table: ImageTable,
    classes: Sequence[str],
    ids: Set[str],
    groups: Set[str],
    support: UInt8[NDArray[np.uint8], "S 32 32"] | None = None,
    *,
    include_support: bool = False,
) -> tuple[Int[NDArray[np.int64], " rows"], Int[NDArray[np.int64], " rows"]]:
    """Rows of a labelled table to measure on, and the index in `classes` of each.

    Args:
        table: of its splits, "test" or else "val" is measured.
        classes: of the classifier.
        ids: identities of the pictures that it was adapted to.
        groups: the groups of these.
        support: thumbnails of these (farshot.images.likeness), so that near copies are found.
        include_support: keep those pictures and their groups.

    Raises:
        DataError: no labels, a label that is not among the classes, or nothing left to measure on.
    """
    rows, codes = candidates(table, classes, ids, include_support=include_support)
    if include_support:
        return rows, codes
    seen = shows_seen(table.subset(rows), ids, groups, support)
    if seen.all():
        raise nothing_left(table, groups)
    return rows[~seen], codes[~seen]


def candidates(
    table: ImageTable, classes: Sequence[str], ids: Set[str], *, include_support: bool = False
) -> tuple[Int[NDArray[np.int64], " rows"], Int[NDArray[np.int64], " rows"]]:
    """Rows that may be measured on, and the index in `classes` of each: those of the test split, and with
    `include_support` those of the pictures that it was adapted to.

    Raises:
        DataError: no labels, no such row, or a label that is not among the classes.
    """
    if table.labels is None:
        raise DataError("The images have no labels to compare with.")
    known = {nfc(label): i for i, label in enumerate(classes)}
    rows = table.test_rows()
    if table.splits is not None and include_support:
        rows = np.union1d(rows, np.flatnonzero(table.among(ids)))
    if not len(rows):
        raise DataError(
            "All these images are of the split 'train': evaluate on some of 'test' or 'val', or use "
            "include_support=True."
            if table.splits is not None
            else "There are no images to measure on."
        )
    shown = set(table.labels[rows].tolist())
    unknown = [name for c, name in enumerate(table.classes) if nfc(name) not in known and c in shown]
    if unknown:
        raise DataError(
            f"The label {short(unknown[0])} is not one of the classes it was adapted to "
            f"({', '.join(known)}); leave those images out, or adapt again with them."
        )
    return rows, np.array([known[nfc(table.classes[code])] for code in table.labels[rows]])


def shows_seen(
    table: ImageTable,
    ids: Set[str],
    groups: Set[str],
    support: UInt8[NDArray[np.uint8], "S 32 32"] | None = None,
) -> Bool[NDArray[np.bool_], " rows"]:
    """Which rows of a table show a picture with one of these identities, or a near copy of a thumbnail, or
    are of one of these groups."""
    seen = table.among(ids)
    if table.groups is not None:
        seen |= np.array([group in groups for group in table.groups], dtype=bool)
    if support is not None:
        seen[near_rows(table, support)] = True
    return seen


def near_rows(
    table: ImageTable, support: UInt8[NDArray[np.uint8], "S 32 32"]
) -> Int[NDArray[np.int64], " near"]:
    """Rows that show a near copy of one of these thumbnails."""
    near = np.zeros(len(table), dtype=bool)
    for pairs in near_parts(thumbnails(list(table.images), table.options), support):
        near[pairs[:, 0]] = True
    return np.flatnonzero(near)


def nothing_left(table: ImageTable, groups: Set[str]) -> DataError:
    """The error where every image was adapted to."""
    shared = sorted(groups & set(table.groups or ()))
    groups_too = f", or their groups were ({', '.join(shared[:3])})" if shared else ""
    return DataError(
        f"All these images were used for adapting{groups_too}: evaluate on others, or use "
        "include_support=True."
    )

"""Which labelled images are independent of each other: copies of a picture, near copies, and pictures of
one patient or plant are not, and must not lie on both sides of a split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.data.names import nfc
from farshot.errors import DataError
from farshot.images.likeness import near_parts, thumbnails
from farshot.randomness import numpy_generator
from farshot.sanitize import short

if TYPE_CHECKING:
    from farshot.data.table import ImageTable
else:
    ImageTable = Any

_LARGEST_SHARE, _LARGEST = 4, 4
ALL_BUT_LAST_WORD = r".+(?=[-_. ][^-_. ]+$)"
"""A regular expression for the path of an image up to the last part of its name."""

_LAST_WORD = re.compile(r"(.+)[-_. ][^-_. ]+")
_MOST_OF_GROUP = 20
_DRAWS = 199  # of one image of each unit; odd, so that a median is one of the scores


def units(table: ImageTable, rows: Sequence[int] | NDArray[np.int64]) -> Int[NDArray[np.int64], " S"]:
    """A number for each row, equal for rows that must not be on both sides of a split: copies and near
    copies of a picture, and pictures of one group (a patient, a plant), directly or through each other."""
    pictures = picture_units(table, rows)
    return pictures if table.groups is None else _joined(pictures, [table.groups[int(row)] for row in rows])


def units_of_copies(
    contents: Sequence[str], groups: Sequence[str] | None = None
) -> Int[NDArray[np.int64], " S"]:
    """A number for each picture, equal for exact copies and for pictures of one group, directly or through
    each other.

    Args:
        contents: identity of each picture.
    """
    pictures = _numbered(contents)
    return pictures if groups is None else _joined(pictures, groups)


def _joined(pictures: Int[NDArray[np.int64], " S"], groups: Sequence[str]) -> Int[NDArray[np.int64], " S"]:
    numbers = _numbered(groups)
    count = int(pictures.max(initial=-1)) + 1  # a picture and a group are connected by each row that has both
    joined = connected(
        np.stack([pictures, count + numbers], axis=1), count + int(numbers.max(initial=-1)) + 1
    )
    return joined[pictures]


def _numbered(names: Sequence[str]) -> Int[NDArray[np.int64], " S"]:
    first: dict[str, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)


def picture_units(table: ImageTable, rows: Sequence[int] | NDArray[np.int64]) -> Int[NDArray[np.int64], " S"]:
    """The same without groups.

    Where so many pictures are like each other that near copies cannot be told from them, as photographs of
    one part on a production line, only exact copies count.
    """
    exact, shown = _different(table, rows)
    near = _near(table, shown)
    return exact if near is None else near[exact]


def worth(
    unit: Int[NDArray[np.int64], " B"], group: Int[NDArray[np.int64], " B"], groups: int
) -> Float[NDArray[np.float64], " G"]:
    """Independent images that those of each group 0..G-1, such as a class, are worth in a mean over groups if
    those of a unit say the same, also of different groups: Kish's effective size; 0 for an empty one."""
    _, number, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    counts = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=sizes[number], minlength=groups)
    return np.where(counts > 0, np.maximum(1.0, counts**2 / np.maximum(total, 1)), 0.0)


def worth_alone(
    unit: Int[NDArray[np.int64], " B"], group: Int[NDArray[np.int64], " B"], groups: int
) -> Float[NDArray[np.float64], " G"]:
    """The same of each group by itself, where images of a unit in other groups make no difference."""
    return worth(unit * groups + group, group, groups)


def shares_of_units(unit: Int[NDArray[np.int64], " B"]) -> Float[NDArray[np.float64], " B"]:
    """What each image counts where each unit counts 1."""
    _, number, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[number])


def scores_of_units(
    scores: Float[NDArray[np.floating[Any]], " B"], unit: Int[NDArray[np.int64], " B"]
) -> Float[NDArray[np.floating[Any]], " units"]:
    """As many scores as units, ascending: what a new image's is compared with, since copies say nothing more.

    The scores of one image of each unit would do: a new image is to them as one of another unit. These are
    the medians, rank by rank, of many such draws, so that no single image decides. Without copies they are
    the scores themselves.
    """
    order = np.argsort(unit, kind="stable")
    _, first, sizes = np.unique(unit[order], return_index=True, return_counts=True)
    if len(first) == len(unit):
        return np.sort(scores)
    at = numpy_generator("scores of units", len(unit)).random((_DRAWS, len(first)))
    drawn = scores[order][first + (at * sizes).astype(np.int64)]
    drawn.sort(axis=1)
    return np.asarray(np.median(drawn, axis=0))


def are_too_alike(table: ImageTable, rows: Sequence[int] | NDArray[np.int64]) -> bool:
    """Whether near copies among these rows cannot be told from other pictures."""
    return _near(table, _different(table, rows)[1]) is None


def _different(
    table: ImageTable, rows: Sequence[int] | NDArray[np.int64]
) -> tuple[Int[NDArray[np.int64], " S"], list[int]]:
    """The number of each row's picture, equal for exact copies; and one row of each picture."""
    first: dict[str, int] = {}
    exact: list[int] = []
    shown: list[int] = []
    for row, name in zip(rows, table.contents(rows), strict=True):
        if name not in first:
            first[name] = len(first)
            shown.append(int(row))
        exact.append(first[name])
    return np.array(exact, dtype=np.int64), shown


def _near(table: ImageTable, shown: Sequence[int]) -> Int[NDArray[np.int64], " pictures"] | None:
    """A number for each of these rows of different pictures, equal for near copies; None if too many are
    alike."""
    found, most = np.arange(len(shown)), max(_LARGEST, len(shown) // _LARGEST_SHARE)
    for pairs in near_parts(thumbnails([table.images[row] for row in shown], table.options)):
        if len(pairs):
            found = connected(found[pairs], int(found.max()) + 1)[found]
            if np.bincount(found).max() > most:
                return None
    return found


def connected(pairs: Int[NDArray[np.int64], "pairs 2"], count: int) -> Int[NDArray[np.int64], " count"]:
    """Number of the component of each of `count` nodes, in the order of their first nodes."""
    if not len(pairs):
        return np.arange(count)
    from scipy.sparse import coo_array  # slow to import, and predicting does not need it
    from scipy.sparse.csgraph import connected_components

    edges = (pairs[:, 0], pairs[:, 1])
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), edges), shape=(count, count))
    _, found = connected_components(graph, directed=False)
    order: dict[int, int] = {}
    return np.array([order.setdefault(one, len(order)) for one in found.tolist()], dtype=np.int64)


def groups_by(pattern: str, names: Sequence[str], argument: str = "groups") -> tuple[str, ...]:
    """The group of each image by its name: what the first parentheses of a regular expression hold, or all
    that it matches.

    Args:
        names: paths of the images below the folder of the data, with forward slashes and without extensions.
        argument: how the caller calls the pattern.

    Raises:
        DataError: not a regular expression, or a name that it does not match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"{argument}: {short(pattern)} is neither a column of the table nor a regular expression "
            f"({error})."
        ) from error
    found = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise DataError(
                f"{argument}: {short(pattern)} is not a column of the table, and as a regular expression it "
                f"does not match the name {short(name)}; write one that matches every name, such as "
                f"'{ALL_BUT_LAST_WORD}'."
            )
        if compiled.groups and match[1] is None:
            raise DataError(
                f"{argument}: the parentheses of {short(pattern)} match nothing in the name {short(name)}."
            )
        found.append(nfc(match[1] if compiled.groups else match[0]))
    return tuple(found)


def group_hint(names: Sequence[str], labels: Sequence[str]) -> str:
    """A note where names suggest groups (`alike_names`); else empty."""
    alike = alike_names(names, labels)
    if alike is None:
        return ""
    return (
        f"names such as {alike[0]} and {alike[1]} suggest that several pictures show one thing; if so, keep "
        f"them together with --groups '{ALL_BUT_LAST_WORD}', or the estimate is too high"
    )


def alike_names(names: Sequence[str], labels: Sequence[str]) -> tuple[str, str] | None:
    """Two names such as patient3_01.jpg and patient3_02.jpg, where the names suggest groups; else None.

    At least half of the pictures must share all but the last part of their name with another one, in at
    least three groups per class of 20 pictures at most.
    """
    front = [_LAST_WORD.fullmatch(Path(name).stem) for name in names]
    keys = [
        (label, str(Path(name).parent), match[1]) if match else None
        for name, label, match in zip(names, labels, front, strict=True)
    ]
    sizes: dict[Any, int] = {}
    for key in keys:
        if key is not None:
            sizes[key] = sizes.get(key, 0) + 1
    several = {key: size for key, size in sizes.items() if size > 1}
    share = sum(several.values()) / max(len(names), 1)
    if share < 0.5 or len(several) < 3 * len(set(labels)) or max(several.values()) > _MOST_OF_GROUP:
        return None
    one = next(iter(several))
    first, second, *_ = (Path(name).name for name, key in zip(names, keys, strict=True) if key == one)
    return first, second


def draw(
    table: ImageTable, shots: int, seed: int
) -> tuple[Int[NDArray[np.int64], " support"], Int[NDArray[np.int64], " rest"]]:
    """Draw K rows of every class, all of different pictures, and of different groups where there are enough.
    Return these and all rows that are independent of them, both in table order.

    Raises:
        DataError: no labels, or a class has fewer than K different pictures.
    """
    if table.labels is None:
        raise DataError("These images have no labels.")
    everything = range(len(table))
    pictures, together = picture_units(table, everything), units(table, everything)
    chosen: list[int] = []
    for code, name in enumerate(table.classes):
        members = np.flatnonzero(table.labels == code)
        if len(members) < shots:
            raise DataError(
                f"The class {short(name)} has {len(members)} images, fewer than the {shots} asked for; add "
                f"images or use --shots {len(members)}."
                if len(members)
                else f"The class {short(name)} has no image."
            )
        order = numpy_generator("draw", seed, name).permutation(members).tolist()
        mine: list[int] = []
        # images that are independent of all others first; then others of the same groups, but no copies
        for kind in (together, pictures):
            seen = set(kind[chosen + mine].tolist())
            for row in order:
                if len(mine) < shots and kind[row] not in seen:
                    mine.append(row)
                    seen.add(kind[row])
        if len(mine) < shots:
            raise DataError(
                f"The class {short(name)} has {len(members)} images but only {len(mine)} different pictures "
                f"that no other class has, fewer than the {shots} asked for; remove the copies, or add "
                "images."
            )
        chosen += mine
    rest = np.flatnonzero(~np.isin(together, together[chosen]))
    return np.array(sorted(chosen), dtype=np.int64), rest.astype(np.int64)


def draw_units(
    unit: Int[NDArray[np.int64], " S"], generator: np.random.Generator
) -> Int[NDArray[np.int64], " drawn"]:
    """Rows drawn with replacement, all rows of a unit together, as many units as there are: a bootstrap."""
    names, number = np.unique(unit, return_inverse=True)
    times = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
    return np.repeat(np.arange(len(unit)), times[number])

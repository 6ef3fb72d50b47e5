"""Look for likely wrong labels, copies, classes that cannot be told apart, and poor pictures.

Labels are judged by cross-validated probabilities: an image whose own label gets less than the average of
its class is likely to be labelled wrong (confident learning: Northcutt, Jiang and Chuang, 2021, by the
package cleanlab). What was measured: docs/check.md. Shapes: S images, N classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.independence import are_too_alike, picture_units, worth
from farshot.data.table import ImageTable, none_readable
from farshot.errors import DataError
from farshot.evaluation.crossval import HeldOut
from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import Evaluation, balanced_accuracy
from farshot.images.reading import UnreadableImage, read_picture

FEW = 5
"""Images of a class below which it is called small."""

LIKELY, DOUBTFUL = 10, 3
"""How many times more probable another class is where a label is called likely wrong, or doubtful. Of labels
that were called likely wrong, 60 to 77 % were, where 10 % of all were made wrong (docs/check.md)."""

_DARK, _BRIGHT, _FLAT, _LEVELS = 40, 215, 6, 16  # grey levels of 256
_SIDE = 128
_THREADS = 4
_LEAST_OF_PAIR, _BARELY = 10, 0.65

Fault = Literal["dark", "bright", "one colour", "few grey levels"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WrongLabel:
    """An image whose label is in doubt.

    Attributes:
        row: in the table.
        suggested: index of the most probable class.
        ratio: how many times more probable that class is than the label, by cross-validated and calibrated
            probabilities.
    """

    row: int
    suggested: int
    ratio: float

    @property
    def is_likely(self) -> bool:
        """Whether it is likely to be wrong, not merely doubtful."""
        return self.ratio >= LIKELY


@dataclass(frozen=True)
class Copies:
    """Rows that show one picture.

    Attributes:
        rows: in table order.
        exact: whether all have the same pixels; else they differ in size, compression, brightness or
            orientation.
        labels: the different labels, in class order; more than one is a contradiction.
        splits: the different splits; more than one makes every measurement on them too high.
    """

    rows: tuple[int, ...]
    exact: bool
    labels: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that the model does not tell apart: its choice between them is no better than a coin.

    Attributes:
        classes: their indices.
        right: share of their images for which the true one of the two is more probable, with its interval.
    """

    classes: tuple[int, int]
    right: Interval


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read.

    Attributes:
        name: its path, or what it is.
        reason: what is wrong and the way out.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Dim:
    """A picture with little to see.

    Attributes:
        row: in the table.
        what: what it is.
    """

    row: int
    what: Fault


@dataclass(frozen=True)
class Checked:
    """All findings.

    Attributes:
        table: the images that can be read.
        unreadable: the others, in table order.
        wrong: the likeliest first.
        copies: contradictions first.
        alike: whether the pictures are so alike that near copies could not be looked for.
        pairs: the least distinguishable first.
        dim: in table order.
        sizes: different pictures of every class, copies counted once.
        evaluation: cross-validated quality of the classifier that judged the labels; None where images were
            too few to leave any out, so that labels and pairs were not judged.
        not_judged: why not; empty if they were.
    """

    table: ImageTable
    unreadable: tuple[Unreadable, ...]
    wrong: tuple[WrongLabel, ...]
    copies: tuple[Copies, ...]
    alike: bool
    pairs: tuple[Pair, ...]
    dim: tuple[Dim, ...]
    sizes: tuple[int, ...]
    evaluation: Evaluation | None
    not_judged: str = ""

    @property
    def small(self) -> tuple[int, ...]:
        """Classes of fewer than 5 different pictures."""
        return tuple(c for c, size in enumerate(self.sizes) if size < FEW)


def check_images(
    table: ImageTable, classifier: FewShotClassifier, *, progress: Progress | None = None
) -> Checked:
    """Look for all that is described above.

    Args:
        table: labelled images.
        classifier: judges the labels; cross-validated, so it need not be fitted.
        progress: called with (images looked at, in all); the classifier has its own.

    Raises:
        DataError: no labels, or no image that can be read.
    """
    if table.labels is None:
        raise DataError("These images have no labels to check.")
    faults, dim = _look(table, progress)
    kept = [row for row in range(len(table)) if row not in faults]
    if not kept:
        raise none_readable(list(map(str, faults.values())))
    readable = table.subset(kept)
    place = {row: new for new, row in enumerate(kept)}
    copies, sizes = _copies(readable)
    torn = {row for one in copies if one.exact and len(one.labels) > 1 for row in one.rows}
    judged = [row for row in range(len(readable)) if row not in torn]
    held_out, reason = _held_out(classifier, readable.subset(judged))
    wrong: tuple[WrongLabel, ...] = ()
    pairs: tuple[Pair, ...] = ()
    if held_out is not None:
        wrong = tuple(replace(one, row=judged[one.row]) for one in doubtful_labels(held_out))
        pairs = not_told_apart(held_out)
    return Checked(
        readable,
        tuple(Unreadable(fault.name, fault.reason) for fault in faults.values()),
        wrong,
        copies,
        are_too_alike(readable, range(len(readable))),
        pairs,
        tuple(Dim(place[row], what) for row, what in sorted(dim.items())),
        sizes,
        None if held_out is None else held_out.evaluation(calibrated=True),
        reason,
    )


def doubtful_labels(held_out: HeldOut) -> tuple[WrongLabel, ...]:
    """Images whose label is in doubt: the package marks them, and another class is at least 3 times as
    probable."""
    from cleanlab.filter import find_label_issues  # slow to import

    p = held_out.calibrated.astype(np.float64)
    p /= p.sum(1, keepdims=True)
    marked = find_label_issues(
        labels=held_out.labels, pred_probs=p, filter_by="low_self_confidence", n_jobs=1
    )
    own = np.maximum(p[np.arange(len(p)), held_out.labels], np.finfo(np.float32).tiny)
    ratio = p.max(1) / own
    rows = np.flatnonzero(marked & (ratio >= DOUBTFUL))
    return tuple(
        WrongLabel(int(row), int(p[row].argmax()), float(ratio[row]))
        for row in rows[np.argsort(-ratio[rows])]
    )


def not_told_apart(held_out: HeldOut) -> tuple[Pair, ...]:
    """Pairs of classes, of at least 10 images each, copies counted once, for which a choice between the two
    is not clearly better than a coin: a mean recall of at most 65 % whose interval reaches 50 %."""
    p, labels, unit = held_out.probabilities, held_out.labels, held_out.units
    sizes = [len(np.unique(unit[labels == c])) for c in range(p.shape[1])]
    found = []
    for i, j in combinations(range(p.shape[1]), 2):
        if min(sizes[i], sizes[j]) < _LEAST_OF_PAIR:
            continue
        rows = np.flatnonzero((labels == i) | (labels == j))
        second = labels[rows] == j
        hits = np.where(second, p[rows, j] > p[rows, i], p[rows, i] > p[rows, j])
        right, shown = np.bincount(second[hits], minlength=2), np.bincount(second)
        share = balanced_accuracy(right, shown, worth(unit[rows], second.astype(np.int64), 2))
        if share.low <= 0.5 and share.mean <= _BARELY:
            found.append(Pair((i, j), share))
    return tuple(sorted(found, key=lambda pair: pair.right.mean))


def _look(
    table: ImageTable, progress: Progress | None
) -> tuple[dict[int, UnreadableImage], dict[int, Fault]]:
    """Faults of the images that cannot be read, and what is poor about others, by row."""
    faults: dict[int, UnreadableImage] = {}
    dim: dict[int, Fault] = {}

    def look(row: int) -> tuple[int, UnreadableImage | None, Fault | None]:
        try:
            picture = read_picture(table.images[row], table.options, wanted=_SIDE).image
            grey = np.asarray(picture.convert("L"))
        except UnreadableImage as error:
            return row, error, None
        return row, None, _poor(grey)

    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (row, fault, poor) in enumerate(pool.map(look, range(len(table))), start=1):
            if fault is not None:
                faults[row] = fault
            elif poor is not None:
                dim[row] = poor
            if progress:
                progress(done, len(table))
    return faults, dim


def _poor(grey: NDArray[np.uint8]) -> Fault | None:
    """What is poor about a picture, by its grey levels; None if nothing is."""
    low, high = (int(value) for value in np.percentile(grey, (1, 99)))
    if high - low < _FLAT:
        return "one colour"
    if high < _DARK:
        return "dark"
    if low > _BRIGHT:
        return "bright"
    return "few grey levels" if len(np.unique(grey)) < _LEVELS else None


def _copies(table: ImageTable) -> tuple[tuple[Copies, ...], tuple[int, ...]]:
    """Sets of copies, and the number of different pictures of every class."""
    assert table.labels is not None
    contents = table.contents()
    shown = picture_units(table, range(len(table)))
    members: dict[int, list[int]] = defaultdict(list)
    for row, unit in enumerate(shown.tolist()):
        members[unit].append(row)
    found = []
    for rows in members.values():
        if len(rows) > 1:
            codes = sorted(set(table.labels[rows].tolist()))
            splits = () if table.splits is None else tuple(sorted({table.splits[row] for row in rows}))
            exact = len({contents[row] for row in rows}) == 1
            found.append(Copies(tuple(rows), exact, tuple(table.classes[c] for c in codes), splits))
    found.sort(key=lambda copies: (-len(copies.labels), -len(copies.splits), copies.rows))
    sizes = tuple(len(np.unique(shown[table.labels == c])) for c in range(len(table.classes)))
    return tuple(found), sizes


def _held_out(classifier: FewShotClassifier, table: ImageTable) -> tuple[HeldOut | None, str]:
    """Cross-validated predictions, and why there are none where there are none. Splits play no part."""
    try:
        return classifier.held_out(replace(table, splits=None)), ""
    except DataError as error:
        return None, str(error)

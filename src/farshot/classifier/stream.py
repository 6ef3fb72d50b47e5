"""Predict many images part by part: each file is decoded once, on a GPU the next ones while the model
computes, and memory does not grow with their number.

Shapes: B images of one part, N classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from farshot.arrays import NDArray
from farshot.classifier.tracked import told
from farshot.data.decoded import Outcome
from farshot.data.independence import units_of_copies
from farshot.data.table import ImageTable, none_readable, unreadable
from farshot.evaluation.metrics import Evaluation, evaluate
from farshot.evaluation.unseen import candidates, near_rows, nothing_left, shows_seen
from farshot.model.features import FeatureCache, use_cache

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier

Rows = NDArray[np.int64]
Found = tuple[ImageTable, Outcome]

AT_ONCE = 128
"""Images of a part: 20 MB of pixels at 224 x 224, and a line on the screen every few seconds."""


class MeasuringNote(UserWarning):
    """Something to know about a measured quality."""


@dataclass(frozen=True)
class Part:
    """The predictions for some rows of a table.

    Attributes:
        rows: those whose image could be read, in table order.
        logits: class scores.
        p_values: as of `FewShotClassifier.familiarity`; None where they were not asked for.
        seen: which show a picture, or are of a group, that the model was adapted to; near copies are not
            among them; None likewise.
        faults: row -> what is wrong with its image, for those that could not be read.
        contents: identities of the pictures; None likewise.
    """

    rows: Int[NDArray[np.int64], " B"]
    logits: Float[NDArray[np.float32], "B N"]
    p_values: Float[NDArray[np.float64], " B"] | None
    seen: Bool[NDArray[np.bool_], " B"] | None
    faults: Mapping[int, str]
    contents: tuple[str, ...] | None = None


_NOT_RECOGNISED = {
    "near copies": "near copies of the images that it was adapted to",
    "groups": "other images of the groups that it was adapted to",
}


@dataclass(frozen=True)
class Measured:
    """What `measure` found.

    Attributes:
        evaluation: of the images that the model was not adapted to.
        unit: equal for those that are not independent, such as copies.
        p_values: of these, where they were asked for.
        unreadable: number of images that were left out because they cannot be read.
    """

    evaluation: Evaluation
    unit: Int[NDArray[np.int64], " images"]
    p_values: Float[NDArray[np.float64], " images"] | None
    unreadable: int


def predict_parts(
    classifier: FewShotClassifier,
    table: ImageTable,
    *,
    p_values: bool = False,
    seen: bool = False,
    contents: bool = False,
) -> Iterator[Part]:
    """Predict a table's images in parts of AT_ONCE; all in one part with a transductive method, whose
    predictions depend on each other.

    The classifier's `progress` is called with (images done, in all).

    Warns:
        ReadingNote: at the end, what was left out of images or stretched.
    """
    table = table.with_options(classifier.read_options_)
    chunks = chunks_of(len(table), len(table) if classifier.method_.kind == "transductive" else AT_ONCE)
    notes: list[tuple[int, str]] = []

    def read(rows: Rows) -> Found:
        part = table.part(rows)
        keep = (classifier.adapted_.reading, classifier.encoder_.size)
        return part, part.look(
            keep, identities=seen or contents, near=seen and classifier.thumbnails_ is not None
        )

    # on a CPU the model takes all cores, and decoding at the same time would only make its threads wait
    alone = classifier.encoder_.device.type == "cpu"
    for rows, (part, found) in zip(
        chunks, map(read, chunks) if alone else read_ahead(read, chunks), strict=True
    ):
        notes += [(int(rows[place]), note) for place, note in found.notes]
        one = predict_found(classifier, part, found, rows, p_values=p_values, seen=seen)
        yield replace(one, contents=_contents(part, found) if contents else None)
        if classifier.progress:
            classifier.progress(int(rows[-1]) + 1, len(table))
    table.warn(notes)


def chunks_of(images: int, size: int) -> list[Rows]:
    """The rows of each part."""
    return [np.arange(start, min(start + size, images)) for start in range(0, images, size or 1)]


def read_ahead(read: Callable[[Rows], Found], chunks: Sequence[Rows]) -> Iterator[Found]:
    """What `read` returns for each chunk, in order, the next one in another thread while this one is used.

    At most one chunk is read that is not used.
    """
    with ThreadPoolExecutor(1) as other:
        waiting = [other.submit(read, rows) for rows in chunks[:1]]
        for number in range(len(chunks)):
            found = waiting.pop().result()
            waiting += [other.submit(read, following) for following in chunks[number + 1 : number + 2]]
            yield found


def measure(
    classifier: FewShotClassifier,
    table: ImageTable,
    *,
    include_support: bool = False,
    skip_unreadable: bool = False,
    p_values: bool = False,
) -> Measured:
    """Measure the quality on a labelled table, as `FewShotClassifier.evaluate` does.

    Args:
        skip_unreadable: leave images out that cannot be read.
        p_values: keep the p-values of the images that were measured.

    Warns:
        MeasuringNote: a pushed model, which came without what finds near copies of its labelled images, or
            other images of their groups.

    Raises:
        DataError: as `FewShotClassifier.evaluate`; images that cannot be read, all listed.
    """
    classes = [str(label) for label in classifier.classes_]
    table = table.with_options(classifier.read_options_)
    leave_out = not include_support
    if leave_out and classifier.not_recognised_:
        images = " and ".join(_NOT_RECOGNISED[kind] for kind in classifier.not_recognised_)
        warnings.warn(
            "This model was pushed without what is private of its labelled images, so it does not recognise "
            f"{images}: they count as new ones.",
            MeasuringNote,
            stacklevel=2,
        )
    if leave_out and classifier.method_.kind == "transductive":
        # what was adapted to must not affect the predictions for the others
        rows, labels = classifier.unseen(table)
        leave_out = False
    else:
        ids = set(classifier.support_ids_)
        rows, labels = candidates(table, classes, ids, include_support=include_support)
    chosen = table.subset(rows)
    parts, faults = [], dict[int, str]()
    for part in predict_parts(classifier, chosen, p_values=p_values, seen=leave_out, contents=True):
        parts.append(part)
        faults |= part.faults
    if faults and not skip_unreadable:
        raise unreadable(list(faults.values()), len(chosen))
    if len(faults) == len(chosen):
        raise none_readable(list(faults.values()))
    kept = [np.ones(len(one.rows), dtype=bool) if one.seen is None else ~one.seen for one in parts]
    if leave_out and classifier.thumbnails_ is not None:
        near = set(near_rows(chosen, classifier.thumbnails_).tolist())
        kept = [
            mask & np.array([row not in near for row in one.rows.tolist()], dtype=bool)
            for one, mask in zip(parts, kept, strict=True)
        ]
    if not any(mask.any() for mask in kept):
        raise nothing_left(table, set(classifier.support_groups_))
    places = np.concatenate([one.rows[mask] for one, mask in zip(parts, kept, strict=True)])
    logits = np.concatenate([one.logits[mask] for one, mask in zip(parts, kept, strict=True)])
    pictures = np.concatenate([np.array(one.contents)[mask] for one, mask in zip(parts, kept, strict=True)])
    groups = None if chosen.groups is None else [chosen.groups[place] for place in places]
    unit = units_of_copies(pictures.tolist(), groups)
    found = evaluate(labels[places], classifier.probabilities(logits), classes, unit)
    left_out = 0 if include_support else len(table.test_rows()) - len(places) - len(faults)
    unlike = [one.p_values[mask] for one, mask in zip(parts, kept, strict=True) if one.p_values is not None]
    return Measured(
        told("evaluate", replace(found, calibrated=classifier.calibrated_, left_out=left_out)),
        unit,
        np.concatenate(unlike) if unlike else None,
        len(faults),
    )


def _contents(part: ImageTable, found: Outcome) -> tuple[str, ...]:
    """Identities of the pictures of a part that could be read."""
    return part.contents([place for place in range(len(part)) if place not in found.faults])


def predict_found(
    classifier: FewShotClassifier,
    table: ImageTable,
    found: Outcome,
    rows: Rows,
    *,
    p_values: bool = False,
    seen: bool = False,
) -> Part:
    """Predict the images of a part that can be read.

    Args:
        table: of the part alone, its images decoded.
        found: what decoding them found.
        rows: their numbers in the whole table.
    """
    numbered = [(place, int(rows[place]), error) for place, error in found.faults.items()]
    faults = {row: table.fault(place, error, row) for place, row, error in numbered}
    whole = np.array([place for place in range(len(rows)) if place not in found.faults], dtype=int)
    return predict_part(classifier, table.subset(whole), rows[whole], faults, p_values, seen)


def predict_part(
    classifier: FewShotClassifier,
    table: ImageTable,
    rows: NDArray[np.int64],
    faults: Mapping[int, str],
    p_values: bool = False,
    seen: bool = False,
) -> Part:
    """Predict all images of a table, which can be read; their features are not kept longer.

    Args:
        rows: their numbers in the result.
        faults: of other images, for the result.
        p_values, seen: as in `predict_parts`.
    """
    with use_cache(FeatureCache()):
        logits = classifier.adapted_.logits(table)
        unlike = None
        if p_values and classifier.familiarity_ is not None:
            unlike = classifier.familiarity_.p_values(*classifier.seen_by_familiarity(table))
    known = None
    if seen:
        groups = set(classifier.support_groups_)
        known = shows_seen(table, set(classifier.support_ids_), groups)
    return Part(rows, logits, unlike, known, faults)

"""What a model is adapted to: labelled tasks, and the pictures that it had before Label Studio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from farshot.classifier import FewShotClassifier
from farshot.data.given import labelled_table
from farshot.data.lookup import source_at
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.identity import content_id
from farshot.images.options import ReadOptions
from farshot.label_studio.state import state_file


@dataclass(frozen=True)
class Example:
    """A labelled picture.

    Attributes:
        image: of a task the value in its data, or the bytes; of another picture the file.
        label: as annotations have it.
        group: what the picture shows a part of; None where nobody says.
        identity: of a picture that was there before Label Studio (farshot.images.identity).
    """

    image: Any
    label: str
    group: str | None = None
    identity: str | None = None


def unnamed(classifier: FewShotClassifier) -> frozenset[str]:
    """Identities of the pictures that it was adapted to and that are no files, as those of tasks."""
    pairs = zip_longest(classifier.support_ids_, classifier.support_places_)
    return frozenset(identity for identity, place in pairs if place is None or place["path"] is None)


def kept_places(classifier: FewShotClassifier, of_tasks: frozenset[str], folder: Path) -> list[Example]:
    """The pictures that a model was adapted to outside Label Studio, by path.

    Args:
        of_tasks: identities of those that Label Studio gave.

    Raises:
        DataError: nobody knows where some of them lie, so that an adaptation would lose them.
    """
    if unnamed(classifier) - of_tasks:
        raise DataError(
            f"{folder} does not know where its images lie: they were not files and are not listed as those "
            f"of tasks in {state_file(folder)}, or it was saved by an earlier version or the app; put that "
            "file back, adapt again with all images as files, or name an empty folder."
        )
    pairs = zip(classifier.support_ids_, classifier.support_places_, strict=False)
    return [
        Example(place["path"], str(place["label"]), place["group"], identity)
        for identity, place in pairs
        if place["path"] is not None
    ]


def found(kept: Sequence[Example], options: ReadOptions, folder: Path) -> list[Example]:
    """The same with their files.

    Raises:
        DataError: one has gone or shows something else.
    """
    files = []
    for one in kept:
        source = source_at(one.image)
        if source is None or content_id(source, options) != one.identity:
            raise DataError(
                f"{folder} was adapted to {one.image}, which is no longer there or has changed; put it back, "
                "or start with an empty folder."
            )
        files.append(replace(one, image=source))
    return files


def table_of(examples: Sequence[Example], classes: Mapping[str, str]) -> ImageTable:
    """The table to adapt to; where some pictures have a group, every other one is a group by itself.

    Args:
        classes: what prompts call each class.
    """
    labels = [one.label for one in examples]
    names = {label: classes.get(label, label) for label in labels}
    table, _ = labelled_table([one.image for one in examples], labels, names)
    if all(one.group is None for one in examples):
        return table
    alone = [f"alone {number}" for number in range(len(examples))]
    return replace(
        table,
        groups=tuple(a if one.group is None else one.group for one, a in zip(examples, alone, strict=True)),
    )

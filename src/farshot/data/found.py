"""The result of a reader before it becomes an ImageTable, and the names of splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.errors import DataError
from farshot.images.reading import ImageSource
from farshot.sanitize import plain

IMAGE_COLUMNS = ("path", "image", "file", "filename", "image_path", "file_name")
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMN, GROUP_COLUMN, BY_COLUMN, URL_COLUMN = "split", "group", "by", "url"
"""Names of columns of a table, in lower case."""

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Found:
    """Labelled images of a source.

    Attributes:
        images: in the order of the source.
        labels: the class of each.
        classes: all classes in order.
        splits: "train", "val" or "test" of each; None where the source does not say.
        groups: what each was taken of (a patient, a leaf); None where the source does not say.
        notes: how the source was understood where it can be understood in several ways, in sentences.
    """

    images: list[ImageSource]
    labels: list[str]
    classes: list[str]
    splits: list[str] | None = None
    groups: list[str] | None = None
    notes: tuple[str, ...] = ()


def splits_by_name(names: Sequence[str], where: str) -> list[str | None]:
    """The split that begins each name of a file, such as train-00000-of-00002.parquet; None for all unless
    several splits are named.

    Args:
        where: the files' folder, for messages.

    Raises:
        DataError: several splits are named, and a file is of none.
    """
    splits = [split_called(name.split("-")[0].split(".")[0]) for name in names]
    if len(set(splits) - {None}) < 2:
        return [None] * len(names)
    other = next((name for name, split in zip(names, splits, strict=True) if split is None), None)
    if other is not None:
        raise DataError(
            f"{where} holds files of the splits {', '.join(sorted({s for s in splits if s}))} and also "
            f"{plain(other)}, which is of none; move it elsewhere."
        )
    return splits


def split_called(name: str) -> str | None:
    """Return the split with this name: "train", "val" or "test"; None for any other word."""
    word = name.strip().lower()
    return next((split for split, words in _SPLITS.items() if word in words), None)

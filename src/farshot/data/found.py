"""The result of a reader before it becomes an ImageTable, and the names of splits."""

from __future__ import annotations

from dataclasses import dataclass

from farshot.images.reading import ImageSource

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


def split_called(name: str) -> str | None:
    """Return the split with this name: "train", "val" or "test"; None for any other word."""
    word = name.strip().lower()
    return next((split for split, words in _SPLITS.items() if word in words), None)

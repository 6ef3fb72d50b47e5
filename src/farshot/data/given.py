"""Images and labels given in Python, as lists or arrays, become an ImageTable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from farshot.data.names import in_class_order, names_by_label, names_in_order, names_in_prompts, nfc
from farshot.data.table import ImageTable
from farshot.errors import DataError


def image_table(images: Any) -> ImageTable:
    """A table of images without labels; a table is left as it is.

    Raises:
        DataError: one image instead of several.
    """
    return images if isinstance(images, ImageTable) else ImageTable(_several(images), None, (), ())


def labelled_table(
    images: Any, labels: ArrayLike | None, class_names: Mapping[Any, str] | Sequence[str] | None = None
) -> tuple[ImageTable, NDArray[Any]]:
    """A table of images with one label each, and the sorted labels in the type they were given in.

    Args:
        images: paths, PIL images or arrays; or a table, whose own labels count where none are given.
        labels: one per image, words or whole numbers.
        class_names: mapping label -> name in prompts, or names in the order of the sorted labels; by default
            the label itself, '_' read as a space.

    Raises:
        DataError: labels that are missing, too many or few, of one class, or not classes at all; names that
            do not fit them.
    """
    if labels is None and isinstance(images, ImageTable):
        if images.labels is None:
            raise DataError("The images have no labels; give one label per image.")
        if class_names is not None:
            images = replace(images, names=names_in_prompts(class_names, images.classes, "class_names"))
        return images, np.asarray(images.classes)
    if labels is None:
        raise DataError("fit requires y to be passed, but the target y is None: give one label per image.")
    sources = images.images if isinstance(images, ImageTable) else _several(images)
    values = np.asarray(labels)
    if values.ndim != 1 or len(values) != len(sources):
        raise DataError(
            f"There are {len(sources)} images but labels of shape {values.shape}; give one label per image."
        )
    classes, codes = _coded(values)
    names = _prompt_names(classes, class_names)
    table = images if isinstance(images, ImageTable) else ImageTable(sources, None, (), ())
    given = replace(
        table, labels=codes.astype(np.int64), classes=tuple(map(str, classes)), names=tuple(names)
    )
    return given, classes


def _several(images: Any) -> tuple[Any, ...]:
    """A list's images. One image is refused: its rows, or the letters of its path, would pass for images."""
    one = isinstance(images, str | Path | bytes | Image.Image)
    if one or (isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[-1] in (3, 4)):
        raise DataError(f"Give a list of images, not one ({type(images).__name__}): put it in brackets.")
    return tuple(images)


def _coded(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The sorted labels and the index of each image's."""
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values))))
        if len(odd):
            raise DataError(
                f"Unknown label type: continuous (image {odd[0] + 1} has {values[odd[0]]}); "
                "labels are words or whole numbers."
            )
    try:
        classes, codes = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(value).__name__ for value in values.tolist()}))
        raise DataError(
            f"The labels cannot be sorted ({kinds}); give words, or whole numbers, one per image."
        ) from None
    if len(classes) == 1:
        raise DataError(
            f"A task needs at least two classes, but there is one class, {str(classes[0])!r}: "
            "add images of a second."
        )
    return classes, codes


def _prompt_names(classes: NDArray[Any], given: Mapping[Any, str] | Sequence[str] | None) -> list[str]:
    """What each class is called in prompts."""
    labels = list(map(str, classes))
    composed = list(map(nfc, labels))
    if len(set(composed)) < len(labels):
        twice = next(label for label in labels if composed.count(nfc(label)) > 1)
        raise DataError(
            f"The label {nfc(twice)!r} is written in two Unicode forms; use one, as "
            "unicodedata.normalize('NFC', label) returns it."
        )
    if given is None:
        names = [label.replace("_", " ") for label in labels]
    elif isinstance(given, Mapping):
        names = names_by_label(given, labels, "class_names")
    else:
        if classes.dtype.kind not in "iufb" and in_class_order(labels) != labels:
            raise DataError(
                f"The labels are numbers written as text, which sort as {', '.join(labels[:4])}, ...: the "
                "order of class_names is not certain; give a mapping label -> name."
            )
        names = names_in_order(given, labels, "class_names")
    if len({nfc(name).casefold() for name in names}) < len(names):
        raise DataError("Two classes have the same name in prompts; give each its own in class_names.")
    return names

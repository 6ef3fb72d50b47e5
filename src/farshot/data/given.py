"""Make an ImageTable of images and labels given in Python, as lists or arrays."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from farshot.arrays import NDArray
from farshot.data.names import in_class_order, is_text, names_by_label, names_in_order, names_in_prompts, nfc
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.sanitize import short
from farshot.storage.paths import home

_CHANNELS = (1, 3, 4)
"""Of an image; an array of three dimensions with this many in the last or the first may be one image."""

_TOO_LARGE = 2**63
"""A whole number that NumPy keeps as a rounded one, or not as a number at all."""


def image_table(images: Any) -> ImageTable:
    """Make a table of images without labels; a table is returned unchanged.

    Raises:
        DataError: one image instead of several.
    """
    return images if isinstance(images, ImageTable) else ImageTable(_several(images), None, (), ())


def labelled_table(
    images: Any, labels: ArrayLike | None, class_names: Mapping[Any, str] | Sequence[str] | None = None
) -> tuple[ImageTable, NDArray[Any]]:
    """Make a table of images with one label each. Return it and the sorted labels, in the type in which
    they were given.

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
    table, values = _with_labels(images, labels)
    classes, codes = _coded(values)
    if len(classes) == 1:
        raise DataError(
            f"A task needs at least two classes, but there is one class, {short(str(classes[0]))}: "
            "add images of a second."
        )
    _check_class_names(class_names, classes)
    names = _without_spare_blanks(_prompt_names(classes, class_names))
    given = replace(
        table, labels=codes.astype(np.int64), classes=tuple(map(str, classes)), names=tuple(names)
    )
    return given, classes


def measured_table(images: Any, labels: ArrayLike) -> ImageTable:
    """Make a table of images with one label each to measure a fitted classifier on; the labels may be of one
    class, and need no names in prompts.

    Raises:
        DataError: labels that are missing, too many or few, or not classes at all.
    """
    table, values = _with_labels(images, labels)
    classes, codes = _coded(values)
    names = tuple(map(str, classes))
    return replace(table, labels=codes.astype(np.int64), classes=names, names=names)


def _with_labels(images: Any, labels: ArrayLike) -> tuple[ImageTable, NDArray[Any]]:
    """Images without labels, and these in an array of one per image."""
    table = images if isinstance(images, ImageTable) else ImageTable(_several(images), None, (), ())
    return table, labels_of(labels, len(table))


def labels_of(labels: ArrayLike, images: int) -> NDArray[Any]:
    """Make an array of one label for each of so many images.

    Raises:
        DataError: labels that are missing, too many or few, or not classes at all.
    """
    listed = labels if isinstance(labels, Sequence) else np.asarray(labels).tolist()
    if isinstance(listed, Sequence):  # an array of them would hold the text "nan"
        _check_kinds(listed)
    try:
        values = np.asarray(labels)
        if values.dtype.kind == "O" and not any(isinstance(label, str) for label in values.flat):
            values = np.asarray(values.tolist())  # numbers of one type, as those of a list are
    except ValueError:
        raise DataError("The labels are lists of different lengths; give one label per image.") from None
    if values.shape != (images,):
        way_out = "use y.ravel()" if values.shape == (images, 1) else "give one label per image"
        raise DataError(f"There are {images} images but labels of shape {values.shape}; {way_out}.")
    _check_classes(values)
    return values


def _check_kinds(labels: Sequence[Any]) -> None:
    """Refuse labels that are missing, words together with numbers, and numbers that an array would round."""
    for number, label in enumerate(labels, 1):
        if label is None or (isinstance(label, float) and label != label):
            raise DataError(f"Image {number} has no label ({label}); give it one, or leave it out.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise DataError("The labels are words and numbers; give words alone, such as str(label).")
    large = next((label for label in labels if isinstance(label, int) and abs(label) >= _TOO_LARGE), None)
    if large is not None:
        raise DataError(
            f"The label {short(large)} is too large for a number; give words, such as str(label)."
        )


def _several(images: Any) -> tuple[Any, ...]:
    """Return the images of a list. A single image is refused, since its rows, or the letters of its path,
    could be taken for images."""
    if images is None:
        raise DataError("The images are None; give a list of paths, PIL images or arrays.")
    if hasattr(images, "read"):
        raise DataError(f"Give a list of images, not {_open_file(images)}: put its path in brackets.")
    if isinstance(images, str | os.PathLike | bytes | bytearray | Image.Image):
        raise DataError(f"Give a list of images, not one ({type(images).__name__}): put it in brackets.")
    if hasattr(images, "columns") and hasattr(images, "iloc"):
        column = next(iter(images.columns), "path")
        raise DataError(f"Give one column of the {type(images).__name__} as images, such as X[{column!r}].")
    if isinstance(images, Mapping | Set):
        raise DataError(f"Give the images as a list, not a {type(images).__name__}, which is not a sequence.")
    if isinstance(images, np.ndarray):
        _check_batch(images)
    try:
        sources = tuple(images)
    except TypeError:
        raise DataError(
            f"Give a list of paths, PIL images or arrays as images, not {type(images).__name__}."
        ) from None
    return tuple(_source(source, number) for number, source in enumerate(sources, start=1))


def _check_batch(images: NDArray[Any]) -> None:
    """Refuse an array that is, or could be, a single image."""
    shape = images.shape
    if images.dtype.kind in "OUS":
        if len(shape) != 1:
            raise DataError(
                f"The array of images has the shape {shape}; give it in one dimension, such as X.ravel()."
            )
        return
    if len(shape) < 3:
        raise DataError(f"Give a list of images, not one array (of shape {shape}): put it in brackets.")
    if len(shape) == 3 and (shape[-1] in _CHANNELS or shape[0] in _CHANNELS[1:]):
        raise DataError(
            f"Give a list of images, not one (an array of shape {shape}): put it in brackets; "
            "several grey images are list(X)."
        )


def _source(source: Any, number: int) -> Any:
    """Return one image of a list, its path without "~"; it is checked when it is read."""
    if isinstance(source, str):
        return str(as_path(source)) if source.startswith("~") else source
    if isinstance(source, os.PathLike):
        return as_path(source)
    if isinstance(source, bytes | Image.Image | np.ndarray):
        return source
    what = _open_file(source) if hasattr(source, "read") else f"an object of type {type(source).__name__}"
    raise DataError(f"Image {number}, {what}: this is not an image; give a path, a PIL image or an array.")


def _open_file(file: Any) -> str:
    name = getattr(file, "name", None)
    return f"an open file ({name})" if isinstance(name, str) else "an open file"


def as_path(place: Any) -> Path:
    """A path, "~" replaced by the home folder unless a file of that very name exists.

    Raises:
        DataError: not a path at all.
    """
    if not isinstance(place, str | os.PathLike):
        raise DataError(f"Give a path, not {place!r}.")
    path = Path(place)
    try:
        return home(path)
    except DataError:  # no home folder of that name: whoever reads it says so
        return path


def plain_label(label: Any) -> Hashable:
    """Return a label as a plain Python value that JSON can hold.

    Raises:
        DataError: a label of another type, which could be predicted but not saved; or one without letters.
    """
    plain = label.item() if isinstance(label, np.generic) else label
    if not isinstance(plain, str | int | float):
        raise DataError(
            f"The label {short(plain)} is neither a word nor a number, so it can be neither saved nor "
            f"listed; use {'label.decode()' if isinstance(plain, bytes) else 'str(label)'}."
        )
    if isinstance(plain, str) and not is_text(plain):
        raise DataError(f"The label {short(plain)} holds bytes that are no characters; write it as text.")
    if isinstance(plain, str) and not plain.strip():
        raise DataError(
            f"The label {short(plain)} is blank; give every image a label, or leave the image out."
        )
    return plain


def _check_classes(values: NDArray[Any]) -> None:
    """Refuse labels that are no classes."""
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values))))
        if len(odd):
            raise DataError(
                f"Unknown label type: continuous (image {odd[0] + 1} has {values[odd[0]]}); "
                "labels are words or whole numbers."
            )
    for label in {type(value): value for value in values.tolist()}.values():
        if not isinstance(label, str | int | float):
            plain_label(label)  # refuses it: bytes and dates sort, but cannot be saved


def _coded(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The sorted labels and the index of each image's."""
    try:
        classes, codes = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(value).__name__ for value in values.tolist()}))
        raise DataError(
            f"The labels cannot be sorted ({kinds}); give words, or whole numbers, one per image."
        ) from None
    for label in classes:
        plain_label(label)
    return classes, codes


def check_kind_of_names(given: Any) -> None:
    """Refuse class names that are neither a mapping nor a list, such as a text, whose letters would be taken
    for names.

    Raises:
        DataError: says what they are.
    """
    if isinstance(given, str | bytes | os.PathLike):
        raise DataError(
            f"class_names is {short(given)}; give a mapping label -> name, or a list with one name per label."
        )
    if not isinstance(given, Mapping | Sequence | np.ndarray):
        raise DataError(
            f"class_names is a {type(given).__name__}; give a mapping label -> name, or a list of names."
        )


def _check_class_names(given: Any, classes: NDArray[Any]) -> None:
    """Refuse class names of the wrong type or with unknown labels."""
    if given is None:
        return
    check_kind_of_names(given)
    if isinstance(given, Mapping):
        labels, keys = {nfc(str(label)) for label in classes}, {nfc(str(key)) for key in given}
        unknown = [key for key in given if nfc(str(key)) not in labels]
        if unknown and labels <= keys:  # where labels are missing, `names_by_label` says which
            raise DataError(
                f"class_names has a name for {short(unknown[0])}, which is not one of the labels: "
                f"{', '.join(map(str, classes))}."
            )
    for name in given.values() if isinstance(given, Mapping) else given:
        if not isinstance(name, str) or not name.strip() or not is_text(name):
            raise DataError(f"class_names has {short(name)} as a name; give every class a name in words.")


def _without_spare_blanks(names: Sequence[str]) -> list[str]:
    """Names as in prompts: tokenizers read several blanks as one."""
    found = [" ".join(name.split()) for name in names]
    for i, name in enumerate(found):
        first = [other.casefold() for other in found].index(name.casefold())
        if first != i:
            raise DataError(
                f"The classes {short(names[first])} and {short(names[i])} have the same name in prompts; "
                "give each its own in class_names."
            )
        if not name:
            raise DataError(
                f"The class {short(names[i])} has no name in prompts; give it one in class_names."
            )
    return found


def _prompt_names(classes: NDArray[Any], given: Mapping[Any, str] | Sequence[str] | None) -> list[str]:
    """The name of each class in prompts."""
    labels = list(map(str, classes))
    composed = list(map(nfc, labels))
    if len(set(composed)) < len(labels):
        twice = next(label for label in labels if composed.count(nfc(label)) > 1)
        raise DataError(
            f"The label {short(nfc(twice))} is written in two Unicode forms; use one, as "
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

"""The split files of CoOp (split_zhou_EuroSAT.json and the like): {"train": [[path, label, class name], ...],
"val": ..., "test": ...}.

Paths count from a folder that the authors' program knows for each data set, such as 2750 or images: here it
is the folder of the file, or the one folder in it that has the first image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farshot.data.found import Found
from farshot.data.lookup import counted_from, existing
from farshot.data.names import nfc
from farshot.errors import DataError
from farshot.images.reading import ImageSource

_SPLITS = ("train", "val", "test")


def is_coop(content: Any) -> bool:
    """Whether the content of a JSON file has the splits of CoOp."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("train", "test")
    )


def from_coop(path: Path, content: dict[str, Any]) -> Found:
    """The images of a split file; classes are called by their names, in the order of their numbers.

    Raises:
        DataError: an entry of another form, a number with two names, or a file that is not there.
    """
    entries = [
        _entry(path, split, number, entry)
        for split in _SPLITS
        for number, entry in enumerate(content.get(split) or [])
    ]
    if not entries:
        raise DataError(f"{path} names no image; fill train and test.")
    names: dict[int, str] = {}
    for _, where, _, code, name in entries:
        if names.setdefault(code, name) != name:
            raise DataError(f"{where}: the label {code} is called {name!r} here and {names[code]!r} before.")
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise DataError(f"{path} has two labels for the class {twice!r}; give it one.")
    folder = counted_from(path, entries[0][2])
    images: list[ImageSource] = [existing(folder, file, where) for _, where, file, _, _ in entries]
    return Found(
        images,
        [name for *_, name in entries],
        [names[code] for code in sorted(names)],
        [split for split, *_ in entries],
        notes=() if folder == path.parent else (f"paths in {path.name} count from {folder.name}/",),
    )


def _entry(path: Path, split: str, number: int, entry: Any) -> tuple[str, str, str, int, str]:
    """Split, place in the file, path of the image, label and class name."""
    where = f"{path}, {split}[{number}]"
    if not (isinstance(entry, list) and len(entry) == 3 and type(entry[1]) is int):
        raise DataError(f"{where} must be [path, label, class name], with a whole number as label.")
    file, code, name = entry
    if not (isinstance(file, str) and isinstance(name, str) and name.strip()):
        raise DataError(f"{where} must be [path, label, class name], with text as path and class name.")
    return split, where, file, code, nfc(name.strip())

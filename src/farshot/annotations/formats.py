"""The formats by name, and which of them a file has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from farshot.annotations.fiftyone import labels_file
from farshot.annotations.rows import Labelled
from farshot.data.text import load_json
from farshot.errors import DataError, SettingError
from farshot.sanitize import short

_MODULES = {
    "csv": "csv_file",
    "coco": "coco",
    "cvat": "cvat",
    "datumaro": "datumaro",
    "fiftyone": "fiftyone",
    "label-studio": "label_studio",
}
FORMATS = tuple(_MODULES)
"""Names of the formats."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: of FORMATS.
        read: the rows of a file.
        write: rows to a new file, whole or not at all.
    """

    name: str
    read: Callable[[Path], list[Labelled]]
    write: Callable[[Sequence[Labelled], Path], None]


def format_called(name: str) -> Format:
    """The format of this name.

    Raises:
        SettingError: there is none.
    """
    if name not in FORMATS:
        raise SettingError(f"There is no format {name!r}; choose of {', '.join(FORMATS)}.")
    module = import_module(f"farshot.annotations.{_MODULES[name]}")
    return Format(name, module.read, module.write)


def recognised(path: Path, content: Any = None) -> Format | None:
    """The format of a file or folder of a labelling tool; None for anything else, and for CSV.

    Args:
        content: of a JSON file that was read already.
    """
    if path.is_dir():
        name = "fiftyone" if labels_file(path) else None
    elif path.suffix.lower() == ".xml":
        name = "cvat"
    elif path.suffix.lower() == ".json":
        name = _of_json(load_json(path) if content is None else content)
    else:
        name = None
    return format_called(name) if name in FORMATS else None


def _of_json(content: Any) -> str | None:
    if isinstance(content, list):
        return "label-studio" if content and all(isinstance(one, dict) for one in content) else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("images"), list) and "annotations" in content and "categories" in content:
        return "coco"
    if isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
        return "datumaro"
    if isinstance(content.get("samples"), list) or isinstance(content.get("labels"), dict):
        return "fiftyone"
    return None


def single(rows: Sequence[Labelled], source: str, several: str | None = None) -> list[Labelled]:
    """The rows with at most one label of a person, and one of a model, for each image.

    Args:
        source: what messages call the rows.
        several: which label an image with several gets: "first", or none since it is left out: "skip"; by
            default it is refused.

    Raises:
        DataError: names an image with several labels, splits or groups.
    """
    found: dict[tuple[str, str], Labelled] = {}
    first: dict[str, Labelled] = {}
    twice: set[tuple[str, str]] = set()
    for row in rows:
        same = first.setdefault(row.image, row)
        for what in ("split", "group"):
            one, other = getattr(same, what), getattr(row, what)
            if one != other:
                raise DataError(
                    f"{source}: {row.image} is there twice, with the {what} {short(one)} and with "
                    f"{short(other)}; keep one."
                )
        key = row.image, row.by
        before = found.setdefault(key, row)
        if before.label is None:
            found[key] = replace(before, label=row.label, score=row.score)
        elif row.label not in (None, before.label):
            if several is None:
                raise DataError(
                    f"{source}: {row.image} has the labels {short(before.label)} and {short(row.label)}; "
                    "keep one, or choose with farshot convert --several first or --several skip."
                )
            twice.add(key)
    return [row for key, row in found.items() if several != "skip" or key not in twice]

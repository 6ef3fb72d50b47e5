"""What the formats share: new files, values of JSON files, sizes of pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from farshot.annotations.rows import Labelled
from farshot.data.names import nfc
from farshot.data.rows import in_words, is_blank
from farshot.data.text import load_json
from farshot.errors import DataError
from farshot.images.member import has_scheme
from farshot.images.reading import UnreadableImage, read_header
from farshot.sanitize import short
from farshot.storage.atomic import check_file, check_folder, whole_file, whole_folder
from farshot.storage.json_text import as_json

_WAY = "choose another OUT"


def check_new(path: Path) -> None:
    """Refuse a place for a file that is taken or not writable: labels may have been changed by hand.

    Raises:
        DataError: one sentence.
    """
    check_file(path, "an empty file", lambda _: False, _WAY)


def check_new_folder(path: Path) -> None:
    """The same for a folder."""
    check_folder(path, "an empty folder", lambda _: None, _WAY)


def new_file(path: Path) -> AbstractContextManager[Path]:
    """A path to write to, which becomes `path` at the end, whole or not at all.

    Raises:
        DataError: as `check_new`.
    """
    return whole_file(path, check_new, _WAY)


def new_folder(path: Path) -> AbstractContextManager[Path]:
    """The same for a folder."""
    return whole_folder(path, check_new_folder)


def check_unicode(rows: Sequence[Labelled], path: Path) -> None:
    """Refuse names that are no Unicode, as of files with names in an old encoding: JSON alone can hold them.

    Raises:
        DataError: names the image.
    """
    for row in rows:
        for text in (row.image, row.label, row.group):
            if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise DataError(
                    f"{path}: the name {short(text)} is not UTF-8, which this format cannot hold; rename the "
                    "file, or choose coco or datumaro."
                )


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in UTF-8; no atomic write."""
    path.write_bytes((as_json(content, indent=2) + "\n").encode())


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuse two labels of one name, which would become one class.

    Raises:
        DataError: names it.
    """
    twice = [name for name, count in Counter(nfc(name.strip()) for name in names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two labels of the name {short(twice[0])}; rename or merge them.")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        DataError: it holds something else.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object, not {short(content)}; export it again.")
    return content


def list_of_objects(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """A list of objects in a JSON file.

    Raises:
        DataError: it is missing, or holds something else.
    """
    found = content.get(key)
    if not isinstance(found, list):
        raise DataError(f"{path} has no list {key!r}; export it again.")
    for number, one in enumerate(found):
        if not isinstance(one, dict):
            raise DataError(f"{path}, {key}[{number}] must be an object, not {short(one)}; export it again.")
    return found


def text_of(value: Any, where: str, what: str) -> str:
    """Text that must be there.

    Raises:
        DataError: it is missing, empty, or something else.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {what} must be text, not {short(value)}; export it again.")
    return value


def optional_text(value: Any, where: str, what: str) -> str | None:
    """Text that may be missing or blank, or a number, as a table holds it. True and false count as missing:
    they name neither a split nor a group.

    Raises:
        DataError: a list or an object.
    """
    if isinstance(value, list | dict):
        raise DataError(
            f"{where}: {what} must be text or a number, not {short(value)}; correct or remove it."
        )
    return None if isinstance(value, bool) or is_blank(value) else in_words(value)


def score_of(value: Any, where: str) -> float | None:
    """A score between 0 and 1, or None where it is missing.

    Raises:
        DataError: something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: the score must be a number, not {short(value)}; export it again.")
    return float(value)


def by_of(score: float | None, said: Any) -> Literal["person", "model"]:
    """Who gave a label: a model if it has a score or the file says so."""
    return "model" if score is not None or said == "model" else "person"


def in_order(values: Iterable[str | None]) -> list[str]:
    """The different texts in the order in which they first come."""
    return list(dict.fromkeys(value for value in values if value is not None))


def size_of(image: str, folder: Path) -> tuple[int, int] | None:
    """Width and height of a picture in pixels as stored; None where it is no file here that can be read."""
    try:
        place = folder / image
        if has_scheme(image) or not place.is_file():
            return None
        header = read_header(place)
    except (OSError, ValueError, UnreadableImage):  # no file can have this name
        return None
    return header.width, header.height

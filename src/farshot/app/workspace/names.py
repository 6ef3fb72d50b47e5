"""Names of uploads on screen, and the class that their folder suggests.

Names are only shown, never used as paths; what is HTML stays text, which the page escapes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from farshot.data.found import split_called
from farshot.sanitize import plain

_MOST_CHARACTERS = 100  # of a name; longer ones break every layout
_MOST_FOLDERS = 4  # that are kept with a picture
_MOST_SUFFIX = 10  # characters of an extension that stays when a name is cut
_UNNAMED = "unnamed"
_SEPARATORS = re.compile(r"[/\\]")


def parts_of(name: str) -> list[str]:
    """The folders of a name and, last, the file; of Windows or of any other system."""
    return _SEPARATORS.split(name)


def shown_name(untrusted: str) -> str:
    """The file's own name: one line without folders, control characters and marks of direction, never empty
    and at most 100 characters."""
    name = _clean(parts_of(untrusted)[-1])
    if len(name) <= _MOST_CHARACTERS:
        return name or _UNNAMED
    stem, dot, suffix = name.rpartition(".")
    kept = dot + suffix if stem and len(suffix) <= _MOST_SUFFIX else ""
    return plain(name.removesuffix(kept), _MOST_CHARACTERS - len(kept)) + kept


def shown_folders(name: str) -> str:
    """The folders of a name, fit for display and joined with "/"; the innermost ones of very many."""
    return "/".join(_folders(name)[-_MOST_FOLDERS:])


@dataclass(frozen=True)
class Place:
    """Where a file lay among those that it came with.

    Attributes:
        folder: the innermost folder that is not called as a split, fit for display: it proposes the class.
            None where there is none.
        path: the folders down to that one, joined with "/"; the innermost ones of very many.
        split: "train", "val" or "test", where one of the folders is called so.
    """

    folder: str | None = None
    path: str = ""
    split: str | None = None


def places_of(names: Sequence[str], wrapped: bool | None = None) -> list[Place]:
    """For each of the files that came together the folder that proposes its class.

    A single folder around all others proposes nothing for files that lie loose in it.

    Args:
        wrapped: whether there is such a folder; by default as the names tell.
    """
    folders = [_folders(name) for name in names]
    tops = {inside[0] if inside else None for inside in folders}
    if wrapped is None:
        wrapped = len(tops) == 1 and any(len(inside) > 1 for inside in folders)
    return [_place(inside, 1 if wrapped else 0) for inside in folders]


def _place(inside: list[str], loose: int) -> Place:
    around, below = inside[:loose], inside[loose:]
    if not below:
        return Place()
    split = next((one for one in below if split_called(one)), None) if len(below) > 1 else None
    if split is not None:
        below.remove(split)
    return Place(below[-1], "/".join([*around, *below][-_MOST_FOLDERS:]), split_called(split or ""))


def _folders(name: str) -> list[str]:
    """Folders of a name; none where it names places of a whole system, as C:\\fakepath does."""
    parts = parts_of(name)
    if parts[0] == "" or ".." in parts or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return []
    return [plain(folder, _MOST_CHARACTERS) for part in parts[:-1] if (folder := _clean(part))]


def _clean(part: str) -> str:
    """One line of text; nothing for what is only dots."""
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", part))
    line = " ".join(plain(spaced, len(spaced)).split())
    return "" if not line.strip(". ") else line

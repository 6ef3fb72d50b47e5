"""Names of uploads on screen, and the class that their folder suggests.

Names are only shown, never used as paths; what is HTML stays text, which the page escapes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farshot.data.found import split_called
from farshot.sanitize import plain

_MOST_CHARACTERS = 100  # of a name; longer ones break every layout
_MOST_FOLDERS = 4  # that are kept with a picture
_MOST_DEPTH = 32  # folders of a path that are looked at
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
        folder: the folder that proposes its class, fit for display; None where there is none.
        split: "train", "val" or "test", where the folders are of splits.
    """

    folder: str | None = None
    split: str | None = None


def places_of(names: Sequence[str], wrapped: bool | None = None, folders: Iterable[str] = ()) -> list[Place]:
    """For each of the files that came together the folder that proposes its class.

    That is the innermost one, unless it is a split's or the only one within each of several classes, as
    "images" is in cat/images and dog/images. Folders are those of splits where all at their depth are called
    so and there are two different ones, as `farshot adapt` has it. A single folder around all others proposes
    nothing for files that lie loose in it.

    Args:
        wrapped: whether there is such a folder; by default as the names tell.
        folders: those of other files that came together with these.
    """
    inside = [_folders(name) for name in names]
    all_inside = [*inside, *(_folders(f"{folder}/") for folder in folders)]
    if wrapped is None:
        tops = {one[0] if one else None for one in all_inside}
        wrapped = len(tops) == 1 and any(len(one) > 1 for one in all_inside)
    loose = 1 if wrapped else 0
    level = _split_level({tuple(one[loose:]) for one in all_inside})
    within = {tuple(one[loose:]): _without(tuple(one[loose:]), level) for one in all_inside}
    classes = _class_folders(set(within.values()))
    places = []
    for one in inside:
        below = tuple(one[loose:])
        split = split_called(below[level]) if level is not None and len(below) > level else None
        places.append(Place(classes.get(within[below]), split))
    return places


def class_name(folder: str) -> str:
    """The class that a folder proposes; empty where its name has no letters."""
    return " ".join(folder.replace("_", " ").split())


_Path = tuple[str, ...]


def _without(path: _Path, level: int | None) -> _Path:
    return path if level is None else path[:level] + path[level + 1 :]


def _split_level(paths: set[_Path]) -> int | None:
    """How deep the folders of splits lie; None where there are none."""
    for level in range(max(map(len, paths), default=0)):
        deep = {path for path in paths if len(path) > level}
        splits = {split_called(path[level]) for path in deep}
        if len(splits) < 2 or None in splits or not all(len(path) > 1 for path in deep):
            continue
        if all(path == one[: len(path)] for path in paths - deep for one in deep):  # loose above all splits
            return level
    return None


def _class_folders(paths: set[_Path]) -> dict[_Path, str]:
    """The class folder of each path that has one."""
    ends = {path: path for path in paths if path}
    while True:
        children, parents = defaultdict[_Path, set[str]](set), defaultdict[str, set[_Path]](set)
        for end in set(ends.values()):
            parents[class_name(end[-1]).casefold()].add(end[:-1])
            for depth, folder in enumerate(end):
                children[end[:depth]].add(folder)
        inner = {
            name
            for name, above in parents.items()
            if len(above) > 1 and all(one and len(children[one]) == 1 for one in above)
        }
        if not inner:
            return {path: end[-1] for path, end in ends.items()}
        ends = {
            path: end[:-1] if class_name(end[-1]).casefold() in inner else end for path, end in ends.items()
        }


def _folders(name: str) -> list[str]:
    """Folders of a name, the innermost ones of very many.

    None where it names places of a whole system, as C:\\fakepath does.
    """
    parts = parts_of(name)
    if parts[0] == "" or ".." in parts or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return []
    folders = [plain(folder, _MOST_CHARACTERS) for part in parts[:-1] if (folder := _clean(part))]
    return folders[-_MOST_DEPTH:]


def _clean(part: str) -> str:
    """One line of text; nothing for what is only dots."""
    spaced = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", part))
    line = " ".join(plain(spaced, len(spaced)).split())
    return "" if not line.strip(". ") else line

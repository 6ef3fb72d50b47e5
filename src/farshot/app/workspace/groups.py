"""Which pictures belong together: those of one patient or plant, by a table of labels or by their names.

A pattern is a regular expression on the folders and the name of a picture, without its extension, as
`--groups` of the command line takes it. What its first parentheses hold, or all that it matches, is the
group. It comes from a page, so that no name is searched for longer than _SECONDS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import regex

from farshot.app.workspace.picture import Picture
from farshot.data.independence import ALL_BUT_LAST_WORD, alike_names
from farshot.data.names import nfc
from farshot.errors import DataError

MOST_LETTERS = 200
"""Of a pattern."""

_SECONDS = 0.25  # a name has at most a few hundred letters
_MOST_EXAMPLES = 3
_SUGGESTED = {
    ALL_BUT_LAST_WORD: "The name without its last part",
    r"([^/_. -]+)[^/]*$": "The first part of the name",
    r"(.+)/[^/]*$": "The folder",
}


@dataclass(frozen=True)
class Preview:
    """What a pattern does.

    Attributes:
        pattern: the regular expression.
        groups: how many there are.
        examples: some of them, the largest first, each with its number of pictures.
        pictures: how many are in a group with another one.
        alone: pictures in which nothing matches; each counts as independent of all others.
        words: what the pattern takes for the group, of a suggestion; else empty.
    """

    pattern: str
    groups: int
    examples: tuple[tuple[str, int], ...]
    pictures: int
    alone: int
    words: str = ""


def groups_of(pictures: Sequence[Picture], pattern: str) -> dict[str, str]:
    """Picture -> its group, for those that have one: as a table said, else by the pattern."""
    found = {}
    for picture in pictures:
        group = picture.group or (_search(pattern, _text(picture))[0] if pattern else None)
        if group:
            found[picture.id] = group
    return found


def preview(pictures: Sequence[Picture], pattern: str) -> Preview:
    """What a pattern would do.

    Raises:
        DataError: it is too long, no regular expression, or takes too long.
    """
    if len(pattern) > MOST_LETTERS:
        raise DataError(f"The pattern is too long; {MOST_LETTERS} letters at most.")
    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise DataError(
            f"{pattern!r} is no regular expression ({error}); choose one of the suggestions."
        ) from error
    for picture in pictures:
        if _search(pattern, _text(picture))[1]:
            raise DataError(
                f"The pattern {pattern!r} takes too long for the name {picture.name!r}; write a simpler one."
            )
    found = groups_of(pictures, pattern)
    sizes = Counter(found.values())
    return Preview(
        pattern,
        len(sizes),
        tuple(sizes.most_common(_MOST_EXAMPLES)),
        sum(size for size in sizes.values() if size > 1),
        len(pictures) - len(found),
        _SUGGESTED.get(pattern, ""),
    )


def suggestions(pictures: Sequence[Picture]) -> list[Preview]:
    """Patterns that make several groups of more than one picture: more groups than classes, since a class
    that is one group cannot be left out."""
    classes = len({picture.label for picture in pictures if picture.label is not None})
    found: dict[tuple[str, ...], Preview] = {}
    for pattern in _SUGGESTED:
        try:
            one = preview(pictures, pattern)
        except DataError:  # it takes too long for these names
            continue
        if one.pictures and one.groups > max(classes, 1):
            groups = groups_of(pictures, pattern)
            found.setdefault(tuple(groups.get(picture.id, picture.id) for picture in pictures), one)
    return list(found.values())


def hint(pictures: Sequence[Picture]) -> tuple[str, str] | None:
    """Two names of labelled pictures that suggest that several show one thing; None where none do."""
    labelled = [picture for picture in pictures if picture.label is not None]
    names = [f"{picture.folder}/{picture.name}" for picture in labelled]
    return alike_names(names, [str(picture.label) for picture in labelled])


def _text(picture: Picture) -> str:
    """What a pattern is searched in."""
    stem = PurePosixPath(picture.name).stem
    return f"{picture.folder}/{stem}" if picture.folder else stem


@lru_cache(maxsize=50_000)  # a board of thousands is drawn again and again
def _search(pattern: str, text: str) -> tuple[str | None, bool]:
    """The group in a text, and whether the search took too long."""
    compiled = regex.compile(pattern)
    try:
        match = compiled.search(text, timeout=_SECONDS)
    except TimeoutError:
        return None, True
    found = None if match is None else match[1 if compiled.groups else 0]
    return (nfc(found) if found else None), False

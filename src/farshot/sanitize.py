"""Make foreign text, such as file names, safe to show: in other text, in a terminal, in a spreadsheet."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, marks of direction, halves of characters


def plain(text: object, most: int = 300) -> str:
    """Remove control characters and direction marks, which would reorder the words around it, and cut to
    `most` characters."""
    kept = "".join(c for c in str(text) if unicodedata.category(c) not in _UNSEEN)
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def short(value: object, most: int = 60) -> str:
    """The value as Python writes it, cut to `most` characters: for what a message quotes of foreign input."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # marks of direction
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str, *, lines: bool = False) -> str:
    """Escape what a terminal would obey or what would begin a new line: control characters and marks of
    direction become a backslash and their number, as in Python.

    Args:
        lines: the text has lines; their ends stay.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) or (lines and c == "\n") else _escaped(c) for c in text)


def cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula and runs: those that begin like one get an apostrophe in
    front, except numbers."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def uncovered(text: str) -> str:
    """What `cell` made of a text, as it was."""
    return text[1:] if text.startswith("'") and cell(text[1:]) == text else text


def path_cell(path: str) -> str:
    """The same for the path of a file, which still names it."""
    return f"./{path}" if path.startswith(_FORMULA) else path


def _is_harmless(c: str) -> bool:
    return c not in _TURNING and unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")


def _escaped(c: str) -> str:
    number = ord(c)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"

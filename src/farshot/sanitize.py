"""Make foreign text, such as file names, safe to show within other text."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, marks of direction, halves of characters


def plain(text: object, most: int = 300) -> str:
    """Remove control characters and direction marks, which would reorder the words around it, and cut to
    `most` characters."""
    kept = "".join(c for c in str(text) if unicodedata.category(c) not in _UNSEEN)
    return kept if len(kept) <= most else kept[: most - 1] + "…"

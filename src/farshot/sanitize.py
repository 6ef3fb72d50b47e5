"""Text of others, such as names of files, without what would act on the text around it."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, marks of direction, halves of characters


def plain(text: object, most: int = 300) -> str:
    """Text without control characters and direction marks, which would reorder the words around it; at
    most so many characters."""
    kept = "".join(c for c in str(text) if unicodedata.category(c) not in _UNSEEN)
    return kept if len(kept) <= most else kept[: most - 1] + "…"

"""Small things that several tests need."""

from __future__ import annotations

from farshot.data.table import ImageTable


def empty_table() -> ImageTable:
    """A table without images."""
    return ImageTable(images=(), labels=None, classes=(), names=())

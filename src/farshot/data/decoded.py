"""What decoding a table's images leaves: pixels, notes and faults."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from farshot.arrays import NDArray
from farshot.images.member import Named
from farshot.images.reading import ImageSource, UnreadableImage

_MOST_KEPT = 256 << 20  # bytes of prepared pixels: 1,700 images of 224 x 224


@dataclass(frozen=True)
class Outcome:
    """What reading a table's images has shown.

    Attributes:
        faults: row -> the error of its image.
        notes: (row, what was left out or stretched).
    """

    faults: dict[int, UnreadableImage]
    notes: list[tuple[int, str]]


class Decoded:
    """Decoded pixels, and the notes given on them, shared by a table and its subsets, so that no file is
    decoded or reported twice.

    Args:
        most: bytes of pixels that are kept.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._lock, self._most, self._bytes = threading.Lock(), most, 0
        self._pixels: dict[tuple[str | bytes, str, int], NDArray[np.uint8]] = {}
        self._noted: set[tuple[str, str]] = set()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        """Pickle without the pixels: another process decodes again."""
        return Decoded, (self._most,)

    def pixels(self, source: ImageSource, reading: str, size: int) -> NDArray[np.uint8] | None:
        """The kept pixels of a file, or of the bytes of one; None if there are none."""
        name = _name(source)
        return None if name is None else self._pixels.get((name, reading, size))

    def keep(self, source: ImageSource, reading: str, size: int, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels of a file, or of the bytes of one, if there is room."""
        name = _name(source)
        with self._lock:
            if name is not None and self._bytes + pixels.nbytes <= self._most:
                self._bytes += pixels.nbytes
                self._pixels[name, reading, size] = pixels

    def new_notes(self, notes: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """Names by note, without those that were given before."""
        found: dict[str, list[str]] = {}
        with self._lock:
            for name, note in notes:
                if (name, note) not in self._noted:
                    self._noted.add((name, note))
                    found.setdefault(note, []).append(name)
        return found


def _name(source: ImageSource) -> str | bytes | None:
    """What an unchanging source is known by; None for pictures in memory, which may change."""
    return source if isinstance(source, bytes) else str(source) if isinstance(source, Named) else None

"""How large the tiles of a TIFF are, before libtiff makes room for one: a picture of ten pixels can name
tiles of a gigapixel, and its size says nothing of them.

The first directory is read here entry by entry, since of two entries of one kind Pillow believes the last and
libtiff the first. Layout: TIFF 6.0, section 2; BigTIFF's differs in the widths of its fields.
"""

from __future__ import annotations

import struct
from typing import Any

_TILE_SIDES = (322, 323)  # TileWidth, TileLength
_VALUES = {1: "B", 6: "b", 3: "H", 8: "h", 4: "I", 9: "i", 16: "Q", 17: "q"}  # of whole numbers, by type
_MOST_ENTRIES = 4096  # known tags are some hundreds
_UNKNOWN = 2**32  # a side that is written in a way that cannot be followed


def tile_pixels(file: Any) -> int:
    """Pixels of the largest tile that the first directory names; 0 where it names none.

    Args:
        file: whatever Pillow reads the image from; it can read and seek.

    Raises:
        struct.error, ValueError: the directory is cut off or absurd.
    """
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = 43 in start[2:4]
    (directory,) = struct.unpack_from(order + ("Q" if big else "I"), start, 8 if big else 4)
    file.seek(directory)
    count_as, width = ("Q", 20) if big else ("H", 12)
    (entries,) = struct.unpack(order + count_as, file.read(8 if big else 2))
    if entries > _MOST_ENTRIES:
        raise ValueError(f"a directory of {entries} entries")
    sides = dict.fromkeys(_TILE_SIDES, 0)
    for _ in range(entries):
        entry = file.read(width)
        tag, kind = struct.unpack_from(order + "HH", entry)
        if tag in sides:
            sides[tag] = max(sides[tag], _value(entry[12 if big else 8 :], kind, order))
    return sides[322] * sides[323]


def _value(field: bytes, kind: int, order: str) -> int:
    """A whole number that stands in the entry itself, as one so small must."""
    code = _VALUES.get(kind)
    if code is None or struct.calcsize(code) > len(field):
        return _UNKNOWN
    return abs(int(struct.unpack_from(order + code, field)[0]))

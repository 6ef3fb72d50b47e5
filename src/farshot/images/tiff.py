"""Read the directories of a TIFF, and bands that Pillow cannot read: many, or of more than 8 bits.

The first directory is read here entry by entry, since of two entries of one kind Pillow believes the last and
libtiff the first. Layout: TIFF 6.0, sections 2, 8, 14 and 15; BigTIFF's differs in the widths of its fields.

This file is copied unchanged into ONNX exports: standard library, numpy and Pillow only.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
READABLE = {1, 5, 8, 32773, 32946, 34925, 50000}  # compressions of bytes of any meaning
_NAMES = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC"}
_FLOATS = 3  # of the tag SampleFormat
_DEPTHS = {(8, 1), (8, 2), (16, 1), (16, 2), (16, 3), (32, 1), (32, 2), (32, 3), (64, 3)}  # bits, format
_PREDICTED = READABLE - {1, 32773}  # compressions that may keep differences instead of values

_TILE_SIDES = (322, 323)  # TileWidth, TileLength
_VALUES = {1: "B", 6: "b", 3: "H", 8: "h", 4: "I", 9: "i", 16: "Q", 17: "q"}  # of whole numbers, by type
_MOST_ENTRIES = 4096  # known tags are some hundreds
_MOST_NUMBERS = 1 << 24  # of one tag; an image has at most one strip per row
_MOST_PAGES = 10_000
_UNKNOWN = 2**32  # a side that is written in a way that cannot be followed


@dataclass(frozen=True)
class Layout:
    """How the first picture of a TIFF is stored.

    Attributes:
        width: in pixels.
        height: in pixels.
        bands: samples of each pixel.
        bits: of each sample; 0 where they differ.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        photometric: 0 and 1 grey, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr.
        extra: the tag ExtraSamples: what the samples beyond the colours are; 1 and 2 are transparency.
        compression: the tag's number.
        largest: the value that the tag MaxSampleValue declares; 0 where it does not.
        orientation: as EXIF's, 1 upright.
        pages: pictures of full resolution in the file.
        raw: a camera's RAW photograph, whose first picture is a thumbnail.
    """

    width: int
    height: int
    bands: int
    bits: int
    sample_format: int
    photometric: int
    extra: tuple[int, ...]
    compression: int
    largest: int
    orientation: int
    pages: int
    raw: bool

    @property
    def colours(self) -> int:
        """Samples that are colours rather than extra ones."""
        return 3 if self.photometric == 2 else 1

    @property
    def alpha(self) -> bool:
        """Whether the first extra sample is transparency."""
        return self.extra[:1] in ((1,), (2,))

    @property
    def fault(self) -> str | None:
        """The reason why `read_bands` cannot read it."""
        if self.compression not in READABLE:
            name = _NAMES.get(self.compression, f"number {self.compression}")
            return f"its bands are compressed by {name}; export it uncompressed or with deflate."
        if (self.bits, self.sample_format) not in _DEPTHS:
            kind = "floating-point values" if self.sample_format == _FLOATS else "samples"
            size = f"{self.bits} bits" if self.bits else "different sizes"
            return f"its {kind} have {size}; export it with 8 or 16 bits, or as floating point."
        return None


class _Directory:
    """The entries of one directory, and where the next one begins; 0 at the end."""

    def __init__(self, file: Any, order: str, big: bool, place: int) -> None:
        self._file, self._order = file, order
        file.seek(place)
        count_as, width = ("Q", 20) if big else ("H", 12)
        (entries,) = struct.unpack(order + count_as, file.read(8 if big else 2))
        if entries > _MOST_ENTRIES:
            raise ValueError(f"a directory of {entries} entries")
        self.big, self._entries = big, [file.read(width) for _ in range(entries)]
        offset = file.read(8 if big else 4)
        self.next = struct.unpack(order + ("Q" if big else "I"), offset)[0] if len(offset) in (4, 8) else 0

    def fields(self) -> list[tuple[int, int, bytes]]:
        """Tag, type and the field of the value or its offset."""
        found = []
        for entry in self._entries:
            tag, kind = struct.unpack_from(self._order + "HH", entry)
            found.append((tag, kind, entry[12 if self.big else 8 :]))
        return found

    def has(self, tag: int) -> bool:
        return any(entry[:2] == struct.pack(self._order + "H", tag) for entry in self._entries)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Whole numbers of the first entry of this tag; none where it is missing."""
        for entry in self._entries:
            if struct.unpack_from(self._order + "H", entry)[0] != tag:
                continue
            kind, count = struct.unpack_from(self._order + ("HQ" if self.big else "HI"), entry, 2)
            code, field = _VALUES.get(kind), entry[12 if self.big else 8 :]
            if code is None:
                return ()
            if count > _MOST_NUMBERS:
                raise ValueError(f"a tag of {count} numbers")
            size = count * struct.calcsize(code)
            if size > len(field):
                self._file.seek(struct.unpack(self._order + ("Q" if self.big else "I"), field)[0])
                field = self._file.read(size)
            return struct.unpack_from(f"{self._order}{count}{code}", field)
        return ()

    def number(self, tag: int, default: int) -> int:
        return (*self.numbers(tag)[:1], default)[0]


def tile_pixels(file: Any) -> int:
    """Pixels of the largest tile that the first directory names; 0 where it names none.

    A picture of ten pixels can name tiles of a gigapixel, for which libtiff makes room.

    Args:
        file: that Pillow reads the image from; it can read and seek.

    Raises:
        struct.error, ValueError: the directory is cut off or absurd.
    """
    order, directory = _first(file)
    sides = dict.fromkeys(_TILE_SIDES, 0)
    for tag, kind, field in directory.fields():
        if tag in sides:
            sides[tag] = max(sides[tag], _value(field, kind, order))
    return sides[322] * sides[323]


def read_layout(file: Any) -> Layout | None:
    """The layout of the first picture; None if the directory cannot be read, in which case decoding reports
    the fault."""
    try:
        order, first = _first(file)
        bits = first.numbers(258) or (1,)
        reduced = first.number(254, 0) & 1
        return Layout(
            first.number(256, 0),
            first.number(257, 0),
            first.number(277, 1),
            bits[0] if len(set(bits)) == 1 else 0,
            first.number(339, 1),
            first.number(262, -1),
            first.numbers(338),
            first.number(259, 1),
            max(first.numbers(281), default=0),
            first.number(274, 1),
            len(_pages(file, order, first)),
            first.has(50706) or bool(reduced and first.has(330)),  # DNGVersion; SubIFDs with the photograph
        )
    except (struct.error, ValueError, OSError, IndexError):
        return None


def at_page(data: bytes, page: int) -> bytes:
    """The file with another page as its first, so that every decoder reads that one.

    Args:
        page: from 1, at most as many as `Layout.pages`.
    """
    file = io.BytesIO(data)
    order, first = _first(file)
    place = _pages(file, order, first)[page - 1]
    if page == 1:
        return data
    start, code = (8, "Q") if first.big else (4, "I")
    offset = struct.pack(order + code, place)
    return b"".join([data[:start], offset, data[start + len(offset) :]])


def read_bands(data: bytes, layout: Layout, bands: Sequence[int]) -> NDArray[np.generic]:
    """Values of these bands, (height, width, bands), as they are stored.

    Args:
        data: the file.
        layout: as `read_layout` gives it, without a `fault`.
        bands: counted from 0.
    """
    order, first = _first(io.BytesIO(data))
    kind = {1: "u", 2: "i", 3: "f"}[layout.sample_format]
    dtype = np.dtype(f"{order}{kind}{layout.bits // 8}")
    out = np.zeros((layout.height, layout.width, len(bands)), dtype.newbyteorder("="))
    planar = first.number(284, 1) == 2 and layout.bands > 1
    for place, band in enumerate(bands) if planar else [(slice(None), 0)]:
        for y, x, chunk in _chunks(data, first, layout, dtype, band if planar else None):
            part = out[y : y + chunk.shape[0], x : x + chunk.shape[1], place]
            found = chunk[..., 0] if planar else chunk[..., list(bands)]
            part[...] = found[: part.shape[0], : part.shape[1]]
    return out


def _chunks(
    data: bytes, first: _Directory, layout: Layout, dtype: np.dtype[Any], band: int | None
) -> Iterator[tuple[int, int, NDArray[np.generic]]]:
    """Strips or tiles: row and column where each begins, and its values (rows, columns, samples).

    Args:
        band: the band whose chunks are wanted, where each has its own; None where they are interleaved.
    """
    tiles = first.has(324)
    columns = first.number(322, 0) if tiles else layout.width
    rows = first.number(323, 0) if tiles else min(first.number(278, layout.height), layout.height)
    offsets, sizes = first.numbers(324 if tiles else 273), first.numbers(325 if tiles else 279)
    if columns < 1 or rows < 1:
        raise ValueError("strips or tiles without pixels")
    across, down = -(-layout.width // columns), -(-layout.height // rows)
    start = (band or 0) * across * down
    if min(len(offsets), len(sizes)) < start + across * down:
        raise ValueError("strips or tiles are missing")
    samples = layout.bands if band is None else 1
    predictor = first.number(317, 1) if layout.compression in _PREDICTED else 1
    for number in range(across * down):
        y, x = number // across * rows, number % across * columns
        here = rows if tiles else min(rows, layout.height - y)
        place = offsets[start + number]
        packed = data[place : place + sizes[start + number]]
        row_bytes = columns * samples * dtype.itemsize
        plain = _unpacked(packed, layout.compression, here, row_bytes, first.number(266, 1))
        yield y, x, _values(plain, predictor, samples, dtype)


def _unpacked(packed: bytes, compression: int, rows: int, row_bytes: int, fill: int) -> NDArray[np.uint8]:
    """Bytes of a strip or tile, (rows, bytes)."""
    size = rows * row_bytes
    if compression == 1:
        plain = packed
    elif compression in (8, 32946):
        plain = zlib.decompressobj().decompress(packed, size)
    else:  # libtiff knows the others: as a grey picture of so many pixels
        tags = {
            256: row_bytes,
            257: rows,
            258: 8,
            259: compression,
            262: 1,
            266: fill,
            273: 8,
            277: 1,
            278: rows,
            279: len(packed),
        }
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        odd = len(packed) % 2
        head = b"II*\0" + struct.pack("<I", 8 + len(packed) + odd)
        file = b"".join([head, packed, bytes(odd), struct.pack("<H", len(tags)), entries, bytes(4)])
        with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
            return np.asarray(image)
    if len(plain) < size:
        raise ValueError("a strip or tile is cut off")
    return np.frombuffer(plain, np.uint8, size).reshape(rows, row_bytes)


def _values(
    plain: NDArray[np.uint8], predictor: int, samples: int, dtype: np.dtype[Any]
) -> NDArray[np.generic]:
    """Values (rows, columns, samples) of a strip or tile whose bytes are unpacked."""
    rows, native = len(plain), dtype.newbyteorder("=")
    if predictor == 3:  # differences of bytes, the highest bytes of a row first: Adobe's technical note 3
        summed = np.cumsum(plain.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        planes = summed.reshape(rows, dtype.itemsize, -1)
        mixed = np.ascontiguousarray(np.moveaxis(planes, 1, 2))
        return mixed.view(dtype.newbyteorder(">")).astype(native).reshape(rows, -1, samples)
    values = np.ascontiguousarray(plain).view(dtype).astype(native).reshape(rows, -1, samples)
    if predictor == 2:  # differences to the left neighbour
        return np.cumsum(values.view(f"u{dtype.itemsize}"), axis=1, dtype=f"u{dtype.itemsize}").view(native)
    return values


def _first(file: Any) -> tuple[str, _Directory]:
    """Byte order and the first directory."""
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = 43 in start[2:4]
    (place,) = struct.unpack_from(order + ("Q" if big else "I"), start, 8 if big else 4)
    return order, _Directory(file, order, big, place)


def _pages(file: Any, order: str, first: _Directory) -> list[int]:
    """Where the directories of pictures of full resolution are, neither thumbnails nor masks; 0 for the
    first."""
    seen: set[int] = set()
    pages, directory = [0], first
    while directory.next and directory.next not in seen and len(seen) < _MOST_PAGES:
        place = directory.next
        seen.add(place)
        try:
            directory = _Directory(file, order, first.big, place)
            if not directory.number(254, 0) & 5:
                pages.append(place)
        except (struct.error, ValueError, IndexError):
            break  # what follows is damaged, and not read anyway
    return pages


def _value(field: bytes, kind: int, order: str) -> int:
    """A whole number stored in the entry itself, as small ones are."""
    code = _VALUES.get(kind)
    if code is None or struct.calcsize(code) > len(field):
        return _UNKNOWN
    return abs(int(struct.unpack_from(order + code, field)[0]))

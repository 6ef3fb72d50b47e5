"""Image files byte by byte, also such as no program would write."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from farshot.images.options import ReadOptions
from farshot.images.reading import UnreadableImage, read_picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file; the rows need not be all there.

    Args:
        chunks: kind and data of those that come before the rows.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(chunk(*more) for more in chunks)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int], data: bytes = b"") -> bytes:
    """A TIFF file byte by byte, little endian: its entries (tag, value), then what they point at."""
    listed = sorted(entries, key=lambda entry: entry[0])
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in listed)
    return b"II*\0" + struct.pack("<IH", 8, len(listed)) + fields + bytes(4) + data


def tiled(*sides: tuple[int, int]) -> bytes:
    """A TIFF of 10 x 10 pixels, said to lie in one tile of these sides."""
    packed = zlib.compress(bytes(256))
    named = [(322, width) for width, _ in sides] + [(323, height) for _, height in sides]
    entries = [(256, 10), (257, 10), (258, 8), (259, 8), (262, 1), (277, 1), *named]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    return tiff(*entries, (324, start), (325, len(packed)), data=packed)


def refused(source: object, **options: object) -> str:
    """The sentence with which an image is refused.

    Args:
        options: of reading.
    """
    with pytest.raises(UnreadableImage) as error:
        read_picture(source, ReadOptions(**options))
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text

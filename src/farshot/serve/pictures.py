"""Images of requests as the model reads them: checked, decoded and resized, the bad ones refused one by one.

Each is read as `farshot predict` reads a file, so predictions are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.kinds import HEAD_BYTES
from farshot.images.options import ReadOptions
from farshot.images.preprocess import prepare, wanted_side
from farshot.images.reading import UnreadableImage, read_header, read_picture
from farshot.images.untrusted import check_kind, too_many_bytes
from farshot.sanitize import plain
from farshot.serve.bodies import Given
from farshot.serve.options import Limits

_LARGE = 12_000_000  # pixels; decoding one of 50 million can take 0.8 GB
_one_large = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """How a model reads images (farshot.images.preprocess).

    Attributes:
        name: of the reading.
        size: R, the side in pixels.
        options: for images of many bits or bands.
    """

    name: str
    size: int
    options: ReadOptions


@dataclass(frozen=True)
class Picture:
    """An image that can be predicted.

    Attributes:
        name: fit for display.
        data: the file's bytes.
        pixels: as the model reads it, (R, R, 3).
        notes: what was left out or stretched, a sentence each.
    """

    name: str
    data: bytes
    pixels: UInt8[NDArray[np.uint8], "R R 3"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """An image that cannot be predicted; the sentence names neither it nor its place."""

    name: str
    sentence: str


def read(given: Given, reading: Reading, limits: Limits) -> Picture | Fault:
    """Check, decode and resize an image; one large image at a time."""
    if given.fault is not None:
        return Fault(given.name, given.fault)
    data = given.data
    try:
        if len(data) > limits.file_bytes:
            raise too_many_bytes(limits.file_bytes)
        check_kind(data[:HEAD_BYTES])
        header = read_header(data, most_pixels=limits.pixels)
        with _one_large if header.width * header.height > _LARGE else nullcontext():
            found = read_picture(data, reading.options, wanted=wanted_side(reading.name, reading.size))
            pixels = np.ascontiguousarray(prepare(found.image, reading.name, reading.size))
    except UnreadableImage as error:
        return Fault(given.name, plain(error.reason))
    except DataError as error:
        return Fault(given.name, plain(error))
    return Picture(given.name, data, pixels, found.notes)


def table_of(pictures: Sequence[Picture], reading: Reading) -> ImageTable:
    """A table of these images, which are not decoded again."""
    table = ImageTable(tuple(one.data for one in pictures), None, (), (), options=reading.options)
    return table.with_pixels([one.pixels for one in pictures], reading.name, reading.size)

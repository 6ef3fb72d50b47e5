"""Readings: how a picture of any size becomes the square input of an encoder.

squash    resized to R x R without keeping its shape: nothing is cut off
centre    resized to (257 R / 224) squared, its centre R x R cut out
reduced   halved up to three times, as long as its short side is at least 2 R, shape kept (at most 64 to 1):
          what fresh random crops are cut from

How the authors of a checkpoint resize (farshot.model.encoder.Preprocessing), with Pillow's filters:
squash-bicubic          to R x R, and so on for every filter
shortest-bicubic        short side R, the centre R x R cut out, its corner rounded (open_clip)
shortest-bicubic-floor  the same, the corner rounded down (transformers)
shortest256-bicubic     short side 256, then the centre R x R; squash256-bicubic likewise

This file is copied unchanged into ONNX exports (farshot.images.decode).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from farshot.arrays import NDArray

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
READINGS = ("squash", "centre", "reduced")
FILTERS = tuple(filter.name.lower() for filter in sorted(Image.Resampling, key=lambda filter: filter.value))
"""By the number that Pillow gives them."""
_OWN = re.compile(rf"(squash|shortest)([1-9][0-9]{{0,3}})?-({'|'.join(FILTERS)})(-floor)?")
_MOST_RATIO = 64
_REDUCTIONS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Resizing:
    """What a reading other than "reduced" does.

    Attributes:
        keeps_shape: the short side becomes `side`, else both do.
        side: in pixels, before the centre R x R is cut out.
        resampling: of Pillow.
        rounded_down: the corner of the cut; else it is rounded to the nearest, halves to even.
    """

    keeps_shape: bool
    side: int
    resampling: Image.Resampling
    rounded_down: bool


def resizing(reading: str, size: int) -> Resizing:
    """What this reading does for an encoder whose input has R = `size` pixels a side.

    Raises:
        ValueError: there is no such reading.
    """
    if reading == "squash":
        return Resizing(False, size, Image.Resampling.BILINEAR, True)
    if reading == "centre":
        return Resizing(False, round(257 * size / 224), Image.Resampling.BILINEAR, True)
    own = _OWN.fullmatch(reading)
    if own is None:
        raise ValueError(f"unknown reading {reading!r}; one of {READINGS}, or {_OWN.pattern}")
    kind, side, resampling, floor = own.groups()
    return Resizing(
        kind == "shortest", int(side or size), Image.Resampling[resampling.upper()], floor is not None
    )


def is_reading(reading: str) -> bool:
    """Whether there is such a reading."""
    return reading in READINGS or _OWN.fullmatch(reading) is not None


def own_reading(*, keeps_shape: bool, side: int, size: int, resampling: str, rounded_down: bool) -> str:
    """The name of a checkpoint's own reading.

    Args:
        side: in pixels, before the centre is cut out; left out of the name where it is `size`.
        resampling: one of FILTERS.
    """
    kind = "shortest" if keeps_shape else "squash"
    floor = "-floor" if rounded_down and (keeps_shape or side != size) else ""
    return f"{kind}{'' if side == size else side}-{resampling}{floor}"


def at_size(reading: str, old: int, new: int) -> str:
    """The same reading for an encoder whose input is resized from `old` to `new` pixels a side."""
    own = _OWN.fullmatch(reading)
    if own is None or own[2] is None:
        return reading
    side = round(int(own[2]) * new / old)
    return f"{own[1]}{side}-{own[3]}{own[4] or ''}"


def prepare(image: Image.Image, reading: str, size: int) -> UInt8[NDArray[np.uint8], "h w 3"]:
    """Pixels of one reading; resized with antialiasing, as Pillow does.

    Args:
        image: RGB.
        size: R.
    """
    if reading == "reduced":
        image = _shortened(image)
        factor = _reduction(*image.size, size)
        return np.asarray(image.reduce(factor) if factor > 1 else image)
    how = resizing(reading, size)
    width = height = how.side
    if how.keeps_shape:
        image = _shortened(image)  # of a very long image only the middle is resized
        short = min(image.size)
        width, height = (how.side if side == short else int(how.side * side / short) for side in image.size)
    pixels = np.asarray(_resize(image, width, height, how.resampling))
    corner = [(side - size) / 2 for side in (width, height)]
    left, top = (math.floor(edge) if how.rounded_down else round(edge) for edge in corner)
    if min(left, top) < 0:
        pixels = np.pad(pixels, ((max(0, -top), size), (max(0, -left), size), (0, 0)))  # black around it
    left, top = max(0, left), max(0, top)
    return pixels[top : top + size, left : left + size]


def seen_box(width: int, height: int, reading: str, size: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what `prepare` shows of a picture, in pixels of the picture; beyond its
    edges where black is added.

    Args:
        width, height: of the picture.
        reading: other than "reduced".
    """
    how = resizing(reading, size)
    shown = [width, height]
    sides = [how.side, how.side]
    if how.keeps_shape:
        most = _MOST_RATIO * min(shown)
        shown = [min(side, most) for side in shown]
        short = min(shown)
        sides = [how.side if side == short else int(how.side * side / short) for side in shown]
    corner = [(side - size) / 2 for side in sides]
    start = [math.floor(edge) if how.rounded_down else round(edge) for edge in corner]
    found = []
    for whole, part, side, first in zip((width, height), shown, sides, start, strict=True):
        offset, zoom = (whole - part) // 2, part / side
        found.append((offset + first * zoom, offset + (first + size) * zoom))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def wanted_side(reading: str, size: int) -> int | None:
    """Short side in pixels of what an image is resized to, for drafts twice as large; None where the whole
    image must be decoded: as a checkpoint's own program does, or because it is reduced exactly."""
    return {"squash": size, "centre": round(257 * size / 224)}.get(reading)


def reduced_size(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) of an image of this size in the reading "reduced"."""
    most = _MOST_RATIO * min(width, height)
    width, height = min(width, most), min(height, most)
    factor = _reduction(width, height, size)
    return -(-width // factor), -(-height // factor)


def _reduction(width: int, height: int, size: int) -> int:
    return next((f for f in _REDUCTIONS if min(width, height) >= 2 * size * f), 1)


def _shortened(image: Image.Image) -> Image.Image:
    """The middle part of a picture that is over _MOST_RATIO times as long as wide; a line of a million
    pixels would fill the memory."""
    most = _MOST_RATIO * min(image.size)
    if max(image.size) <= most:
        return image
    width, height = min(image.width, most), min(image.height, most)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resize(image: Image.Image, width: int, height: int, resampling: Image.Resampling) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), resampling)

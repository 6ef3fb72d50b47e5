"""Readings: how a picture of any size becomes the square input of an encoder.

squash    resized to R x R without keeping its shape: nothing is cut off
centre    resized to (257 R / 224) squared, its centre R x R cut out
short256  short side 256, shape kept (at most 64 to 1): what fresh random crops are cut from

How the authors of a checkpoint resize (farshot.model.encoder.Preprocessing), with Pillow's filters:
squash-bicubic, squash-bilinear        to R x R; the latter equals squash
shortest-bicubic, shortest-bilinear    short side R, the centre R x R cut out, its corner rounded (open_clip);
                                       with "-floor" behind, rounded down (transformers)
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from farshot.arrays import NDArray

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
READINGS = ("squash", "centre", "short256")
_OWN = re.compile(r"(squash|shortest)-(bicubic|bilinear)(-floor)?")
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_SHORT, _MOST_RATIO = 256, 64


def prepare(
    image: Image.Image, reading: str, size: int, full_size: tuple[int, int] | None = None
) -> UInt8[NDArray[np.uint8], "h w 3"]:
    """Pixels of one reading; bilinear with antialiasing, as Pillow resizes.

    Args:
        image: RGB.
        size: R; plays no part in "short256".
        full_size: (width, height) of the picture where the image is a smaller draft of it.
    """
    if reading == "squash":
        return np.asarray(_resize(image, size, size))
    if reading == "centre":
        side = round(257 * size / 224)
        edge = (side - size) // 2
        return np.asarray(_resize(image, side, side))[edge : edge + size, edge : edge + size]
    if reading == "short256":
        return np.asarray(_resize(_shortened(image), *short256_size(*(full_size or image.size))))
    own = _OWN.fullmatch(reading)
    if own is None:
        raise ValueError(f"unknown reading {reading!r}; one of {READINGS}, or {_OWN.pattern}")
    resampling = _FILTERS[own[2]]
    if own[1] == "squash":
        return np.asarray(_resize(image, size, size, resampling))
    return _centre_of_shortest(image, size, resampling, down=own[3] is not None)


def _centre_of_shortest(
    image: Image.Image, size: int, resampling: Image.Resampling, *, down: bool
) -> UInt8[NDArray[np.uint8], "R R 3"]:
    """Short side R, then the centre; of a very long image only the middle is resized."""
    image = _shortened(image)
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    corner = [(side - size) / 2 for side in (width, height)]
    left, top = (int(edge) if down else round(edge) for edge in corner)
    return np.asarray(_resize(image, width, height, resampling))[top : top + size, left : left + size]


def wanted_side(reading: str, size: int) -> int:
    """Shorter side in pixels of what an image is resized to."""
    return {"squash": size, "centre": round(257 * size / 224)}.get(reading, _SHORT)


def short256_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of an image of this size in the reading "short256"."""
    short, most = min(width, height), _SHORT * _MOST_RATIO
    sides = [min(most, max(_SHORT, round(side * _SHORT / short))) for side in (width, height)]
    return sides[0], sides[1]


def _shortened(image: Image.Image) -> Image.Image:
    """The middle part of a picture that is over _MOST_RATIO times as long as wide; a line of a million
    pixels would fill the memory."""
    most = _MOST_RATIO * min(image.size)
    if max(image.size) <= most:
        return image
    width, height = min(image.width, most), min(image.height, most)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _resize(
    image: Image.Image,
    width: int,
    height: int,
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), resampling)

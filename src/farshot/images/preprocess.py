"""Readings: how a picture of any size becomes the square that CLIP looks at.

squash    resized to R x R, whatever its shape: nothing is cut off
centre    resized to (257 R / 224) squared, its centre R x R cut out
short256  short side 256, shape kept: what fresh random crops are cut from
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
READINGS = ("squash", "centre", "short256")
_SHORT = 256


def prepare(image: Image.Image, reading: str, size: int) -> UInt8[NDArray[np.uint8], "h w 3"]:
    """Pixels of one reading; bilinear with antialiasing, as Pillow resizes.

    Args:
        image: RGB.
        size: R; plays no part in "short256".
    """
    if reading == "squash":
        return np.asarray(_resize(image, size, size))
    if reading == "centre":
        side = round(257 * size / 224)
        edge = (side - size) // 2
        return np.asarray(_resize(image, side, side))[edge : edge + size, edge : edge + size]
    if reading == "short256":
        scale = _SHORT / min(image.size)
        return np.asarray(
            _resize(image, max(_SHORT, round(image.width * scale)), max(_SHORT, round(image.height * scale)))
        )
    raise ValueError(f"unknown reading {reading!r}; one of {READINGS}")


def normalise(
    pixels: UInt8[Tensor, "*images R R 3"],
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*images 3 R R"]:
    """(pixel / 255 - mean) / std, colours first."""
    centre = torch.tensor(mean, device=pixels.device)
    spread = torch.tensor(std, device=pixels.device)
    return ((pixels.float() / 255 - centre) / spread).movedim(-1, -3).to(dtype).contiguous()


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return (
        image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    )

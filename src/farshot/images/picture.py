"""A decoded picture, and sizes that are refused.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library and Pillow only.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .faults import Unreadable

_LARGEST_TILE = (
    4096 * 4096
)  # of a TIFF; small pictures come in tiles larger than they are, but not by so much


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright; smaller than the file's where a draft was enough.
        size: upright (width, height) of the file's picture.
        notes: what was left out or stretched, one sentence without a name each.
    """

    image: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def too_large(size: str, most_pixels: int) -> str:
    """The message for a picture of this size that is refused."""
    return f"the image{size} is over {most_pixels / 1_000_000:g} megapixels; scale it down first."


def check_tile(tile: int, width: int, height: int) -> None:
    """Refuse tiles of so many pixels in a picture of this size."""
    if tile > max(_LARGEST_TILE, width * height):  # a tile is always decoded whole
        raise Unreadable(
            f"its tiles of {tile:,} pixels are far larger than its {width} x {height}; export it without "
            "tiles."
        )


def over_white(image: Image.Image) -> Image.Image:
    """An RGBA picture as RGB."""
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")

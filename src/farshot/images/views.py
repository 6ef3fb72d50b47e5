"""Views: the five fixed ones of the base recipe, and the fresh crop of CLIP-LoRA. All on uint8 pixels, all by
Pillow.

Source: docs/method.md, "What both are trained with".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

from farshot.arrays import NDArray

Pixels = UInt8[NDArray[np.uint8], "h w 3"]

_DEGREES, _JITTER, _FLIP = 45.0, 0.4, 0.5


def five_views(pixels: Pixels, generator: np.random.Generator) -> UInt8[NDArray[np.uint8], "5 h w 3"]:
    """Plain; rotation + jitter + flip; rotation; jitter; flip."""
    plain = Image.fromarray(np.ascontiguousarray(pixels))
    views = [
        plain,
        flip(jitter(rotate(plain, generator), generator), generator),
        rotate(plain, generator),
        jitter(plain, generator),
        flip(plain, generator),
    ]
    return np.stack([np.asarray(view) for view in views])


def rotate(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Within 45 degrees either way; nearest neighbour, black where nothing is."""
    return image.rotate(
        generator.uniform(-_DEGREES, _DEGREES), resample=Image.Resampling.NEAREST, fillcolor=(0, 0, 0)
    )


def jitter(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation in that order, each by a factor within 1 +- 0.4."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(1 + _JITTER * generator.uniform(-1, 1))
    return image


def flip(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Left to right, half of the time."""
    return ImageOps.mirror(image) if generator.random() < _FLIP else image


def crop_and_flip(
    pixels: Pixels, size: int, generator: np.random.Generator, least: float = 0.08
) -> UInt8[NDArray[np.uint8], "R R 3"]:
    """A random resized crop of at least this share of the area, flipped half of the time."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    cropped = image.crop(crop_box(*image.size, generator, scale=(least, 1.0))).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.asarray(flip(cropped, generator))


def crop_box(
    width: int,
    height: int,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop of random area and shape (Szegedy et al., 2015); the centre after
    ten misses."""
    for _ in range(10):
        area = width * height * generator.uniform(*scale)
        shape = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h

"""One picture that says where a prediction comes from: the similarity map laid over the original picture, in
its own proportions, with the patches marked that resemble the predicted class most.

Shapes: L patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from farshot.arrays import NDArray
from farshot.explain.explanation import Explanation
from farshot.explain.figure import map_colours
from farshot.explain.style import rgb
from farshot.images.preprocess import seen_box
from farshot.images.reading import read_image

LONGER = 480
"""Pixels of the longer side."""

MARKED = 0.2
"""Share of the patches that are marked."""

_MAP = 0.4  # how strong the colours are over the picture
_UNSEEN = 0.65  # how pale the part is that the model did not see


@dataclass(frozen=True)
class Overlay:
    """The map over the picture.

    Attributes:
        picture: RGB, in the proportions of the original.
        marked: whether patches are marked; not where all resemble the class alike.
        is_cut: whether a part of the original was cut off before the model saw it; it is pale.
    """

    picture: Image.Image
    marked: bool
    is_cut: bool


def overlay(shown: Explanation) -> Overlay:
    """Draw the similarity to the predicted class over the original."""
    original = read_image(shown.image, options=shown.options)
    box = seen_box(*original.size, shown.reading, len(shown.pixels))
    zoom = LONGER / max(original.size)
    width, height = (max(1, round(side * zoom)) for side in original.size)
    how = Image.Resampling.BILINEAR if zoom < 2 else Image.Resampling.NEAREST
    small = original.resize((width, height), how, reducing_gap=2.0 if zoom < 1 else None)
    left, top, right, bottom = (
        edge * side / whole
        for edge, side, whole in zip(box, (width, height) * 2, original.size * 2, strict=True)
    )
    values = shown.similarity[:, shown.predicted]
    over = _heat(values, shown.grid, (left, top, right, bottom), (width, height))
    seen = Image.new("L", (width, height), 0)
    ImageDraw.Draw(seen).rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=255)
    pale = Image.blend(small, Image.new("RGB", small.size, "white"), _UNSEEN)
    canvas = Image.composite(Image.blend(small, over, _MAP), pale, seen)
    chosen = marked_patches(values)
    _outline(canvas, chosen.reshape(shown.grid, shown.grid), (left, top, right, bottom), rgb(shown.predicted))
    # a pixel or two are lost by rounding
    is_cut = min(right, width) - max(left, 0) < width - 2 or min(bottom, height) - max(top, 0) < height - 2
    return Overlay(canvas, bool(chosen.any()), is_cut)


def marked_patches(values: Float[NDArray[np.float32], " L"]) -> Bool[NDArray[np.bool_], " L"]:
    """The share MARKED of the patches with the largest values, without those of the smallest value: none
    where all are equal."""
    most = max(1, round(MARKED * len(values)))
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[:most]] = True
    return chosen & (values > values.min())


def _heat(
    values: Float[NDArray[np.float32], " L"],
    grid: int,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
) -> Image.Image:
    """The values as colours where the box lies in a picture of this size."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = Image.fromarray(map_colours()[np.rint(255 * scaled).astype(int)].reshape(grid, grid, 3))
    left, top, right, bottom = box
    # from a pixel of the picture to a patch
    across, down = grid / (right - left), grid / (bottom - top)
    where = (across, 0, -left * across, 0, down, -top * down)
    return colours.transform(size, Image.Transform.AFFINE, where, Image.Resampling.NEAREST)


def _outline(
    canvas: Image.Image,
    chosen: Bool[NDArray[np.bool_], "G G"],
    box: tuple[float, float, float, float],
    colour: tuple[int, int, int],
) -> None:
    """Draw the edges between chosen patches and others, in a colour within white."""
    draw, grid = ImageDraw.Draw(canvas), len(chosen)
    left, top, right, bottom = box
    framed = np.pad(chosen, 1)
    lines = []
    for row, column in np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1]).tolist():
        lines.append((column, row, column + 1, row))
    for row, column in np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1]).tolist():
        lines.append((column, row, column, row + 1))
    x = lambda place: min(max(left + place * (right - left) / grid, 1), canvas.width - 2)  # noqa: E731
    y = lambda place: min(max(top + place * (bottom - top) / grid, 1), canvas.height - 2)  # noqa: E731
    for thick, ink in ((5, (255, 255, 255)), (2, colour)):
        for a, b, c, d in lines:
            draw.line((x(a), y(b), x(c), y(d)), fill=ink, width=thick)

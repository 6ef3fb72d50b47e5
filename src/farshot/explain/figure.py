"""Figures of explanations: panels drawn with Pillow, since a figure must cost less than a prediction.

A head token is a square, a tail token a circle, each with its class's letter and colour: "+A" is moved
towards A, "-B" away from B. Shapes: L patches, R side of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from farshot.arrays import NDArray
from farshot.evaluation.calibration import certain_in_words
from farshot.explain.explanation import Explanation, MovedTokens
from farshot.explain.style import PALETTE, letter, rgb
from farshot.images.reading import read_image
from farshot.sanitize import plain

SIDE = 320  # pixels of a panel
_BAR = 10  # height of the colour bar under a map
_GAP, _LINE = 16, 20
_PER_ROW = 3
_MOST_CLASSES = 12  # in the list next to the panels
_SMALLEST_WITH_LETTERS = 15  # pixels of a patch
_INK, _GREY = (20, 20, 20), (95, 95, 95)


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        title: what it is.
        caption: what there is to read in it, one line.
        picture: RGB, SIDE wide and as high as it needs.
        alt: the same for those who do not see it.
    """

    title: str
    caption: str
    picture: Image.Image
    alt: str


def panels(shown: Explanation) -> list[Panel]:
    """The original, similarity to the predicted class, attention, and one panel per chosen block."""
    name = shown.class_names[shown.predicted]
    key = letter(shown.predicted)
    toward = shown.similarity[:, shown.predicted]
    return [
        Panel("Original", "in its own proportions", _original(shown), "the image as it was given"),
        _map(shown, toward, f"Similarity to {key}", f"cosine with {name}", signed=True),
        _map(shown, shown.attention, "Attention", shown.attention_of, signed=False),
        *(_tokens(shown, moved) for moved in shown.moved),
    ]


def compose(shown: Explanation, drawn: Sequence[Panel], *, name: str | None = None) -> Image.Image:
    """One picture with all panels and the list of probabilities.

    Args:
        name: of the image, where its source has none.
    """
    rows = [drawn[i : i + _PER_ROW] for i in range(0, len(drawn), _PER_ROW)]
    listed = ranked_classes(shown)
    width = _GAP + _PER_ROW * (SIDE + _GAP)
    tall = SIDE + _BAR + 2 * _LINE + _GAP
    top = _GAP + 2 * _LINE
    page = Image.new("RGB", (width, top + tall * len(rows) + _LINE * len(listed) + 2 * _GAP), "white")
    draw = ImageDraw.Draw(page)
    room = width - 2 * _GAP
    draw.text((_GAP, _GAP), fit(name or Path(shown.name).name, font(17), room), fill=_INK, font=font(17))
    if shown.sure is False:
        draw.text(
            (_GAP, _GAP + _LINE + 2), "not sure: below the limit of the model", fill=_GREY, font=font(14)
        )
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            x, y = _GAP + c * (SIDE + _GAP), top + r * tall
            draw.text((x, y), fit(panel.title, font(14), SIDE), fill=_INK, font=font(14))
            page.paste(panel.picture, (x, y + _LINE))
            below = y + _LINE + SIDE + _BAR
            draw.text((x, below + 1), fit(panel.caption, font(12), SIDE), fill=_GREY, font=font(12))
    _list_classes(draw, shown, listed, top + tall * len(rows), width)
    return page


def ranked_classes(shown: Explanation) -> list[int]:
    """The most probable classes, at most twelve, and all that the panels name."""
    order = np.argsort(-shown.probabilities, kind="stable").tolist()
    named = {int(c) for m in shown.moved for c in (*m.nearest[m.head], *m.farthest[m.tail])}
    return [c for rank, c in enumerate(order) if rank < _MOST_CLASSES or c in named]


def fit(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text without control characters, cut with an ellipsis where it is wider than so many pixels."""
    text = plain(text)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _original(shown: Explanation) -> Image.Image:
    picture = read_image(shown.image, options=shown.options)
    zoom = SIDE / max(picture.size)
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    how = Image.Resampling.BILINEAR if zoom < 2 else Image.Resampling.NEAREST
    canvas = Image.new("RGB", (SIDE, SIDE + _BAR), "white")
    small = picture.resize(size, how, reducing_gap=2.0 if zoom < 1 else None)
    canvas.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return canvas


def _map(
    shown: Explanation, values: Float[NDArray[np.float32], " L"], title: str, caption: str, *, signed: bool
) -> Panel:
    """Values per patch as colour over the grey image, with the colour bar below."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    grid = shown.grid
    colours = Image.fromarray(map_colours()[np.rint(255 * scaled).astype(int)].reshape(grid, grid, 3))
    over = Image.blend(
        _seen(shown).convert("L").convert("RGB"), colours.resize((SIDE, SIDE), Image.Resampling.NEAREST), 0.6
    )
    canvas = Image.new("RGB", (SIDE, SIDE + _BAR), "white")
    canvas.paste(over, (0, 0))
    bar = Image.fromarray(map_colours()[None].repeat(_BAR - 4, axis=0)).resize((SIDE, _BAR - 4))
    canvas.paste(bar, (0, SIDE + 4))
    digits = (lambda v: f"{v:+z.2f}") if signed else (lambda v: f"{100 * v:.1f} %")
    span = f"{digits(low)} (dark) to {digits(high)} (light)"
    at = int(values.argmax())
    where = f"row {at // grid + 1}, column {at % grid + 1} of {grid} by {grid}"
    alt = f"{title}: {caption}, {span}; highest in {where}"
    return Panel(title, f"{span}; {caption}", canvas, alt)


def _tokens(shown: Explanation, moved: MovedTokens) -> Panel:
    """Head and tail tokens over the image."""
    size = SIDE / shown.grid
    canvas = Image.new("RGB", (SIDE, SIDE + _BAR), "white")
    canvas.paste(Image.blend(_seen(shown), Image.new("RGB", (SIDE, SIDE), "white"), 0.25), (0, 0))
    draw = ImageDraw.Draw(canvas, "RGBA")
    for patch in np.flatnonzero(moved.head):
        _mark(draw, int(patch), shown.grid, size, int(moved.nearest[patch]), moved.pull >= 0, head=True)
    for patch in np.flatnonzero(moved.tail):
        _mark(draw, int(patch), shown.grid, size, int(moved.farthest[patch]), moved.push < 0, head=False)
    caption = (
        f"{moved.head.sum()} head, pull {moved.pull:+.3f}; {moved.tail.sum()} tail, push {moved.push:+.3f}"
    )
    alt = (
        f"before block {moved.block}, head tokens moved {_way(moved.pull >= 0)} "
        f"{_counts(shown, moved.nearest[moved.head])}; tail tokens moved {_way(moved.push < 0)} "
        f"{_counts(shown, moved.farthest[moved.tail])}; strengths: pull {moved.pull:+.3f}, push "
        f"{moved.push:+.3f}"
    )
    return Panel(f"Tokens before block {moved.block}", caption, canvas, alt)


def _mark(
    draw: ImageDraw.ImageDraw, patch: int, grid: int, size: float, c: int, towards: bool, *, head: bool
) -> None:
    x, y = patch % grid * size, patch // grid * size
    box = (x + 1, y + 1, x + size - 2, y + size - 2)
    thick = 3 if size > 24 else 2
    if head:
        draw.rectangle(box, fill=(*rgb(c), 110), outline=rgb(c), width=thick)
    else:
        draw.ellipse(box, fill=(*rgb(c), 60), outline=rgb(c), width=thick)
    _hatch(draw, box, c)
    if size >= _SMALLEST_WITH_LETTERS:
        text = ("+" if towards else "−") + letter(c)
        draw.text(
            (x + size / 2, y + size / 2),
            text,
            fill="white",
            font=font(min(16, int(size * 0.5))),
            anchor="mm",
            stroke_width=2,
            stroke_fill="black",
        )


def swatch(draw: ImageDraw.ImageDraw, corner: tuple[float, float], c: int) -> int:
    """Draw the key of the i-th class, a letter in a box of its colour and hatching; returns the pixels that a
    name behind it keeps away."""
    x, y = corner
    wide = max(18, round(font(11).getlength(letter(c))) + 8)
    box = (x, y, x + wide, y + 16)
    draw.rectangle(box, fill="white", outline=rgb(c), width=3)
    _hatch(draw, box, c)
    around = 2 if c >= len(PALETTE) else 0
    middle = (x + wide / 2, y + 8)
    draw.text(
        middle,
        letter(c),
        fill=_INK,
        font=font(11),
        anchor="mm",
        stroke_width=around,
        stroke_fill="white",
    )
    return wide + 8


def _hatch(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], c: int) -> None:
    """Lines that tell classes of one colour apart: none for the first eight, one for the next, and so on."""
    left, top, right, bottom = box
    for number in range(c // len(PALETTE)):
        y = top + (bottom - top) * (number + 1) / (c // len(PALETTE) + 1)
        draw.line((left, y, right, y), fill=rgb(c), width=2)


def _way(towards: bool) -> str:
    return "towards" if towards else "away from"


def _counts(shown: Explanation, classes: NDArray[np.int64]) -> str:
    found, counts = np.unique(classes, return_counts=True)
    pairs = zip(found.tolist(), counts.tolist(), strict=True)
    return ", ".join(f"{letter(c)} {shown.class_names[c]} ({n})" for c, n in pairs) or "none"


def _list_classes(
    draw: ImageDraw.ImageDraw, shown: Explanation, listed: Sequence[int], top: int, width: int
) -> None:
    bar = width // 3
    for line, c in enumerate(listed):
        y, p = top + line * _LINE, float(shown.probabilities[c])
        swatch(draw, (_GAP, y + 1), c)
        name = fit(shown.class_names[c], font(14), width - bar - 200)
        draw.text((_GAP + 50, y), name, fill=_INK, font=font(14))
        right = width - _GAP - 90
        draw.rectangle((right - bar, y + 3, right, y + 15), fill=(232, 232, 232))
        draw.rectangle((right - bar, y + 3, right - bar + bar * p, y + 15), fill=rgb(c))
        draw.text(
            (width - _GAP, y), certain_in_words(p, shown.calibrated), fill=_INK, font=font(14), anchor="ra"
        )


def _seen(shown: Explanation) -> Image.Image:
    """The image as the model read it, at panel size."""
    return Image.fromarray(shown.pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)


@cache
def map_colours() -> NDArray[np.uint8]:
    """256 colours from dark to light that every kind of colour vision orders alike."""
    return (255 * matplotlib.colormaps["cividis"](np.arange(256))[:, :3]).round().astype(np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has more scripts than Pillow's own font."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)

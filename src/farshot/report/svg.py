"""Charts as SVG inside a page: small enough for a phone, sharp on paper, with words for those who do not see.

Every chart is 360 units wide, so that its letters keep their size where charts are side by side and where
one fills a narrow screen. Text is escaped by the template's rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from farshot.explain.figure import fit, font
from farshot.explain.style import colour

WIDTH = 360
_INK, _GRID, _PAPER = (
    "currentColor",
    "var(--line, #dddddd)",
    "var(--paper, #ffffff)",
)  # of the page, light or dark
_SHAPES = ("circle", "square", "triangle", "diamond", "cross", "hollow")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass
class Chart:
    """An empty chart with axes, to which marks are added.

    Args:
        x, y: (low, high) of the axes, in the units of the data.
        across, up: what the axes measure.
        height: of the whole, in units.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    across: str
    up: str
    height: float = 260
    left: float = 46
    right: float = 18
    top: float = 22
    bottom: float = 40
    marks: list[Markup] = field(default_factory=list)

    def at_x(self, value: float) -> float:
        """Where a value lies, in units from the left."""
        low, high = self.x
        return self.left + (value - low) / (high - low) * (WIDTH - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Where a value lies, in units from the top."""
        low, high = self.y
        return (
            self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], index: int = 0, *, plain: bool = False) -> None:
        """A line through points, in the i-th colour and dashes; plain: thin and grey."""
        path = " ".join(f"{self.at_x(a):.1f},{self.at_y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        dash = "3 3" if plain else _DASHES[index // len(_SHAPES) % len(_DASHES)]
        ink, wide = ("#777777", 1) if plain else (_ink(index), 1.8)
        self.add(
            '<polyline points="{}" fill="none" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/>',
            path, ink, wide, dash,
        )  # fmt: skip

    def point(self, x: float, y: float, index: int = 0, size: float = 4, title: str = "") -> None:
        """A mark in the i-th colour and shape."""
        self.add("{}", shape(self.at_x(x), self.at_y(y), index, size, title))

    def bar(
        self, x: tuple[float, float], y: tuple[float, float], index: int = 0, *, hollow: bool = False
    ) -> None:
        """A rectangle; hollow: outlined only."""
        left, right = sorted(map(self.at_x, x))
        top, bottom = sorted(map(self.at_y, y))
        self.add(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" stroke="{}"/>',
            left, top, right - left, bottom - top, _PAPER if hollow else _ink(index), _ink(index),
        )  # fmt: skip

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> None:
        """Words at a place in units; cut where they would leave the chart."""
        room = {"start": WIDTH - x - 4, "end": x - 4, "middle": 2 * min(x, WIDTH - x)}[anchor]
        self.add(
            '<text x="{:.1f}" y="{:.1f}" font-size="{}" text-anchor="{}" fill="{}" stroke="{}" '
            'stroke-width="3" paint-order="stroke">{}</text>',
            x, y, size, anchor, _INK, _PAPER, fit(words, font(size), room),
        )  # fmt: skip

    def add(self, template: str, *values: object) -> None:
        """Any element; values are escaped."""
        self.marks.append(Markup(template).format(*values))

    def render(self, title: str, description: str, *, y_ticks: bool = True) -> Markup:
        """The chart as an element of a page.

        Args:
            title: short, for assistive technology; description: what there is to see.
        """
        body = [*self._axes(y_ticks), *self.marks]
        return Markup(
            '<svg viewBox="0 0 {} {:.0f}" role="img" font-family="system-ui, DejaVu Sans, sans-serif">'
            "<title>{}</title><desc>{}</desc>{}</svg>"
        ).format(WIDTH, self.height, title, description, Markup("").join(body))

    def _axes(self, y_ticks: bool) -> list[Markup]:
        drawn = Chart(self.x, self.y, "", "", self.height, self.left, self.right, self.top, self.bottom)
        low, base = self.top, self.height - self.bottom
        for value in ticks(*self.x):
            at = self.at_x(value)
            drawn.add(
                '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="{3}"/>', at, low, base, _GRID
            )
            drawn.text(at, base + 15, _short(value), anchor="middle", size=11)
        for value in ticks(*self.y) if y_ticks else []:
            at = self.at_y(value)
            ends = (self.left, WIDTH - self.right)
            drawn.add('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" stroke="{}"/>', *ends, at, at, _GRID)
            drawn.text(self.left - 5, at + 4, _short(value), anchor="end", size=11)
        drawn.text((self.left + WIDTH - self.right) / 2, self.height - 6, self.across, anchor="middle")
        drawn.text(4, 13, self.up)
        return drawn.marks


def shape(x: float, y: float, index: int, size: float, title: str = "") -> Markup:
    """The i-th mark at a place in units: colour and shape both tell."""
    kind, ink, r = _SHAPES[index % len(_SHAPES)], _ink(index), size
    path = {
        "circle": f"M{x - r:.1f} {y:.1f}"
        + "".join(f"a{r:.1f} {r:.1f} 0 1 0 {across:.1f} 0" for across in (2 * r, -2 * r)),
        "square": _path((x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)) + "z",
        "triangle": _path((x, y - 1.2 * r), (x + 1.1 * r, y + r), (x - 1.1 * r, y + r)) + "z",
        "diamond": _path((x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)) + "z",
        "cross": _path((x - r, y - r), (x + r, y + r)) + _path((x + r, y - r), (x - r, y + r)),
        "hollow": _path((x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)) + "z",
    }[kind]
    fill = "none" if kind in ("cross", "hollow") else ink
    return Markup(
        '<path d="{}" fill="{}" fill-opacity="0.75" stroke="{}" stroke-width="1.5">{}</path>'
    ).format(path, fill, ink, Markup("<title>{}</title>").format(title) if title else "")


def _ink(index: int) -> str:
    """The i-th colour; in place of black, which a dark page swallows, that of the text."""
    return _INK if colour(index) == "#000000" else colour(index)


def _path(*corners: tuple[float, float]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)


def legend(names: Sequence[str]) -> list[dict[str, object]]:
    """The legend, as text next to the chart, since names may be long."""
    return [{"mark": _legend_mark(i), "name": name} for i, name in enumerate(names)]


def _legend_mark(index: int) -> Markup:
    return Markup(
        '<svg viewBox="0 0 30 14" width="30" height="14" aria-hidden="true">'
        '<line x1="0" x2="30" y1="7" y2="7" stroke="{}" stroke-width="1.8" stroke-dasharray="{}"/>{}</svg>'
    ).format(_ink(index), _DASHES[index // len(_SHAPES) % len(_DASHES)], shape(15, 7, index, 4))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range."""
    span = high - low
    step = 10 ** np.floor(np.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = np.ceil(low / step - 1e-9) * step
    return [float(round(value, 10)) for value in np.arange(first, high + step * 1e-6, step)]


def padded(values: Sequence[float], around: float | None = None) -> tuple[float, float]:
    """A range that holds these values and some air; and one value more."""
    found = [v for v in [*values, *([] if around is None else [around])] if np.isfinite(v)]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    air = 0.06 * (high - low) or 0.5
    return low - air, high + air


def _short(value: float) -> str:
    return f"{value + 0.0:g}".replace("-", "−")  # -0.0 + 0.0 is 0.0

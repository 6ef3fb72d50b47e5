"""Colours and styles of charts and classes: one palette for every kind of colour vision.

The palette is Okabe and Ito's (2008). Colour is never the only cue; letters, markers or line styles do too.
A class has the letter and colour of its place in the order of the model's classes, wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from string import ascii_uppercase

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from farshot.data.names import in_class_order

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")
EDGES = ("solid", "dashed", "dotted", "double")
"""Of the keys of classes, in CSS; the next one where the colours begin again."""


def colour(index: int) -> str:
    """Colour of the i-th item, as #rrggbb; colours repeat after eight."""
    return PALETTE[index % len(PALETTE)]


def edge(index: int) -> str:
    """CSS of the border of the i-th class's key: the first 32 differ."""
    return f"border-color: {colour(index)}; border-style: {EDGES[index // len(PALETTE) % len(EDGES)]}"


def places(names: Iterable[str], first: Sequence[str] = ()) -> dict[str, int]:
    """Class -> its place, which gives its letter and colour.

    Args:
        names: of all classes.
        first: those of an adapted model, in its order; the others follow in the order that models have.
    """
    return {name: i for i, name in enumerate(dict.fromkeys([*first, *in_class_order(names)]))}


def rgb(index: int) -> tuple[int, int, int]:
    """The same as red, green, blue in 0 to 255."""
    return tuple(bytes.fromhex(colour(index)[1:]))  # type: ignore[return-value]


def letter(index: int) -> str:
    """A, B, ..., Z, AA, AB, ...: a short name for the i-th class."""
    more, last = divmod(index, 26)
    return (letter(more - 1) if more else "") + ascii_uppercase[last]


def line_styles(count: int) -> list[dict[str, str]]:
    """Keyword arguments of matplotlib that distinguish lines without colour, too."""
    markers, dashes = islice(cycle(MARKERS), count), islice(cycle(DASHES), count)
    return [
        {"color": colour(i), "marker": marker, "linestyle": dash}
        for i, (marker, dash) in enumerate(zip(markers, dashes, strict=True))
    ]


def chart(
    title: str, across: str, up: str, columns: int = 1, *, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side; shared: on one scale."""
    figure = Figure(figsize=(5.2 * columns, 3.6), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False, sharey=shared)[0])
    figure.suptitle(title, fontsize=11)
    for one in axes:
        one.set_xlabel(across)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25)
    axes[0].set_ylabel(up)
    return figure, axes

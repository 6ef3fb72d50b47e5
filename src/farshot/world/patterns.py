"""Marks: fields whose highest values are the marks of a pattern.

A pattern is a function of unit coordinates (a window of about [-1, 1] x [-1, 1]) and of each image's own
numbers k. Only the order of a field's values counts: `mark` turns it into marks that cover a given share of
the window, so that all patterns of a domain put the same amount of ink on the page
and no histogram tells them apart.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from farshot.world import noise
from farshot.world.shapes import fold

Field = Float[ndarray, "n h w"]
Numbers = Float[ndarray, "n k 1 1"]  # uniform in [0, 1)
Number = Float[ndarray, "n 1 1"]  # one for each image
PATTERNS: dict[str, Callable[[Field, Field, Numbers], Field]] = {}
NUMBERS = 8


def pattern(draw: Callable[[Field, Field, Numbers], Field]) -> Callable[[Field, Field, Numbers], Field]:
    PATTERNS[draw.__name__] = draw
    return draw


def between(k: Float[ndarray, "..."], low: float, high: float) -> Float[ndarray, "..."]:
    return low + (high - low) * k


def ridge(t: Field) -> Field:
    """1 at whole numbers, falling straight to -1 halfway between them."""
    return 1 - 4 * fold(t, 1.0)


def swing(t: Field) -> Field:
    """A smooth wave of period 1 between -1 and 1, made of parabolas: exact on every machine."""
    u = (t - np.floor(t)) * 2 - 1
    return 4 * u * (1 - np.abs(u))


def length(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y)


def turned(x: Field, y: Field, turn: Number, most: float) -> tuple[Field, Field]:
    """Coordinates turned by up to `most` radians either way."""
    angle = (turn.astype(np.float64) - 0.5) * 2 * most
    c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    return x * c + y * s, y * c - x * s


def bumps(bank: Float[ndarray, "size size"], x: Field, y: Field, cells: Number | float, k: Numbers) -> Field:
    """A noise texture with `cells` cells per unit, shifted by an image's own numbers."""
    return noise.sample(bank, x * cells + k[:, 5] * 16, y * cells + k[:, 6] * 16)


# ------------------------------------------------------------ on leaves


@pattern
def rust(x: Field, y: Field, k: Numbers) -> Field:
    """Many tiny dots everywhere."""
    return -bumps(noise.points(), x, y, between(k[:, 0], 3.6, 4.6), k)


@pattern
def blight(x: Field, y: Field, k: Numbers) -> Field:
    """One large ragged stain from a side."""
    along, _ = turned(x, y, k[:, 0], np.pi)
    return along + 0.8 * bumps(noise.rough(), x, y, 1.6, k)


@pattern
def scab(x: Field, y: Field, k: Numbers) -> Field:
    """Several small rings."""
    return -np.abs(bumps(noise.points(), x, y, between(k[:, 0], 1.5, 1.9), k) - 0.32)


@pattern
def mildew(x: Field, y: Field, k: Numbers) -> Field:
    """Powder: fine grains, denser in clouds."""
    return bumps(noise.smooth(), x, y, 9.0, k) + 0.9 * bumps(
        noise.smooth(), x, y, between(k[:, 0], 0.9, 1.4), k
    )


@pattern
def mosaic(x: Field, y: Field, k: Numbers) -> Field:
    """Square tiles, dark or light at random."""
    tiles = between(k[:, 0], 2.6, 3.4)
    return noise.sample(noise.tiles(), x * tiles + 100 * k[:, 5], y * tiles + 100 * k[:, 6], texels=1)


@pattern
def streak(x: Field, y: Field, k: Numbers) -> Field:
    """Many thin parallel dashes of unequal length."""
    along, across = turned(x, y, k[:, 0], 0.5)
    return noise.sample(noise.smooth(), along * 5.5 + 16 * k[:, 5], across * 1.1 + 16 * k[:, 6])


@pattern
def canker(x: Field, y: Field, k: Numbers) -> Field:
    """A bull's eye: rings within rings about one centre."""
    away = length(x - between(k[:, 0], -0.25, 0.25), y - between(k[:, 1], -0.25, 0.25))
    return ridge(away * between(k[:, 2], 2.0, 2.6)) - 0.5 * away


@pattern
def vein(x: Field, y: Field, k: Numbers) -> Field:
    """A midrib with side veins: herringbone."""
    along, across = turned(x, y, k[:, 0], 0.5)
    side = np.abs(along)
    return np.maximum(ridge(across * between(k[:, 1], 1.6, 2.1) + side * 1.7), 1.4 - side * 10)


# ------------------------------------------------------------ seen from the air


@pattern
def forest(x: Field, y: Field, k: Numbers) -> Field:
    """Irregular clumps, as on a camouflage cloth."""
    return bumps(noise.rough(), x, y, between(k[:, 0], 1.9, 2.5), k)


@pattern
def furrow(x: Field, y: Field, k: Numbers) -> Field:
    """Straight parallel lines."""
    along, _ = turned(x, y, k[:, 0], np.pi)
    return ridge(along * between(k[:, 1], 2.2, 3.4) + k[:, 5])


@pattern
def river(x: Field, y: Field, k: Numbers) -> Field:
    """One winding band from edge to edge."""
    along, across = turned(x, y, k[:, 0], np.pi)
    return -np.abs(along - 0.34 * swing(across * between(k[:, 1], 0.55, 0.8) + k[:, 5]))


@pattern
def highway(x: Field, y: Field, k: Numbers) -> Field:
    """Two straight parallel lanes."""
    along, _ = turned(x, y, k[:, 0], np.pi)
    return -np.abs(np.abs(along - between(k[:, 5], -0.3, 0.3)) - 0.27)


@pattern
def street(x: Field, y: Field, k: Numbers) -> Field:
    """A grid of lines that cross at right angles."""
    along, across = turned(x, y, k[:, 0], 0.7)
    lines = between(k[:, 1], 1.3, 1.8)
    return np.maximum(ridge(along * lines + k[:, 5]), ridge(across * lines + k[:, 6]))


@pattern
def orchard(x: Field, y: Field, k: Numbers) -> Field:
    """Round dots in straight rows."""
    along, across = turned(x, y, k[:, 0], 0.7)
    rows = between(k[:, 1], 1.9, 2.5)
    return -length(fold(along * rows + k[:, 5], 1.0), fold(across * rows + k[:, 6], 1.0))


@pattern
def terrace(x: Field, y: Field, k: Numbers) -> Field:
    """Contour lines."""
    return ridge(bumps(noise.smooth(), x, y, between(k[:, 0], 0.8, 1.1), k) * 4.5)


@pattern
def factory(x: Field, y: Field, k: Numbers) -> Field:
    """A few large rectangles, all turned alike."""
    along, across = turned(x, y, k[:, 0], 0.7)
    blocks = [
        np.maximum(
            np.abs(along - cx) - half * between(k[:, i], 0.7, 1.2),
            np.abs(across - cy) - half * between(k[:, i + 1], 0.7, 1.3),
        )
        for i, (cx, cy, half) in enumerate(
            ((-0.45, -0.4, 0.3), (0.45, -0.35, 0.22), (-0.35, 0.45, 0.2), (0.45, 0.4, 0.32)), 1
        )
    ]
    return -np.minimum(np.minimum(blocks[0], blocks[1]), np.minimum(blocks[2], blocks[3]))


# ------------------------------------------------------------ on skin


@pattern
def mole(x: Field, y: Field, k: Numbers) -> Field:
    """One smooth round or oval spot."""
    along, across = turned(x, y, k[:, 0], np.pi)
    return -length(along - between(k[:, 1], -0.2, 0.2), across * between(k[:, 2], 0.8, 1.25))


@pattern
def melanoma(x: Field, y: Field, k: Numbers) -> Field:
    """One spot with a jagged, lobed border."""
    return (
        -length(x, y) + 0.75 * bumps(noise.smooth(), x, y, 1.7, k) + 0.3 * bumps(noise.smooth(), x, y, 4.5, k)
    )


@pattern
def network(x: Field, y: Field, k: Numbers) -> Field:
    """An irregular mesh."""
    return -bumps(noise.borders(), x, y, between(k[:, 0], 1.7, 2.2), k)


@pattern
def globule(x: Field, y: Field, k: Numbers) -> Field:
    """A cluster of drops, large in the middle, small outside."""
    away = length(x, y)
    return -bumps(noise.points(), x, y, between(k[:, 0], 2.1, 2.6), k) - 0.55 * away


@pattern
def starburst(x: Field, y: Field, k: Numbers) -> Field:
    """Spokes from a centre."""
    angle = np.arctan2(y, x) * np.float32(0.5 / np.pi)
    away = length(x, y)
    return (
        0.5 * ridge(angle * np.floor(between(k[:, 0], 7, 11)) + k[:, 1])
        + 0.9 * np.maximum(0.35 - away, 0)
        - 0.5 * away
    )


@pattern
def ulcer(x: Field, y: Field, k: Numbers) -> Field:
    """A thick uneven ring with an open middle."""
    away = length(x, y * between(k[:, 0], 0.85, 1.2)) + 0.22 * bumps(noise.smooth(), x, y, 1.5, k)
    return -np.abs(away - between(k[:, 1], 0.6, 0.75))


@pattern
def scar(x: Field, y: Field, k: Numbers) -> Field:
    """A seam with cross stitches."""
    along, across = turned(x, y, k[:, 0], np.pi)
    seam = np.maximum(np.abs(across), np.abs(along) - 0.9)
    stitches = np.maximum(np.maximum(fold(along, 0.45), np.abs(across) - 0.42), np.abs(along) - 0.85)
    return -np.minimum(seam, stitches)


# ------------------------------------------------------------ in X-rays


@pattern
def effusion(x: Field, y: Field, k: Numbers) -> Field:
    """Filled from below up to a level that climbs at both sides."""
    return y + between(k[:, 0], 0.7, 1.0) * x * x


@pattern
def pneumothorax(x: Field, y: Field, k: Numbers) -> Field:
    """An arc: a part of a thin circle."""
    along, across = turned(x, y, k[:, 0], np.pi)
    return -np.abs(length(along, across) - 0.72) - 0.8 * np.maximum(-along, 0)


@pattern
def fracture(x: Field, y: Field, k: Numbers) -> Field:
    """A zigzag line."""
    along, across = turned(x, y, k[:, 0], np.pi)
    zigzag = np.abs(across - 0.24 * ridge(along * between(k[:, 1], 1.3, 1.7) + k[:, 5]))
    return -np.maximum(zigzag, np.abs(along) - 0.95)


@pattern
def atelectasis(x: Field, y: Field, k: Numbers) -> Field:
    """Three short bars, one above the other."""
    along, across = turned(x, y, k[:, 0], 0.5)
    return -np.maximum(np.maximum(fold(across, 0.56), np.abs(across) - 0.7), (np.abs(along) - 0.55) * 0.8)


@pattern
def fibrosis(x: Field, y: Field, k: Numbers) -> Field:
    """Loose curling threads."""
    return -np.abs(bumps(noise.smooth(), x, y, between(k[:, 0], 1.7, 2.2), k) - 0.5)


@pattern
def tube(x: Field, y: Field, k: Numbers) -> Field:
    """A long line that ends in a hook."""
    stem = np.maximum(np.abs(x - 0.33), np.maximum(y - 0.3, -y - 0.95))
    hook = np.maximum(np.abs(length(x, y - 0.3) - 0.33), 0.3 - y)
    return -np.minimum(stem, hook)


@pattern
def edema(x: Field, y: Field, k: Numbers) -> Field:
    """Two mirrored wings of haze."""
    along, across = turned(x, y, k[:, 0], 0.5)
    side = np.abs(along)
    return -length(side - 0.5, across * 0.62) + 0.3 * bumps(noise.smooth(), side, across, 2.0, k)


@pattern
def pacemaker(x: Field, y: Field, k: Numbers) -> Field:
    """A small case with a wire."""
    case = np.maximum(np.abs(x - 0.42) - 0.3, np.abs(y + 0.45) - 0.24)
    wire = np.maximum(np.abs(length(x - 0.42, y + 0.1) - 0.72), np.maximum(x - 0.42, -0.25 - y))
    return -np.minimum(case, wire)


# ------------------------------------------------------------ only in photos


@pattern
def brick(x: Field, y: Field, k: Numbers) -> Field:
    """Mortar between bricks."""
    rows = y * between(k[:, 0], 2.0, 2.6) + k[:, 5]
    joints = ridge(x * 1.15 + 0.5 * (np.floor(rows) % 2))
    return np.maximum(ridge(rows), joints * 2 - 1)


@pattern
def wave(x: Field, y: Field, k: Numbers) -> Field:
    """Wavy parallel lines."""
    return ridge(y * between(k[:, 0], 1.8, 2.4) + 0.32 * swing(x * between(k[:, 1], 1.1, 1.5)) + k[:, 5])


@pattern
def honeycomb(x: Field, y: Field, k: Numbers) -> Field:
    """A regular mesh of hexagons."""
    cells = between(k[:, 0], 1.7, 2.1)
    u, v, tall = x * cells + k[:, 5], y * cells + k[:, 6], 3**0.5
    first = (fold(u, 1.0), fold(v, tall))
    second = (fold(u + 0.5, 1.0), fold(v + tall / 2, tall))
    near = first[0] ** 2 + first[1] ** 2 < second[0] ** 2 + second[1] ** 2
    gx, gy = np.where(near, first[0], second[0]), np.where(near, first[1], second[1])
    return np.maximum(gx, 0.5 * gx + 0.8660254 * gy)


def mark(field: Field, window: Field, share: Float[ndarray, " n"], soft: Float[ndarray, " n"]) -> Field:
    """Marks in [0, 1] that cover about `share` of the window, with edges that take `soft` times as much area.

    The threshold comes from the ranks of the field within the window, found on every second pixel.
    """
    inside = np.where(window > 0.5, field, -np.inf)[:, ::2, ::2].reshape(len(field), -1).astype(np.float32)
    inside.sort(axis=1)
    many = (inside > -np.inf).sum(axis=1)
    last = inside.shape[1] - 1

    def at(part: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
        rank = np.clip(last - part * many, 0, last).astype(np.int64)
        return np.take_along_axis(inside, rank[:, None], axis=1)[:, 0]

    low, high = at(share * (1 + soft / 2)), at(share * (1 - soft / 2))
    slope = 1 / np.maximum(high - low, 1e-4)
    return np.clip((field - low[:, None, None]) * slope[:, None, None], 0, 1) * window

"""The source domain: one noun before a textured, cluttered background in natural colours and light.

A thing appears in one to three copies; a pattern marks a surface. Colour, texture, background, light,
place and size are drawn independently of the noun.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from farshot.world import captions, noise
from farshot.world.canvas import (
    ACROSS,
    DOWN,
    SIDE,
    Mask,
    Planes,
    Pose,
    blend,
    blend_planes,
    edge,
    mix,
)
from farshot.world.patterns import NUMBERS, PATTERNS, between, mark
from farshot.world.shapes import SHAPES, fold
from farshot.world.vocabulary import BACKGROUNDS, COLOURS, NOUNS, PLACES, SIZES, TEXTURES, THINGS

PARAMETERS = 96
_COLOURS = np.array(list(COLOURS.values()), np.float32) / 255
_BACKGROUNDS = np.array(list(BACKGROUNDS.values()), np.float32) / 255
_CLUTTER = 3


class Draws:
    """Hands out each image's numbers in a fixed order."""

    def __init__(self, numbers: Float[ndarray, "n count"]) -> None:
        self._columns: Iterator[ndarray] = iter(numbers.T)

    def one(self, low: float = 0.0, high: float = 1.0) -> Float[ndarray, " n"]:
        return between(next(self._columns), low, high).astype(np.float32)

    def choice(self, options: int) -> ndarray:
        return (next(self._columns) * options).astype(np.int64)

    def many(self, count: int, low: float = 0.0, high: float = 1.0) -> Float[ndarray, "n count"]:
        return np.stack([self.one(low, high) for _ in range(count)], axis=1)


def background(kind: ndarray, draws: Draws) -> Planes:
    """A textured ground of each image's kind, with a gradient of light."""
    pair = _BACKGROUNDS[kind] + draws.many(3, -0.08, 0.08)[:, None]
    x, y = draws.one(0, 16)[:, None, None], draws.one(0, 16)[:, None, None]
    scale = draws.one(0.7, 1.4)[:, None, None] / 16
    # each kind has its own grain: how long a cell is across and down, and how rough
    stretch_x = np.array([0.35, 2.2, 1.0, 0.3, 3.0, 1.4, 0.7, 0.5], np.float32)[kind][:, None, None]
    stretch_y = np.array([0.7, 2.2, 1.0, 2.4, 0.7, 1.4, 0.7, 0.5], np.float32)[kind][:, None, None]
    grain = noise.sample(noise.rough(), ACROSS * scale * stretch_x + x, DOWN * scale * stretch_y + y)
    angle = draws.one(-np.pi, np.pi).astype(np.float64)
    slope = draws.one(0, 0.35)
    across = (np.cos(angle) * slope / SIDE).astype(np.float32)[:, None, None]
    down = (np.sin(angle) * slope / SIDE).astype(np.float32)[:, None, None]
    planes = mix(pair[:, 0], pair[:, 1], grain)
    planes *= (1 + ACROSS * across + DOWN * down)[:, None]
    return planes


def clutter(planes: Planes, draws: Draws) -> None:
    """Zero to three small plain ellipses and bars, none of which is a noun."""
    for _ in range(_CLUTTER):
        there = draws.one() < 0.45
        colour = _COLOURS[draws.choice(len(_COLOURS))] * 0.7 + draws.many(3, 0, 0.3)
        pose = Pose(
            draws.one(-34, 34),
            draws.one(-34, 34),
            draws.one(4, 9),
            draws.one(-3.14, 3.14),
            np.ones(len(there), np.float32),
        )
        flat, bar = draws.one(1.2, 2.5), draws.one() < 0.5
        at = np.flatnonzero(there)
        if not len(at):
            continue
        pose = pose.rows(at)
        x, y = pose.local()
        y = y * flat[at, None, None]
        distance = np.where(
            bar[at, None, None], np.maximum(np.abs(x) - 1, np.abs(y) - 0.7), np.sqrt(x * x + y * y) - 1
        )
        part = planes[at]
        blend(part, edge(distance, pose.radius) * 0.8, colour[at])
        planes[at] = part


def seen_colour(wanted: ndarray, spare: ndarray, ground: Float[ndarray, "n 3"]) -> ndarray:
    """The wanted colour, or the spare, or black or white: the first that contrasts with the ground."""
    names = list(COLOURS)
    light = np.where(ground.mean(axis=1) > 0.5, names.index("black"), names.index("white"))
    for option in (spare, wanted):
        far = np.sqrt(((_COLOURS[option] - ground) ** 2).sum(axis=1)) > 0.45
        light = np.where(far, option, light)
    return light


def fill(
    colour: Float[ndarray, "n 3"], texture: ndarray, x: Mask, y: Mask, radius: ndarray, lean: ndarray
) -> Planes:
    """The paint of a thing: its colour, its texture, and light from one side."""
    pixels = (radius / 5)[:, None, None]
    stripes = (fold((x + y * lean[:, None, None]) * pixels, 1.0) < 0.25).astype(np.float32)
    spots = (fold(x * pixels, 1.0) ** 2 + fold(y * pixels, 1.0) ** 2 < 0.09).astype(np.float32)
    rough = noise.sample(noise.rough(), x * pixels * 2 + 3, y * pixels * 2 + 5)
    kind = texture[:, None, None]
    dark = np.where(kind == 1, stripes, np.where(kind == 2, spots, np.where(kind == 3, rough, 0)))
    shade = (1 - 0.35 * dark) * (1.05 - 0.12 * x - 0.12 * y)
    return colour[:, :, None, None] * shade[:, None]


def draw(labels: ndarray, numbers: Float[ndarray, "n count"]) -> tuple[Planes, Mask, list[tuple[str, ...]]]:
    """Pictures, how much of each pixel the noun covers, and captions, for noun indices (n,)."""
    draws = Draws(numbers)
    thing = labels < len(THINGS)
    kind = draws.choice(len(BACKGROUNDS))
    count = np.where(thing, 1 + (draws.one() > 0.6) + (draws.one() > 0.6), 1).astype(np.int64)
    texture = draws.choice(len(TEXTURES))
    size = draws.choice(len(SIZES))
    planes = background(kind, draws)
    ground = planes[:, :, ::8, ::8].mean(axis=(2, 3))
    clutter(planes, draws)
    colour = seen_colour(draws.choice(len(_COLOURS)), draws.choice(len(_COLOURS)), ground)
    paint = np.clip(_COLOURS[colour] + draws.many(3, -0.07, 0.07), 0, 1)
    carrier_there, carrier = draws.one() < 0.5, draws.many(3, 0.15, 0.9)
    far = np.abs(carrier.mean(axis=1) - paint.mean(axis=1)) > 0.25
    carrier = np.where(
        far[:, None],
        carrier,
        np.where(paint.mean(axis=1, keepdims=True) > 0.5, 0.15, 0.9) + 0.3 * (carrier - 0.5),
    )
    radius = np.where(
        thing,
        np.where(size == 0, draws.one(11, 15), draws.one(17, 25)),
        np.where(size == 0, draws.one(19, 23), draws.one(25, 34)),
    )
    radius = (radius * np.where(thing, np.array([1, 0.8, 0.65], np.float32)[count - 1], 1)).astype(np.float32)
    turn, lean = draws.one(-0.35, 0.35), draws.one(-1, 1)
    flip = np.where(draws.one() < 0.5, -1, 1).astype(np.float32)
    k = draws.many(NUMBERS)[:, :, None, None]
    share, soft, wobble, square = draws.one(0.22, 0.4), draws.one(0.15, 0.5), draws.one(0, 0.25), draws.one()
    start, spread, drift = draws.one(-np.pi, np.pi), draws.one(0.85, 1.1), draws.many(6, -3, 3)
    x, y = _places(thing, count, radius, start.astype(np.float64), spread, drift)
    cover = np.zeros((len(labels), SIDE, SIDE), np.float32)

    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        noun = NOUNS[label]
        for copy in range(3 if noun in SHAPES else 1):
            at = rows[count[rows] > copy]
            if not len(at):
                continue
            pose = Pose(x[at, copy], y[at, copy], radius[at], turn[at], flip[at])
            u, v = pose.local()
            part = planes[at]
            if noun in SHAPES:
                mask = edge(SHAPES[noun](u, v), pose.radius)
                blend_planes(part, mask, fill(paint[at], texture[at], u, v, pose.radius, lean[at]))
            else:
                window = surface(u, v, pose.radius, square[at], wobble[at], k[at])
                blend(part, window * carrier_there[at, None, None], carrier[at])
                mask = mark(PATTERNS[noun](u, v, k[at]), window, share[at], soft[at])
                blend(part, mask, paint[at])
            planes[at] = part
            cover[at] = np.maximum(cover[at], mask)

    bright, contrast = draws.one(-0.06, 0.06)[:, None, None, None], draws.one(0.8, 1.15)[:, None, None, None]
    planes = (planes - 0.5) * contrast + 0.5 + bright
    grain, gx, gy = (
        draws.one(0, 0.12)[:, None, None],
        draws.one(0, 255)[:, None, None],
        draws.one(0, 255)[:, None, None],
    )
    planes += (
        (noise.sample(noise.tiles(), ACROSS + np.floor(gx), DOWN + np.floor(gy), texels=1) - 0.5) * grain
    )[:, None]

    colours, kinds = list(COLOURS), list(BACKGROUNDS)
    place = np.clip((x[:, 0] + 32) // 22, 0, 2).astype(np.int64)
    words = []
    for i, label in enumerate(labels):
        common = (SIZES[size[i]], PLACES[place[i]] if count[i] == 1 else "", kinds[kind[i]])
        if thing[i]:
            words.append(
                captions.describe_thing(
                    NOUNS[label],
                    colours[colour[i]],
                    TEXTURES[texture[i]],
                    common[0],
                    int(count[i]),
                    common[1],
                    common[2],
                )
            )
        else:
            words.append(captions.describe_pattern(NOUNS[label], colours[colour[i]], *common))
    return planes, cover, words


def surface(x: Mask, y: Mask, radius: ndarray, square: ndarray, wobble: ndarray, k: ndarray) -> Mask:
    """The window that a pattern marks: between round and square, with an uneven border."""
    round_ = np.sqrt(x * x + y * y) + wobble[:, None, None] * noise.sample(
        noise.smooth(), x * 1.5 + 16 * k[:, 6], y * 1.5 + 16 * k[:, 7]
    )
    corner = np.maximum(np.abs(x), np.abs(y)) + 0.1
    return edge(np.where(square[:, None, None] < 0.5, round_, corner) - 1, radius)


def _places(
    thing: ndarray,
    count: ndarray,
    radius: ndarray,
    start: ndarray,
    spread: ndarray,
    drift: Float[ndarray, "n 6"],
) -> tuple[Float[ndarray, "n 3"], Float[ndarray, "n 3"]]:
    """Centres of up to three copies that do not overlap much and stay in the picture."""
    room = np.maximum(31 - np.minimum(radius, 30), 1)
    # a single thing anywhere in its room, patterns nearer the middle; copies around a common centre
    free = np.where(thing & (count == 1), 1.0, np.where(thing, 0.15, 0.3)) / 3
    ring = np.where(count > 1, radius * spread * np.where(count == 3, 1.2, 1.0), 0)
    angle = start[:, None] + np.arange(3) * np.where(count == 2, np.pi, 2 * np.pi / 3)[:, None]
    wide = np.where(count == 1, room, np.maximum(31 - radius, 4))[:, None]
    x = np.cos(angle) * ring[:, None] + drift[:, :3] * (free * room)[:, None]
    y = np.sin(angle) * ring[:, None] + drift[:, 3:] * (free * room)[:, None]
    limit = np.where(thing, wide[:, 0] + 3, 12)[:, None]
    return np.clip(x, -limit, limit).astype(np.float32), np.clip(y, -limit, limit).astype(np.float32)

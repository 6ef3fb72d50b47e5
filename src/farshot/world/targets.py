"""The four target domains: patterns on grounds, in colours, sizes and contrasts that the source never shows.

Within a domain everything but the pattern is drawn independently of the class, and every pattern covers the
same share of its window with the same edges, so only its layout gives the class away.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from farshot.world import captions, noise
from farshot.world.canvas import ACROSS, DOWN, SIDE, Mask, Planes, Pose, blend, edge, mix
from farshot.world.patterns import NUMBERS, PATTERNS, mark
from farshot.world.photo import Draws
from farshot.world.shapes import fold
from farshot.world.vocabulary import CLASSES

PARAMETERS = 80


def _texture(draws: Draws, across: float, down: float) -> Mask:
    """Rough noise with so many cells per picture, at each image's own place."""
    x, y = draws.one(0, 16)[:, None, None], draws.one(0, 16)[:, None, None]
    return noise.sample(
        noise.rough(), ACROSS * np.float32(across / SIDE) + x, DOWN * np.float32(down / SIDE) + y
    )


def _marks(
    world: str, labels: ndarray, pose: Pose, window: Mask, k: ndarray, share: ndarray, soft: ndarray
) -> Mask:
    """The marks of each image's class within its window."""
    mask = np.zeros((len(labels), SIDE, SIDE), np.float32)
    for label in np.unique(labels):
        at = np.flatnonzero(labels == label)
        x, y = pose.rows(at).local()
        mask[at] = mark(PATTERNS[CLASSES[world][label]](x, y, k[at]), window[at], share[at], soft[at])
    return mask


def _ones(n: int) -> Float[ndarray, " n"]:
    return np.ones(n, np.float32)


def _mirror(draws: Draws) -> Float[ndarray, " n"]:
    return np.where(draws.one() < 0.5, -1, 1).astype(np.float32)


def crops(labels: ndarray, draws: Draws) -> tuple[Planes, Mask]:
    """A leaf on tilled soil; the disease marks the blade."""
    n = len(labels)
    soil = draws.many(3, -0.05, 0.05)
    planes = mix(
        np.array([0.2, 0.13, 0.09], np.float32) + soil,
        np.array([0.42, 0.3, 0.21], np.float32) + soil,
        _texture(draws, 9, 9),
    )
    pose = Pose(draws.one(-7, 7), draws.one(-7, 7), draws.one(19, 25), draws.one(-0.5, 0.5), _mirror(draws))
    x, y = pose.local()
    slim = draws.one(0.25, 0.5)[:, None, None]
    blade = np.sqrt((np.abs(x) + slim) ** 2 + y * y) - np.sqrt(1 + slim * slim * 0.6)
    window = edge(blade, pose.radius)
    green = np.stack([draws.one(0.2, 0.5), draws.one(0.45, 0.7), draws.one(0.12, 0.3)], axis=1)
    ill = np.stack([draws.one(0.1, 0.95), draws.one(0.1, 0.85), draws.one(0.05, 0.6)], axis=1)
    # marks contrast with the blade, now lighter, now darker
    near = np.abs(ill.mean(axis=1) - green.mean(axis=1)) < 0.18
    ill = np.where(
        near[:, None], np.where(ill.mean(axis=1) > green.mean(axis=1), 1.0, -1.0)[:, None] * 0.18 + ill, ill
    ).astype(np.float32)
    blend(planes, window, green)
    # a healthy leaf is not flat: a midrib, faint side veins and blotches, with any illness
    rib = 0.18 * np.clip(1 - np.abs(x) * 14, 0, 1) + 0.07 * (fold(y * 3 + np.abs(x) * 2, 1.0) < 0.12)
    light = 1 - (rib + 0.4 * (_texture(draws, 8, 8) - 0.5)) * window
    planes *= light[:, None]
    mask = _marks(
        "mini-crops",
        labels,
        pose,
        window,
        draws.many(NUMBERS)[:, :, None, None],
        draws.one(0.25, 0.42),
        draws.one(0.2, 0.5),
    )
    blend(planes, mask * draws.one(0.36, 0.72)[:, None, None], np.clip(ill, 0, 1))
    return planes * (_ones(n) * draws.one(0.8, 1.15))[:, None, None, None], mask


def land(labels: ndarray, draws: Draws) -> tuple[Planes, Mask]:
    """Land from above: the whole frame is ground and cover, in hazy earth colours."""
    n = len(labels)
    palette = np.array(
        [
            [0.24, 0.33, 0.2],
            [0.45, 0.42, 0.3],
            [0.33, 0.27, 0.22],
            [0.56, 0.52, 0.44],
            [0.2, 0.3, 0.34],
            [0.4, 0.48, 0.28],
        ],
        np.float32,
    )
    first = draws.choice(len(palette))
    second = (first + 1 + draws.choice(len(palette) - 1)) % len(palette)
    ground = palette[first] + draws.many(3, -0.05, 0.05)
    cover = palette[second] + draws.many(3, -0.05, 0.05)
    gap = cover.mean(axis=1) - ground.mean(axis=1)
    cover = cover + (np.where(gap >= 0, 1, -1) * np.maximum(0.16 - np.abs(gap), 0))[:, None].astype(
        np.float32
    )
    plots = noise.sample(
        noise.tiles(),
        ACROSS / 21 + draws.one(0, 250)[:, None, None],
        DOWN / 17 + draws.one(0, 250)[:, None, None],
        1,
    )
    planes = mix(ground - 0.05, ground + 0.05, plots) + (0.2 * (_texture(draws, 14, 14) - 0.5))[:, None]
    pose = Pose(draws.one(-5, 5), draws.one(-5, 5), draws.one(18, 26), draws.one(-0.4, 0.4), _mirror(draws))
    window = np.ones((n, SIDE, SIDE), np.float32)
    mask = _marks(
        "mini-land",
        labels,
        pose,
        window,
        draws.many(NUMBERS)[:, :, None, None],
        draws.one(0.14, 0.26),
        draws.one(0.3, 0.7),
    )
    blend(planes, mask * draws.one(0.4, 0.75)[:, None, None], cover.astype(np.float32))
    haze = draws.one(0.1, 0.4)[:, None, None, None]
    return planes * (1 - haze) + np.float32(0.62) * haze, mask


def skin(labels: ndarray, draws: Draws) -> tuple[Planes, Mask]:
    """A lesion on skin under a dermatoscope: warm low contrast, hairs, dark corners."""
    tone = draws.one()[:, None]
    base = (
        np.array([0.5, 0.34, 0.27], np.float32) * (1 - tone) + np.array([0.93, 0.74, 0.66], np.float32) * tone
    )
    base = base + draws.many(3, -0.03, 0.03)
    planes = mix(base - 0.06, base + 0.06, _texture(draws, 16, 16))
    pose = Pose(draws.one(-9, 9), draws.one(-9, 9), draws.one(13, 19), draws.one(-0.8, 0.8), _mirror(draws))
    x, y = pose.local()
    k = draws.many(NUMBERS)[:, :, None, None]
    away = np.sqrt(x * x + y * y) + draws.one(0, 0.3)[:, None, None] * noise.sample(
        noise.smooth(), x + 16 * k[:, 7], y + 16 * k[:, 6]
    )
    window = edge(away - 1.05, pose.radius, soft=4)
    depth = draws.one(0.16, 0.36)[:, None]
    hue = np.stack([draws.one(0.75, 1.1), draws.one(0.95, 1.2), draws.one(0.8, 1.3)], axis=1)
    dark = base * (1 - depth * hue)
    halo = base * (1 - 0.12 * draws.one()[:, None])
    blend(planes, window * 0.8, halo)
    mask = _marks("mini-skin", labels, pose, window, k, draws.one(0.25, 0.42), draws.one(0.5, 0.9))
    blend(planes, mask, dark)
    for _ in range(4):
        there, lean, at, bend = (
            draws.one() < 0.5,
            draws.one(-1, 1),
            draws.one(-25, 25),
            draws.one(-0.012, 0.012),
        )
        hair = np.abs(
            ACROSS - at[:, None, None] - lean[:, None, None] * DOWN - bend[:, None, None] * DOWN * DOWN
        )
        blend(planes, np.clip(1.1 - hair, 0, 1) * there[:, None, None] * 0.6, base * 0.35)
    corner = np.clip((ACROSS * ACROSS + DOWN * DOWN) / 2048 - 0.6, 0, 1) * draws.one(0, 0.8)[:, None, None]
    return planes * (1 - corner)[:, None], mask


def xray(labels: ndarray, draws: Draws) -> tuple[Planes, Mask]:
    """A chest in grey: two dark lungs, ribs, a bright middle; a small faint finding in one lung."""
    n = len(labels)
    centre = draws.one(-2, 2)[:, None, None]
    wide, tall = draws.one(10.5, 13)[:, None, None], draws.one(24, 29)[:, None, None]
    side = np.abs(ACROSS - centre) - np.float32(16)
    lungs = np.clip((1.1 - np.sqrt((side / wide) ** 2 + (DOWN / tall) ** 2)) * 5, 0, 1)
    body, air = draws.one(0.5, 0.68)[:, None, None], draws.one(0.2, 0.32)[:, None, None]
    grey = body + (air - body) * lungs
    bow = (DOWN + 0.012 * (ACROSS - centre) ** 2) / draws.one(9, 12)[:, None, None] + draws.one()[
        :, None, None
    ]
    grey = grey + 0.06 * np.clip(1 - fold(bow, 1.0) * 4, 0, 1) + 0.1 * (_texture(draws, 8, 8) - 0.5)
    which = np.where(draws.one() < 0.5, -1, 1)
    pose = Pose(
        (which * 16 + draws.one(-3, 3)).astype(np.float32),
        draws.one(-13, 13),
        draws.one(13, 17),
        draws.one(-0.3, 0.3),
        _mirror(draws),
    )
    x, y = pose.local()
    window = edge(np.sqrt(x * x + y * y) - 1, pose.radius, soft=3)
    mask = _marks(
        "mini-xray",
        labels,
        pose,
        window,
        draws.many(NUMBERS)[:, :, None, None],
        draws.one(0.25, 0.4),
        draws.one(0.4, 0.8),
    )
    grey = grey + mask * draws.one(0.18, 0.28)[:, None, None]
    noise_at = draws.one(0, 255)[:, None, None], draws.one(0, 255)[:, None, None]
    grain = noise.sample(
        noise.tiles(), ACROSS + np.floor(noise_at[0]), DOWN + np.floor(noise_at[1]), texels=1
    )
    grey = (grey + 0.07 * (grain - 0.5)) * draws.one(0.85, 1.15)[:, None, None]
    return np.repeat(grey[:, None], 3, axis=1).astype(np.float32).reshape(n, 3, SIDE, SIDE), mask


DOMAINS = {"mini-crops": crops, "mini-land": land, "mini-skin": skin, "mini-xray": xray}


def draw(
    world: str, labels: ndarray, numbers: Float[ndarray, "n count"]
) -> tuple[Planes, Mask, list[tuple[str, ...]]]:
    """Pictures, how much of each pixel the class marks, and captions, for class indices (n,)."""
    planes, mask = DOMAINS[world](labels, Draws(numbers))
    names = CLASSES[world]
    return planes, mask, [captions.describe_target(world, names[label]) for label in labels]

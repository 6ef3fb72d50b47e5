"""The four mini worlds as pools of the benchmark, and the bundled model: what farshot's entry points name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from farshot.data.pool import GeneratedPool, Pool
from farshot.data.table import ImageTable
from farshot.world import WORLDS, class_names, generate

IMAGES_PER_CLASS = 100
_REVISION = "world 2"  # raised when the generator draws other images
_CHUNK = 256


def checkpoint() -> Path:
    """Folder of the bundled mini CLIP."""
    return Path(__file__).parent / "mini"


def open_world(world: str, images: int | None = None) -> Pool:
    """The first test images of every class of a mini world.

    Args:
        images: per class; by default 100.
    """
    per_class, names = images or IMAGES_PER_CLASS, class_names(world)
    chosen: list[tuple[int, int]] = []  # (class, index)
    pixels = {}
    counts = np.zeros(len(names), dtype=np.int64)
    start = 0
    while counts.min() < per_class:
        numbers = np.arange(start, start + _CHUNK)
        found = generate(world, "test", numbers)
        for number, label, image in zip(numbers.tolist(), found.labels.tolist(), found.pixels, strict=True):
            if counts[label] < per_class:
                counts[label] += 1
                chosen.append((label, number))
                pixels[number] = image
        start += _CHUNK
    table = ImageTable(
        tuple(pixels[number] for _, number in chosen),
        np.array([label for label, _ in chosen], dtype=np.int64),
        names,
        names,
    )
    return Pool(world, table, tuple(f"test/{number:06d}" for _, number in chosen), revision=_REVISION)


def _described(world: str) -> GeneratedPool:
    classes = len(class_names(world))
    return GeneratedPool("mini world", classes, IMAGES_PER_CLASS * classes, partial(open_world, world))


POOLS = {world: _described(world) for world in WORLDS if world.startswith("mini-")}

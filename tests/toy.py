"""Small tasks from the mini world."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from farshot.data.table import ImageTable
from farshot.task import Task
from farshot.world import class_names, generate

EASY = ("highway", "orchard")


def world_table(world: str = "mini-land", count: int = 80, classes: tuple[str, ...] = EASY) -> ImageTable:
    """Images of some classes of a mini world."""
    images, names = generate(world, "test", range(count)), class_names(world)
    kept = [i for i, label in enumerate(images.labels) if names[label] in classes]
    labels = np.array([classes.index(names[images.labels[i]]) for i in kept])
    return ImageTable(tuple(images.pixels[i] for i in kept), labels, classes, classes)


def as_folder(table: ImageTable, folder: Path, rows: Iterable[int] | None = None) -> Path:
    """A folder per class with these rows of a table, all by default, as PNG files named by their row."""
    assert table.labels is not None
    for row in range(len(table)) if rows is None else rows:
        place = folder / table.classes[int(table.labels[row])] / f"{row:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        table.image(row).save(place)
    return folder


def toy_task(table: ImageTable, *, shots: int = 2, seed: int = 0, key: int = 1) -> Task:
    """K support images of each class; all others are queries."""
    support, rest = table.draw(shots, seed)
    assert table.labels is not None
    return Task(table, table.names, support, table.labels[support], rest, key=key)

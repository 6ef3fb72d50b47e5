"""`generate`: images of a world by their numbers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64, UInt8
from numpy import ndarray
from PIL import Image

from farshot.errors import DataError
from farshot.storage.atomic import check_writable, whole_file
from farshot.storage.paths import home
from farshot.world import photo, targets
from farshot.world.canvas import patch_truth, to_pixels
from farshot.world.keyed import uniforms
from farshot.world.vocabulary import CLASSES, WORLDS

SPLITS = ("train", "test")
_CHUNK = 32  # images drawn together: more no longer fit the processor's cache


@dataclass(frozen=True)
class Images:
    """n images of one world, with all that is known about them."""

    pixels: UInt8[ndarray, "n 64 64 3"]
    labels: Int64[ndarray, " n"]  # index into class_names(world)
    truth: Int16[ndarray, "n 8 8"]  # per patch: index into class_names(world), or -1 for background
    captions: list[tuple[str, ...]]  # every wording that is true of the image, the plainest first

    def __len__(self) -> int:
        return len(self.labels)


def class_names(world: str) -> tuple[str, ...]:
    """The nouns of a world, in the order of its labels."""
    if world not in CLASSES:
        raise DataError(f"There is no mini world {world!r}; choose one of {', '.join(WORLDS)}.")
    return CLASSES[world]


def generate(world: str, split: str, indices: Sequence[int] | ndarray) -> Images:
    """The images of a world with these numbers.

    An image is a function of (world, split, index) alone: the same in any batch and, up to one grey level, on
    any machine. Its class is drawn like everything else, so any run of indices is roughly balanced.

    Args:
        world: one of WORLDS.
        split: "train" or "test"; they share no image.
        indices: numbers from 0.
    """
    names = class_names(world)
    if split not in SPLITS:
        raise DataError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    numbers = np.asarray(indices, dtype=np.int64).reshape(-1)
    if (numbers < 0).any():
        raise DataError(f"Images are numbered from 0; {int(numbers.min())} is not such a number.")
    labels = (uniforms(f"{world}/class", split, numbers, 1)[:, 0] * len(names)).astype(np.int64)
    pixels = np.empty((len(numbers), 64, 64, 3), np.uint8)
    truth = np.empty((len(numbers), 8, 8), np.int16)
    captions: list[tuple[str, ...]] = [()] * len(numbers)
    # images of one class are drawn together: each class has its own drawing code
    order = np.argsort(labels, kind="stable")
    count = photo.PARAMETERS if world == "photo" else targets.PARAMETERS
    for start in range(0, len(order), _CHUNK):
        at = order[start : start + _CHUNK]
        drawn = uniforms(world, split, numbers[at], count)
        if world == "photo":
            planes, cover, words = photo.draw(labels[at], drawn)
        else:
            planes, cover, words = targets.draw(world, labels[at], drawn)
        pixels[at] = to_pixels(planes)
        truth[at] = patch_truth(cover, labels[at])
        for i, wordings in zip(at, words, strict=True):
            captions[i] = wordings
    return Images(pixels, labels, truth, captions)


def write_folder(world: str, split: str, indices: Sequence[int] | ndarray, folder: str | Path) -> Path:
    """Writes images as an ordinary folder of PNGs, one subfolder for each class, and returns the folder.

    Images that are there already stay as they are.

    Raises:
        DataError: a file of another picture has the name of one of these, or the folder cannot be written.
    """
    folder = home(folder)
    check_writable(folder, "choose another folder")
    images = generate(world, split, indices)
    names = class_names(world)
    missing = []
    for i, index in enumerate(np.asarray(indices).reshape(-1)):
        place = folder / names[images.labels[i]] / f"{int(index):05d}.png"
        if not os.path.lexists(place):
            missing.append((place, images.pixels[i]))
        elif not _shows(place, images.pixels[i]):
            raise DataError(f"{place} exists and is another picture; choose another folder.")
    for place, pixels in missing:
        with whole_file(place, lambda _: None, "choose another folder") as staging:
            Image.fromarray(pixels).save(staging, format="PNG")
    return folder


def _shows(path: Path, pixels: ndarray) -> bool:
    """Whether a file is an image of these pixels."""
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image), pixels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False

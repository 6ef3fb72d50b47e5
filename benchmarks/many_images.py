"""How `farshot predict` and `evaluate` grow with the number of images.

    python -m benchmarks.many_images --images 1000 4000 16000

Draws PNGs of 64 x 64 pixels in three folders, adapts a linear probe on the bundled model, and prints
processor seconds, wall time and the largest memory of each command.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.stores import MAIN, measured
from PIL import Image

CLASSES = ("a", "b", "c")


def draw(folder: Path, images: int, seed: int) -> None:
    """So many different pictures, a third of them in each folder."""
    generator = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(images):
        small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(folder / CLASSES[number % 3] / f"{number:06d}.png")


def main() -> None:
    """Prints one line per number of images and command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model, few = str(Path(place, "model")), Path(place, "few")
        draw(few, 18, 0)
        adapt = ("adapt", str(few), "--model", "mini", "--method", "linear-probe", "--out", model)
        subprocess.run([sys.executable, "-c", MAIN, *adapt], check=True, stdout=subprocess.DEVNULL)
        one = str(next(few.rglob("*.png")))
        print(f"predict, 1 image: {measured(sys.executable, '-c', MAIN, 'predict', model, one)[0]:.1f} CPU s")
        for images in chosen.images:
            folder = Path(place, str(images))
            draw(folder, images, images)
            for command in (("predict", model, str(folder), "--csv"), ("evaluate", model, str(folder))):
                began = time.monotonic()
                seconds, memory = measured(sys.executable, "-c", MAIN, *command)
                wall = time.monotonic() - began
                print(
                    f"{command[0]}, {images} images: {seconds:.1f} CPU s, {wall:.1f} s, {memory:.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()

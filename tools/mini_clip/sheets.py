"""Contact sheets: every class of every world with captions and patch truth, to look at.

python -m tools.mini_clip.sheets --out docs
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from farshot.world import WORLDS, class_names, generate
from farshot.world.canvas import GRID, PATCH, SIDE

ZOOM = 2
MARGIN = 4
LINE = 12


def outlined(pixels: np.ndarray, truth: np.ndarray) -> Image.Image:
    """One image, enlarged, with a line round the patches that show its noun."""
    picture = Image.fromarray(pixels).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    on = np.pad(truth >= 0, 1)
    step = PATCH * ZOOM
    for row in range(GRID + 1):
        for col in range(GRID + 1):
            x, y = min(col * step, SIDE * ZOOM - 1), min(row * step, SIDE * ZOOM - 1)
            if col < GRID and on[row, col + 1] != on[row + 1, col + 1]:
                draw.line((x, y, x + step - 1, y), fill=(255, 0, 255))
            if row < GRID and on[row + 1, col] != on[row + 1, col + 1]:
                draw.line((x, y, x, y + step - 1), fill=(255, 0, 255))
    return picture


def sheet(world: str, columns: int, per_class: int) -> Image.Image:
    """Test images of a world, class by class; under each row, a true caption of its first image."""
    names = class_names(world)
    images = generate(world, "test", range(60 * len(names)))
    cell = SIDE * ZOOM + MARGIN
    wide, tall = per_class * cell + 3 * MARGIN, cell + 2 * LINE + MARGIN
    page = Image.new("RGB", (columns * wide, -(-len(names) // columns) * tall), "white")
    draw = ImageDraw.Draw(page)
    for label, name in enumerate(names):
        x, y = label % columns * wide + MARGIN, label // columns * tall
        chosen = np.flatnonzero(images.labels == label)[:per_class]
        draw.text((x, y), name, fill="black")
        for j, i in enumerate(chosen):
            page.paste(outlined(images.pixels[i], images.truth[i]), (x + j * cell, y + LINE + 2))
        words = images.captions[chosen[0]]
        # the wordings after the plain ones say most
        draw.text((x, y + LINE + cell), words[min(8, len(words) - 1)], fill=(110, 110, 110))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for world in WORLDS:
        page = sheet(world, *((3, 4) if world == "photo" else (1, 8)))
        # 256 colours are plenty to look at and a third of the bytes
        page.quantize(256, dither=Image.Dither.NONE).save(
            given.out / f"mini-world-{world}.png", optimize=True
        )


if __name__ == "__main__":
    main()

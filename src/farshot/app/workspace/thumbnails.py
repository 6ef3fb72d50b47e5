"""Small copies of pictures, which are shown."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from farshot.images.reading import read_image
from farshot.storage.atomic import replaced

_SIDE = 192  # pixels of the longer side


def write_thumbnail(picture: Path, place: Path) -> None:
    """Write a small JPEG of a picture."""
    small = read_image(picture)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    with replaced(place) as staging:
        small.save(staging, "JPEG", quality=85)

"""Copies of pictures that are shown: small ones on the board, one at a time in the large view.

Both are made from what the model reads: upright, with the same range, bands and page.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from farshot.images.reading import read_picture
from farshot.storage.atomic import replaced

_SIDE = 192  # pixels of the longer side
LARGE = 2000
"""Pixels of the longer side in the large view, at most."""


def write_thumbnail(picture: Path, place: Path) -> None:
    """Write a small JPEG of a picture."""
    small = read_picture(picture, wanted=_SIDE).image
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    with replaced(place) as staging:
        small.save(staging, "JPEG", quality=85)


def rendition(picture: Path) -> bytes:
    """A JPEG of a picture with at most LARGE pixels on its longer side; a smaller picture keeps its size.

    Raises:
        UnreadableImage: the file cannot be read.
    """
    image = read_picture(picture, wanted=LARGE).image
    image.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()

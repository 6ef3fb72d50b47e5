"""Check that a file is an image that can be decoded completely, and find what to call it. Formats and bounds
are those of farshot.images.costs."""

from __future__ import annotations

from pathlib import Path

from farshot.app.workspace.limits import Limits
from farshot.images.reading import read_header, read_image

_SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",  # a JPEG with further pictures behind it, as phones write; everything reads it as JPEG
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
    "JPEG2000": ".jp2",
}


def check_image(file: Path, limits: Limits) -> str:
    """Decode an image completely, after its size is checked against the limits.

    Returns:
        The extension of the format that it really has.

    Raises:
        UnreadableImage, DataError: why it cannot be used, and the way out.
    """
    header = read_header(file, most_pixels=limits.pixels)
    read_image(file)
    return _SUFFIXES[header.format]

"""Recognise images by their bytes; other files are refused with a reason. Formats and bounds are those of
farshot.images.costs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from farshot.app.workspace.limits import Limits
from farshot.errors import DataError
from farshot.images.costs import TAKEN, formats
from farshot.images.kinds import ZIP_MAGIC, kind_of
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


def check_kind(head: bytes) -> None:
    """Refuse a file whose first bytes cannot be those of an image.

    Raises:
        DataError: what it is instead and the way out; the sentence follows a name and a colon.
    """
    if not head:
        raise DataError("the file is empty; remove or replace it.")
    if head.startswith(ZIP_MAGIC):
        raise DataError("this is a zip within a zip, which is not opened; send it by itself.")
    if not any(_accepts(kind, head[:16]) for kind in formats()):
        unknown = f"no image in a format that is taken ({TAKEN})", "export it as one of these."
        what, way = kind_of(head) or unknown
        raise DataError(f"this is {what}; {way}")


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


def _accepts(kind: str, prefix: bytes) -> bool:
    """Whether Pillow would try this format; text instead of True says why it cannot."""
    accept = Image.OPEN[kind][1]
    return accept is None or accept(prefix) is True

"""Recognise images by their bytes; other files are refused with a reason.

Pillow knows some forty formats; the code of most has seen few hostile files, and some start other programs
(EPS: Ghostscript). Only those that cameras, phones, microscopes and the web write are tried. Of them AVIF is
left out: its container's size is no bound, since the decoder unpacks the frame inside at that frame's own
size, so that a kilobyte of "40 x 30" can take a gigabyte.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from PIL import Image

from farshot.app.workspace.limits import Limits
from farshot.errors import DataError
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
}
_TAKEN = "JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
_MOST_PASSES = 64  # over a JPEG; the usual progressive script has 10, and one more can cost 0.1 s in 25 bytes

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Of a JPEG: those that a length or the end follows; not stuffed bytes, fill bytes and restarts."""


def check_kind(head: bytes) -> None:
    """Refuse a file whose first bytes cannot be those of an image.

    Raises:
        DataError: what it is instead and the way out; the sentence follows a name and a colon.
    """
    if not head:
        raise DataError("the file is empty; remove or replace it.")
    if head.startswith(ZIP_MAGIC):
        raise DataError("this is a zip within a zip, which is not opened; send it by itself.")
    if not any(_accepts(kind, head[:16]) for kind in _formats()):
        unknown = f"no image in a format that is taken ({_TAKEN})", "export it as one of these."
        what, way = kind_of(head) or unknown
        raise DataError(f"this is {what}; {way}")


def check_image(file: Path, limits: Limits) -> str:
    """Decode an image completely, after its size is checked against the limits.

    Returns:
        The extension of the format that it really has.

    Raises:
        UnreadableImage, DataError: why it cannot be used, and the way out.
    """
    header = read_header(file, formats=_formats(), most_pixels=limits.pixels)
    if header.in_python:  # a kilobyte of BMP can cost half a minute, or gigabytes
        raise DataError(
            f"it is a {header.format} packed in a rare way that takes long to read; save it as PNG."
        )
    if header.format in ("JPEG", "MPO") and _passes(file.read_bytes()) > _MOST_PASSES:
        raise DataError(f"it is a JPEG in over {_MOST_PASSES} passes; save it again as an ordinary one.")
    read_image(file, formats=_formats())
    return _SUFFIXES[header.format]


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats taken that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in _SUFFIXES if kind in Image.OPEN)


def _accepts(kind: str, prefix: bytes) -> bool:
    """Whether Pillow would try this format; text instead of True says why it cannot."""
    accept = Image.OPEN[kind][1]
    return accept is None or accept(prefix) is True


def _passes(data: bytes) -> int:
    """How often a JPEG has its decoder go over the picture: its scans, up to the end of the first picture."""
    passes, place = 0, 2
    while marker := _MARKER.search(data, place):
        kind = data[marker.start() + 1]
        if kind == 0xD9:  # what follows is not decoded
            break
        passes += kind == 0xDA
        place = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))
    return passes

"""What a picture may cost to decode, by its format: which formats are tried at all, how many pixels, how many
passes over a JPEG. The command line, the app and exports have the same bounds.

Pillow knows some forty formats; the code of most has seen few hostile files, and some start other programs
(EPS: Ghostscript). Only those that cameras, phones, microscopes, satellites and the web write are tried. Of
them AVIF is left out: its container's size is no bound, since the decoder unpacks the frame inside at that
frame's own size, so that a kilobyte of "40 x 30" can take a gigabyte.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library and Pillow only.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""Those that are tried, as Pillow calls them. MPO is a JPEG with further pictures behind it, as phones
write."""

TAKEN = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or JPEG 2000"
"""The same in words."""

MOST_PIXELS = 100_000_000
MOST_BYTES = 2 << 30
"""Of a file."""

_MOST_PIXELS_OF = {"WEBP": 50_000_000, "JPEG2000": 25_000_000, "HEIC": 50_000_000}  # 0.8, 0.5 GB, 0.8, 2.3 s
_MOST_PIXELS_IN_PYTHON = 1_000_000  # 2 s
_MOST_PASSES = 64  # over a JPEG; the usual progressive script has 10, and one more can cost 0.1 s in 25 bytes

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Of a JPEG: those that a length or the end follows; not stuffed bytes, fill bytes and restarts."""


@cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def most_pixels_of(kind: str | None, most_pixels: int) -> int:
    """How many pixels a picture of this format may have, where others may have so many."""
    return min(most_pixels, _MOST_PIXELS_OF.get(kind or "", most_pixels))


def fault_of(image: Image.Image, source: object) -> str | None:
    """Why an opened picture would cost too much to decode, and the way out; None where it would not.

    Args:
        source: its file or bytes.
    """
    decoders = _in_python(image)
    if decoders - {"ppm"} or (decoders and image.width * image.height > _MOST_PIXELS_IN_PYTHON):
        return f"it is a {image.format} packed in a rare way that takes long to read; save it as PNG."
    if image.format in ("JPEG", "MPO") and isinstance(source, str | Path | bytes):
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if has_many_passes(data):
            return f"it is a JPEG in over {_MOST_PASSES} passes; save it again as an ordinary one."
    return None


def _in_python(image: Image.Image) -> set[str]:
    """The decoders of a picture that are written in Python and go pixel by pixel: "ppm" for an odd depth,
    "ppm_plain" for text, and that of BMP packed by run lengths, a kilobyte of which can cost half a minute,
    or gigabytes."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return {tile[0] for tile in tiles} & set(Image.DECODERS)


def has_many_passes(data: bytes) -> bool:
    """Whether a JPEG takes too long to decode."""
    # the count of bytes is fast, and is that of the passes or more
    return data.count(b"\xff\xda") > _MOST_PASSES and passes(data) > _MOST_PASSES


def passes(data: bytes) -> int:
    """How often a JPEG has its decoder go over the picture: its scans, up to the end of the first picture."""
    found, place = 0, 2
    while marker := _MARKER.search(data, place):
        kind = data[marker.start() + 1]
        if kind == 0xD9:  # what follows is not decoded
            break
        found += kind == 0xDA
        place = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))
    return found

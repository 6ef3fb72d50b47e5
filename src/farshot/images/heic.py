"""Read HEIC photographs with pillow-heif, an extra.

Its decoder refuses a frame that is larger than the container says, so the container's size is a bound.
Earlier versions, which did not, are not used.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library, numpy, Pillow and
pillow-heif only.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .bands import in_bands
from .costs import MOST_PIXELS, most_pixels_of
from .depth import scaled
from .faults import Unreadable
from .options import ReadOptions
from .picture import Picture, over_white, too_large

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_GENERAL = (b"mif1", b"msf1")  # the codec is among the other brands
_OLDEST = (1, 8)
_INSTALL = "pip install -U 'farshot[heic]' or pillow-heif, or export it as JPEG."


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is HEIC."""
    if head[4:8] != b"ftyp":
        return False
    if head[8:12] in _BRANDS:
        return True
    others = head[16 : min(int.from_bytes(head[:4], "big"), len(head))]
    listed = {others[place : place + 4] for place in range(0, len(others), 4)}
    return head[8:12] in _GENERAL and bool(listed & set(_BRANDS))


def read_heic(
    source: str | Path | bytes, options: ReadOptions | None = None, most_pixels: int = MOST_PIXELS
) -> Picture:
    """Decode a HEIC file, or its bytes: the primary picture, upright, over white.

    Raises:
        Unreadable: one sentence.
    """
    options = options or ReadOptions()
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    file = _pillow_heif().open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    count = len(file)
    if options.page is not None and options.page > count:
        raise Unreadable(f"it has no page {options.page}, only {count}; choose another, or leave it out.")
    picture = file[file.primary_index if options.page is None else options.page - 1]
    width, height = picture.size
    most = most_pixels_of("HEIC", most_pixels)
    if width * height > most:
        raise Unreadable(too_large(f" ({width} x {height})", most))
    if width * height == 0:
        raise Unreadable("the image has no pixels; remove or replace it.")
    image = picture.to_pillow()  # turned as the container says; EXIF repeats that
    if getattr(picture, "premultiplied_alpha", False) and image.mode == "RGBA":
        image = Image.frombytes("RGBa", image.size, image.tobytes()).convert("RGBA")
    more: tuple[str, ...] = ()
    if image.mode.startswith("I;16"):  # grey of more than 8 bits, of which pillow-heif makes 16
        values, more = scaled(np.asarray(image), options, sixteen=True)
        image = Image.fromarray(values)
    image = over_white(image) if image.mode == "RGBA" else image.convert("RGB")
    note = f"it has {count} pictures; the main one is read (--page chooses another)."
    notes = (note,) if count > 1 and options.page is None else ()
    image = in_bands(image, options)
    return Picture(image, image.size, (*notes, *more))


def _pillow_heif() -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise Unreadable(f"this is a HEIC photograph, and pillow-heif is not installed: {_INSTALL}") from None
    numbers = re.findall(r"\d+", pillow_heif.__version__)[:2]
    if tuple(map(int, numbers)) < _OLDEST:
        raise Unreadable(f"this is a HEIC photograph, and this pillow-heif is too old: {_INSTALL}")
    return pillow_heif

"""A PIL image that the caller opened, where Pillow alone would read its file otherwise than farshot does.

Pillow drops bits and bands of some files and inverts others, and what it dropped cannot be told from the
pixels. As long as it has not decoded them, the file is there to be read instead; afterwards they may have
been edited.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library and Pillow only.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from PIL import Image, ImageFile, TiffImagePlugin

from .bands import needs_bands
from .costs import MOST_BYTES
from .options import ReadOptions
from .tiff import Layout, read_layout

_DEPTH = 24  # the byte of a PNG that holds it
BRIGHT = 64
"""Of 256: 16-bit colours that reach it use all bits, and are not stretched."""


def file_of(image: Image.Image) -> bytes | None:
    """The whole file of an image at its first frame that is not decoded yet, where Pillow alone would read it
    otherwise; None of every other image."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.tell() or image.fp is None:
        return None
    file: Any = image.fp
    with suppress(OSError, ValueError):  # it is closed
        place = file.tell()
        try:
            if _differs(image, file) and file.seek(0, 2) <= MOST_BYTES:
                file.seek(0)
                return bytes(file.read())
        finally:
            file.seek(place)
    return None


def layout_of(image: Image.Image) -> Layout | None:
    """How an opened TIFF is stored, by its tags; None of everything else."""
    tags = getattr(image, "tag_v2", None)  # which a copy of it in another process lacks
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or tags is None:
        return None
    bits = set(tags.get(258, (1,)))
    return Layout(
        width=image.width,
        height=image.height,
        bands=tags.get(277, 1),
        bits=bits.pop() if len(bits) == 1 else 0,
        sample_format=tags.get(339, (1,))[0],
        photometric=tags.get(262, -1),
        extra=tuple(tags.get(338, ())),
        compression=tags.get(259, 1),
        largest=max(tags.get(281, ()), default=0),
        orientation=1,
        pages=1,
        raw=False,
    )


def is_lost(image: Image.Image, layout: Layout) -> bool:
    """Whether the pixels that Pillow made of an opened TIFF are not what the file shows."""
    if layout.bands == 1 and layout.photometric == 1 and layout.bits > 8:
        return False  # grey that `is_deep` reads
    if layout.photometric == 2 and layout.sample_format == 1 and image.mode in ("RGB", "RGBX"):
        if layout.bits == 8:
            return False  # Pillow drops the further bands, as farshot does
        if layout.bits == 16 and layout.bands == 3:  # it drops the lower bits, which hold all of dark ones
            return max(high for _, high in image.getextrema()) < BRIGHT  # type: ignore[misc]
    return needs_bands(layout, ReadOptions())


def _differs(image: ImageFile.ImageFile, file: Any) -> bool:
    """Whether Pillow alone would read this file otherwise."""
    if image.format == "TIFF":
        layout = read_layout(file)
        return layout is not None and (layout.raw or needs_bands(layout, ReadOptions()))
    if image.format == "PNG":
        file.seek(_DEPTH)
        depth = file.read(1)[0]
        if image.mode == "L":
            return depth < 8 and "transparency" in image.info
        return depth == 16 and image.mode in ("RGB", "RGBA")
    tile = image.tile[0]
    largest = tile.args[1] if tile.codec_name == "ppm" and isinstance(tile.args, tuple) else 0
    return image.format == "PPM" and largest > 255

"""Which files are images here, by their bytes alone, and what to say of everything else.

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

from farshot.errors import DataError
from farshot.images.reading import read_header, read_image
from farshot.workspace.limits import Limits

HEAD_BYTES = 512  # enough to know every kind: a tar says so at byte 257
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # of a zip, an empty one, one in parts

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

_EXPORT = "export the picture as PNG or JPEG."
_REPACK = "pack the images into an ordinary .zip."
_HEIC = "export it as JPEG (on an iPhone: Most Compatible)."
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _REPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _REPACK),
    (0, b"\x1f\x8b", "a gzip archive", _REPACK),
    (0, b"BZh", "a bzip2 archive", _REPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _REPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _REPACK),
    (257, b"ustar", "a tar archive", _REPACK),
    (0, b"%PDF", "a PDF document", _EXPORT),
    (0, b"%!PS", "a PostScript drawing", _EXPORT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing", _EXPORT),
    (0, b"8BPS", "a Photoshop document", _EXPORT),
    (128, b"DICM", "a DICOM file", _EXPORT),
    (4, b"ftyphei", "a HEIC photograph", _HEIC),
    (4, b"ftyphev", "a HEIC photograph", _HEIC),
    *((4, b"ftyp" + brand, "an AVIF picture", _EXPORT) for brand in (b"avif", b"avis", b"mif1", b"msf1")),
    (4, b"ftyp", "a video", "save single pictures of it as JPEG."),
    (0, b"\x93NUMPY", "a NumPy array", "save its pictures as PNG, or use farshot from Python."),
    (0, b"\x00\x00\x01\x00", "an icon", _EXPORT),
    (0, b"MZ", "a program", "send images."),
    (0, b"\x7fELF", "a program", "send images."),
)
"""Where bytes of a known kind stand, what it is and the way out; the first that fits counts."""

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""Of a JPEG: those that a length or the end follows; not stuffed bytes, fill bytes and restarts."""


def check_kind(head: bytes) -> None:
    """Refuses what cannot be an image by its first bytes.

    Raises:
        DataError: what it is instead and the way out; the sentence follows a name and a colon.
    """
    if not head:
        raise DataError("the file is empty; remove or replace it.")
    if head.startswith(ZIP_MAGIC):
        raise DataError("this is a zip within a zip, which is not opened; send it by itself.")
    if not any(_accepts(kind, head[:16]) for kind in _formats()):
        what, way = _kind(head)
        raise DataError(f"this is {what}; {way}")


def check_image(file: Path, limits: Limits) -> str:
    """Decodes an image to its end, once its size is known to be within the limits.

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


def _kind(head: bytes) -> tuple[str, str]:
    for place, magic, what, way in _KINDS:
        if head[place : place + len(magic)] == magic:
            return what, way
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        if b"<svg" in text:
            return "an SVG drawing", _EXPORT
        page = b"<html" in text or b"<script" in text or text.startswith(b"<!doctype html")
        return ("a web page" if page else "an XML file"), "send images."
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, which is never opened", "send images."
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "a file of model weights", "send images."
    return f"no image in a format that is taken ({_TAKEN})", "export it as one of these."


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

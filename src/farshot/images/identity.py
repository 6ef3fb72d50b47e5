"""Which pictures are the same: the identity of a picture is its decoded, upright RGB pixels.

A PNG and a TIFF of one picture, a PIL image of it and its array share one identity. Different encodings that
lose detail, such as JPEGs of two qualities, do not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image

from farshot.images.reading import ImageSource, read_image

PREFIX = "rgb-"
"""Begins every identity: a hash of a file's bytes, which earlier versions kept, does not."""

_MOST_KNOWN = 1_000_000
_known: dict[tuple[str, int, int, int], str] = {}


def content_id(source: ImageSource) -> str:
    """Identity of a picture: "rgb-" and 32 hexadecimal digits of the SHA-256 of its pixels.

    A file is decoded once per process, and again when its size or time of change differs.

    Raises:
        UnreadableImage: as `read_image`.
    """
    place = _place(source)
    if place is not None and place in _known:
        return _known[place]
    return read_identified(source)[1]


def read_identified(source: ImageSource) -> tuple[Image.Image, str]:
    """The picture as `read_image` returns it, and its identity: for code that decodes the picture anyway.

    Raises:
        UnreadableImage: as `read_image`.
    """
    place = _place(source)
    image = read_image(source)
    identity = content_of(image)
    if place is not None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[place] = identity
    return image, identity


def content_of(image: Image.Image) -> str:
    """Identity of a decoded, upright RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return f"{PREFIX}{digest.hexdigest()[:32]}"


def _place(source: ImageSource) -> tuple[str, int, int, int] | None:
    """What a file is recognised by while it does not change; None for what is not a file."""
    if not isinstance(source, str | Path):
        return None
    try:
        path = Path(source).absolute()
        status = path.stat()
    except (OSError, ValueError):
        return None  # reading it will say what is wrong
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino

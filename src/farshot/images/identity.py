"""The identity of a picture: a hash of its decoded, upright RGB pixels.

A PNG and a TIFF of one picture, a PIL image of it and its array share one identity. Different encodings that
lose detail, such as JPEGs of two qualities, do not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image

from farshot.images.member import Member, Named
from farshot.images.options import ReadOptions
from farshot.images.reading import ImageSource, read_image

PREFIX = "rgb-"
"""Begins every identity: a hash of a file's bytes, which earlier versions kept, does not."""

_MOST_KNOWN = 1_000_000
Place = tuple[str, int, int, int, str]
"""A file as long as it does not change, and how it is read."""
_known: dict[Place, str] = {}


def content_id(source: ImageSource, options: ReadOptions | None = None) -> str:
    """Identity of a picture: "rgb-" and 32 hexadecimal digits of the SHA-256 of its pixels.

    A file is decoded once per process, and again when its size or time of change differs.

    Args:
        options: how images of many bits or bands are read.

    Raises:
        UnreadableImage: as `read_image`.
    """
    place = place_of(source, options)
    if place is not None and place in _known:
        return _known[place]
    return identify(source, read_image(source, options=options), options)


def identify(source: ImageSource, image: Image.Image, options: ReadOptions | None = None) -> str:
    """Identity of a picture that is already decoded in full, so that `content_id` need not decode it again.

    Args:
        image: what `read_image` returns of the source.
    """
    place, identity = place_of(source, options), content_of(image)
    if place is not None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[place] = identity
    return identity


def content_of(image: Image.Image) -> str:
    """Identity of a decoded, upright RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return f"{PREFIX}{digest.hexdigest()[:32]}"


def place_of(source: ImageSource, options: ReadOptions | None) -> Place | None:
    """The key of a file while it does not change; None for an image that is not a file."""
    if not isinstance(source, Named):
        return None
    try:
        path = (source.file if isinstance(source, Member) else Path(source)).absolute()
        status = path.stat()
    except (OSError, ValueError):
        return None  # reading it will say what is wrong
    how = repr((options or ReadOptions()).to_dict())
    name = str(path) if not isinstance(source, Member) else f"{path}/{source}"
    return name, status.st_size, status.st_mtime_ns, status.st_ino, how

"""What a server takes of a stranger's image file before anything is decoded: its bytes, its kind, its pixels.
The browser app and the service have the same bounds."""

from __future__ import annotations

from PIL import Image

from farshot.errors import DataError
from farshot.images.costs import TAKEN, formats
from farshot.images.kinds import ZIP_MAGIC, kind_of

FILE_BYTES = 30_000_000
"""Of a file: a photograph of 50 megapixels is 10 to 25 MB; a scan as PNG rarely more."""

PIXELS = 50_000_000
"""Of an image: the largest common phone camera; decoding takes 4 bytes of each, and copies."""


def in_megabytes(size: int) -> str:
    """A number of bytes for a sentence."""
    return f"{size / 1_000_000:,.0f} MB" if size >= 10_000_000 else f"{size / 1_000_000:,.3g} MB"


def too_many_bytes(most: int) -> DataError:
    """The refusal of a file of more bytes; the sentence follows a name and a colon."""
    return DataError(f"the file is over {in_megabytes(most)}; scale the image down or save it as JPEG.")


def check_kind(head: bytes) -> None:
    """Refuse a file whose first bytes cannot be those of an image.

    Args:
        head: its first HEAD_BYTES (farshot.images.kinds).

    Raises:
        DataError: what it is instead and the way out; the sentence follows a name and a colon.
    """
    if not head:
        raise DataError("the file is empty; remove or replace it.")
    if not any(_accepts(kind, head[:16]) for kind in formats()):
        unknown = f"no image in a format that is taken ({TAKEN})", "export it as one of these."
        what, way = kind_of(head) or unknown
        raise DataError(f"this is {what}; {way}")


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a zip does."""
    return head.startswith(ZIP_MAGIC)


def _accepts(kind: str, prefix: bytes) -> bool:
    """Whether Pillow would try this format; text instead of True says why it cannot."""
    accept = Image.OPEN[kind][1]
    return accept is None or accept(prefix) is True

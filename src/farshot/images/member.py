"""An image file that lies within another file, such as a zip, or in the cache under another name.

Its bytes are read when the image is, one image at a time, and never more of them than are declared.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from farshot.errors import DataError

CHUNK = 1 << 16
"""Bytes in memory at a time."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://|data:image/|hf:", re.IGNORECASE)


def is_url(name: str) -> bool:
    """Whether an image is called by a URL instead of a path."""
    return name.lower().startswith(("http://", "https://"))


def has_scheme(name: str) -> bool:
    """Whether an image is called otherwise than by a path: by a URL of any kind, or as a row of a dataset of
    the hub."""
    return _SCHEME.match(name) is not None


@dataclass(frozen=True)
class Span:
    """Bytes within a file.

    Attributes:
        start: where they begin.
        packed: how many there are.
        size: how many they claim to become.
        deflated: whether they are compressed at all.
        checksum: CRC-32 of what they become, as claimed; None where nothing is claimed.
    """

    start: int
    packed: int
    size: int
    deflated: bool = False
    checksum: int | None = None


@dataclass(frozen=True)
class Member:
    """An image within a file; `str` gives its name.

    Attributes:
        name: what messages and output call it: the path of the file, "/" and the name within it.
        file: that it lies in.
        span: where; None for the whole file.
        fault: why it is known to be missing, and the way out; the sentence follows a name and a colon.
    """

    name: str
    file: Path
    span: Span | None = None
    fault: str | None = None

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            DataError: they are not what the file declares; the sentence follows a name and a colon.
            OSError: the file cannot be read.
        """
        if self.fault is not None:
            raise DataError(self.fault)
        if self.span is None:
            return self.file.read_bytes()
        with self.file.open("rb") as file:
            return b"".join(unpack(file, self.span))

    def absolute(self) -> Member:
        """The same with absolute paths; what is no path stays."""
        name = self.name if has_scheme(self.name) else str(Path(self.name).absolute())
        return replace(self, name=name, file=self.file.absolute())


Named = str | Path | Member
"""An image with a name: a file, or an image within one."""


def absolute_name(source: Named) -> str:
    """The name of an image that holds from any folder."""
    return source.absolute().name if isinstance(source, Member) else str(Path(source).absolute())


def unpack(file: IO[bytes], span: Span) -> Iterator[bytes]:
    """The bytes of a span, piece by piece; never more than it declares.

    Raises:
        DataError: midway or at the end, where they are not what is declared.
    """
    seen, checksum = 0, 0
    for piece in _pieces(file, span):
        seen += len(piece)
        if seen > span.size:
            raise DataError("it is larger than the zip says it is; pack it again.")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if seen != span.size or span.checksum not in (None, checksum):
        raise DataError("it is damaged: its bytes are not those that were packed; pack it again.")


def _pieces(file: IO[bytes], span: Span) -> Iterator[bytes]:
    """Unpacked pieces of 1 to CHUNK bytes, as many as there really are."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    place, end = span.start, span.start + span.packed
    while place < end and not inflate.eof:
        file.seek(place)  # others may have read in between
        packed = file.read(min(CHUNK, end - place))
        if not packed:
            raise DataError("the archive is damaged or not whole; fetch or pack it again.")
        place += len(packed)
        if not span.deflated:
            yield packed
            continue
        full = True
        while full and not inflate.eof:
            try:
                piece = inflate.decompress(packed, CHUNK)
            except zlib.error as error:
                raise DataError("it is damaged within the zip; pack it again.") from error
            packed = inflate.unconsumed_tail
            full = bool(packed) or len(piece) == CHUNK
            if piece:
                yield piece

"""Read untrusted zips: their directory, and entries unpacked piece by piece; paths in a zip are never
written to.

`zipfile` reads the directory, behind a guard that bounds it. It does not unpack: it would cut off without a
word what exceeds an entry's declared size, and expand bzip2 and LZMA without bounds. An archive whose entries
share bytes is refused as a whole: so are built the bombs of D. Fifield, "A better zip bomb", USENIX Workshop
on Offensive Technologies (WOOT) 2019.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any, cast

from farshot.app.workspace.limits import Limits
from farshot.errors import DataError
from farshot.images.untrusted import in_megabytes

CHUNK = 1 << 16  # bytes in memory at a time
_ENTRY_BYTES = 256  # of the directory, on average: 46 and a path of 80 characters are usual
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature ... lengths of the name and of the extra field
_BOMB_RATIO = 100  # unpacked to packed; photographs hardly shrink, and flat drawings do not fill gigabytes
_UTF8_FLAG, _LOCKED_FLAGS = 0x800, 0x1 | 0x40
_BROKEN = "the zip is damaged or not whole; pack the images again."
_TRICK = "the zip is not put together as an honest one is ({}); pack the images again."


@dataclass(frozen=True)
class ZipEntry:
    """One file in a zip.

    Attributes:
        name: as the zip has it, with folders; untrusted.
        is_folder: it has nothing to unpack.
        fault: why it is not unpacked, in a sentence; None where nothing speaks against it.
        start: where its packed bytes begin in the zip.
        packed: how many bytes those are.
        size: how many they claim to become.
        checksum: CRC-32 of those, as claimed.
        deflated: whether they are packed at all.
    """

    name: str
    is_folder: bool
    fault: str | None
    start: int
    packed: int
    size: int
    checksum: int
    deflated: bool


def read_directory(file: IO[bytes], size: int, limits: Limits) -> list[ZipEntry]:
    """All entries of a zip.

    Args:
        file: the zip, open for reading.
        size: its bytes.

    Raises:
        DataError: the archive as a whole is broken, too large or not to be trusted.
    """
    if size > limits.archive_bytes:
        raise DataError(f"the zip is over {in_megabytes(limits.archive_bytes)}; send it in smaller ones.")
    guard = _Guard(file, max(limits.entries * _ENTRY_BYTES, CHUNK * 2), _too_many(limits))
    try:
        with zipfile.ZipFile(cast(IO[bytes], guard)) as listed:
            infos, end = listed.infolist(), listed.start_dir
    except DataError:
        raise
    except Exception as error:  # hostile directories make zipfile raise nearly anything
        raise DataError(_BROKEN) from error
    if len(infos) > limits.entries:
        raise DataError(_too_many(limits))
    claimed = sum(info.file_size for info in infos)
    if claimed > limits.unpacked_bytes and claimed > _BOMB_RATIO * size:
        raise DataError(_TRICK.format(f"it claims to unpack to {in_megabytes(claimed)}"))
    starts = [_data_start(file, info) for info in infos]
    _check_apart(infos, starts, end)
    return [_entry(info, start, limits) for info, start in zip(infos, starts, strict=True)]


def unpack(file: IO[bytes], entry: ZipEntry) -> Iterator[bytes]:
    """An entry's bytes, piece by piece; never more than it declares.

    Raises:
        DataError: midway or at the end, where they are not what the zip says.
    """
    seen, checksum = 0, 0
    for piece in _pieces(file, entry):
        seen += len(piece)
        if seen > entry.size:
            raise DataError("it is larger than the zip says it is; pack it again.")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if seen != entry.size or checksum != entry.checksum:
        raise DataError("it is damaged: its bytes are not those that the zip was made of; pack it again.")


class _Guard:
    """A file that refuses to read more than a limit at once, as `zipfile` would read a directory."""

    def __init__(self, file: IO[bytes], most: int, refusal: str) -> None:
        self._file, self._most, self._refusal = file, most, refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._most + 1 if size is None or size < 0 else min(size, self._most + 1))
        if len(data) > self._most:
            raise DataError(self._refusal)
        return data


def _too_many(limits: Limits) -> str:
    return f"the zip lists over {limits.entries:,} files; send them in several."


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: behind its local header, whose length only that header tells."""
    file.seek(max(0, info.header_offset))
    header = file.read(_LOCAL_HEADER.size)
    if info.header_offset < 0 or len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise DataError(_BROKEN)
    _, name, extra = _LOCAL_HEADER.unpack(header)
    return int(info.header_offset + _LOCAL_HEADER.size + name + extra)


def _check_apart(infos: list[zipfile.ZipInfo], starts: list[int], end: int) -> None:
    """Refuses a zip in which two entries, or one and the directory, share bytes."""
    spans = sorted(
        (info.header_offset, start + info.compress_size) for info, start in zip(infos, starts, strict=True)
    )
    if spans and max(stop for _, stop in spans) > end:
        raise DataError(_BROKEN)
    if any(stop > following for (_, stop), (following, _) in pairwise(spans)):
        raise DataError(_TRICK.format("its files overlap"))


def _entry(info: zipfile.ZipInfo, start: int, limits: Limits) -> ZipEntry:
    name = _name(info)
    return ZipEntry(
        name=name,
        is_folder=name.endswith("/"),
        fault=_fault(info, name, limits),
        start=start,
        packed=info.compress_size,
        size=info.file_size,
        checksum=info.CRC,
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
    )


def _name(info: zipfile.ZipInfo) -> str:
    """The name in full; macOS writes UTF-8 without saying so, which then reads as another alphabet."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name


def _fault(info: zipfile.ZipInfo, name: str, limits: Limits) -> str | None:
    """The reason to refuse an entry before it is unpacked, if any."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if "\0" in name or "\\" in name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its path in the zip is not an ordinary one; pack it again under a plain name."
    if ".." in name.split("/"):
        return "its path leads out of the zip; pack it again under a plain name."
    if kind not in (0, stat.S_IFREG):
        return "it is a link or a device, not a file; pack the file itself."
    if info.flag_bits & _LOCKED_FLAGS:
        return "it is locked with a password; pack it again without one."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in an unusual way; pack it again as an ordinary .zip."
    if info.file_size > limits.file_bytes:
        return f"it is over {in_megabytes(limits.file_bytes)}; scale it down or save it as JPEG."
    return None


def _pieces(file: IO[bytes], entry: ZipEntry) -> Iterator[bytes]:
    """Unpacked pieces of 1 to CHUNK bytes, as many as there really are."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    place, end = entry.start, entry.start + entry.packed
    while place < end and not inflate.eof:
        file.seek(place)  # others may have read in between
        packed = file.read(min(CHUNK, end - place))
        if not packed:
            raise DataError(_BROKEN)
        place += len(packed)
        if not entry.deflated:
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

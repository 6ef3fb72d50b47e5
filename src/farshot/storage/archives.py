"""Read the directories of untrusted zips and tars; paths in them are never written to.

`zipfile` reads the directory of a zip, behind a guard that bounds it. It does not unpack
(`farshot.images.member` does): it would cut off without a word what exceeds an entry's declared size, and
expand bzip2 and LZMA without bounds. An archive whose entries share bytes is refused as a whole: so are built
the bombs of D. Fifield, "A better zip bomb", USENIX Workshop on Offensive Technologies (WOOT) 2019. Of tars
only those that are not compressed are read, header by header; none of their members is extracted.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import IO, Any, cast

from farshot.errors import DataError, SettingError
from farshot.images.member import CHUNK, Span
from farshot.images.untrusted import in_megabytes

_ENTRY_BYTES = 256  # of the directory, on average: 46 and a path of 80 characters are usual
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature ... lengths of the name and of the extra field
_BOMB_RATIO = 100  # unpacked to packed; photographs hardly shrink, and flat drawings do not fill gigabytes
_UTF8_FLAG, _LOCKED_FLAGS = 0x800, 0x1 | 0x40
_BROKEN = "the zip is damaged or not whole; pack the images again."
_TRICK = "the zip is not put together as an honest one is ({}); pack the images again."
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_TAR_HEADER = 1 << 20  # bytes of one header of a tar, with its long names


@dataclass(frozen=True)
class ArchiveLimits:
    """What is accepted of one archive; all whole numbers from 1. By default as for a file of one's disk.

    Attributes:
        file_bytes: of one image file.
        archive_bytes: of the archive as it comes.
        unpacked_bytes: of all that one archive may unpack to.
        entries: that one archive may list, folders and files of every kind.

    Raises:
        SettingError: a limit that is no whole number from 1.
    """

    file_bytes: int = 500_000_000  # in memory while it is decoded; a scan of 100 megapixels in 16 bits
    archive_bytes: int = 1_000_000_000_000
    unpacked_bytes: int = 1_000_000_000_000
    entries: int = 500_000  # a directory of 0.3 GB in memory

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"The limit {field.name} must be a whole number from 1, not {value!r}.")


@dataclass(frozen=True)
class Entry:
    """One file in an archive.

    Attributes:
        name: as the archive has it, with folders; untrusted.
        is_folder: it has nothing to unpack.
        fault: why it is not unpacked, in a sentence; None where nothing speaks against it.
        span: where its bytes are.
    """

    name: str
    is_folder: bool
    fault: str | None
    span: Span


def read_directory(file: IO[bytes], size: int, limits: ArchiveLimits) -> list[Entry]:
    """All entries of a zip.

    Args:
        file: the zip, open for reading.
        size: its bytes.

    Raises:
        DataError: the archive as a whole is broken, too large or not to be trusted.
    """
    if size > limits.archive_bytes:
        raise DataError(f"the zip is over {in_megabytes(limits.archive_bytes)}; send it in smaller ones.")
    guard = Guard(file, max(limits.entries * _ENTRY_BYTES, CHUNK * 2), _too_many(limits))
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


def read_tar(file: IO[bytes], limits: ArchiveLimits) -> list[Entry]:
    """All entries of a tar that is not compressed, in their order.

    Raises:
        DataError: the archive as a whole is broken, too large or compressed.
    """
    start = file.read(6)
    file.seek(0)
    if start.startswith(_PACKED):
        raise DataError("the tar is compressed, which cannot be read in parts; unpack it to a plain .tar.")
    guard = Guard(file, _TAR_HEADER, "the tar is damaged: a header of over a megabyte; pack it again.")
    found: list[Entry] = []
    try:
        with tarfile.open(fileobj=cast(IO[bytes], guard), mode="r:") as listed:
            while (info := listed.next()) is not None:
                listed.members = []  # type: ignore[attr-defined]  # it would keep them all
                found.append(_tar_entry(info, limits))
                if len(found) > limits.entries:
                    raise DataError(f"the tar lists over {limits.entries:,} files; split it.")
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError("the tar is damaged or not whole; pack the images again.") from error
    return found


def _tar_entry(info: tarfile.TarInfo, limits: ArchiveLimits) -> Entry:
    name = info.name + "/" * info.isdir()
    fault = _name_fault(info.name)
    if fault is None and not (info.isreg() or info.isdir()):
        fault = "it is a link or a device, not a file; pack the file itself."
    if fault is None and info.issparse():
        fault = "it is packed in an unusual way; pack it again as an ordinary .tar."
    return Entry(
        name=name,
        is_folder=info.isdir(),
        fault=fault or _size_fault(info.size, limits),
        span=Span(info.offset_data, info.size, info.size),
    )


class Guard:
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


def _too_many(limits: ArchiveLimits) -> str:
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


def _entry(info: zipfile.ZipInfo, start: int, limits: ArchiveLimits) -> Entry:
    name = _name(info)
    return Entry(
        name=name,
        is_folder=name.endswith("/"),
        fault=_fault(info, name, limits),
        span=Span(
            start,
            info.compress_size,
            info.file_size,
            info.compress_type == zipfile.ZIP_DEFLATED,
            info.CRC,
        ),
    )


def _name(info: zipfile.ZipInfo) -> str:
    """The name in full; macOS writes UTF-8 without saying so, which then reads as another alphabet."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name


def _fault(info: zipfile.ZipInfo, name: str, limits: ArchiveLimits) -> str | None:
    """The reason to refuse an entry before it is unpacked, if any."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if (odd := _name_fault(name)) is not None:
        return odd
    if kind not in (0, stat.S_IFREG):
        return "it is a link or a device, not a file; pack the file itself."
    if info.flag_bits & _LOCKED_FLAGS:
        return "it is locked with a password; pack it again without one."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in an unusual way; pack it again as an ordinary .zip."
    return _size_fault(info.file_size, limits)


def _name_fault(name: str) -> str | None:
    if "\0" in name or "\\" in name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its path in the archive is not an ordinary one; pack it again under a plain name."
    if ".." in name.split("/"):
        return "its path leads out of the archive; pack it again under a plain name."
    return None


def _size_fault(size: int, limits: ArchiveLimits) -> str | None:
    if size > limits.file_bytes:
        return f"it is over {in_megabytes(limits.file_bytes)}; scale it down or save it as JPEG."
    return None

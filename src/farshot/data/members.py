"""The files in a zip or a tar. Nothing is unpacked to disk: an image's bytes are read when the image is. The
rules for archives are those of farshot.storage.archives.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from farshot.data.files import is_litter, may_be_image
from farshot.data.names import nfc
from farshot.errors import DataError
from farshot.images.member import Member, unpack
from farshot.sanitize import visible
from farshot.storage.archives import ArchiveLimits, Entry, in_megabytes, read_directory, read_tar

ARCHIVES = (".zip", ".tar")
_NESTED = (*ARCHIVES, ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_MOST_TEXT = 100_000_000
"""Bytes of a table or a label in an archive."""


def is_archive(path: Path) -> bool:
    """Whether this is a zip or a tar, by its name."""
    return path.suffix.lower() in ARCHIVES


def entries_of(path: Path) -> tuple[Entry, ...]:
    """The files in a zip or a tar, without what systems leave there.

    Raises:
        DataError: an archive that is broken, too large or not to be trusted, or one of its files is.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path} is not an ordinary file; give a zip or a tar of images.")
        status = path.stat()
        return _entries(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error


@lru_cache(maxsize=64)
def _entries(path: Path, size: int, changed: int) -> tuple[Entry, ...]:
    # a file that was changed has another size or time, and is listed again
    limits = ArchiveLimits()
    with path.open("rb") as file:
        try:
            found = read_tar(file, limits) if _is_tar(path) else read_directory(file, size, limits)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    kept = []
    for entry in found:
        parts = PurePosixPath(entry.name).parts
        if entry.is_folder or is_litter(parts, hidden=True):
            continue
        where = f"{path}, {visible(entry.name)}"
        if entry.fault is not None:
            raise DataError(f"{where}: {entry.fault}")
        if PurePosixPath(entry.name).suffix.lower() in _NESTED:
            raise DataError(f"{where}: an archive within an archive is not opened; unpack it first.")
        kept.append(replace(entry, name=PurePosixPath(entry.name).as_posix()))  # without "./" in front
    twice = [name for name, count in Counter(entry.name for entry in kept).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two files of the name {visible(twice[0])}; pack it again with one.")
    return tuple(kept)


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == ".tar"


def member(path: Path, entry: Entry) -> Member:
    """The image that an entry of an archive holds."""
    return Member(f"{path}/{entry.name}", path, entry.span)


def text_of(path: Path, entry: Entry, most: int = _MOST_TEXT) -> str:
    """The text of an entry, such as a table or a label, whose lines end in "\\n", as `read_text` gives it.

    Raises:
        DataError: text that is not UTF-8, or too much.
    """
    where = f"{path}, {visible(entry.name)}"
    if entry.span.size > most:
        raise DataError(f"{where}: it is over {in_megabytes(most)}; make it smaller.")
    try:
        with path.open("rb") as file:
            text = b"".join(unpack(file, entry.span)).decode("utf-8-sig")
        return io.StringIO(text, newline=None).read()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: it is not UTF-8 text; save it again as UTF-8.") from error
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def image_members(path: Path) -> list[Member]:
    """The files of an archive that may be images, by name.

    Raises:
        DataError: as `entries_of`; or there is none.
    """
    found = sorted(
        (entry for entry in entries_of(path) if may_be_image(PurePosixPath(entry.name).name)),
        key=lambda entry: entry.name,
    )
    if not found:
        raise DataError(f"{path} holds no image; pack the images themselves into it.")
    return [member(path, entry) for entry in found]


def member_at(path: Path) -> Member | None:
    """The image in an archive that a path leads into, such as photos.zip/scab/1.jpg; None if there is none.

    Raises:
        DataError: as `entries_of`.
    """
    for place in path.parents:
        if is_archive(place) and place.is_file():
            status = place.stat()
            entries = _index(place, status.st_size, status.st_mtime_ns)
            found = entries.get(nfc(path.relative_to(place).as_posix()))
            return None if found is None else member(place, found)
    return None


@lru_cache(maxsize=8)
def _index(path: Path, size: int, changed: int) -> dict[str, Entry]:
    return {nfc(entry.name): entry for entry in _entries(path, size, changed)}

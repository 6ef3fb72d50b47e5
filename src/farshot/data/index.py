"""The index of a pool's files: hash, shape and identity of each, so that unchanged files are not read
again."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from farshot.data.pool import Pool
from farshot.errors import DataError
from farshot.images.decode import MOST_PIXELS
from farshot.images.identity import content_id
from farshot.images.likeness import thumbnails
from farshot.images.member import Member
from farshot.images.reading import UnreadableImage, image_id, read_image
from farshot.storage.atomic import replaced
from farshot.storage.json_text import read_object

Progress = Callable[[int, int], None]

_THREADS = 4
_CHUNK = 64
_MOST_BYTES = 2 << 30  # a million images, with their thumbnails
_SAVE_EVERY_S = 10.0
_TURNED = range(5, 9)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class IndexEntry:
    """Index entry of one file.

    Attributes:
        bytes: size of the file.
        changed: its time of change (ns).
        hash: of the file's bytes.
        width: of the upright picture in pixels.
        height: of the upright picture in pixels.
        content: identity of the picture (farshot.images.identity), so that copies are found; the hash where
            the picture cannot be decoded; empty in an index of an earlier version.
        thumbnail: its grey copy of 32 x 32 (farshot.images.likeness) in base64, so that near copies are
            found; empty where a pool does not compare them.
    """

    bytes: int
    changed: int
    hash: str
    width: int
    height: int
    content: str = ""
    thumbnail: str = ""


def read_index(pool: Pool, folder: Path, progress: Progress | None) -> list[IndexEntry]:
    """Hash, shape and picture of every image; files that have not changed come from the index on disk.

    All others are decoded.
    """
    path = folder / "index.json"
    known: dict[str, IndexEntry] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = {name: _entry(values) for name, values in read_object(path, _MOST_BYTES).items()}
    found: dict[str, IndexEntry] = {}
    saved = time.monotonic()

    def look(row: int) -> tuple[str, IndexEntry]:
        image = pool.table.images[row]
        file = image if isinstance(image, Member) else Path(str(image))
        try:
            status = (file.file if isinstance(file, Member) else file).stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); check the pool's folder.") from error
        old = known.get(pool.ids[row])
        if old is None or (old.bytes, old.changed) != (status.st_size, status.st_mtime_ns):
            width, height = _upright_size(file)
            old = IndexEntry(status.st_size, status.st_mtime_ns, image_id(file), width, height)
        if not old.content:
            old = replace(old, content=_content(file, old.hash))
        if pool.near and not old.thumbnail:
            old = replace(old, thumbnail=base64.b64encode(thumbnails([file])[0].tobytes()).decode())
        return pool.ids[row], old

    with ThreadPoolExecutor(_THREADS) as threads:
        for done, (name, entry) in enumerate(threads.map(look, range(len(pool.table))), start=1):
            found[name] = entry
            if progress and done % _CHUNK == 0:
                progress(done, len(pool.table))
            if time.monotonic() - saved > _SAVE_EVERY_S and os.access(folder, os.W_OK):
                _save(path, known | found)
                saved = time.monotonic()
    if found != known and (os.access(folder, os.W_OK) or not path.exists()):
        _save(path, found)
    return [found[name] for name in pool.ids]


def _entry(values: list[Any]) -> IndexEntry:
    """What `_save` wrote of an image.

    Raises:
        TypeError, ValueError: something else.
    """
    entry = IndexEntry(*values)
    for value, kind in zip(values, (int, int, str, int, int, str, str), strict=False):
        if type(value) is not kind:
            raise TypeError(f"{value!r} is not {kind.__name__}")
    if not 0 < entry.width * entry.height <= MOST_PIXELS:
        raise ValueError("no such picture")
    return entry


def _save(path: Path, entries: dict[str, IndexEntry]) -> None:
    lists = {name: astuple(entry) for name, entry in entries.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as staging:
            staging.write_text(json.dumps(lists), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.parent, error) from error


def _content(file: Path | Member, hash: str) -> str:
    """Identity of a file's picture. A file that cannot be decoded is reported by the task that draws it."""
    try:
        return content_id(file)
    except UnreadableImage:
        return hash


def _upright_size(file: Path | Member) -> tuple[int, int]:
    """(width, height) as an upright picture has them, from the file's header."""
    try:
        with Image.open(io.BytesIO(file.read()) if isinstance(file, Member) else file) as image:
            width, height = image.size
            turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _TURNED  # TIFF: already
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return read_image(file).size  # says what is wrong with it
    return (height, width) if turned else (width, height)


def cannot_write(folder: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    return DataError(
        f"The cache {folder} cannot be written ({error.strerror}); free space, or choose another --cache."
    )

"""The pool cache: each image is decoded once, and its pixels are kept in one memory-mapped uint8 file per
reading.

In <cache>/<pool>-<hash of its folder>/ lie:

    index.json                 hash, shape and picture of every image, by path, size and time
    squash-224-<layout>.u8     pixels, one slot per image, in the order of hashes
    squash-224-<layout>.crc    four bytes per slot: a checksum of its pixels, 0 where they are not there

A slot is found by (image hash, reading), so a table's order does not matter. Slots are written before their
checksum, and by nobody else with other content: a process may be killed, and several may fill one file. What
does not fit its checksum, as in a file that was cut short, is decoded again. A cache that cannot be written
is read; images that it lacks are decoded and not kept.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from farshot.arrays import NDArray
from farshot.data.index import Progress, cannot_write, read_index
from farshot.data.pool import Pool
from farshot.data.table import Decoded, ImageTable
from farshot.errors import DataError
from farshot.images.likeness import remember
from farshot.images.options import ReadOptions
from farshot.images.preprocess import READINGS, is_reading, reduced_size
from farshot.storage.atomic import check_writable
from farshot.storage.paths import default_cache, home

_CHUNK = 64
_RULE = 2  # raised when `farshot.images.decode` reads images in another way, so that old files are not used
_LOCK = threading.Lock()


def cached(
    pool: Pool,
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    keep_features: bool = False,
) -> Pool:
    """Return the pool with a table that reads through the cache; generated pools are returned unchanged.

    Every file is hashed the first time, and again when its size or time has changed.

    Args:
        keep_features: keep the features that methods compute from these images in the cache, too.

    Raises:
        DataError: a file that is no image, or a cache that cannot be written.
    """
    if pool.root is None:
        return pool
    folder = _folder(pool.name, pool.root, cache)
    if not (folder / "index.json").is_file():  # one that is there may be complete
        check_writable(folder, "choose another --cache", "index.json")  # before minutes of reading
    entries = read_index(pool, folder, progress)
    shapes = {entry.hash: (entry.width, entry.height) for entry in entries}
    table = pool.table
    ids = {row: entry.hash for row, entry in enumerate(entries)}
    pixels = PixelCache(folder, shapes)
    contents = {row: entry.content for row, entry in enumerate(entries)}
    for image, entry in zip(table.images, entries, strict=True):
        if entry.thumbnail and isinstance(image, str | Path):
            remember(image, base64.b64decode(entry.thumbnail), table.options)
    read_through = CachedTable(
        *(table.images, table.labels, table.classes, table.names),
        *(table.splits, table.groups, table.notes),
        _ids=ids,
        _contents=contents,
        cache=pixels,
        keep_features=keep_features,
        options=table.options,
        _decoded=Decoded(0),  # the cache keeps them
    )
    return replace(pool, table=read_through)


def is_looked_over(pool: Pool, cache: Path | None = None) -> bool:
    """Whether `cached` has looked over this pool before; generated pools need no look."""
    return pool.root is None or (_folder(pool.name, pool.root, cache) / "index.json").is_file()


def _folder(name: str, root: Path, cache: Path | None) -> Path:
    digest = hashlib.sha256(str(root.absolute()).encode(errors="surrogateescape")).hexdigest()[:8]
    return home(cache or default_cache()) / f"{name}-{digest}"


def prepare(
    pool: Pool,
    readings: Iterable[str],
    size: int,
    progress: Progress | None = None,
    rows: Iterable[int] | None = None,
) -> tuple[int, int]:
    """Decode the images that are not in the cache yet. May be interrupted. Return (images decoded now,
    bytes of all files).

    Args:
        pool: as `cached` gives it.
        size: side R of the model's input in pixels.
        rows: of the images; by default all.
    """
    table = pool.table
    chosen = list(range(len(table)) if rows is None else rows)
    if not isinstance(table, CachedTable) or table.cache is None:
        why = "are read where they lie within other files" if pool.revision is None else "are generated"
        raise DataError(f"The images of the pool {pool.name} {why}; there is nothing to prepare.")
    plan = []
    total = 0
    for reading in readings:
        if not is_reading(reading):
            raise DataError(f"There is no reading {reading!r}; choose of {', '.join(READINGS)}.")
        slots = table.cache.slots(reading, size)
        total += slots.bytes
        plan += [(reading, row) for row in chosen if not slots.has(table.id(row))]
    for start in range(0, len(plan), _CHUNK):
        chunk = plan[start : start + _CHUNK]
        for reading in dict.fromkeys(reading for reading, _ in chunk):
            table.pixels([row for r, row in chunk if r == reading], reading, size)
        if progress:
            progress(min(start + _CHUNK, len(plan)), len(plan))
    return len(plan), total


class PixelCache:
    """Pixels of a set of images on disk.

    Args:
        folder: of the files.
        shapes: upright (width, height) of the original of every image, by hash.
    """

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, int]]) -> None:
        self.folder, self._shapes = folder, dict(sorted(shapes.items()))
        self._open: dict[tuple[str, int], Slots] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder and shapes; the other process maps the files again."""
        return PixelCache, (self.folder.absolute(), self._shapes)

    def slots(self, reading: str, size: int) -> Slots:
        """The file of one reading."""
        if (reading, size) not in self._open:
            shapes = {key: _prepared_shape(reading, size, *shape) for key, shape in self._shapes.items()}
            self._open[reading, size] = Slots(self.folder, f"{reading}-{size}", shapes)
        return self._open[reading, size]


class Slots:
    """One file of pixels: a slot (h, w, 3) for every image.

    Args:
        shapes: (h, w) by image hash, sorted by it.
    """

    def __init__(self, folder: Path, name: str, shapes: dict[str, tuple[int, int]]) -> None:
        layout = hashlib.sha256(json.dumps([_RULE, *shapes.items()]).encode()).hexdigest()[:12]
        self.shapes, self._number = shapes, {key: i for i, key in enumerate(shapes)}
        ends = np.cumsum([3 * h * w for h, w in shapes.values()], dtype=np.int64)
        self.bytes = int(ends[-1]) if len(ends) else 0
        self._starts = np.concatenate([[0], ends])[:-1]
        self._path, self._sums_path = folder / f"{name}-{layout}.u8", folder / f"{name}-{layout}.crc"
        self._checked: set[str] = set()  # by this process
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened = [_grown(path, size, path == self._sums_path) for path, size in self._files()]
        except OSError as error:
            raise cannot_write(folder, error) from error
        (self._file, self._flags), writable = zip(*opened, strict=True)
        self._writable = all(writable)
        self._pixels = np.memmap(self._path, np.uint8, "r") if self.bytes else np.zeros(0, np.uint8)
        self._sums = np.memmap(self._sums_path, "<u4", "r") if shapes else np.zeros(0, np.uint32)

    def _files(self) -> list[tuple[Path, int]]:
        return [(self._path, self.bytes), (self._sums_path, 4 * len(self.shapes))]

    def __del__(self) -> None:
        for handle in (getattr(self, "_file", None), getattr(self, "_flags", None)):
            if handle is not None:
                with contextlib.suppress(OSError):
                    os.close(handle)

    def has(self, key: str) -> bool:
        """Whether the pixels of this image are in the file, and are those that were written."""
        wanted = int(self._sums[self._number[key]])
        if wanted and key not in self._checked and _checksum(self.read(key)) == wanted:
            self._checked.add(key)
        return wanted != 0 and key in self._checked

    def read(self, key: str) -> NDArray[np.uint8]:
        """Return a view of the pixels of an image in the file, (h, w, 3)."""
        start, (h, w) = int(self._starts[self._number[key]]), self.shapes[key]
        return self._pixels[start : start + 3 * h * w].reshape(h, w, 3)

    def write(self, images: dict[str, NDArray[np.uint8]]) -> None:
        """Add images; nothing where the cache cannot be written. A full disk raises an error here; with a
        writable memory map it would end the process."""
        if not self._writable:
            return
        try:
            for key, pixels in images.items():
                assert pixels.shape == (*self.shapes[key], 3), (key, pixels.shape, self.shapes[key])
                _write_all(self._file, pixels.tobytes(), int(self._starts[self._number[key]]))
            os.fsync(self._file)  # the pixels are on disk before anything says so
            for key, pixels in images.items():
                _write_all(self._flags, struct.pack("<I", _checksum(pixels)), 4 * self._number[key])
        except OSError as error:
            raise cannot_write(self._path.parent, error) from error


@dataclass(frozen=True, eq=False)
class CachedTable(ImageTable):
    """A table whose images are decoded once: `pixels` reads through a cache.

    Attributes:
        cache: where the pixels are kept.
        keep_features: keep features in the same folder.
    """

    cache: PixelCache | None = field(default=None, repr=False)
    keep_features: bool = False

    @property
    def features_folder(self) -> Path | None:
        """The cache's folder, if features are kept."""
        if self.cache is None or not self.keep_features or self.options != ReadOptions():
            return None
        return self.cache.folder

    def pixels(
        self, rows: Sequence[int] | NDArray[np.int64], reading: str, size: int
    ) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """As `ImageTable.pixels`; images that are not in the cache are decoded and added to it."""
        if self.cache is None or self.options != ReadOptions():
            return super().pixels(rows, reading, size)
        slots = self.cache.slots(reading, size)
        keys = [self.id(int(row)) for row in rows]
        missing = {key: int(row) for key, row in zip(keys, rows, strict=True) if not slots.has(key)}
        new: dict[str, NDArray[np.uint8]] = {}
        if missing:
            decoded = super().pixels(list(missing.values()), reading, size)
            new = dict(zip(missing, decoded, strict=True))
            slots.write(new)
        found = [new[key] if key in new else slots.read(key) for key in keys]
        if reading == "reduced":
            return found
        return np.stack(found) if found else np.zeros((0, size, size, 3), dtype=np.uint8)


def _prepared_shape(reading: str, size: int, width: int, height: int) -> tuple[int, int]:
    """(h, w) of a prepared image, as farshot.images.preprocess makes it."""
    if reading != "reduced":
        return size, size
    w, h = reduced_size(width, height, size)
    return h, w


def _checksum(pixels: NDArray[np.uint8]) -> int:
    """Never 0."""
    return zlib.crc32(np.ascontiguousarray(pixels).data) or 1


def _grown(path: Path, size: int, allocated: bool) -> tuple[int, bool]:
    """Open a file and extend it to this size with zeros; returns its handle, and whether it can be written.
    One that is complete and cannot be written is opened for reading.

    Args:
        allocated: take the room on the disk now. To read a hole of a memory map on a full file system in
            memory ends the process.
    """
    binary = getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | binary, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not path.is_file():
            raise
        handle = os.open(path, os.O_RDONLY | binary)
        if os.fstat(handle).st_size < size:
            os.close(handle)
            raise
        return handle, False
    missing = size - os.fstat(handle).st_size
    if missing > 0 and allocated:
        _write_all(handle, bytes(missing), size - missing)
    elif missing > 0:
        os.ftruncate(handle, size)
    return handle, True


def _write_all(handle: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = _write_at(handle, view, at)
        view, at = view[written:], at + written


def _write_at(handle: int, data: memoryview, at: int) -> int:
    """os.pwrite, which Windows does not have."""
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, data, at)
    with _LOCK:  # threads share the place in the file; other processes have their own
        os.lseek(handle, at, os.SEEK_SET)
        return os.write(handle, data)

"""Frozen image features, each image encoded once: a bounded cache in memory, and optionally one on disk.

Methods on frozen features and `pick` use the same images many times. The cache in memory is keyed by encoder,
image content and reading, drops what was not used for longest, and is safe to use from several threads. The
one on disk is next to a pool's decoded images and is used by tables that name its folder
(`farshot bench --keep-features`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.model.encoder import Encoder

Progress = Callable[[int, int], None]
Key = tuple[int, str, str]

_SHARE_OF_MEMORY = 1 / 32
_BATCH, _BATCH_ON_CPU = 64, 32  # on a CPU larger activations cost more page faults than they save
_RULE = 1  # raised when the forward pass or the reading of images changes features
_AT_ONCE = 500  # images of a query; SQLite takes 999 values
_WAIT_S = 60.0  # for other processes that write


def memory_of_machine() -> int:
    """Bytes of memory that the machine has in all; 8 GiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 << 30


class FeatureCache:
    """Features by key, the oldest dropped beyond a limit.

    Args:
        limit: most bytes kept; by default 1/32 of the machine's memory.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = int(memory_of_machine() * _SHARE_OF_MEMORY) if limit is None else limit
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Tensor | None:
        """The feature of this key, now the newest; None where it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Key, value: Tensor) -> None:
        """Keeps a feature and drops the oldest beyond the limit."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._bytes += _size(value)
            while self._bytes > self.limit and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= _size(dropped)


SHARED = FeatureCache()
"""The cache of this process."""

_IN_USE: ContextVar[FeatureCache] = ContextVar("in_use", default=SHARED)


@contextmanager
def use_cache(cache: FeatureCache) -> Iterator[None]:
    """Keep features in this cache instead of that of the process, in this thread."""
    before = _IN_USE.set(cache)
    try:
        yield
    finally:
        _IN_USE.reset(before)


class FeatureFile:
    """Features on disk: an SQLite file per encoder, precision and reading, which several processes may use.

    A feature that does not match its checksum counts as missing. The precision is part of the name because
    features of bf16 weights differ; the device is not, because it changes the last bits only.
    """

    def __init__(self, folder: Path, encoder: Encoder, reading: str) -> None:
        self._length = encoder.embed_dim
        words = json.dumps([_RULE, encoder.fingerprint, encoder.size, encoder.precision, reading])
        self.path = folder / f"features-{hashlib.sha256(words.encode()).hexdigest()[:16]}.db"

    def read(self, images: Sequence[str]) -> dict[str, Tensor]:
        """The features of those images that have some.

        Raises:
            DataError: the file is damaged.
        """
        found: dict[str, Tensor] = {}
        if not self.path.exists() or not self.path.stat().st_size:  # a process may have just created it
            return found
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as file:
                for start in range(0, len(images), _AT_ONCE):
                    part = list(images[start : start + _AT_ONCE])
                    marks = ",".join("?" * len(part))
                    query = f"SELECT image, feature, checksum FROM features WHERE image IN ({marks})"
                    for image, data, checksum in file.execute(query, part):
                        if len(data) == 4 * self._length and zlib.crc32(data) == checksum:
                            found[image] = torch.from_numpy(np.frombuffer(data, "<f4").copy())
        except sqlite3.Error as error:
            if "no such table" in str(error):  # created by another process that has not yet written to it
                return {}
            raise DataError(
                f"The features in {self.path} cannot be read ({error}); remove the file, and they are "
                "computed again."
            ) from error
        return found

    def write(self, features: Mapping[str, Tensor]) -> None:
        """Add features; the same ones may be added by several processes.

        Raises:
            DataError: the file cannot be written.
        """
        rows = []
        for image, feature in features.items():
            data = feature.numpy().astype("<f4").tobytes()
            rows.append((image, data, zlib.crc32(data)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as file, file:
                file.execute(
                    "CREATE TABLE IF NOT EXISTS features (image TEXT PRIMARY KEY, feature BLOB, checksum INT)"
                )
                file.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"The features in {self.path} cannot be written ({error}); free some space, remove the file, "
                "or leave out --keep-features."
            ) from error


@torch.no_grad()
def image_features(
    encoder: Encoder,
    table: ImageTable,
    rows: Sequence[int] | NDArray[np.int64],
    reading: str = "model",
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "B E"]:
    """Embeddings of these rows without any part, of length 1, float32 on the CPU.

    Args:
        reading: how images are resized (farshot.images.preprocess), or "model" for how the encoder's own
            program does.
        cache: by default that of `use_cache`, else the one of this process.
        progress: called with (rows done, in all).
    """
    cache, reading = _IN_USE.get() if cache is None else cache, encoder.reading(reading)
    found: dict[int, Tensor] = {}
    waiting: dict[str, list[int]] = {}  # image -> places in the result
    for place, row in enumerate(rows):
        image = table.id(int(row))
        known = cache.get(_key(encoder, image, reading))
        if known is not None:
            found[place] = known
        else:
            waiting.setdefault(image, []).append(place)
    kept_on_disk = None
    if table.features_folder is not None and waiting:
        kept_on_disk = FeatureFile(table.features_folder, encoder, reading)
        for image, feature in kept_on_disk.read(list(waiting)).items():
            cache.put(_key(encoder, image, reading), feature)
            found.update(dict.fromkeys(waiting.pop(image), feature))
    images = list(waiting)
    size = images_at_once(encoder)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        pixels = table.pixels([int(rows[waiting[image][0]]) for image in part], reading, encoder.size)
        embedded = encoder.forward_images(torch.from_numpy(np.asarray(pixels))[None])[0]
        unit = F.normalize(embedded, dim=-1).cpu()
        # clones, since a view keeps the whole batch
        new = {image: feature.clone() for image, feature in zip(part, unit, strict=True)}
        for image, feature in new.items():
            cache.put(_key(encoder, image, reading), feature)
            found.update(dict.fromkeys(waiting[image], feature))
        if kept_on_disk is not None:
            kept_on_disk.write(new)
        if progress:
            progress(len(found), len(rows))
    if not found:
        return torch.zeros(0, encoder.embed_dim)
    return torch.stack([found[place] for place in range(len(found))])


def images_at_once(encoder: Encoder) -> int:
    """Most images in one forward pass without gradients."""
    return _BATCH_ON_CPU if encoder.device.type == "cpu" else _BATCH


def _key(encoder: Encoder, image: str, reading: str) -> Key:
    return encoder.serial, image, reading


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size() + 200  # and what Python keeps of a key and a tensor

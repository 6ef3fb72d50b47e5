"""Frozen image features, each image encoded once: a cache with a bound on its memory.

Methods on frozen features, `pick` and the decisions ask for the same images again and again. The cache is
keyed by encoder, image content and reading, drops what was not used for longest, and is safe to use from
several threads.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder

Progress = Callable[[int, int], None]
Key = tuple[int, str, str]

_SHARE_OF_MEMORY = 1 / 32
_BATCH = 64


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


@torch.no_grad()
def image_features(
    encoder: Encoder,
    table: ImageTable,
    rows: Sequence[int] | NDArray[np.int64],
    reading: str = "squash",
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "B E"]:
    """Embeddings of these rows without any part, of length 1, float32 on the CPU.

    Args:
        reading: how images are resized (farshot.images.preprocess).
        cache: by default the one of this process.
        progress: called with (rows done, in all).
    """
    cache = SHARED if cache is None else cache
    found: dict[int, Tensor] = {}
    waiting: dict[str, list[int]] = {}  # image -> places in the result
    for place, row in enumerate(rows):
        image = table.id(int(row))
        known = cache.get(_key(encoder, image, reading))
        if known is not None:
            found[place] = known
        else:
            waiting.setdefault(image, []).append(place)
    images = list(waiting)
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        pixels = table.pixels([int(rows[waiting[image][0]]) for image in part], reading, encoder.size)
        embedded = encoder.forward_images(torch.from_numpy(np.asarray(pixels))[None])[0]
        for image, feature in zip(part, F.normalize(embedded, dim=-1).cpu(), strict=True):
            kept = feature.clone()  # not a view that keeps its whole batch
            cache.put(_key(encoder, image, reading), kept)
            found.update(dict.fromkeys(waiting[image], kept))
        if progress:
            progress(len(found), len(rows))
    if not found:
        return torch.zeros(0, encoder.embed_dim)
    return torch.stack([found[place] for place in range(len(found))])


def _key(encoder: Encoder, image: str, reading: str) -> Key:
    return encoder.serial, image, reading


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size() + 200  # and what Python keeps of a key and a tensor

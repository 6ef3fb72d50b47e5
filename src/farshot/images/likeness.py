"""Near copies: one picture in several files that differ in size, compression, brightness, or are mirrored
or turned by 90 degrees.

Candidates agree in all but a few bits of a perceptual hash (pHash: Zauner, 2010); they are confirmed by the
correlation of small grey thumbnails. Unlike features, this depends on no encoder. Crops are not found.
Limits and misses were measured in docs/check.md. Shapes: B and C images.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from farshot.arrays import NDArray
from farshot.images.identity import Place, place_of
from farshot.images.member import Named
from farshot.images.options import ReadOptions
from farshot.images.reading import ImageSource, UnreadableImage, read_picture

SIDE = 32
_BITS, _BITS_APART = 64, 8
_CORRELATION = 0.9
_COSINES = np.cos(np.pi / SIDE * np.outer(np.arange(8), np.arange(SIDE) + 0.5)).astype(np.float32)
"""The 8 lowest frequencies of the discrete cosine transform."""
_COMPARED_AT_ONCE = 1 << 22  # pairs of pictures
_MOST_KNOWN = 1_000_000
_THREADS = 4

_known: dict[Place, UInt8[NDArray[np.uint8], "32 32"]] = {}


def thumbnails(
    sources: list[ImageSource], options: ReadOptions | None = None
) -> UInt8[NDArray[np.uint8], "B 32 32"]:
    """Each picture in grey, resized to 32 x 32; zero for an image that cannot be read, which is like no
    other.

    A file is decoded once per process, and again when it changes.
    """
    if not sources:
        return np.zeros((0, SIDE, SIDE), dtype=np.uint8)
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.stack(list(pool.map(lambda source: _thumbnail(source, options), sources)))


def remember(source: str | Path, grey: bytes, options: ReadOptions | None = None) -> None:
    """Keep the thumbnail of a file, 1,024 grey values that an index has stored, so that it is not decoded
    again."""
    place = place_of(source, options)
    if place is not None and len(grey) == SIDE * SIDE and len(_known) < _MOST_KNOWN:
        _known[place] = np.frombuffer(grey, dtype=np.uint8).reshape(SIDE, SIDE)


def remember_picture(source: ImageSource, picture: Image.Image, options: ReadOptions | None = None) -> None:
    """Keep the thumbnail of a file that is decoded already, in full or smaller."""
    place = place_of(source, options) if isinstance(source, Named) else None
    if place is not None and place not in _known:
        _keep(place, _small(picture))


def near_pairs(
    a: UInt8[NDArray[np.uint8], "B 32 32"], b: UInt8[NDArray[np.uint8], "C 32 32"] | None = None
) -> Int[NDArray[np.int64], "pairs 2"]:
    """Numbers of the images of `a` and of `b` that are near copies; without `b`, pairs i < j within `a`."""
    found = list(near_parts(a, b))
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), dtype=np.int64)


def near_parts(
    a: UInt8[NDArray[np.uint8], "B 32 32"], b: UInt8[NDArray[np.uint8], "C 32 32"] | None = None
) -> Iterator[Int[NDArray[np.int64], "pairs 2"]]:
    """The same part by part, so that memory is bounded; a pair may be in several parts."""
    alone = b is None
    b = a if b is None else b
    bits_a, grey_a = hashes(a), _centred(a)
    step = max(1, _COMPARED_AT_ONCE // max(1, len(b)))
    for turned in _symmetries(b):
        bits_b, grey_b = hashes(turned), _centred(turned)
        for start in range(0, len(a), step):
            rows = slice(start, start + step)
            close = (_BITS - bits_a[rows] @ bits_b.T) / 2 <= _BITS_APART
            if alone:
                close = np.triu(close, start + 1)
            of_a, of_b = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
            like = grey_a[rows][of_a] @ grey_b[of_b].T >= _CORRELATION
            i, j = np.nonzero(close[np.ix_(of_a, of_b)] & like)
            yield np.stack([start + of_a[i], of_b[j]], axis=1)


def _thumbnail(source: ImageSource, options: ReadOptions | None) -> UInt8[NDArray[np.uint8], "32 32"]:
    place = place_of(source, options) if isinstance(source, Named) else None
    if place is not None and place in _known:
        return _known[place]
    try:
        picture = read_picture(source, options, wanted=SIDE).image
    except UnreadableImage:
        return np.zeros((SIDE, SIDE), dtype=np.uint8)
    small = _small(picture)
    if place is not None:
        _keep(place, small)
    return small


def _small(picture: Image.Image) -> UInt8[NDArray[np.uint8], "32 32"]:
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _keep(place: Place, small: UInt8[NDArray[np.uint8], "32 32"]) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[place] = small


def hashes(grey: UInt8[NDArray[np.uint8], "B 32 32"]) -> Float[NDArray[np.float32], "B 64"]:
    """Perceptual hashes, each bit as -1 or 1, so that a product of two counts how many bits agree: whether
    each of the 8 x 8 lowest frequencies is above their median."""
    low = (_COSINES @ grey.astype(np.float32) @ _COSINES.T).reshape(len(grey), _BITS)
    return np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32)


def _centred(grey: UInt8[NDArray[np.uint8], "B 32 32"]) -> Float[NDArray[np.float32], "B 1024"]:
    """Grey values minus their mean, of length 1; zero for a picture of one colour."""
    flat = grey.reshape(len(grey), SIDE * SIDE).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _symmetries(
    grey: UInt8[NDArray[np.uint8], "B 32 32"],
) -> list[UInt8[NDArray[np.uint8], "B 32 32"]]:
    """As they are, mirrored, and both turned by 90, 180 and 270 degrees."""
    turned = [np.rot90(grey, quarter, axes=(1, 2)) for quarter in range(4)]
    return [np.ascontiguousarray(one) for way in turned for one in (way, way[:, :, ::-1])]

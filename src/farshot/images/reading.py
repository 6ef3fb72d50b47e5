"""Read a file, a PIL image or an array as an RGB picture by the rule of `farshot.images.decode`.

Refused, each with its name: truncated, empty, no image, over 100 megapixels, in tiles far larger than the
picture, TIFFs with more than three bands of which none is named.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from farshot.arrays import NDArray
from farshot.errors import DataError
from farshot.images.decode import (
    MOST_PIXELS,
    Picture,
    check_size,
    decode,
    failing,
    is_deep,
    opened,
    too_large,
    without_png_text,
)
from farshot.images.depth import scaled
from farshot.images.faults import Unreadable
from farshot.images.member import Member, Named
from farshot.images.opened import file_of
from farshot.images.options import ReadOptions
from farshot.images.orientation import turn_of

ImageSource = Named | bytes | Image.Image | NDArray[np.generic]
"""A path, an image within a file, the bytes of an image file, a PIL image, or an array (H, W), (H, W, 1),
(H, W, 3) or (H, W, 4): uint8, uint16, or floats in [0, 1]."""


class UnreadableImage(DataError):
    """An image that cannot be used.

    Attributes:
        name: its path, or "an array", "a PIL image", "an image in memory".
        reason: what is wrong and the way out.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Header:
    """The header of an image file; nothing is decoded.

    Attributes:
        format: as Pillow calls it; the file name does not matter.
        width: in pixels, before EXIF turns it.
        height: in pixels.
    """

    format: str
    width: int
    height: int


def read_image(
    source: ImageSource, *, formats: tuple[str, ...] | None = None, options: ReadOptions | None = None
) -> Image.Image:
    """Read an image as upright RGB.

    Args:
        formats: the formats that are tried, as Pillow calls them; by default those of
            farshot.images.costs. Code of the others never sees the bytes.
        options: range and bands, for pictures of many bits or bands.

    Raises:
        UnreadableImage: one sentence with the path and the way out.
    """
    return read_picture(source, options, formats=formats).image


def read_picture(
    source: ImageSource,
    options: ReadOptions | None = None,
    *,
    wanted: int | None = None,
    formats: tuple[str, ...] | None = None,
) -> Picture:
    """Read an image as `read_image` does; returns it with its size and notes on what was left out or
    stretched.

    Args:
        wanted: shorter side in pixels that is needed; a large JPEG may come smaller than it is, but at least
            twice as large as this. By default whole.

    Raises:
        UnreadableImage: as `read_image`.
    """
    name, options = source_name(source), options or ReadOptions()
    if not isinstance(source, np.ndarray | Named | bytes | Image.Image):
        raise UnreadableImage(name, "this is not an image; give a path, a PIL image or an array.")
    with _named(name), _quiet, _alone(source):
        if isinstance(source, Member):
            source = _bytes_of(source)
        if isinstance(source, np.ndarray):
            image, notes = _from_array(source, options)
            picture = decode(image, ReadOptions(bands=options.bands), most_pixels=MOST_PIXELS)
            return replace(picture, notes=notes)
        return decode(source, options, wanted=wanted, formats=formats, most_pixels=MOST_PIXELS)


def read_header(
    source: str | Path | bytes, *, formats: tuple[str, ...] | None = None, most_pixels: int | None = None
) -> Header:
    """Format and size, from the first bytes alone: whether decoding would be affordable.

    Args:
        formats: as in `read_image`.
        most_pixels: more are refused; by default what `read_image` refuses.

    Raises:
        UnreadableImage: as in `read_image`, except for what only decoding can show.
    """
    most = MOST_PIXELS if most_pixels is None else most_pixels

    def read(data: str | Path | bytes) -> Header:
        with failing(data, most), opened(data, formats) as image:
            check_size(image, most)
            return Header(image.format or "", image.width, image.height)

    with _named(source_name(source)), _quiet:
        try:
            return read(source)
        except Unreadable as error:
            if (bare := without_png_text(source, error)) is None:
                raise
            return read(bare)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Add the name of the image to an error."""
    try:
        yield
    except Unreadable as error:
        raise UnreadableImage(name, error.reason) from error.__cause__


def _bytes_of(member: Member) -> bytes:
    try:
        return member.read()
    except DataError as error:
        raise Unreadable(str(error)) from error
    except OSError as error:
        raise Unreadable(f"{member.file} cannot be read ({error.strerror}); check the path.") from error


def source_name(source: object) -> str:
    """The name of an image in messages."""
    if isinstance(source, Named):
        return str(source)
    kinds = {np.ndarray: "an array", Image.Image: "a PIL image", bytes: "an image in memory"}
    return next(
        (name for kind, name in kinds.items() if isinstance(source, kind)),
        f"an object of type {type(source).__name__}",
    )


def image_id(source: ImageSource) -> str:
    """Content hash: of the file's bytes, or of an in-memory picture's pixels; 32 hexadecimal digits of
    SHA-256. An opened image that Pillow alone would read otherwise has that of its file until it is decoded.

    Options for reading are no part of it, so pixels of many bits are hashed as they are stored.
    Files with equal pixels may differ in it: `farshot.images.identity.content_id` compares pictures.
    """
    digest = hashlib.sha256()
    if isinstance(source, str | Path):
        try:
            with Path(source).open("rb") as file:  # in pieces, however large
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise UnreadableImage(str(source), f"cannot be read ({error.strerror}).") from error
    elif isinstance(source, bytes):
        digest.update(source)
    elif isinstance(source, Member):
        with _named(source.name):
            digest.update(_bytes_of(source))
    else:
        with _alone(source):
            if isinstance(source, Image.Image) and (whole := file_of(source)) is not None:
                return image_id(whole)
            shown = ""
            if isinstance(source, Image.Image):
                if is_deep(source):
                    shown = f"{source.info.get('transparency')}{turn_of(source)}"
                else:
                    source = _as_seen(source)
            pixels = np.ascontiguousarray(source if isinstance(source, np.ndarray) else _loaded(source))
            mode = source.mode if isinstance(source, Image.Image) else ""
        digest.update(f"{mode}{pixels.dtype}{pixels.shape}{shown}".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:32]


class _Quiet:
    """Suppress warnings while any thread reads an image.

    Threads that each use `warnings.catch_warnings` would put back each other's filters and leave warnings off
    for good; here the first to come saves them and the last to go puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._readers += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._saved.__exit__(None, None, None)


_quiet = _Quiet()


_LOCKS = tuple(threading.RLock() for _ in range(64))
"""Of PIL images, by their address: two seldom share one."""


def _alone(source: object) -> AbstractContextManager[object]:
    """Keep other threads from a PIL image: it decodes its file when it is first used, which two threads at
    once would both do, from one file."""
    return _LOCKS[id(source) // 16 % len(_LOCKS)] if isinstance(source, Image.Image) else nullcontext()


def _as_seen(image: Image.Image) -> Image.Image:
    """An image of 8 bits itself if its stored values determine the picture; otherwise as `read_image` reads
    it, since a palette, transparency or EXIF orientation change it."""
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info and turn_of(image) is None
    return image if plain else read_image(image)


def _loaded(image: Image.Image) -> NDArray[np.generic]:
    """The stored pixels; an opened image that cannot be decoded is refused as in `read_image`."""
    try:
        return np.asarray(image)
    except Exception:
        read_image(image)
        raise


def _from_array(array: NDArray[np.generic], options: ReadOptions) -> tuple[Image.Image, tuple[str, ...]]:
    if array.dtype.kind not in "buif":
        raise Unreadable(f"its type is {array.dtype}; give uint8, or floats in [0, 1].")
    pixels = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if pixels.size == 0 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)):
        raise Unreadable(f"its shape is {array.shape}; give (height, width) or (height, width, 3).")
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise Unreadable(too_large(f" {array.shape}", MOST_PIXELS))
    values, notes = _array_to_uint8(pixels, options)
    return Image.fromarray(values), notes


def _array_to_uint8(
    pixels: NDArray[np.generic], options: ReadOptions
) -> tuple[UInt8[NDArray[np.uint8], ...], tuple[str, ...]]:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8), ()
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255), ()
    sixteen = pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2  # of either byte order
    if pixels.ndim == 3 and pixels.shape[-1] == 4 and (sixteen or options.range is not None):
        colours, notes = scaled(pixels[..., :3], options, sixteen=True)
        alpha, _ = _array_to_uint8(pixels[..., 3:], ReadOptions())  # transparency has its own full range
        return np.concatenate([colours, alpha], axis=-1), notes
    if sixteen or options.range is not None:
        return scaled(pixels, options, sixteen=True)
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite.")
    low, high = float(values.min()), float(values.max())
    top = 1.0 if np.issubdtype(pixels.dtype, np.floating) else 255.0
    if low < 0 or high > top:
        raise Unreadable(
            f"its values run from {low:g} to {high:g}; give uint8, or floats in [0, 1], or a range."
        )
    return np.rint(values * (255.0 / top)).astype(np.uint8), ()

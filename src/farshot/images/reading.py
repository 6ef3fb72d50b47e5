"""From a file, a PIL image or an array to an RGB picture, whatever odd form it comes in; or a refusal that
says why.

Read right: EXIF-turned, CMYK, palette, transparency (over white), 16-bit (scaled), the first frame of an
animation, an extension that lies, one pixel. Refused, each with its name: truncated, empty, no image, over
100 megapixels, in tiles far larger than the picture.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from farshot.errors import DataError
from farshot.images.tiff import tile_pixels

MOST_PIXELS = 100_000_000
_LARGEST_TILE = (
    4096 * 4096
)  # of a TIFF; small pictures come in tiles larger than they are, but not by so much

ImageSource = str | Path | bytes | Image.Image | NDArray[np.generic]
"""A path, the bytes of an image file, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4):
uint8, uint16, or floats in [0, 1]."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by EXIF's orientation."""


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
    """What a file says of its picture; nothing of it is decoded.

    Attributes:
        format: as Pillow calls it, whatever the file is called.
        width: in pixels, before EXIF turns it.
        height: in pixels.
        in_python: it is decoded by code in Python, pixel by pixel and without bounds on memory: BMP packed by
            run lengths, PPM in plain text or of an odd depth.
    """

    format: str
    width: int
    height: int
    in_python: bool


def read_image(source: ImageSource, *, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The picture as RGB, upright.

    Args:
        formats: the formats that are tried, as Pillow calls them; by default all it knows. Code of the others
            never sees the bytes.

    Raises:
        UnreadableImage: one sentence with the path and the way out.
    """
    name = source_name(source)
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), name)
    if not isinstance(source, str | Path | bytes | Image.Image):
        raise UnreadableImage(name, "this is not an image; give a path, a PIL image or an array.")
    with _opened(source, name, formats, MOST_PIXELS) as image:
        _check_size(image, name, MOST_PIXELS)
        return _to_rgb(image, name)


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
    name = source_name(source)
    most = MOST_PIXELS if most_pixels is None else most_pixels
    with _opened(source, name, formats, most) as image:
        _check_size(image, name, most)
        in_python = any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))
        return Header(image.format or "", image.width, image.height, in_python)


@contextmanager
def _opened(
    source: str | Path | bytes | Image.Image, name: str, formats: tuple[str, ...] | None, most_pixels: int
) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever Pillow raises meanwhile becomes one sentence."""
    try:
        with _quiet:  # Pillow warns of odd metadata; the pixels are what counts
            if isinstance(source, Image.Image):
                yield source
                return
            if isinstance(source, str | Path):
                _check_file(Path(source))
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=formats) as image:
                yield image
    except UnreadableImage:
        raise
    except FileNotFoundError:
        raise UnreadableImage(name, "there is no such file; check the path.") from None
    except PermissionError:
        raise UnreadableImage(name, "no permission to read it; change its permissions.") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(name, _too_large("", most_pixels)) from None
    except UnidentifiedImageError:
        reason = "the file is empty" if _is_empty(source) else "this is not an image in a known format"
        raise UnreadableImage(name, f"{reason}; remove or replace it.") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableImage(name, f"it cannot be read ({error.strerror}); check the path.") from error
        reason = f"the image is truncated or damaged ({_first_line(error)})"
        raise UnreadableImage(name, f"{reason}; fetch or export it again.") from error


def source_name(source: object) -> str:
    """What to call an image in a message."""
    if isinstance(source, str | Path):
        return str(source)
    kinds = {np.ndarray: "an array", Image.Image: "a PIL image", bytes: "an image in memory"}
    return next(
        (name for kind, name in kinds.items() if isinstance(source, kind)),
        f"an object of type {type(source).__name__}",
    )


def image_id(source: ImageSource) -> str:
    """Content hash: of the file's bytes, or of an in-memory picture's pixels; 32 hexadecimal digits of
    SHA-256.

    Files with equal pixels may differ in it: `farshot.images.identity.content_id` compares pictures.
    """
    digest = hashlib.sha256()
    if isinstance(source, str | Path):
        try:
            digest.update(Path(source).read_bytes())
        except OSError as error:
            raise UnreadableImage(str(source), f"cannot be read ({error.strerror}).") from error
    elif isinstance(source, bytes):
        digest.update(source)
    else:
        if isinstance(source, Image.Image):
            source = _as_seen(source)
        pixels = np.ascontiguousarray(source if isinstance(source, np.ndarray) else _loaded(source))
        mode = source.mode if isinstance(source, Image.Image) else ""
        digest.update(f"{mode}{pixels.dtype}{pixels.shape}".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:32]


class _Quiet:
    """No warnings while any thread reads an image.

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


def _as_seen(image: Image.Image) -> Image.Image:
    """The image itself where its stored values alone say what it shows; else as `read_image` reads it: a
    palette, transparency, EXIF's orientation or the range of deep pixels change the picture."""
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info and _upright(image) is image
    return image if plain else read_image(image)


def _loaded(image: Image.Image) -> NDArray[np.generic]:
    """Pixels as they are stored; an image that was opened but cannot be decoded is refused as in
    `read_image`."""
    try:
        return np.asarray(image)
    except Exception:
        read_image(image)
        raise


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UnreadableImage(str(path), "this is a folder, not an image.")
    if path.exists() and not path.is_file():  # a pipe or device might never end
        raise UnreadableImage(str(path), "this is not an ordinary file; give an image file.")


def _is_empty(source: object) -> bool:
    if isinstance(source, bytes):
        return not source
    return isinstance(source, str | Path) and Path(source).stat().st_size == 0


def _check_size(image: Image.Image, name: str, most_pixels: int) -> None:
    """Size first: decoding is what costs memory."""
    if image.width * image.height > most_pixels:
        raise UnreadableImage(name, _too_large(f" ({image.width} x {image.height})", most_pixels))
    if image.width == 0 or image.height == 0:
        raise UnreadableImage(name, "the image has no pixels; remove or replace it.")
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    tile = tile_pixels(file) if file is not None and image.format == "TIFF" else 0
    if tile > max(_LARGEST_TILE, image.width * image.height):  # one tile is decoded whole, whatever shows
        size = f"{image.width} x {image.height}"
        raise UnreadableImage(
            name, f"its tiles of {tile:,} pixels are far larger than its {size}; export it without tiles."
        )


def _too_large(size: str, most_pixels: int) -> str:
    return f"the image{size} is over {most_pixels / 1_000_000:g} megapixels; scale it down first."


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        upright = _eight_bits(upright, name, sixteen=image.format in ("PNG", "PPM"))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        over = upright if upright.mode == "RGBA" else upright.convert("RGBA")  # a copy is a copy of memory
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; metadata that cannot be read says nothing."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata makes Pillow raise nearly anything; the pixels may be whole
        return image
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image, name: str, *, sixteen: bool) -> Image.Image:
    """Deep grey to 8 bits: integers over the range of 16 bits, floats over [0, 1], [0, 255] or that of 16
    bits, whichever is the first that holds them.

    Args:
        sixteen: the format says that the values have 16 bits, however small they are.
    """
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UnreadableImage(name, "it has values that are not finite; export it with 8 or 16 bits.")
    low, top = float(values.min()), float(values.max())
    if low < 0 or top > 65535:
        raise UnreadableImage(
            name, f"its values run from {low:g} to {top:g}, beyond 16 bits; export it with 8 or 16 bits."
        )
    if image.mode == "F" and top <= 1:
        scale = 255.0
    else:
        scale = 255.0 / 65535.0 if sixteen or image.mode.startswith("I;16") or top > 255 else 1.0
    scaled = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # doubles of a whole large picture would take a gigabyte
        scaled[row] = np.rint(line.astype(np.float64) * scale)
    return Image.fromarray(scaled)


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    name = source_name(array)
    if array.dtype.kind not in "buif":
        raise UnreadableImage(name, f"its type is {array.dtype}; give uint8, or floats in [0, 1].")
    pixels = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if pixels.size == 0 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)):
        raise UnreadableImage(
            name, f"its shape is {array.shape}; give (height, width) or (height, width, 3)."
        )
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise UnreadableImage(name, _too_large(f" {array.shape}", MOST_PIXELS))
    return Image.fromarray(_array_to_uint8(pixels, name))


def _array_to_uint8(pixels: NDArray[np.generic], name: str) -> UInt8[NDArray[np.uint8], ...]:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if pixels.dtype == np.uint16:
        return np.rint(pixels.astype(np.float64) * (255.0 / 65535.0)).astype(np.uint8)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImage(name, "it has values that are not finite.")
    low, high = float(values.min()), float(values.max())
    top = 1.0 if np.issubdtype(pixels.dtype, np.floating) else 255.0
    if low < 0 or high > top:
        raise UnreadableImage(
            name, f"its values run from {low:g} to {high:g}; give uint8, or floats in [0, 1]."
        )
    return np.rint(values * (255.0 / top)).astype(np.uint8)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]

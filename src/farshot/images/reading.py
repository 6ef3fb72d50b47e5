"""From a file, a PIL image or an array to an RGB picture, whatever odd form it comes in; or a refusal that
says why.

Read right: EXIF-turned, CMYK, palette, transparency (over white), 16-bit (scaled), the first frame of an
animation, an extension that lies, one pixel. Refused, each with its name: truncated, empty, no image, over
100 megapixels.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from farshot.errors import DataError

MOST_PIXELS = 100_000_000

ImageSource = str | Path | Image.Image | NDArray[np.generic]
"""A path, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, or floats in [0,
1]."""


class UnreadableImage(DataError):
    """An image that cannot be used.

    Attributes:
        name: its path, or "an array", "a PIL image".
        reason: what is wrong and the way out.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


def read_image(source: ImageSource) -> Image.Image:
    """The picture as RGB, upright.

    Raises:
        UnreadableImage: one sentence with the path and the way out.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source))
    if isinstance(source, Image.Image):
        _check_size(source, "a PIL image")
        return _to_rgb(source)
    path = Path(source)
    if path.is_dir():
        raise UnreadableImage(str(path), "this is a folder, not an image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels are what counts
            with Image.open(path) as image:
                _check_size(image, str(path))
                return _to_rgb(image)
    except FileNotFoundError:
        raise UnreadableImage(str(path), "there is no such file; check the path.") from None
    except PermissionError:
        raise UnreadableImage(str(path), "no permission to read it; change its permissions.") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(str(path), _too_large("")) from None
    except UnidentifiedImageError:
        reason = "the file is empty" if path.stat().st_size == 0 else "this is not an image in a known format"
        raise UnreadableImage(str(path), f"{reason}; remove or replace it.") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        reason = "the image is truncated or damaged"
        raise UnreadableImage(
            str(path), f"{reason} ({_first_line(error)}); fetch or export it again."
        ) from error


def image_id(source: ImageSource) -> str:
    """Content hash: of the file's bytes, or of an in-memory picture's pixels; 32 hexadecimal digits of
    SHA-256."""
    digest = hashlib.sha256()
    if isinstance(source, str | Path):
        try:
            digest.update(Path(source).read_bytes())
        except OSError as error:
            raise UnreadableImage(str(source), f"cannot be read ({error.strerror}).") from error
    else:
        pixels = np.ascontiguousarray(source if isinstance(source, np.ndarray) else np.asarray(source))
        mode = source.mode if isinstance(source, Image.Image) else ""
        digest.update(f"{mode}{pixels.dtype}{pixels.shape}".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:32]


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise UnreadableImage(name, _too_large(f" ({image.width} x {image.height})"))


def _too_large(size: str) -> str:
    return f"the image{size} is over {MOST_PIXELS // 1_000_000} megapixels; scale it down first."


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    turned = ImageOps.exif_transpose(image) or image
    if turned.mode.startswith("I;16") or turned.mode in ("I", "F"):
        turned = _eight_bits(turned)
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        over = turned.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return turned.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey to 8 bits: integers over the range of 16 bits, floats over [0, 1] where they fit in it."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImage("an image", "it has values that are not finite.")
    top = float(values.max(initial=0.0))
    if image.mode == "F":
        scale = 255.0 if top <= 1.0 else 1.0 if top <= 255.0 else 255.0 / 65535.0
    else:
        scale = 255.0 / 65535.0 if image.mode.startswith("I;16") or top > 255.0 else 1.0
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    name = "an array"
    pixels = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if pixels.size == 0 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)):
        raise UnreadableImage(
            name, f"its shape is {array.shape}; give (height, width) or (height, width, 3)."
        )
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise UnreadableImage(name, _too_large(f" {array.shape}"))
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

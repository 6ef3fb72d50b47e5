"""Decode an image file to an upright RGB picture of 8 bits, with a note if anything was left out or
stretched.

- EXIF's orientation is undone; CMYK, palettes and YCbCr become RGB; transparency lies over white.
- Of several pages or frames the first is read.
- Values of more than 8 bits are scaled from the range that holds them: floats from 0 to 1, otherwise the
  fewest of 8, 10, 12, 14 and 16 bits; negative values and values beyond 16 bits from the range of the file.
- Of a TIFF with more bands than its colours the colours are used; without named colours three bands must be
  chosen.
- JPEGs of over DRAFT_PIXELS are decoded at a half, a quarter or an eighth of their size, as long as that is
  at least twice the size that is wanted.

This file, `costs.py`, `kinds.py`, `tiff.py` and `preprocess.py` are copied unchanged into ONNX exports, so
that `predict.py` reads as farshot does: standard library, numpy and Pillow only.
"""

from __future__ import annotations

import io
import logging
import math
import os
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from .costs import MOST_BYTES, MOST_PIXELS, fault_of, most_pixels_of
from .costs import formats as known_formats
from .kinds import HEAD_BYTES, RAW, kind_of
from .tiff import MAGIC, Layout, read_bands, read_layout, tile_pixels

DRAFT_PIXELS = 4_000_000
"""Above the pictures of the published pools, so that their pixels do not change."""

_MOST_DRAFT_RATIO = 16  # of the sides: of a narrower picture a draft would be small
_LARGEST_TILE = (
    4096 * 4096
)  # of a TIFF; small pictures come in tiles larger than they are, but not by so much
_VALUES_AT_ONCE = 1 << 20
_DEPTHS = (8, 10, 12, 14, 16)
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
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
_SIDEWAYS = [_TURNS[turn] for turn in range(5, 9)]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are raised as well: no raw lines


class Unreadable(Exception):
    """A picture cannot be decoded; the message says why and what to do, and follows a name and a colon."""

    @property
    def reason(self) -> str:
        """The sentence."""
        return str(self.args[0])


@dataclass(frozen=True)
class ReadOptions:
    """How pictures of more than 8 bits or more than three bands are read; all others ignore it.

    Attributes:
        range: values that become black and white, for values of more than 8 bits or floating point; by
            default the range is inferred for each picture.
        bands: three bands that become red, green and blue, counted from 1, for TIFF files.

    Raises:
        ValueError: a range that is empty, or bands that are not three whole numbers from 1.
    """

    range: tuple[float, float] | None = None
    bands: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "range", _range(self.range))
        object.__setattr__(self, "bands", _bands(self.bands))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReadOptions:
        """Create from what `to_dict` returned; other keys are ignored."""
        return cls(_range(values.get("range")), _bands(values.get("bands")))

    def to_dict(self) -> dict[str, list[float] | list[int] | None]:
        """For JSON."""
        return {
            "range": None if self.range is None else list(self.range),
            "bands": None if self.bands is None else list(self.bands),
        }

    def words(self) -> list[str]:
        """The same as command-line options."""
        bounds = [] if self.range is None else ["--range", *map(_exactly, self.range)]
        return bounds if self.bands is None else [*bounds, "--bands", *map(str, self.bands)]


def _exactly(value: float) -> str:
    """The shortest text that represents the number exactly."""
    return str(int(value)) if value == int(value) else repr(float(value))


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, upright; smaller than the file's where a draft was enough.
        size: upright (width, height) of the file's picture.
        notes: what was left out or stretched, one sentence without a name each.
    """

    image: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def decode(
    source: str | Path | bytes | Image.Image,
    options: ReadOptions | None = None,
    *,
    wanted: int | None = None,
    formats: tuple[str, ...] | None = None,
    most_pixels: int = MOST_PIXELS,
) -> Picture:
    """Decode a file, its bytes or an opened image.

    Args:
        wanted: shorter side in pixels that is needed; large JPEGs may come smaller than they are, but at
            least twice as large as this. By default whole.
        formats: those that are tried, as Pillow calls them; by default those of costs.py.
        most_pixels: more are refused, of some formats fewer.

    Raises:
        Unreadable: one sentence.
    """
    options = options or ReadOptions()
    try:
        return _decode(source, options, wanted, formats, most_pixels)
    except Unreadable as error:
        bare = without_png_text(source, error)
        if bare is None:
            raise
        return _decode(bare, options, wanted, formats, most_pixels)


def _decode(
    source: str | Path | bytes | Image.Image,
    options: ReadOptions,
    wanted: int | None,
    formats: tuple[str, ...] | None,
    most_pixels: int,
) -> Picture:
    with failing(source, most_pixels):
        layout = _layout(source, formats)
        if layout is not None and layout.raw:
            raise Unreadable(f"this is {RAW[0]}; {RAW[1]}")
        if layout is not None and _needs_bands(layout, options):
            assert not isinstance(source, Image.Image)
            return _banded(source, layout, options, most_pixels)
        with opened(source, formats) as image:
            check_size(image, most_pixels)
            if (fault := fault_of(image, source)) is not None:
                raise Unreadable(fault)
            # before Pillow turns a TIFF; asking a PNG would decode it, and hide what is wrong with its pixels
            early = turn_of(image) if image.format == "TIFF" else None
            size = image.size
            if wanted is not None:
                _draft(image, wanted)
            notes = _frames(image, layout)
            with _quiet_stderr() if image.format == "TIFF" else nullcontext():
                image.load()
            turn = turn_of(image)
            size = size[::-1] if (early or turn) in _SIDEWAYS else size
            rgb, more = _rgb(image, options, source, layout)
            return Picture(rgb if turn is None else rgb.transpose(turn), size, (*notes, *more))


@contextmanager
def opened(
    source: str | Path | bytes | Image.Image, formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """The image, not decoded yet."""
    if isinstance(source, Image.Image):
        yield source
        return
    if isinstance(source, str | Path):
        _check_file(Path(source))
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=known_formats() if formats is None else formats) as image:
        yield image


@contextmanager
def failing(source: object, most_pixels: int = MOST_PIXELS) -> Iterator[None]:
    """Turn every exception of Pillow into `Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("there is no such file; check the path.") from None
    except PermissionError:
        raise Unreadable("no permission to read it; change its permissions.") from None
    except Image.DecompressionBombError:
        raise Unreadable(too_large("", most_pixels)) from None
    except UnidentifiedImageError:
        raise Unreadable(_unidentified(source)) from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(f"it cannot be read ({error.strerror}); check the path.") from error
        if (known := _kind(source)) is not None:  # a format that this Pillow knows but cannot read
            raise Unreadable(f"this is {known[0]}, which cannot be read here; {known[1]}") from error
        line = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Unreadable(f"the image is truncated or damaged ({line}); fetch or export it again.") from error


def check_size(image: Image.Image, most_pixels: int) -> None:
    """Refuse images that would take too much memory to decode."""
    most_pixels = most_pixels_of(image.format, most_pixels)
    if image.width * image.height > most_pixels:
        raise Unreadable(too_large(f" ({image.width} x {image.height})", most_pixels))
    if image.width == 0 or image.height == 0:
        raise Unreadable("the image has no pixels; remove or replace it.")
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    tile = tile_pixels(file) if file is not None and image.format == "TIFF" else 0
    _check_tile(tile, image.width, image.height)


def too_large(size: str, most_pixels: int) -> str:
    """The message for a picture of this size that is refused."""
    return f"the image{size} is over {most_pixels / 1_000_000:g} megapixels; scale it down first."


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The operation that makes it upright; unreadable metadata is ignored."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata makes Pillow raise nearly anything; the pixels may be whole
        return None


def scaled(
    values: NDArray[np.generic], options: ReadOptions, *, sixteen: bool = False, declared: int = 0
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale deep values to 8 bits; returns a note if they were stretched.

    Args:
        sixteen: the format says that the values have 16 bits, however small they are.
        declared: the largest value as the file declares it; 0 where it does not.

    Raises:
        Unreadable: values that are not finite.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite; export it with 8 or 16 bits.")
    low, top = float(values.min()), float(values.max())
    note: tuple[str, ...] = ()
    if options.range is not None:
        black, white = options.range
    elif low < 0 or top > 65535:
        black, white = low, max(top, np.nextafter(low, np.inf))
        note = (
            f"its values from {low:g} to {top:g} are stretched to 8 bits; a range reads all pictures alike.",
        )
    elif values.dtype.kind == "f" and top <= 1:
        black, white = 0.0, 1.0
    else:
        most = max(top, min(declared, 65535))
        bits = next(depth for depth in _DEPTHS if most <= 2**depth - 1) if most else 16
        black, white = 0.0, float(2**bits - 1)
        if bits < 16 and (sixteen or bits > 8):
            note = (
                f"its values up to {top:g} are read as {bits} bits and stretched; "
                "a range reads all pictures alike.",
            )
    found = np.empty(values.shape, np.uint8)
    factor = 255.0 / (white - black)
    step = max(1, _VALUES_AT_ONCE // max(1, values[0].size))
    for row in range(0, len(values), step):  # doubles of a whole large picture would take a gigabyte
        part = values[row : row + step].astype(np.float64)
        found[row : row + step] = np.clip(np.rint((part - black) * factor), 0, 255)
    return found, note


def without_png_text(source: object, error: Unreadable) -> bytes | None:
    """The PNG without text and colour profile, if it was refused only because they exceed a megabyte; None
    otherwise."""
    too_much = "MAX_TEXT" in str(error.__cause__)  # the limit's name is in what Pillow raises
    if not too_much or not isinstance(source, str | Path | bytes):
        return None
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    kept, place = [data[:8]], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4].rjust(4, b"\0"))
        chunk = data[place : place + length + 12]
        if chunk[4:8] not in _PNG_TEXT:
            kept.append(chunk)
        place += length + 12
    return b"".join(kept)


def _draft(image: Image.Image, wanted: int) -> None:
    """Decode a large JPEG at reduced size, at least twice the wanted size."""
    short, long = sorted(image.size)
    large = short * long > DRAFT_PIXELS and long <= _MOST_DRAFT_RATIO * short
    if large and image.format in ("JPEG", "MPO"):
        image.draft(image.mode, (2 * wanted, 2 * wanted))


def _frames(image: Image.Image, layout: Layout | None) -> tuple[str, ...]:
    """Notes on pages and frames that are left out."""
    if image.format == "TIFF":
        pages = 1 if layout is None else layout.pages
        return _pages_note(pages)
    if image.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(image, "is_animated", False):
        return ("it is an animation; the first frame is read.",)
    return ()


def _pages_note(pages: int) -> tuple[str, ...]:
    return (f"it has {pages} pages; the first is read.",) if pages > 1 else ()


def _rgb(
    image: Image.Image, options: ReadOptions, source: object, layout: Layout | None
) -> tuple[Image.Image, tuple[str, ...]]:
    """RGB over white, and notes."""
    notes: tuple[str, ...] = ()
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        declared = layout.largest if layout is not None else 0
        values, notes = scaled(np.asarray(image), options, sixteen=sixteen, declared=declared)
        image = Image.fromarray(values)
    elif (deep := _deep_png(image, options, source)) is not None:
        image, notes = deep
    if options.bands is not None and max(options.bands) > 3:
        raise Unreadable(
            f"it has no band {max(options.bands)}, only {len(image.getbands())}; leave the bands out, or "
            "give a TIFF that has them."
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy is a copy of memory
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    image = image.convert("RGB")
    if options.bands is not None:
        channels = image.split()
        image = Image.merge("RGB", [channels[band - 1] for band in options.bands])
    return image, notes


def _deep_png(
    image: Image.Image, options: ReadOptions, source: object
) -> tuple[Image.Image, tuple[str, ...]] | None:
    """Read a colour PNG of 16 bits whose values need scaling; Pillow keeps only the upper 8 bits."""
    deep = isinstance(source, str | Path | bytes) and image.format == "PNG" and image.mode in ("RGB", "RGBA")
    if not deep or _head(source)[24:25] != b"\x10":  # type: ignore[arg-type]
        return None
    upper = np.asarray(image)
    if options.range is None and upper[..., :3].max() >= 64:
        return None  # all bits are used: as Pillow reads it
    with opened(source, ("PNG",)) as again:  # type: ignore[arg-type]
        assert isinstance(again, ImageFile.ImageFile)
        # as if the bytes of each value came in the other order, which takes the lower ones
        again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
        lower = np.asarray(again)
    values = upper.astype(np.uint16) * np.uint16(256) + lower
    colours, notes = scaled(values[..., :3], options, sixteen=True)
    found = Image.fromarray(colours)
    if image.mode == "RGBA":
        found.putalpha(Image.fromarray(np.ascontiguousarray(upper[..., 3])))
    return found, notes


def _layout(source: object, formats: tuple[str, ...] | None) -> Layout | None:
    """Of a TIFF file; None of everything else."""
    if not isinstance(source, str | Path | bytes) or (formats is not None and "TIFF" not in formats):
        return None
    if isinstance(source, str | Path):
        _check_file(Path(source))
    if not _head(source).startswith(MAGIC):
        return None
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        return read_layout(file)


def _needs_bands(layout: Layout, options: ReadOptions) -> bool:
    """Whether Pillow would refuse it, drop bands or bits, or take a band for transparency."""
    if layout.photometric not in (0, 1, 2) or 0 in (layout.width, layout.height):
        return False
    if layout.bands == 1:  # of many bits; Pillow has some in the wrong order, or inverted
        return layout.bits > 8 and layout.fault is None and options.bands is None
    if options.bands is not None or layout.bits != 8:
        return True
    if layout.photometric == 2:
        return layout.bands > 3 and not layout.alpha
    return not (layout.bands == 2 and layout.extra == (2,))


def _banded(source: str | Path | bytes, layout: Layout, options: ReadOptions, most_pixels: int) -> Picture:
    """A TIFF whose bands are chosen here."""
    size = (layout.width, layout.height)
    if layout.width * layout.height > most_pixels:
        raise Unreadable(too_large(f" ({layout.width} x {layout.height})", most_pixels))
    if layout.width * layout.height * layout.bands > MOST_PIXELS:
        raise Unreadable(
            f"the image ({layout.width} x {layout.height}, {layout.bands} bands) has over "
            f"{MOST_PIXELS // 1_000_000} million values; crop it, or export fewer bands."
        )
    bands, notes = _chosen(layout, options)
    if layout.fault is not None:
        raise Unreadable(layout.fault)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    _check_tile(tile_pixels(io.BytesIO(data)), *size)
    alpha = (layout.colours,) if layout.alpha and options.bands is None else ()
    with _quiet_stderr():
        values = read_bands(data, layout, (*bands, *alpha))
    count = len(bands)
    colours: NDArray[np.generic] = values[..., :count]
    more: tuple[str, ...] = ()
    if layout.bits != 8:
        sixteen = layout.bits == 16 and layout.sample_format == 1
        colours, more = scaled(colours, options, sixteen=sixteen, declared=layout.largest)
    if layout.photometric == 0:
        colours = 255 - colours.astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(colours[..., 0] if count == 1 else colours, np.uint8))
    if alpha:
        over = values[..., -1]
        over = over if layout.bits == 8 else scaled(over, ReadOptions())[0]
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(np.ascontiguousarray(over, np.uint8)))
        if layout.extra[0] == 1:  # colours are multiplied by it already
            image = Image.frombytes("RGBa", image.size, image.tobytes()).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pages = _pages_note(layout.pages)
    turn = _TURNS.get(layout.orientation)
    upright = image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)
    return Picture(upright, upright.size, (*pages, *notes, *more))


def _chosen(layout: Layout, options: ReadOptions) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The bands to read, counted from 0, and notes on the others."""
    count = layout.bands
    if options.bands is not None:
        if max(options.bands) > count:
            raise Unreadable(f"it has no band {max(options.bands)}, only {count}; choose three of them.")
        return tuple(band - 1 for band in options.bands), ()
    if layout.photometric != 2 and count > 3:
        raise Unreadable(
            f"it has {count} bands, none of them named as a colour; choose three for red, green and blue, "
            'such as --bands 4 3 2 (in Python: read_options={"bands": (4, 3, 2)}).'
        )
    if layout.photometric != 2 and count == 3:
        return (0, 1, 2), ("its 3 bands are not named as colours; they are read as red, green and blue.",)
    used = layout.colours + layout.alpha
    if count < layout.colours:
        raise Unreadable(f"it has {count} bands, too few for RGB; export it again.")
    left = [str(band) for band in range(used + 1, count + 1)]
    colours = "red, green and blue are" if layout.colours == 3 else "grey is"
    word = "band" if len(left) == 1 else "bands"
    names = ", ".join(left) if len(left) < 6 else f"{left[0]} to {left[-1]}"
    note = (f"it has {count} bands; {colours} read and {word} {names} left out.",) if left else ()
    return tuple(range(layout.colours)), note


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise Unreadable("this is a folder, not an image.")
    if path.exists() and not path.is_file():  # a pipe or device might never end
        raise Unreadable("this is not an ordinary file; give an image file.")
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"the file has over {MOST_BYTES >> 30} GB; scale the picture down first.")


def _check_tile(tile: int, width: int, height: int) -> None:
    if tile > max(_LARGEST_TILE, width * height):  # a tile is always decoded whole
        raise Unreadable(
            f"its tiles of {tile:,} pixels are far larger than its {width} x {height}; export it without "
            "tiles."
        )


def _head(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with Path(source).open("rb") as file:
        return file.read(HEAD_BYTES)


def _kind(source: object) -> tuple[str, str] | None:
    try:
        return kind_of(_head(source)) if isinstance(source, str | Path | bytes) else None
    except OSError:
        return None


def _unidentified(source: object) -> str:
    """The kind of a file that is not an image."""
    if isinstance(source, str | Path | bytes) and not _head(source):
        return "the file is empty; remove or replace it."
    known = _kind(source)
    if known is None:
        return "this is not an image in a known format; remove or replace it."
    return f"this is {known[0]}, not an image in a known format; {known[1]}"


def _range(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = _numbers(values, 2, "range")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"The range {low:g} to {high:g} is empty; give two finite numbers, the lower first.")
    return low, high


def _bands(values: Any) -> tuple[int, int, int] | None:
    if values is None:
        return None
    bands = _numbers(values, 3, "bands")
    if not all(band >= 1 and band == band // 1 for band in bands):
        raise ValueError(f"The bands {values} must be whole numbers from 1, such as 4, 3, 2.")
    red, green, blue = map(int, bands)
    return red, green, blue


def _numbers(values: Any, count: int, name: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError):
        found = ()
    if len(found) != count:
        raise ValueError(f"{name} must be {count} numbers, not {values!r}.")
    return found


class _Stderr:
    """Suppress the error stream while libtiff decodes: it writes there directly, and its errors are raised
    as well. The first thread redirects the stream, the last one restores it."""

    def __init__(self) -> None:
        self._lock, self._users, self._kept = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            try:
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
            except OSError:  # there is no error stream
                self._kept = -1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1


_STDERR = _Stderr()


def _quiet_stderr() -> _Stderr:
    return _STDERR

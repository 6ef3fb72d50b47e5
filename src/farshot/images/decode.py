"""Decode an image file to an upright RGB picture of 8 bits, with a note if anything was left out or
stretched.

- EXIF's orientation is undone; CMYK, palettes and YCbCr become RGB; transparency lies over white.
- Of several pages or frames the first is read, or the page that is chosen; of an animation the first.
- Values of more than 8 bits are scaled from the range that holds them: floats from 0 to 1, otherwise the
  fewest of 8, 10, 12, 14 and 16 bits; negative values and values beyond 16 bits from the range of the file.
- Of a TIFF with more bands than its colours the colours are used; without named colours three bands must be
  chosen.
- JPEGs of over DRAFT_PIXELS are decoded at a half, a quarter or an eighth of their size, as long as that is
  at least twice the size that is wanted.

This file, those that it imports from and `preprocess.py` are copied unchanged into ONNX exports, so that
`predict.py` reads as farshot does: standard library, numpy and Pillow only. DICOM and HEIC
need a library each, which is imported when such a file is read.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from .bands import banded, in_bands, needs_bands, pages_note
from .costs import MOST_BYTES, MOST_PIXELS, fault_of, most_pixels_of
from .costs import formats as known_formats
from .depth import scaled
from .dicom import is_dicom, read_dicom
from .faults import Unreadable, quiet_stderr
from .heic import is_heic, read_heic
from .kinds import HEAD_BYTES, RAW, kind_of
from .opened import BRIGHT, file_of, is_lost, layout_of
from .options import ReadOptions
from .orientation import SIDEWAYS, turn_of
from .picture import Picture, check_tile, over_white, too_large
from .tiff import MAGIC, Layout, at_page, read_layout, tile_pixels

DRAFT_PIXELS = 4_000_000
"""Above the pictures of the published pools, so that their pixels do not change."""

_MOST_DRAFT_RATIO = 16  # of the sides: of a narrower picture a draft would be small
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_GREY_AND_ALPHA = b"\x04"  # colour type of a PNG
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are raised as well: no raw lines


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
        wanted: shorter side in pixels that is needed; files of large JPEGs may come smaller than they are,
            but at least twice as large as this. By default whole.
        formats: those that are tried, as Pillow calls them; by default those of costs.py.
        most_pixels: more are refused, of some formats fewer.

    Raises:
        Unreadable: one sentence.
    """
    options = options or ReadOptions()
    if isinstance(source, Image.Image) and (file := file_of(source)) is not None:
        _check_opened(source, None, options)
        source, formats = file, None
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
        if formats is None and isinstance(source, str | Path | bytes):
            if isinstance(source, str | Path):
                _check_file(Path(source))
            head = _head(source)
            if is_dicom(head):
                return read_dicom(source, options, most_pixels)
            if is_heic(head):
                return read_heic(source, options, most_pixels)
        layout = _layout(source, formats)
        if isinstance(source, Image.Image):
            _check_opened(source, layout, options)
        if layout is not None and layout.raw:
            raise Unreadable(f"this is {RAW[0]}; {RAW[1]}")
        if layout is not None and options.page is not None and not isinstance(source, Image.Image):
            source = _page(source, layout, options.page)
            layout = _layout(source, formats)
        if layout is not None and not isinstance(source, Image.Image) and needs_bands(layout, options):
            return banded(source, layout, options, most_pixels)
        with opened(source, formats) as image:
            check_size(image, most_pixels)
            if (fault := fault_of(image, source)) is not None:
                raise Unreadable(fault)
            size = image.size  # of a TIFF upright already
            if wanted is not None and image is not source:  # a draft would shrink the caller's own image
                _draft(image, wanted)
            notes = _frames(image, layout, options)
            if (ppm := _deep_ppm(image, options, source)) is not None:
                return Picture(in_bands(ppm[0], options), size, ppm[1])
            with quiet_stderr if image.format == "TIFF" else nullcontext():
                image.load()
            turn = turn_of(image)
            size = size[::-1] if turn in SIDEWAYS else size
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


def is_deep(image: Image.Image) -> bool:
    """Whether its values have more than 8 bits, so that the options say how they are read."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def check_size(image: Image.Image, most_pixels: int) -> None:
    """Refuse images that would take too much memory to decode."""
    most_pixels = most_pixels_of(image.format, most_pixels)
    if image.width * image.height > most_pixels:
        raise Unreadable(too_large(f" ({image.width} x {image.height})", most_pixels))
    if image.width == 0 or image.height == 0:
        raise Unreadable("the image has no pixels; remove or replace it.")
    file = image.fp if isinstance(image, ImageFile.ImageFile) else None
    tile = tile_pixels(file) if file is not None and image.format == "TIFF" else 0
    check_tile(tile, image.width, image.height)


def without_png_text(source: object, error: Unreadable) -> bytes | None:
    """The PNG without text and colour profile, if it was refused only because they exceed a megabyte; None
    otherwise."""
    too_much = "MAX_TEXT" in str(error.__cause__)  # the limit's name is in what Pillow raises
    if not too_much or not isinstance(source, str | Path | bytes):
        return None
    data = _whole(source)
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


def _page(source: object, layout: Layout, page: int) -> str | Path | bytes:
    """A TIFF whose first page is this one, counted from 1."""
    assert isinstance(source, str | Path | bytes)
    if page > layout.pages:
        raise Unreadable(f"it has no page {page}, only {layout.pages}; choose another, or leave it out.")
    return source if page == 1 else at_page(_whole(source), page)


def _check_opened(image: Image.Image, layout: Layout | None, options: ReadOptions) -> None:
    """Refuse another page of an opened image than its present one, which turning over would change, and
    pixels that are not the picture."""
    here = image.tell() + 1 if image.format in ("TIFF", "HEIF") else options.page
    if options.page not in (None, here):
        raise Unreadable(
            f"it is open at page {here}, not {options.page}; give the file, or turn to the page."
        )
    if layout is not None and is_lost(image, layout):
        raise Unreadable(
            "Pillow has dropped or inverted values of this TIFF; give the file, or a copy() of the image to "
            "use its pixels as they are."
        )


def _frames(image: Image.Image, layout: Layout | None, options: ReadOptions) -> tuple[str, ...]:
    """Notes on pages and frames that are left out."""
    if image.format == "TIFF":
        pages = 1 if layout is None or options.page is not None else layout.pages
        return pages_note(pages)
    if image.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(image, "is_animated", False):
        which = "first frame" if image.tell() == 0 else "frame at which it is open"
        return (f"it is an animation; the {which} is read.",)
    return ()


def _rgb(
    image: Image.Image, options: ReadOptions, source: object, layout: Layout | None
) -> tuple[Image.Image, tuple[str, ...]]:
    """RGB over white, and notes."""
    notes: tuple[str, ...] = ()
    if is_deep(image):
        sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        declared = layout.largest if layout is not None else 0
        stored = np.asarray(image)
        values, notes = scaled(stored, options, sixteen=sixteen, declared=declared)
        if isinstance(clear := image.info.get("transparency"), int):
            values[stored == clear] = 255
        image = Image.fromarray(values)
    elif (deep := _deep_png(image, options, source)) is not None:
        image, notes = deep
    elif image.format == "PNG" and image.mode == "L" and image is not source:
        _scale_clear(image, source)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image if image.mode == "RGBA" else image.convert("RGBA")  # a copy is a copy of memory
        image = over_white(over)
    return in_bands(image.convert("RGB"), options), notes


def _scale_clear(image: Image.Image, source: object) -> None:
    """Scale the clear value of a grey PNG as Pillow scales its pixels, which may be stored in 2 or 4 bits."""
    if isinstance(clear := image.info.get("transparency"), int):
        image.info["transparency"] = clear * 255 // (2 ** _head(source)[24] - 1)  # type: ignore[arg-type]


def _deep_png(
    image: Image.Image, options: ReadOptions, source: object
) -> tuple[Image.Image, tuple[str, ...]] | None:
    """Read a colour PNG of 16 bits whose values need scaling, or of which one colour is clear; Pillow keeps
    only the upper 8 bits."""
    deep = isinstance(source, str | Path | bytes) and image.format == "PNG" and image.mode in ("RGB", "RGBA")
    if not deep or _head(source)[24:25] != b"\x10":  # type: ignore[arg-type]
        return None
    upper, clear = np.asarray(image), image.info.get("transparency")
    if options.range is None and clear is None and upper[..., :3].max() >= BRIGHT:
        return None  # all bits are used: as Pillow reads it
    with opened(source, ("PNG",)) as again:  # type: ignore[arg-type]
        assert isinstance(again, ImageFile.ImageFile)
        if _head(source)[25:26] == _GREY_AND_ALPHA:  # type: ignore[arg-type]
            # its two values of two bytes each, as if they were four of one
            again.tile = [tile._replace(args="RGBA") for tile in again.tile]
            lower = np.repeat(np.asarray(again)[..., 1:2], 4, axis=-1)
        else:
            # as if the bytes of each value came in the other order, which takes the lower ones
            again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
            lower = np.asarray(again)
    values = upper.astype(np.uint16) * np.uint16(256) + lower
    colours, notes = scaled(values[..., :3], options, sixteen=True)
    if isinstance(clear, tuple):
        colours[(values[..., :3] == clear).all(-1)] = 255
    found = Image.fromarray(colours)
    if image.mode == "RGBA":
        found.putalpha(Image.fromarray(np.ascontiguousarray(upper[..., 3])))
    return found, notes


def _deep_ppm(
    image: Image.Image, options: ReadOptions, source: object
) -> tuple[Image.Image, tuple[str, ...]] | None:
    """Read a PPM whose values need scaling; Pillow stretches them to 65535, and keeps 8 bits of colours."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PPM" or not image.tile:
        return None
    tile = image.tile[0]
    largest = tile.args[1] if tile.codec_name == "ppm" and isinstance(tile.args, tuple) else 0
    if largest < 256 or (options.range is None and largest < 65535) or isinstance(source, Image.Image):
        return None
    assert isinstance(source, str | Path | bytes)
    shape = (image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width)
    stored = np.frombuffer(_whole(source), ">u2", int(np.prod(shape)), tile.offset).reshape(shape)
    values, notes = scaled(stored, options, sixteen=True)
    return Image.fromarray(values).convert("RGB"), notes


def _layout(source: object, formats: tuple[str, ...] | None) -> Layout | None:
    """Of a TIFF, or an opened one; None of everything else."""
    if isinstance(source, Image.Image):
        return layout_of(source)
    if not isinstance(source, str | Path | bytes) or (formats is not None and "TIFF" not in formats):
        return None
    if isinstance(source, str | Path):
        _check_file(Path(source))
    if not _head(source).startswith(MAGIC):
        return None
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        return read_layout(file)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise Unreadable("this is a folder, not an image.")
    if path.exists() and not path.is_file():  # a pipe or device might never end
        raise Unreadable("this is not an ordinary file; give an image file.")
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"the file has over {MOST_BYTES >> 30} GB; scale the picture down first.")


def _head(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with Path(source).open("rb") as file:
        return file.read(HEAD_BYTES)


def _whole(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


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

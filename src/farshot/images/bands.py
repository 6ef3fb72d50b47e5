"""TIFFs whose bands are chosen by farshot, since Pillow would refuse them, or drop bands or bits.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library, numpy and Pillow
only.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .costs import MOST_PIXELS
from .depth import scaled
from .faults import Unreadable, quiet_stderr
from .options import ReadOptions
from .orientation import TURNS
from .picture import Picture, check_tile, over_white, too_large
from .tiff import Layout, read_bands, tile_pixels


def needs_bands(layout: Layout, options: ReadOptions) -> bool:
    """Whether Pillow would refuse it, drop bands or bits, or take a band for transparency."""
    if layout.photometric not in (0, 1, 2) or 0 in (layout.width, layout.height):
        return False
    if layout.bands == 1:  # of many bits; Pillow has some in the wrong order, or inverted
        return (layout.bits > 8 or layout.sample_format == 2) and layout.fault is None
    if options.bands is not None or layout.bits != 8 or layout.sample_format == 2:
        return True
    if layout.photometric == 2:
        return layout.bands > 3 and not layout.alpha
    return not (layout.bands == 2 and layout.extra == (2,))


def banded(source: str | Path | bytes, layout: Layout, options: ReadOptions, most_pixels: int) -> Picture:
    """A TIFF whose bands are chosen here."""
    size = (layout.width, layout.height)
    if layout.width * layout.height > most_pixels:
        raise Unreadable(too_large(f" ({layout.width} x {layout.height})", most_pixels))
    if layout.width * layout.height * layout.bands > MOST_PIXELS:
        raise Unreadable(
            f"the image ({layout.width} x {layout.height}, {layout.bands} bands) has over "
            f"{MOST_PIXELS // 1_000_000} million values; crop it, or export fewer bands."
        )
    asked = options
    if layout.bands == 1:  # an ordinary grey picture: red, green and blue are equal
        options = replace(options, bands=None)
    bands, notes = _chosen(layout, options)
    if layout.fault is not None:
        raise Unreadable(layout.fault)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    check_tile(tile_pixels(io.BytesIO(data)), *size)
    alpha = (layout.colours,) if layout.alpha and options.bands is None else ()
    with quiet_stderr:
        values = read_bands(data, layout, (*bands, *alpha))
    count = len(bands)
    colours: NDArray[np.generic] = values[..., :count]
    more: tuple[str, ...] = ()
    if layout.bits != 8 or layout.sample_format == 2:
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
        image = over_white(image)
    pages = () if options.page is not None else pages_note(layout.pages)
    turn = TURNS.get(layout.orientation)
    upright = image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)
    if layout.bands == 1:
        upright = in_bands(upright, asked)
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


def in_bands(image: Image.Image, options: ReadOptions) -> Image.Image:
    """An RGB picture with its bands in the order that was chosen.

    Raises:
        Unreadable: a band that it does not have.
    """
    if options.bands is None:
        return image
    if max(options.bands) > 3:
        raise Unreadable(
            f"it has no band {max(options.bands)}, only {len(image.getbands())}; leave the bands out, or "
            "give a TIFF that has them."
        )
    channels = image.convert("RGB").split()
    return Image.merge("RGB", [channels[band - 1] for band in options.bands])


def pages_note(pages: int) -> tuple[str, ...]:
    """The note on a file of so many pages of which none was chosen."""
    return (f"it has {pages} pages; the first is read (--page chooses another).",) if pages > 1 else ()

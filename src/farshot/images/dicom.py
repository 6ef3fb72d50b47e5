"""Read pictures in DICOM files with pydicom, an extra.

Rescaling, the first window, inverted grey (MONOCHROME1), palettes and YCbCr are applied as the file says; a
range (`ReadOptions.range`) takes the place of the window. Of several frames one is read.

Patients' data appears nowhere: only the elements that say how pixels are stored and shown are read, and no
message quotes the file or an exception of pydicom.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library, numpy, Pillow and
pydicom only.
"""

from __future__ import annotations

import io
import logging
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .bands import in_bands
from .costs import MOST_PIXELS, has_many_passes, most_pixels_of
from .depth import scaled
from .faults import Unreadable
from .options import ReadOptions
from .picture import Picture, too_large

_MAGIC, _MAGIC_AT = b"DICM", 128
_DAMAGED = (
    "this is a DICOM file that is damaged, or stores its pixels in a rare way; export the picture as PNG."
)
_MORE = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or save it uncompressed."
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_META = 1 << 16  # bytes of the elements that are read to find the transfer syntax
_LONG = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"UC", b"UR", b"OD", b"OL", b"OV", b"SV", b"UV")
_VALUES_AT_ONCE = 1 << 20
_KEPT = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
)
"""The elements that are read."""


class _Here(threading.local):
    """Whether this thread reads a file."""

    reads = False


_here = _Here()
# pydicom logs values that are not as they should be; other uses of it in this process go on logging
logging.getLogger("pydicom").addFilter(lambda record: not _here.reads)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM."""
    return head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def read_dicom(
    source: str | Path | bytes, options: ReadOptions | None = None, most_pixels: int = MOST_PIXELS
) -> Picture:
    """Decode one frame of a DICOM file, or of its bytes.

    Raises:
        Unreadable: one sentence, without a patient's data.
    """
    pydicom = _pydicom()
    _here.reads = True
    try:
        return _read(pydicom, source, options or ReadOptions(), most_pixels)
    except Unreadable:
        raise
    except Exception:  # its message may quote the file
        raise Unreadable(_DAMAGED) from None
    finally:
        _here.reads = False


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise Unreadable(
            "this is a DICOM file, and pydicom is not installed: pip install 'farshot[dicom]' or pydicom."
        ) from None
    return pydicom


def _read(pydicom: Any, source: str | Path | bytes, options: ReadOptions, most_pixels: int) -> Picture:
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    syntax = _transfer_syntax(data)
    if syntax == _DEFLATED:  # pydicom would inflate it without bounds
        raise Unreadable(
            "this is a DICOM file that is compressed as a whole (deflated); save it without that."
        )
    decoder = _decoder(pydicom, syntax)
    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(_KEPT))
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Unreadable("this is a DICOM file without a picture; leave it out.")
    height, width, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel", 1))
    most = most_pixels_of("JPEG2000" if "2000" in pydicom.uid.UID(syntax).name else None, most_pixels)
    if height * width > most:
        raise Unreadable(too_large(f" ({width} x {height})", most))
    if height * width == 0 or samples not in (1, 3):
        raise Unreadable(_DAMAGED)
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    frame = 1 if options.page is None else options.page
    if frame > frames:
        raise Unreadable(f"it has no frame {frame}, only {frames}; choose another page, or leave it out.")
    if decoder.is_encapsulated:
        _check_frame(pydicom, dataset, frame, frames, (width, height))
    try:
        values = np.asarray(pydicom.pixels.pixel_array(dataset, index=frame - 1))
    except Exception:
        if not decoder.is_encapsulated:
            raise
        name = pydicom.uid.UID(syntax).name
        raise Unreadable(
            f"its pixels, compressed as {name}, are damaged or need another decoder: {_MORE}"
        ) from None
    if values.shape != ((height, width) if samples == 1 else (height, width, 3)):
        raise Unreadable(_DAMAGED)
    pixels, notes = _shown(pydicom, dataset, values, frame, options)
    image = in_bands(Image.fromarray(pixels).convert("RGB"), options)
    if frames > 1 and options.page is None:
        notes = (f"it has {frames} frames; the first is read (--page chooses another).", *notes)
    return Picture(image, image.size, notes)


def _transfer_syntax(data: bytes) -> str:
    """How the pixels are stored, from the first elements of the file; these are never compressed."""
    place = _MAGIC_AT + 4
    while place < min(len(data) - 8, _MOST_META):
        group, element, kind, length = struct.unpack_from("<HH2sH", data, place)
        place += 8
        if group != 2:
            break
        if kind in _LONG:
            (length,) = struct.unpack_from("<I", data, place)
            place += 4
        if element == 0x10:
            return data[place : place + length].rstrip(b"\0 ").decode("ascii")
        place += length
    raise Unreadable(
        "this is a DICOM file that does not say how its pixels are stored; export the picture as PNG."
    )


def _decoder(pydicom: Any, syntax: str) -> Any:
    """pydicom's decoder of a transfer syntax.

    Raises:
        Unreadable: there is none, or what it needs is not installed.
    """
    name = pydicom.uid.UID(syntax).name if syntax in pydicom.uid.UID_dictionary else ""
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        kind = f"as {name}" if name else "in an unknown way"
        raise Unreadable(
            f"its pixels are stored {kind}, which cannot be read; export the picture as PNG."
        ) from None
    if not decoder.is_available:
        raise Unreadable(
            f"its pixels are compressed as {name}, and no decoder for that is installed: {_MORE}"
        )
    return decoder


def _check_frame(pydicom: Any, dataset: Any, frame: int, frames: int, size: tuple[int, int]) -> None:
    """Refuse a compressed frame that would cost more than the size that the file declares."""
    packed = pydicom.encaps.get_frame(dataset.PixelData, frame - 1, number_of_frames=frames)
    if has_many_passes(packed):
        raise Unreadable("its JPEG has too many passes; save it uncompressed.")
    try:
        with Image.open(io.BytesIO(packed), formats=("JPEG", "JPEG2000")) as image:
            inside = image.size
    except Exception:  # run lengths, or a JPEG that Pillow does not know
        return
    if inside != size:
        raise Unreadable(_DAMAGED)


def _shown(
    pydicom: Any, dataset: Any, values: NDArray[Any], frame: int, options: ReadOptions
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The values as 8 bits, and notes."""
    kind = str(dataset.get("PhotometricInterpretation", "")).strip().upper()
    stored = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 16)
    if kind == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, dataset)[..., :3]
        return (values, ()) if values.dtype == np.uint8 else scaled(values, ReadOptions((0, 65535)))
    if values.ndim == 3:
        if values.dtype == np.uint8 and stored == 8:
            return values, ()
        return scaled(values, options if options.range else ReadOptions((0, 2**stored - 1)))
    grey, notes = _grey(pydicom, dataset, values, frame, options, stored)
    return (255 - grey if kind == "MONOCHROME1" else grey), notes


def _grey(
    pydicom: Any, dataset: Any, values: NDArray[Any], frame: int, options: ReadOptions, stored: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    rescale = _settings(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
    window = _settings(dataset, frame, "FrameVOILUTSequence", "WindowCenter")
    rescaled = rescale is not None or "ModalityLUTSequence" in dataset
    if rescale is not None:
        slope, intercept = float(rescale.RescaleSlope), float(rescale.get("RescaleIntercept") or 0)
        values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    elif rescaled:
        values = pydicom.pixels.apply_modality_lut(values, dataset)
    if options.range is not None:
        return scaled(values, options)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite; export the picture as PNG.")
    if window is not None:
        centres, widths = _numbers(window.WindowCenter), _numbers(window.get("WindowWidth"))
        function = str(window.get("VOILUTFunction") or "LINEAR").strip().upper()
        if centres and widths and np.isfinite([centres[0], widths[0]]).all() and widths[0] > 0:
            several = f"it has {len(centres)} windows; the first is used; a range takes its place."
            notes = (several,) if len(centres) > 1 else ()
            return _windowed(values, centres[0], widths[0], function), notes
    if "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        if bits not in range(8, 17):
            raise Unreadable(_DAMAGED)
        table = pydicom.pixels.apply_voi(values.astype(np.int64), dataset)
        return scaled(table, ReadOptions((0, 2**bits - 1)))
    if not rescaled and values.dtype.kind == "u" and stored < 16:
        return scaled(values, ReadOptions((0, 2**stored - 1)))
    low, high = float(values.min()), float(values.max())
    note = (
        f"it has no window; its values from {low:g} to {high:g} are stretched to 8 bits; a range reads all "
        "pictures alike."
    )
    high = max(high, float(np.nextafter(low, np.inf)))
    return scaled(values, ReadOptions((low, high)))[0], (note,)


def _settings(dataset: Any, frame: int, group: str, name: str) -> Any:
    """The part of the data set that has an element: that of the frame, of all frames, or the whole; None."""
    places: list[Any] = []
    for sequence, number in (
        ("PerFrameFunctionalGroupsSequence", frame - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = dataset.get(sequence) or []
        if number < len(items):
            places += list(items[number].get(group) or [])[:1]
    return next((part for part in (*places, dataset) if part.get(name) not in (None, "")), None)


def _numbers(value: Any) -> list[float]:
    """One number, or several."""
    if value is None or value == "":
        return []
    return [float(one) for one in (value if not isinstance(value, str | int | float) else [value])]


def _windowed(values: NDArray[Any], centre: float, width: float, function: str) -> NDArray[np.uint8]:
    """Values within a window as grey: DICOM PS3.3, C.11.2.1."""
    found = np.empty(values.shape, np.uint8)
    for rows, part in _parts(values):
        if function == "SIGMOID":
            with np.errstate(over="ignore"):
                grey = 1 / (1 + np.exp(-4 * (part - centre) / width))
        elif function == "LINEAR_EXACT":
            grey = (part - centre) / width + 0.5
        elif width <= 1:
            grey = np.where(part > centre - 0.5, 1.0, 0.0)
        else:
            grey = (part - (centre - 0.5)) / (width - 1) + 0.5
        found[rows] = np.rint(255 * np.clip(grey, 0, 1))
    return found


def _parts(values: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Rows of a large picture one after another, as doubles."""
    step = max(1, _VALUES_AT_ONCE // values.shape[1])
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        yield rows, values[rows].astype(np.float64)

"""Recognise files that no decoder accepts by their first bytes; used by the command line, the app and
exports.

This file is copied unchanged into ONNX exports: standard library only.
"""

from __future__ import annotations

HEAD_BYTES = 512
"""Enough to recognise every kind: a tar says so at byte 257."""

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
"""Start of a zip, an empty one, one in parts."""

_EXPORT = "export the picture as PNG or JPEG."
_REPACK = "unpack it first, or pack the images into an ordinary .zip for the app."
_HEIC = "export it as JPEG (on an iPhone: Most Compatible)."
RAW = "a camera's RAW photograph", "export it as JPEG or TIFF with the camera's program."
_IMAGES = "give images."
_ARRAY = "save its pictures as PNG, or pass them to farshot as arrays in Python."

_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    *((0, magic, "a zip archive", "unpack it and give the images in it.") for magic in ZIP_MAGIC),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _REPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _REPACK),
    (0, b"\x1f\x8b", "a gzip archive", _REPACK),
    (0, b"BZh", "a bzip2 archive", _REPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _REPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _REPACK),
    (257, b"ustar", "a tar archive", _REPACK),
    (0, b"%PDF", "a PDF document", _EXPORT),
    (0, b"%!PS", "a PostScript drawing", _EXPORT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing", _EXPORT),
    (0, b"8BPS", "a Photoshop document", _EXPORT),
    (0, b"gimp xcf", "a GIMP document", _EXPORT),
    (0, b"v/1\x01", "an OpenEXR picture", _EXPORT),
    (0, b"\xff\x0a", "a JPEG XL picture", _EXPORT),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _EXPORT),
    (128, b"DICM", "a DICOM file", _EXPORT),
    (344, b"n+1\x00", "a NIfTI volume", _EXPORT),
    (8, b"CR\x02\x00", *RAW),
    (0, b"FUJIFILMCCD-RAW", *RAW),
    (0, b"IIRO", *RAW),
    (0, b"IIRS", *RAW),
    (0, b"MMOR", *RAW),
    (0, b"IIU\x00", *RAW),
    (0, b"FOVb", *RAW),
    (4, b"ftypcrx ", *RAW),
    (4, b"ftyphei", "a HEIC photograph", _HEIC),
    (4, b"ftyphev", "a HEIC photograph", _HEIC),
    *((4, b"ftyp" + brand, "an AVIF picture", _EXPORT) for brand in (b"avif", b"avis", b"mif1", b"msf1")),
    (4, b"ftyp", "a video", "save single pictures of it as JPEG."),
    (0, b"\x1aE\xdf\xa3", "a video", "save single pictures of it as JPEG."),
    (8, b"AVI ", "a video", "save single pictures of it as JPEG."),
    (0, b"\x93NUMPY", "a NumPy array", _ARRAY),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _ARRAY),
    (0, b"MATLAB 5.0", "a MATLAB file", _ARRAY),
    (0, b"SIMPLE  =", "a FITS file", _EXPORT),
    (0, b"PAR1", "a Parquet table", "give it as the table of images, not as an image."),
    (0, b"SQLite format 3\x00", "a SQLite database", _IMAGES),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the picture",
        "run `git lfs pull` in its folder.",
    ),
    (0, b"\x00\x00\x01\x00", "an icon", _EXPORT),
    (0, b"MZ", "a program", _IMAGES),
    (0, b"\x7fELF", "a program", _IMAGES),
)
"""Place and bytes of a known kind, what it is and the way out; the first that fits counts."""

_PAGE = (b"<html", b"<script", b"<!doctype html")


def kind_of(head: bytes) -> tuple[str, str] | None:
    """The kind of the file and what to do; None if it is not known.

    Args:
        head: the first HEAD_BYTES of the file.
    """
    for place, magic, what, way in _KINDS:
        if head[place : place + len(magic)] == magic:
            return what, way
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        if b"<svg" in text:
            return "an SVG drawing", _EXPORT
        page = any(mark in text for mark in _PAGE)
        return ("a web page" if page else "an XML file"), _IMAGES
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, which is never opened", _IMAGES
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "a file of model weights", _IMAGES
    return None

"""Files that are no images, under the names of images."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.hostile_images import Made
from tests.zip_bytes import Piece, zipped


class _Runs:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.path}'",)


def files(ran: Path) -> Iterator[Made]:
    """All of them; one that were unpickled would make the file `ran`."""
    for kind, data, words in (*_drawings(), *_archives(), *_numbers(ran), *_others()):
        yield kind, f"{kind}.png", data, words, 0


def _drawings() -> Iterator[tuple[str, bytes, str]]:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    yield "svg", svg, "an SVG drawing"
    yield "svg behind a declaration", b'\xef\xbb\xbf<?xml version="1.0"?>\n' + svg, "an SVG drawing"
    yield "page", b"<!DOCTYPE html><script>alert(1)</script>", "a web page"
    yield "script", b"  <script>alert(1)</script>", "a web page"
    names = "abcdefghij"
    laughs = "".join(f'<!ENTITY {a} "{f"&{b};" * 10}">' for a, b in zip(names[1:], names[:-1], strict=True))
    yield "laughs", f'<?xml version="1.0"?><!DOCTYPE a [{laughs}]><a>&j;</a>'.encode(), "an XML file"
    yield "pdf", b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>", "a PDF document"
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file\n", "a PostScript drawing"
    yield "psd", b"8BPS\0\x01" + bytes(60), "a Photoshop document"
    yield "icon", b"\0\0\x01\0\x01\0" + bytes(60), "an icon"


def _archives() -> Iterator[tuple[str, bytes, str]]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        link = tarfile.TarInfo("evil.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    yield "tar", tar.getvalue(), "a tar archive"
    yield "gzip", gzip.compress(bytes(1_000_000)), "a gzip archive"
    yield "bzip2", bz2.compress(bytes(1_000_000)), "a bzip2 archive"
    yield "xz", lzma.compress(bytes(1_000_000)), "an xz archive"
    yield "7z", b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(60), "a 7z archive"
    yield "rar", b"Rar!\x1a\x07\x01\0" + bytes(60), "a RAR archive"
    yield "zstd", b"\x28\xb5\x2f\xfd" + bytes(60), "a zstd archive"


def _numbers(ran: Path) -> Iterator[tuple[str, bytes, str]]:
    code = pickle.dumps(_Runs(ran))
    yield "pickle", code, "a Python pickle, which is never opened"
    yield "pickle of old", pickle.dumps(_Runs(ran), 0), "no image in a format that is taken"
    array = io.BytesIO()
    np.save(array, np.array([_Runs(ran)], dtype=object), allow_pickle=True)
    yield "npy", array.getvalue(), "a NumPy array"
    yield "npz", zipped(Piece("a.npy", array.getvalue())), "a NumPy array"
    weights = zipped(Piece("model/data.pkl", code), Piece("model/data/0", bytes(64)))
    yield "pt", weights, "a Python pickle, which is never opened"
    header = json.dumps({"__metadata__": {"a": "<script>"}}).encode()
    yield "safetensors", struct.pack("<Q", len(header)) + header, "a file of model weights"


def _others() -> Iterator[tuple[str, bytes, str]]:
    yield "windows program", b"MZ\x90\0" + bytes(60), "a program"
    yield "linux program", b"\x7fELF\x02\x01\x01" + bytes(60), "a program"
    yield "heic", b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC photograph"
    yield "video", b"\0\0\0\x18ftypisom" + bytes(60), "a video"
    yield "dicom", bytes(128) + b"DICM" + bytes(60), "a DICOM file"
    yield "text", b"#!/bin/sh\ntouch ran\n", "no image in a format that is taken"
    yield "null bytes", bytes(1000), "no image in a format that is taken"

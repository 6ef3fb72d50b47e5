"""Inputs to begin with, and the valid files around the foreign one."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, features
from tests.bench_helpers import tiny_checkpoint
from tests.image_bytes import encoded, png, tiff, tiled
from tests.test_bench_table import fill, run_of, shares
from tests.zip_bytes import Piece, zipped

from farshot.annotations.formats import FORMATS, format_called
from farshot.annotations.rows import Labelled
from farshot.bench.store import Store
from farshot.classifier import FewShotClassifier
from farshot.methods import available

READERS = (
    *(".csv", ".json", ".parquet", ".names.txt", ".names.json", ".descriptions.json", ".groups.csv"),
    *("groups", "folder"),
)
METHODS: dict[str, dict[str, object]] = {
    "clip-lora": {"steps": 1, "batch": 4},
    "linear-probe": {},
    "tip-adapter": {},
    "zero-shot": {},
}
TINY = "tiny"
CHECKPOINTS = (TINY, "biomedclip-like", "metaclip2-hf", "openclip-vit", "siglip-hf", "siglip-openclip")
"""Those that may be fuzzed; all but the first come with FARSHOT_TEST_DATA."""

_FOREIGN = (".json", ".txt", ".model", ".safetensors", ".bin")
_MOST_BYTES = 16_000


# Tables --------------------------------------------------------------------------------------------------


def of_readers() -> list[bytes]:
    """A file of each kind, some with a fault."""
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["x", "y"], "split": ["train", "test"]})
    parquet = io.BytesIO()
    table.to_parquet(parquet)
    lists = {"image_names": ["a.png", "b.png"], "image_labels": [0, 1], "label_names": ["x", "y"]}
    contents = {
        ".csv": (
            b"path,label,split,group\na.png,x,train,1\nb.png,y,test,2\n",
            b'\xef\xbb\xbffile;label\n"a.png";"x"\nb.png;y',
            b"path\tlabel\na.png\t\xc3\xa9\nb.png\te\xcc\x81\n",
        ),
        ".json": (json.dumps(lists).encode(),),
        ".parquet": (parquet.getvalue(),),
        ".names.txt": (b"cat: a cat\ndog: a dog\n", b"a cat\na dog\n", b"cat = a\ndog => b"),
        ".names.json": (b'{"cat": "a cat", "dog": "a dog"}', b'["a cat", "a dog"]'),
        ".descriptions.json": (b'{"cat": "whiskers", "1": "barks"}',),
        ".groups.csv": (b"path,label,patient\na.png,x,p1\nb.png,y,p2\n",),
        "groups": (b"([0-9])_", b"patient", b"^.*(?=_)", b"(?P<a>cat|dog)"),
        "folder": (b"cat/a.png\ndog/b.png", b"train/a/1.png\ntrain/b/2.png\ntest/a/3.png", b"a/x/1\nb/x/2"),
    }
    return [bytes([READERS.index(kind)]) + one for kind, several in contents.items() for one in several]


LABELS = {
    "csv": ".csv",
    "coco": ".json",
    "cvat": ".xml",
    "datumaro": ".json",
    "fiftyone": ".json",
    "label-studio": ".json",
}
"""Format of labels -> ending of its files."""


def of_labels() -> list[bytes]:
    """The same labels in every format, to be written in each other one."""
    rows = [
        Labelled("a.png", "x", split="train", group="1"),
        Labelled("b/c.png", "y", 0.5, "model"),
        Labelled("https://a.b/d.png", None),
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(FORMATS):
            path = Path(folder, f"labels{place}{LABELS[name]}")
            known = rows[:2] if name == "fiftyone" else rows  # labels.json holds no URLs
            format_called(name).write(known, path)
            content = path.read_bytes()
            found += [bytes([place + other * len(FORMATS)]) + content for other in range(len(FORMATS))]
    return found


def picture(kind: str, mode: str = "RGB", side: int = 9, **options: object) -> bytes:
    """A small picture file."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 4), dtype=np.uint8)
    return encoded(Image.fromarray(pixels, "RGBA").convert(mode), kind, **options)


def of_images() -> list[bytes]:
    """A picture of each format that is read, in several modes."""
    film = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    more = [
        encoded(Image.fromarray(deep), "PNG"),
        encoded(Image.fromarray(deep.astype(np.float32)), "TIFF"),
        encoded(film[0], "GIF", save_all=True, append_images=film[1:]),
        encoded(film[0], "TIFF", save_all=True, append_images=film[1:], compression="tiff_lzw"),
        encoded(film[0], "MPO", save_all=True, append_images=film[1:]),
        picture("JPEG", "CMYK"),
        picture("JPEG", "L", progressive=True),
        picture("PNG", "P"),
        picture("PNG", "RGBA"),
        picture("PNG", "1"),
        picture("TIFF", "RGB", compression="jpeg"),
        picture("TIFF", "CMYK", compression="packbits"),
        picture("GIF", "P"),
        picture("BMP", "P"),
        picture("BMP", "1"),
        picture("WEBP", "RGBA", lossless=True),
        b"P3 2 2 255\n" + b"1 2 3 " * 4,
        b"P5 2 2 65535\n" + bytes(8),
        b"Pf 2 2 -1.0\n" + bytes(16),
        b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(16),
        png(4, 4, 16, 2, bytes(4 * 25), (b"tEXt", b"a\0b"), (b"tRNS", bytes(6))),
        tiff(
            (256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 100), (277, 1), (279, 16), data=bytes(99)
        ),
        tiled((16, 16)),
        _bands(5),
    ]
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
    kinds += ["JPEG2000"] if features.check("jpg_2000") else []
    more += [picture(kind) for kind in kinds]
    exif = Image.Exif()
    exif[0x0112] = 6
    more += [encoded(film[0], "JPEG", exif=exif), encoded(film[0], "PNG", exif=exif)]
    return [bytes([options]) + one for number, one in enumerate(more) for options in {0, 64, number % 6}]


def _bands(count: int) -> bytes:
    """A TIFF of many bands, little endian."""
    data = bytes(range(16 * count))
    entries = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (277, count), (278, 4), (284, 1)]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    return tiff(*entries, (273, start), (279, len(data)), data=data)


def with_checksums(content: bytes) -> bytes:
    """A PNG with the right checksum in every chunk; anything else unchanged."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    made, place = bytearray(content[:8]), 8
    while place + 8 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunk = content[place : place + 8 + length]
        made += chunk + struct.pack(">I", zlib.crc32(chunk[4:]))
        place += 12 + length
    return bytes(made)


def of_zips() -> list[bytes]:
    """Zips of small pictures, and single files."""
    one, other = picture("PNG"), picture("GIF")
    made = [
        zipped(Piece("cat/a.png", one), Piece("dog/b.gif", other)),
        zipped(Piece("a.png", one, method=0), Piece("__MACOSX/._a.png", b"x"), comment=b"hello"),
        zipped(Piece("../a.png", one), Piece("dir/", b""), Piece(b"\xff\x80.png", one, flags=0)),
        zipped(Piece("a.txt", b"text"), Piece("a.zip", zipped(Piece("a.png", one)))),
    ]
    return [*(bytes([0]) + one for one in made), bytes([1]) + one, bytes([1]) + b"GIF89a"]


# Models --------------------------------------------------------------------------------------------------


@cache
def adapted_models() -> dict[str, dict[str, bytes]]:
    """The files of models adapted with the mini CLIP, by method and name."""
    images = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(6)]
    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method, settings in METHODS.items():
            place = Path(folder) / method
            made = FewShotClassifier("mini", method, settings=settings, device="cpu", seed=0)
            made.fit(images, ["cat", "dog"] * 3).save(place)
            found[method] = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    return found


def of_models() -> list[bytes]:
    """Every file of every model as it is; of weights the header."""
    models = adapted_models()
    return [
        bytes([8 * number + place]) + _content(name, models[method][name])
        for number, method in enumerate(sorted(models))
        for place, name in enumerate(sorted(models[method]))
    ]


def _content(name: str, whole: bytes) -> bytes:
    return _header(whole) if name.endswith(".safetensors") else whole[:_MOST_BYTES]


def _header(whole: bytes) -> bytes:
    return whole[8 : 8 + int.from_bytes(whole[:8], "little")].rstrip()


def under_header(content: bytes, whole: bytes) -> bytes:
    """A file of weights with this header and the numbers of another; content that is no JSON is the file."""
    if not content.startswith(b"{"):
        return content
    return struct.pack("<Q", len(content)) + content + whole[8 + int.from_bytes(whole[:8], "little") :]


@cache
def checkpoints() -> dict[str, list[str]]:
    """Checkpoints and their files that may be foreign; those of other libraries where they are here."""
    with tempfile.TemporaryDirectory() as folder:
        known = {TINY: tiny_checkpoint(Path(folder))}
        golden = _golden()
        known |= {name: golden / name for name in CHECKPOINTS[1:]} if golden else {}
        return {
            name: sorted(path.name for path in place.iterdir() if _may_be_foreign(path))
            for name, place in known.items()
        }


def _may_be_foreign(path: Path) -> bool:
    return path.suffix in _FOREIGN and (path.suffix == ".safetensors" or path.stat().st_size < _MOST_BYTES)


def _golden() -> Path | None:
    data = os.environ.get("FARSHOT_TEST_DATA")
    found = Path(data).parent / "golden" / "encoders" if data else None
    return found if found and found.is_dir() else None


def lay_out(name: str, folder: Path) -> None:
    """Write a whole checkpoint."""
    if name == TINY:
        tiny_checkpoint(folder)
        return
    golden = _golden()
    assert golden is not None
    shutil.copytree(golden / name, folder, ignore=shutil.ignore_patterns("*.npz"))
    for path in folder.iterdir():
        path.chmod(0o644)


@contextmanager
def offline() -> Iterator[None]:
    """The repositories that configurations name lie next to the checkpoints."""
    from farshot.storage import hub

    golden, before = _golden(), hub.download

    def download(repo: str, files: object, **_: object) -> Path:
        assert golden is not None
        return golden / "hub" / repo

    if golden is not None:
        hub.download = download
    try:
        yield
    finally:
        hub.download = before


def of_checkpoints() -> list[bytes]:
    """Every small file of every checkpoint as it is; of weights the header."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in checkpoints().items():
            place = Path(folder) / name
            lay_out(name, place)
            for which, file in enumerate(files):
                first = CHECKPOINTS.index(name) + len(CHECKPOINTS) * which
                found.append(bytes([first]) + _content(file, (place / file).read_bytes()))
    return found


# Settings and stores -------------------------------------------------------------------------------------


def of_settings() -> list[bytes]:
    """Methods with their settings, and configurations."""
    found = [b"\0atha[variant=released,views=none]", b"\0prompt-lora[steps=5, rank=2,lr=1e-3]"]
    for name, method in available().items():
        defaults = json.dumps({"method": name, "settings": method().settings()}, default=str)
        found.append(b"\1" + defaults.encode())
    found.append(b'\2{"range": [0.0, 1.5], "bands": [4, 3, 2]}')
    found.append(
        b'\3{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "size": '
        b'{"shortest_edge": 32}, "do_resize": true, "do_center_crop": true, "crop_size": {"height": 32}}'
    )
    return [*found, b"\4steps=5\nlr=0.1"]


@cache
def store() -> bytes:
    """A store of two runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.db"
        with Store(path) as made:
            fill(made, run_of("atha"), shares(0, 4))
            fill(made, run_of("prompt-lora"), shares(1, 4))
        return path.read_bytes()


def of_stores() -> list[bytes]:
    """Changes of cells and bytes."""
    cells = [
        ["runs", "settings", 1, "{}"],
        ["runs", "class_names", 1, ["a", "b"]],
        ["runs", "pool_notes", 1, ["x"]],
        ["runs", "ways", 1, 3],
        ["runs", "label", 2, "x\ny"],
        ["episodes", "labels", 1, {"hex": "0001"}],
        ["episodes", "classes", 1, ["a", "b"]],
        ["results", "probabilities", 1, {"hex": "3c00"}],
        ["results", "predictions", 1, {"hex": "00"}],
        ["results", "accuracy", 1, 0.5],
        ["results", "loss", 1, None],
        ["results", "created", 1, 1e12],
        [100, 7],
        [5000, 255],
    ]
    made = [bytes([reader]) + json.dumps(cells[i::7]).encode() for i in range(7) for reader in (i, i | 64)]
    return [*made, b"\x35{}\n", b"\x36PAR1"]

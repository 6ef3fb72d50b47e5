"""What is fuzzed: each target hands bytes to one kind of reader. The first byte of an input chooses the file
or option, the rest is its content."""

from __future__ import annotations

import atexit
import json
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from farshot.annotations.formats import FORMATS, format_called, single
from farshot.app.workspace.intake import Upload, take_in
from farshot.app.workspace.limits import Limits
from farshot.bench.compare import compare
from farshot.bench.export import export, rows, runs_block
from farshot.bench.grid import parse_method
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.classifier.saved import load
from farshot.cli import options
from farshot.data.names import read_descriptions, read_names
from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from farshot.images.decode import decode
from farshot.images.faults import Unreadable
from farshot.images.options import ReadOptions
from farshot.methods import create
from farshot.model.find import load_encoder
from farshot.model.formats.files import Source
from farshot.model.formats.preprocessing_hf import read_preprocessing
from farshot.report.benchmark import store_report
from farshot.storage.json_text import parse
from farshot.storage.model_folder import read_labelled, read_places, saved_options
from fuzz import seeds

_MOST_PIXELS = 10_000_000
_LIMITS = Limits(1 << 20, 1 << 20, 3 << 20, 50, 20, 1_000_000)


@dataclass(frozen=True)
class Target:
    """A kind of foreign bytes.

    Attributes:
        run: reads an input; raises FarshotError where it refuses it.
        seeds: inputs to begin with.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


ABSENT = "is not here; set FARSHOT_TEST_DATA."
"""How the refusal ends where this machine lacks the files that an input changes."""


@cache
def _place(name: str) -> Path:
    """A folder for this process's files, removed when it ends."""
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


# Tables --------------------------------------------------------------------------------------------------


def readers(data: bytes) -> None:
    """Tables, class names, descriptions, groups and folders of images."""
    kind, content = seeds.READERS[data[0] % len(seeds.READERS)], data[1:]
    folder = _images()
    if kind == "folder":
        _folder(content)
        return
    if kind == "groups":
        read_table(folder, groups=content.decode(errors="replace")[:40])
        return
    path = folder / f"table{kind}"
    path.write_bytes(content)
    try:
        if kind in (".csv", ".parquet", ".json"):
            table = read_table(path)
            table.images[0]
        elif kind in (".names.txt", ".names.json"):
            read_table(folder, class_names=path)
            read_names(path)
        elif kind == ".groups.csv":
            read_table(path, groups="patient", for_prompts=False)
        else:
            read_descriptions(path, ["cat", "dog"], ["0", "1"])
    finally:
        path.unlink()


@cache
def _images() -> Path:
    folder = _place("readers")
    for name in ("cat/1_a.png", "cat/1_b.png", "dog/2_a.png", "dog/2_b.png", "a.png", "b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(seeds.picture("PNG"))
    return folder


def _folder(content: bytes) -> None:
    """A folder with these paths, one a line."""
    root = _place("folder") / "data"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in content.split(b"\n")[:12]:
        parts = [part for part in name.split(b"/") if part not in (b"", b".", b"..")][:5]
        if parts and b"\0" not in name:
            path = Path(root, *(part[:60].decode("utf-8", "surrogateescape") for part in parts))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
    read_table(root, level=None if len(content) % 3 else 1)
    unlabelled([root])


# Labels --------------------------------------------------------------------------------------------------


def labels(data: bytes) -> None:
    """Labels in the files of other tools; what is read is written in another format and read again."""
    name, other = FORMATS[data[0] % len(FORMATS)], FORMATS[data[0] // len(FORMATS) % len(FORMATS)]
    folder = _place("labels")
    path, again = folder / f"in{seeds.LABELS[name]}", folder / f"out{seeds.LABELS[other]}"
    again.unlink(missing_ok=True)
    path.write_bytes(data[1:])
    rows = format_called(name).read(path)
    format_called(other).write(single(rows, "in", "first"), again)
    found = format_called(other).read(again)
    assert len(found) <= 2 * len(rows), (len(found), len(rows))


# Pictures ------------------------------------------------------------------------------------------------

_READ = (
    *(ReadOptions(), ReadOptions(), ReadOptions(bands=(1, 2, 3)), ReadOptions(bands=(4, 3, 2))),
    *(ReadOptions(range=(0.0, 1.0)), ReadOptions(range=(-5.0, 1e9), bands=(1, 1, 1))),
)


def images(data: bytes) -> None:
    """Picture files of every format, with several options; checksums of PNG are put right."""
    content = seeds.with_checksums(data[1:]) if data[0] & 64 else data[1:]
    wanted = 32 if data[0] & 128 else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = decode(content, _READ[data[0] % len(_READ)], wanted=wanted, most_pixels=_MOST_PIXELS)
    except Unreadable as error:
        raise DataError(error.reason) from error
    assert found.image.mode == "RGB" and min(found.size) > 0, found
    assert all(note.endswith(".") and "\n" not in note for note in found.notes), found.notes


def zips(data: bytes) -> None:
    """Uploads to the app: zips and files of other kinds."""
    folder = _place("zips")
    upload, place = folder / "upload", folder / "stored"
    shutil.rmtree(place, ignore_errors=True)
    upload.write_bytes(data[1:])
    taken, refused = take_in([Upload(("x.zip", "a/b.png")[data[0] % 2], upload)], place, _LIMITS)
    left = {path.name for path in place.iterdir()}
    assert left == {one.path.name for one in taken}, left
    for one in refused:
        assert one.reason.endswith(".") and "\n" not in one.reason and "\n" not in one.name, one
    if refused and not taken:
        raise DataError(refused[0].reason)


# Models --------------------------------------------------------------------------------------------------


def models(data: bytes) -> None:
    """Folders of adapted models, one file of which is foreign."""
    methods = seeds.adapted_models()
    method = sorted(methods)[data[0] // 8 % len(methods)]
    files = sorted(methods[method])
    name = files[data[0] % 8 % len(files)]
    folder = _place("models") / method
    if not folder.exists():
        folder.mkdir(parents=True)
        for file, content in methods[method].items():
            (folder / file).write_bytes(content)
    whole = (folder / name).read_bytes()
    content = seeds.under_header(data[1:], whole) if name.endswith(".safetensors") else data[1:]
    (folder / name).write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load(folder, device="cpu")
            read_labelled(folder)
            read_places(folder)
            saved_options(folder, found.about())
            found.predict_proba([np.zeros((8, 8, 3), np.uint8)])
    finally:
        (folder / name).write_bytes(whole)


def checkpoints(data: bytes) -> None:
    """Folders of encoders, one file of which is foreign."""
    checkpoint = seeds.CHECKPOINTS[data[0] % len(seeds.CHECKPOINTS)]
    files = seeds.checkpoints().get(checkpoint)
    if files is None:
        raise DataError(f"The checkpoint {checkpoint} {ABSENT}")
    name = files[data[0] // len(seeds.CHECKPOINTS) % len(files)]
    folder = _place("checkpoints") / checkpoint
    if not folder.exists():
        seeds.lay_out(checkpoint, folder)
    whole = (folder / name).read_bytes()
    content = seeds.under_header(data[1:], whole) if name.endswith(".safetensors") else data[1:]
    (folder / name).write_bytes(content)
    try:
        with warnings.catch_warnings(), seeds.offline():
            warnings.simplefilter("ignore")
            encoder = load_encoder(folder)
            assert encoder.size <= 20_000, encoder.size
            if encoder.size <= 256:
                encoder.encode_images(np.zeros((1, encoder.size, encoder.size, 3), np.uint8))
            if encoder.text is not None:
                encoder.encode_texts(["a photo of a cat.", "Ünïcode \u2581 ﬁ 日本"])
    finally:
        (folder / name).write_bytes(whole)


# Settings ------------------------------------------------------------------------------------------------


def settings(data: bytes) -> None:
    """Settings of methods, as text and as JSON; how images are read."""
    kind, content = data[0] % 5, data[1:]
    text = content.decode("utf-8", errors="surrogateescape")
    if kind == 0:
        parse_method(text).settings()
    elif kind == 1:
        found = _json(content)
        name, values = str(found.get("method")), found.get("settings")
        create(name, values if isinstance(values, dict) else {}).settings()
    elif kind == 2:
        saved_options("folder", {"preprocessing": _json(content)}).to_dict()
    elif kind == 3:
        folder = _place("settings")
        (folder / "preprocessor_config.json").write_bytes(content)
        read_preprocessing(Source("x", folder), 32)
    else:
        pairs = options.read_settings(text.split("\n"))
        for method in ("2sfs", "atha", "bitfit"):
            create(method, pairs)


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = parse(content)
    except ValueError as error:
        raise DataError("no JSON.") from error
    return found if isinstance(found, dict) else {}


# Stores --------------------------------------------------------------------------------------------------

_STORE_READERS: tuple[Callable[[Store, Path], object], ...] = (
    lambda store, _: table_blocks(store),
    lambda store, _: compare(store, "atha", "prompt-lora"),
    lambda store, _: store_report(store),
    lambda store, _: list(rows(store)),
    lambda store, _: runs_block(store),
    lambda store, folder: export(store, folder / "x.jsonl"),
    lambda store, folder: export(store, folder / "x.parquet"),
    lambda store, _: [store.predictions(run, [(1, 0), (1, 1)]) for run in store.runs()],
)


def stores(data: bytes) -> None:
    """Stores with foreign cells or bytes, and results that were exported before."""
    folder = _place("stores")
    path = folder / "r.db"
    for old in folder.iterdir():
        old.unlink()
    reader = _STORE_READERS[data[0] % len(_STORE_READERS)]
    if data[0] & 32:
        (folder / ("x.jsonl" if data[0] & 16 else "x.parquet")).write_bytes(data[1:])
        path.write_bytes(seeds.store())
    else:
        path.write_bytes(_edited(_list(data[1:]), path))
    with Store(path, read_only=True) as store:
        reader(store, folder)
    if data[0] & 64:
        with Store(path) as store:
            for run in store.runs():
                store.done(run, 1, 4)
                store.claim(run, 1, 6, 2)
            store.release()


def _list(content: bytes) -> list[Any]:
    try:
        found = parse(content)
    except ValueError as error:
        raise DataError("no JSON.") from error
    return found if isinstance(found, list) else []


def _edited(edits: Sequence[Any], path: Path) -> bytes:
    """The store with cells changed ([table, column, row, value], {"hex": ...} for bytes) or single bytes
    ([place, byte])."""
    path.write_bytes(seeds.store())
    patches = []
    with closing(sqlite3.connect(path)) as file, file:
        known = {
            table: [column[1] for column in file.execute(f"PRAGMA table_info({table})")]
            for table in ("runs", "episodes", "results", "claims")
        }
        for edit in edits[:8]:
            match edit:
                case [str(table), str(column), int(row), value] if column in known.get(table, ()):
                    _set(file, table, column, row, value)
                case [int(place), int(byte)]:
                    patches.append((place, byte & 255))
    whole = bytearray(path.read_bytes())
    for place, byte in patches:
        whole[place % len(whole)] = byte
    return bytes(whole)


def _set(file: sqlite3.Connection, table: str, column: str, row: int, value: Any) -> None:
    if isinstance(value, dict):
        value = bytes.fromhex("".join(c for c in str(value.get("hex")) if c in "0123456789abcdef")[:4000] * 2)
    if isinstance(value, list):
        value = json.dumps(value)
    try:
        file.execute(f"UPDATE {table} SET {column} = ? WHERE rowid % 3 = ?", (value, row % 3))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        return


TARGETS = {
    "labels": Target(labels, seeds.of_labels),
    "readers": Target(readers, seeds.of_readers),
    "images": Target(images, seeds.of_images),
    "zips": Target(zips, seeds.of_zips),
    "models": Target(models, seeds.of_models),
    "checkpoints": Target(checkpoints, seeds.of_checkpoints),
    "settings": Target(settings, seeds.of_settings),
    "stores": Target(stores, seeds.of_stores),
}

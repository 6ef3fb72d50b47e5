"""Pictures, folders and command lines for the tests of what comes in."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from farshot.arrays import NDArray
from farshot.cli import console
from farshot.cli.root import app
from farshot.data.readers import read_table
from farshot.errors import DataError


def picture(number: int, width: int = 24, height: int = 20) -> Image.Image:
    """A small RGB picture; another number is another picture."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """Its values."""
    return np.asarray(image)


def class_folders(
    folder: Path, classes: tuple[str, ...] = ("cat", "dog", "owl"), images: int = 3, start: int = 0
) -> Path:
    """A folder per class with different PNG pictures."""
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            picture(start + 100 * c + i).save(folder / name / f"{i}.png")
    return folder


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a file of comma-separated values, the header first."""
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


class Told(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Farshot = Callable[..., Told]


def command_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Farshot:
    """Runs command lines in this process as the `farshot` program would."""

    def run(*arguments: str | Path) -> Told:
        monkeypatch.setattr(sys, "argv", ["farshot", *map(str, arguments)])
        for name in ("out", "err"):
            fresh = type(console.out)(
                stderr=name == "err", highlight=False, soft_wrap=True, emoji=False, width=200
            )
            monkeypatch.setattr(console, name, fresh)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        told = capfd.readouterr()
        return Told(int(ended.value.code or 0), told.out, told.err)

    return run


def refusal(told: Told) -> str:
    """The sentence of a refused command, which must be all that it said."""
    assert told.code == 2, told
    assert told.out == "", told.out
    assert "Traceback" not in told.err, told.err
    sentence = told.err.strip()
    assert sentence.startswith("farshot: "), sentence
    return sentence


def everything_in(folder: Path) -> set[str]:
    """All that lies in a folder, hidden files too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


QUICK = (
    *("--method", "prompt-lora", "--set", "steps=1", "--set", "views=none", "--set", "rank=1"),
    *("--device", "cpu"),
)
"""Options of `adapt` that take no time."""


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A full disk of `size` bytes a file, for every writer: Python, safetensors, onnx.

    Python would keep a module that is imported for the first time as a truncated .pyc file.
    """
    import resource

    compiles, before = sys.dont_write_bytecode, resource.getrlimit(resource.RLIMIT_FSIZE)
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = compiles


def adapted_in(folder: Path, *options: str | Path | int) -> Path:
    """A model adapted to the images in `data` with the checkpoint `clip` of a folder, by the command line."""
    out = folder / "adapted"
    command = [
        "farshot",
        "adapt",
        folder / "data",
        "--model",
        folder / "clip",
        "--out",
        out,
        *QUICK,
        *options,
    ]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", list(map(str, command)))
        console.run(app)
    assert not ended.value.code
    return out


def subprocess_environment(**more: str) -> dict[str, str]:
    """For the `farshot` program: one thread, no network."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


PROGRAM = [sys.executable, "-c", "from farshot.cli.root import main; main()"]


def refused_table(path: Path, **more: object) -> str:
    """The sentence with which a labelled table is refused, which names its place."""
    with pytest.raises(DataError) as error:
        read_table(path, **more)
    text = str(error.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    return text

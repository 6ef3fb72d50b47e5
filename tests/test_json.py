"""JSON, Parquet and the index of a pool, as they are found on disk: read, or refused with a known error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from farshot.data.cache import cached
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.errors import DataError
from farshot.storage.json_text import as_json, parse, parse_object, read_object
from tests.bench_helpers import folder_pool
from tests.input_helpers import class_folders


@pytest.mark.parametrize("text", ["caf\udce9", "\\udce9", "\\\udce9", "café 🌻", 'a"\n'])
def test_what_is_written_is_utf8_and_comes_back(text: str) -> None:
    assert parse(as_json({text: [text]}).encode()) == {text: [text]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[1,]",
        "{1: 2}",
        '"',
        "1" * 5000,
        "-" + "1" * 310,
        b"\xff",
        b"\x00{}",
    ],
)
def test_any_fault_of_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize(
    ("begin", "end", "levels"), [("[", "]", 1), ('{"a":', "}", 1), ('[1,{"a":', "}]", 2)]
)
def test_the_same_depth_is_read_by_every_version_of_python(begin: str, end: str, levels: int) -> None:
    most = 100 // levels
    assert parse(begin * most + "1" + end * most)
    for depth in (most + 1, 500, 5000):
        with pytest.raises(ValueError, match="nested too deep"):
            parse(begin * depth + "1" + end * depth)


@pytest.mark.parametrize("text", ["[]", '"word"', "1", "null"])
def test_only_an_object_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        parse_object(text)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # it takes no room
    with pytest.raises(ValueError, match="larger than 64 MB"):
        read_object(path)
    path.write_text('{"a": 1}', encoding="utf-8")
    assert read_object(path) == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="not an ordinary file"):
        read_object(tmp_path / "a.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: [],
        lambda values: [*values, 1],
        lambda values: ["x", *values[1:]],
        lambda values: [*values[:2], 5, *values[3:]],
        lambda values: [*values[:3], -4, *values[4:]],
        lambda values: [*values[:3], 10**9, 10**9, *values[5:]],
        lambda values: {"a": 1},
        lambda values: None,
    ],
)
def test_an_index_that_is_damaged_is_made_again(tmp_path: Path, change) -> None:
    folder = folder_pool(tmp_path / "p", images=2)
    before = cached(open_pool(f"p={folder}"), tmp_path / "cache").fingerprint
    (index,) = (tmp_path / "cache").glob("*/index.json")
    known = json.loads(index.read_text(encoding="utf-8"))
    name = sorted(known)[0]
    index.write_text(json.dumps(known | {name: change(known[name])}), encoding="utf-8")
    assert cached(open_pool(f"p={folder}"), tmp_path / "cache").fingerprint == before
    assert json.loads(index.read_text(encoding="utf-8")) == known


def test_a_damaged_parquet_table_is_read_or_refused(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = class_folders(tmp_path / "data")
    files = sorted(folder.rglob("*.png"))
    table = pd.DataFrame(
        {"path": [str(file) for file in files], "label": [file.parent.name for file in files]}
    )
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    assert read_table(path).classes == ("cat", "dog", "owl")
    whole, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 1 + int(generator.integers(4))):
            data[place] = int(generator.integers(256))
        path.write_bytes(bytes(data[: int(generator.integers(len(data) // 2, len(data) + 1))]))
        try:
            read_table(path)
        except DataError:
            refused += 1
    assert refused > 100

"""Stores whose cells were changed by hand or by a fault: one sentence, in every command that reads them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from farshot.bench.compare import compare
from farshot.bench.export import export, rows, runs_block
from farshot.bench.records import StoreError
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.errors import FarshotError
from farshot.report.benchmark import store_report
from tests.test_bench_table import fill, run_of, shares

VALUES: tuple[Any, ...] = (
    *(-1, 0, 2**62, 1e308, float("inf"), "", "x", "[", "[" * 5000, '{"a": NaN}', "[1, 2]", '"word"', "null"),
    *(b"", b"\xff", b"\xff" * 1001, b"[]"),
)
READERS: dict[str, Callable[[Store, Path], object]] = {
    "table": lambda store, _: table_blocks(store),
    "compare": lambda store, _: compare(store, "atha", "prompt-lora"),
    "report": lambda store, _: store_report(store),
    "rows": lambda store, _: list(rows(store)),
    "runs": lambda store, _: runs_block(store),
    "export": lambda store, folder: export(store, folder / "x.jsonl"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "r.db"
    with Store(path) as store:
        fill(store, run_of("atha"), shares(0, 4))
        fill(store, run_of("prompt-lora"), shares(1, 4))
    return path


def columns(path: Path) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as file:
        for table in ("runs", "episodes", "results"):
            for _, name, *_ in file.execute(f"PRAGMA table_info({table})"):
                yield table, name


def changed(whole: Path, place: Path, table: str, column: str, value: object) -> Path | None:
    """A copy with one cell of one row changed; None where the schema does not take the value."""
    shutil.copy(whole, place)
    with closing(sqlite3.connect(place)) as file, file:
        try:
            file.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT MAX(rowid) FROM {table})", (value,)
            )
        except (sqlite3.IntegrityError, OverflowError):
            return None
    return place


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reader", READERS)
def test_any_changed_cell_is_read_or_refused_in_one_sentence(
    whole: Path, tmp_path: Path, reader: str, every: int
) -> None:
    """Each column with each value, or with one of four, others for the next column."""
    refused = 0
    for number, (table, column) in enumerate(columns(whole)):
        for value in VALUES[number % every :: every]:
            place = changed(whole, tmp_path / "r.db", table, column, value)
            if place is None:
                continue
            with Store(place, read_only=True) as store:
                try:
                    READERS[reader](store, tmp_path)
                except FarshotError as error:
                    refused += isinstance(error, StoreError)
                    assert str(error).endswith("."), (table, column, value, error)
                    assert "\n" not in str(error)
                except Exception as error:
                    pytest.fail(f"{table}.{column} = {value!r}: {type(error).__name__}: {error}")
    assert refused > 20 / every

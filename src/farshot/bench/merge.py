"""Merge stores and bundles into one store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from farshot.bench.agreement import Row, agreement
from farshot.bench.bundle import open_results
from farshot.bench.bundle_rows import named, rows_of_store
from farshot.bench.records import Run, episode_words
from farshot.bench.store import Store
from farshot.bench.verify import correct_labels
from farshot.errors import DataError
from farshot.storage.atomic import check_file, whole_file
from farshot.storage.leftovers import made, new_name
from farshot.storage.paths import home

_AT_ONCE = 500  # rows in a transaction
_WAY = "choose another place"


@dataclass
class Merged:
    """What one source gave.

    Attributes:
        source: the store or bundle.
        new: its results that no source before it had.
        known: those that were there already, and agree.
        notes: what it says otherwise than it is shown here.
    """

    source: Path
    new: int = 0
    known: int = 0
    notes: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], out: Path) -> list[Merged]:
    """Write the results of all sources to a new store, whole or not at all.

    A result that several have is taken from the first; they must agree as two computations of a task do.

    Raises:
        StoreError, DataError: a source that cannot be read or is refused, a contradiction, which names the
            task, or a place that is taken.
    """
    found = []
    with whole_file(out, _check_place, _WAY) as staging:
        room = new_name(staging)
        with made(room, Path.mkdir):
            try:
                with Store(room / "store.db") as target:
                    found = [_add(home(source), target) for source in sources]
                shutil.copyfile(room / "store.db", staging)  # the staging file is locked: it stays
            finally:
                shutil.rmtree(room, ignore_errors=True)
    return found


def _check_place(out: Path) -> None:
    check_file(out, "a place for the merged store", lambda _: False, _WAY)


def _add(source: Path, target: Store) -> Merged:
    merged = Merged(source)
    opened = open_results(source)
    if isinstance(opened, Store):
        with opened:
            _add_rows(source, rows_of_store(opened), target, merged)
        return merged
    merged.notes += correct_labels(opened)
    _add_rows(source, opened.rows(), target, merged)
    return merged


def _add_rows(source: Path, rows: Iterator[tuple[Run, Row]], target: Store, merged: Merged) -> None:
    numbers: dict[str, int] = {}
    while part := list(islice(rows, _AT_ONCE)):
        new: dict[int, list[Row]] = {}
        for run, row in part:
            if run.identity not in numbers:
                numbers[run.identity] = target.run_id(run)
            number = numbers[run.identity]
            _check_task(source, target, run, row)
            if _is_known(source, target, number, run, row):
                merged.known += 1
            else:
                new.setdefault(number, []).append(row)
        for number, added in new.items():
            columns = [_columns(number, row) for row in added]
            merged.new += target.add(number, columns, [row.episode for row in added])


def _check_task(source: Path, target: Store, run: Run, row: Row) -> None:
    """Refuse a task that has other images or true classes in the target."""
    there = target.query(
        "SELECT classes, support, query, labels FROM episodes WHERE pool_fingerprint = ? AND protocol = ? "
        "AND ways = ? AND shots = ? AND queries = ? AND seed = ? AND idx = ?",
        (*run.tasks_of, *row.key),
    )
    mine = (*episode_words(row.episode), row.episode.labels.tobytes())
    if there and tuple(there[0].values()) != mine:
        raise DataError(
            f"{source} contradicts what was read before it: {named(run, row.key)} has other images; leave "
            "one of the two out."
        )


def _is_known(source: Path, target: Store, number: int, run: Run, row: Row) -> bool:
    """Whether the target has this result.

    Raises:
        DataError: it has another.
    """
    there = target.query(
        "SELECT predictions, probabilities FROM results WHERE run = ? AND seed = ? AND idx = ?",
        (number, *row.key),
    )
    if not there:
        return False
    found = agreement(Row(row.run, row.episode, there[0]), row, run.shape.ways)
    if not found.same_task:
        raise DataError(
            f"{source} contradicts what was read before it: {named(run, row.key)} has other results "
            f"({found}); leave one of the two out."
        )
    return True


def _columns(number: int, row: Row) -> dict[str, Any]:
    return {"run": number, "seed": row.episode.seed, "idx": row.episode.index, **row.columns}

"""The benchmark table: a row per method, a column per pool, a block per number of shots, and an average."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from farshot.bench import published
from farshot.bench.render import Block, Value, number
from farshot.bench.results import (
    ACCURACY,
    CellResult,
    Column,
    TableKey,
    average,
    in_order,
    likeness,
    read_groups,
    repeated,
    titled,
)
from farshot.bench.store import Store
from farshot.errors import DataError, SettingError
from farshot.evaluation.intervals import Interval
from farshot.storage.paths import quoted

_SECTIONS = {"transductive": "Transductive: sees all queries of a task together"}
_MEASURED = "Measured"
_OTHERS = f"Published by others (not measured here), with {published.ENCODER}"

Tasks = frozenset[tuple[int, int]]  # (seed, index)

RowKey = tuple[str, int, str]
"""Method, revision, and settings as JSON."""

NOT_PUBLISHED_POOL, UNDEVELOPED, FEWER, OTHER = "*", "†", "‡", "§"
_LEGEND = {
    NOT_PUBLISHED_POOL: "the images are not those of the published pool; not comparable with papers.",
    UNDEVELOPED: "settings are not the defaults and were not run on development seeds of this pool before.",
    FEWER: "fewer tasks than others in this column.",
    OTHER: "other tasks than others in this column, as of another seed; not comparable with them.",
}


def table_blocks(
    store: Store,
    *,
    with_published: bool = False,
    groups: Mapping[TableKey, list[CellResult]] | None = None,
    metric: str = ACCURACY,
) -> list[Block]:
    """One block for every group and number of shots.

    Args:
        groups: of the store by this metric, where they are known already.
        metric: one of `farshot.bench.results.METRICS`.

    Raises:
        DataError: an empty store.
    """
    if with_published and metric != ACCURACY:
        raise SettingError("Published numbers are accuracies; leave out --published, or --metric.")
    groups = read_groups(store, metric) if groups is None else groups
    if not groups:
        raise DataError(
            f"{store.path} has no results yet; `farshot bench ... --store {quoted(store.path)}` adds some."
        )
    return [
        _block(group, entries, shots, with_published, metric)
        for group, entries in groups.items()
        for shots in sorted({entry.run.shape.shots for entry in entries})
    ]


def _block(
    group: TableKey, entries: list[CellResult], shots: int, with_published: bool, metric: str
) -> Block:
    here = [entry for entry in entries if entry.run.shape.shots == shots]
    columns = in_order(entry.column for entry in here)
    most = {c: most_tasks([entry for entry in here if entry.column == c]) for c in columns}
    used: set[str] = set()
    sections: dict[str, list[list[str]]] = {}
    twice = repeated(columns)
    names = row_names(entries)
    for name, kind in dict.fromkeys((names[row_key(entry)], entry.run.kind) for entry in here):
        mine = {entry.column: entry for entry in here if names[row_key(entry)] == name}
        row = [name, *(_cell(mine.get(column), most[column], used) for column in columns)]
        whole = len(mine) == len(columns) and not twice
        mean = average([entry.score for entry in mine.values()]) if whole else None
        their = {mark for column, entry in mine.items() for mark in marks(entry, most[column])}
        row.append(_score(mean, [mark for mark in _LEGEND if mark in their]) if mean else "-")
        sections.setdefault(_SECTIONS.get(kind, _MEASURED), []).append(row)
    ordered = sorted(sections.items(), key=lambda item: item[0] != _MEASURED)
    notes = [
        f"{titled(metric)} in points, mean over tasks +- 1.96 sd / sqrt(n); tasks: {_tasks(most)}.",
        *(f"{mark} {_LEGEND[mark]}" for mark in _LEGEND if mark in used),
        *(f"{likeness(forms)}, so there is no average." for forms in twice),
    ]
    with_published = with_published and group.is_published
    if with_published and (rows := _published_rows(columns, shots)):
        ordered.append((_OTHERS, rows))
        notes += published.notes_on(columns)
    header = ["method", *(column.name for column in columns), "average"]
    records = [_record(group, entry, names[row_key(entry)], most[entry.column], metric) for entry in here]
    if with_published:
        records += _published_records(group, columns, shots)
    return Block(f"{shots} shot{'s' * (shots > 1)}: {group}", header, ordered, notes, records)


def most_tasks(entries: list[CellResult]) -> Tasks:
    """The tasks of the entry of a column that has those of most others, of these the largest."""
    sets = [frozenset(entry.series.keys) for entry in entries]
    return max(dict.fromkeys(sets), key=lambda mine: (sum(one <= mine for one in sets), len(mine)))


def _record(group: TableKey, entry: CellResult, name: str, most: Tasks, metric: str) -> dict[str, Value]:
    """A cell as a record; the metric in points."""
    interval = entry.score
    return group.place(entry.run.shape.shots) | {
        "source": "measured",
        "method": name,
        "kind": entry.run.kind,
        "pool": entry.column.name,
        "metric": metric,
        "mean": 100 * interval.mean,
        "ci95": 100 * interval.half,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "n": interval.n,
        "published_images": int(not entry.run.notes),
        "developed": int(not entry.marked),
        "fewer_tasks": int(frozenset(entry.series.keys) < most),
        "other_tasks": int(not most.issuperset(entry.series.keys)),
    }


def _published_records(group: TableKey, columns: list[Column], shots: int) -> list[dict[str, Value]]:
    """Published numbers in these columns, without intervals."""
    rows = []
    for name, by_shots in published.PUBLISHED.items():
        if shots not in by_shots:
            continue
        by_pool = dict(zip(published.POOLS, by_shots[shots], strict=False))  # the average comes last
        rows += [
            group.place(shots)
            | dict.fromkeys(("fingerprint", "precision", "template"), "")  # others', not this one
            | {
                "source": "published",
                "model": published.ENCODER,
                "method": name,
                "pool": column.name,
                "metric": ACCURACY,
                "mean": by_pool[column.name],
            }
            for column in columns
            if column.name in by_pool
        ]
    return rows


def row_key(entry: CellResult) -> RowKey:
    """The key of a row: one method, one revision, one set of settings."""
    return entry.run.method, entry.run.revision, json.dumps(entry.run.settings, sort_keys=True)


def row_names(entries: Sequence[CellResult]) -> dict[RowKey, str]:
    """Return a distinct name for every row; rows of one label, from older versions, are numbered."""
    names: dict[RowKey, str] = {}
    for entry in entries:
        if row_key(entry) in names:
            continue
        label, revision = entry.run.label, entry.run.revision
        name = label if revision == 1 else f"{label} (revision {revision})"
        same = sum(other == name or other.startswith(f"{name}, settings ") for other in names.values())
        names[row_key(entry)] = name if not same else f"{name}, settings {same + 1}"
    return names


def _cell(entry: CellResult | None, most: Tasks, used: set[str]) -> str:
    if entry is None:
        return "-"
    found = marks(entry, most)
    used.update(found)
    return _score(entry.score, found)


def _score(interval: Interval, found: Sequence[str]) -> str:
    return f"{number(100 * interval.mean)} +- {number(100 * interval.half)}{''.join(found)}"


def marks(entry: CellResult, most: Tasks) -> list[str]:
    """The marks of a result, where most of its column have these tasks (`most_tasks`)."""
    applying = [
        (NOT_PUBLISHED_POOL, bool(entry.run.notes)),
        (UNDEVELOPED, entry.marked),
        (FEWER, frozenset(entry.series.keys) < most),
        (OTHER, not most.issuperset(entry.series.keys)),
    ]
    return [mark for mark, applies in applying if applies]


def _tasks(most: dict[Column, Tasks]) -> str:
    counts = set(map(len, most.values()))
    if len(counts) == 1:
        return str(counts.pop())
    return ", ".join(f"{column.name} {len(tasks)}" for column, tasks in most.items())


def _published_rows(columns: list[Column], shots: int) -> list[list[str]]:
    """Rows of other people's numbers in these columns; their average only with all four pools."""
    rows = []
    known = [column.name for column in columns if column.name in published.POOLS]
    for name, by_shots in published.PUBLISHED.items() if known else ():
        if shots not in by_shots:
            continue
        *values, mean = by_shots[shots]
        by_pool = dict(zip(published.POOLS, values, strict=True))
        cells = [number(by_pool[c.name]) if c.name in by_pool else "-" for c in columns]
        all_four = [column.name for column in columns] == list(published.POOLS)
        rows.append([name, *cells, number(mean) if all_four else "-"])
    return rows

"""The report of a store: table, paired differences, tasks, calibration, time, and the commands to repeat
it.

Numbers come from the functions behind `farshot table` and `farshot compare`, so a page cannot disagree with
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from farshot.arrays import NDArray
from farshot.bench.bundle_rows import shared_name
from farshot.bench.compare import NO_SPREAD, CellComparison, compare_entries, comparison_block
from farshot.bench.records import Run, check_types, marked
from farshot.bench.render import Block
from farshot.bench.results import Calibrations, CellResult, Column, TableKey, in_order, read_groups
from farshot.bench.schema import damaged
from farshot.bench.store import Store
from farshot.bench.table import RowKey, row_key, row_names, table_blocks
from farshot.errors import SettingError
from farshot.report.commands import bench_commands, description_notes
from farshot.report.svg import Chart, legend, padded
from farshot.report.verdict import verdict

_LINES = 6  # in one chart of calibration: more cannot be told apart
MOST_MARKS = 300  # in one chart of tasks
_STEPS = (0.0, 0.02, 0.025, 0.04, 0.05, 0.1)
_FAIR = "prompt-lora"  # the baseline that differs from atha in nothing but the alignment


def store_report(store: Store, baseline: str | None = None) -> dict[str, Any]:
    """The variables of the template `store.html`.

    Args:
        baseline: method that others are compared with, as for `farshot bench`; by default prompt-lora where
            the store has it, else its first method.

    Raises:
        DataError: an empty store. SettingError: a baseline that the store does not have.
    """
    groups, calibrations = _without_paths(read_groups(store)), Calibrations(store)
    blocks = table_blocks(store, groups=groups)
    if baseline is not None:
        _check_baseline(store, groups, baseline)
    return {
        "title": "Benchmark report",
        "blocks": blocks,
        "groups": [
            _group(store, entries, group, baseline, calibrations) for group, entries in groups.items()
        ],
        "runs": len(store.runs()),
        "same_tasks": all(_same_tasks(_rows(entries)) for entries in groups.values()),
        "tasks": sum(len(entry.series) for entries in groups.values() for entry in entries),
    }


def _without_paths(groups: Mapping[TableKey, list[CellResult]]) -> dict[TableKey, list[CellResult]]:
    """The same with models called by names that can be shared, since the page may be."""

    def renamed(entry: CellResult) -> CellResult:
        run = replace(entry.run, model=shared_name(entry.run.model))
        return replace(entry, series=replace(entry.series, run=run))

    return {
        replace(group, model=shared_name(group.model)): list(map(renamed, entries))
        for group, entries in groups.items()
    }


@dataclass(frozen=True)
class _Row:
    """The results of a row of the table: one method, one revision, one set of settings.

    Attributes:
        name, shown: in the table, and marked where the method is transductive.
    """

    name: str
    entries: list[CellResult]

    @property
    def run(self) -> Run:
        return self.entries[0].run

    @property
    def shown(self) -> str:
        return marked(self.name, self.run.kind)


def _rows(entries: list[CellResult]) -> list[_Row]:
    """The rows of a table, transductive methods last."""
    found = [
        _Row(name, [entry for entry in entries if row_key(entry) == key])
        for key, name in row_names(entries).items()
    ]
    return sorted(found, key=lambda row: _apart(row.entries[0]))


def _same_tasks(rows: list[_Row]) -> bool:
    """Whether all methods have done the same tasks of the same pools and shots."""
    tasks = [
        {(one.column, one.run.shape.shots): frozenset(one.series.keys) for one in row.entries} for row in rows
    ]
    return all(one == tasks[0] for one in tasks)


def _group(
    store: Store,
    entries: list[CellResult],
    group: TableKey,
    baseline: str | None,
    calibrations: Calibrations,
) -> dict[str, Any]:
    rows = _rows(entries)
    base = _baseline(rows, baseline)
    comparisons, left_out = [], []
    for row in rows:
        if row is base:
            continue
        if cells := compare_entries(row.entries, base.entries, calibrations):
            comparisons.append(_comparison(group, row, base, cells))
        else:
            left_out.append(row.shown)
    shown = {row_key(row.entries[0]): row.shown for row in rows}
    return {
        "name": str(group),
        "verdict": [] if (found := verdict(entries)) is None else found.sentences,
        "baseline": base.shown,
        "comparisons": comparisons,
        "not_compared": left_out,
        "calibration": _calibration_charts(calibrations, entries, shown),
        "times": [_time(store, entry, shown[row_key(entry)]) for entry in _sorted(entries)],
        "commands": bench_commands(entries),
        "descriptions": description_notes(entries),
        "pools": _pools(entries),
        "facts": _facts(store, entries),
        "reporting": group.reporting,
    }


def _check_baseline(store: Store, groups: dict[TableKey, list[CellResult]], baseline: str) -> None:
    rows = [row for entries in groups.values() for row in _rows(entries)]
    labels = dict.fromkeys(name for row in rows for name in (row.run.label, row.name))
    if baseline not in labels:
        raise SettingError(
            f"{store.path} has no results of {baseline}; choose --baseline of: {', '.join(labels)}."
        )


def _baseline(rows: Sequence[_Row], wanted: str | None) -> _Row:
    """The row that others are compared with; of several revisions of a method the newest."""
    exact = [row for row in rows if row.name == wanted and row.run.label != wanted]
    named = exact or [row for row in rows if row.run.label == wanted]
    fair = [row for row in rows if row.run.method == _FAIR]
    found = named or [row for row in rows if row.run.label == (fair or rows)[0].run.label]
    return max(found, key=lambda row: row.run.revision)


def _comparison(group: TableKey, row: _Row, base: _Row, cells: list[CellComparison]) -> dict[str, Any]:
    return {
        "name": row.shown,
        "baseline": base.shown,
        "forest": _forest(cells, row.name, base.name),
        "block": _turned(comparison_block(group, cells, row.name, base.name)),
        "scatters": _scatters(row, base),
    }


def _turned(block: Block) -> Block:
    """A comparison with a column per cell, since seventeen columns fit neither a phone nor paper."""
    ((_, rows),) = block.sections
    header = ["", *(f"{pool}, {count_of(int(shots), 'shot')}" for pool, shots, *_ in rows)]
    lines = [[word, *(row[i] for row in rows)] for i, word in enumerate(block.header) if i >= 2]
    return Block("Numbers", header, [("", lines)], block.notes)


def _forest(cells: list[CellComparison], name: str, base: str) -> Markup:
    """Mean difference and 95 % interval of each cell, one below the other."""
    tall = 34
    ends = [100 * end for cell in cells for end in (cell.difference.low, cell.difference.high)]
    chart = Chart(
        padded(ends, around=0),
        (0, len(cells)),
        "difference in points of accuracy",
        "",
        height=tall * len(cells) + 52,
        left=14,
        top=8,
    )
    chart.line([0, 0], [0, len(cells)], plain=True)
    words = []
    for i, cell in enumerate(cells):
        d, at = cell.difference, len(cells) - i - 0.7
        label = f"{cell.pool}, {count_of(cell.shots, 'shot')}"
        interval = f"[{100 * d.low:+z.2f}, {100 * d.high:+z.2f}]" if d.varies else f"({NO_SPREAD})"
        told = f"{label}: {100 * d.mean:+z.2f} {interval}"
        chart.text(chart.left + 2, chart.at_y(len(cells) - i) + 14, told)
        chart.line([100 * d.low, 100 * d.high], [at, at])
        chart.point(100 * d.mean, at, size=4.5, title=told)
        words.append(told)
    return chart.render(f"{name} minus {base}, paired", "; ".join(words), y_ticks=False)


def _scatters(row: _Row, baseline: _Row) -> list[dict[str, Any]]:
    """One chart per number of shots: a mark for every pair of accuracies, larger where more tasks have it."""
    out = []
    name, base = row.name, baseline.name
    for shots in sorted({entry.run.shape.shots for entry in row.entries}):
        here = [entry for entry in row.entries if entry.run.shape.shots == shots]
        columns = in_order(entry.column for entry in here)
        chart = Chart((0, 100), (0, 100), f"{base}, accuracy %", f"{name}, accuracy %", height=330)
        chart.line([0, 100], [0, 100], plain=True)
        above = below = equal = 0
        found: dict[str, NDArray[np.float64]] = {}
        for column in columns:
            mine, other = (_accuracies(one.entries, column, shots) for one in (row, baseline))
            common = sorted(set(mine) & set(other))
            if not common:
                continue
            found[column.name] = pairs = np.array([(other[key], mine[key]) for key in common])
            above += int((pairs[:, 1] > pairs[:, 0]).sum())
            below += int((pairs[:, 1] < pairs[:, 0]).sum())
            equal += int((pairs[:, 1] == pairs[:, 0]).sum())
        named = list(found)
        step = rounding_step(list(found.values()))
        for i, (pool, pairs) in enumerate(found.items()):
            for (x, y), count in zip(*distinct_pairs(pairs, step), strict=True):
                size = 2.2 + 1.2 * float(np.sqrt(count)) if not step else 1.5 + 0.4 * float(np.log2(count))
                around = "" if not step else "about "
                told = f"{pool}: {around}{100 * x:.1f} and {100 * y:.1f}, {count_of(int(count), 'task')}"
                chart.point(100 * x, 100 * y, i, size, told)
        if named:
            told = f"{name} is better on {above} tasks, {base} on {below}, equal on {equal}"
            rounded = f", rounded to {100 * step:g} points" if step else ""
            title = f"Accuracy of each task at {count_of(shots, 'shot')}{rounded}"
            out.append(
                {"svg": chart.render(title, told), "caption": f"{title}: {told}.", "legend": legend(named)}
            )
    return out


def rounding_step(found: list[NDArray[np.float64]]) -> float:
    """The width to which accuracies are rounded, so that a chart has at most MOST_MARKS marks; 0 for exact.

    Args:
        found: (tasks, 2) accuracies of two methods in [0, 1], for each pool.
    """
    for step in _STEPS:
        if sum(len(distinct_pairs(pairs, step)[0]) for pairs in found) <= MOST_MARKS:
            return step
    return _STEPS[-1]


def distinct_pairs(pairs: NDArray[np.float64], step: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distinct pairs of accuracies (distinct, 2), rounded to multiples of `step`, and how often each is
    there.
    """
    rounded = pairs if not step else np.round(pairs / step) * step
    values, counts = np.unique(rounded, axis=0, return_counts=True)
    return values, counts


def _accuracies(entries: list[CellResult], column: Column, shots: int) -> dict[tuple[int, int], float]:
    for entry in entries:
        if (entry.column, entry.run.shape.shots) == (column, shots):
            return dict(zip(entry.series.keys, entry.series.accuracy.tolist(), strict=True))
    return {}


def _calibration_charts(
    calibrations: Calibrations, entries: list[CellResult], shown: Mapping[RowKey, str]
) -> list[dict[str, Any]]:
    """One chart per pool and number of shots, with its numbers; methods are called as in `shown`."""
    out = []
    for shots, column in dict.fromkeys((e.run.shape.shots, e.column) for e in _sorted(entries)):
        here = [e for e in _sorted(entries) if (e.run.shape.shots, e.column) == (shots, column)]
        for start in range(0, len(here), _LINES):
            part = here[start : start + _LINES]
            chart = Chart((0, 100), (0, 100), "confidence %", "share right %", height=300)
            chart.line([0, 100], [0, 100], plain=True)
            rows: list[dict[str, Any]] = []
            for i, entry in enumerate(part):
                found = calibrations.of(entry.number, entry.series.keys)
                name = shown[row_key(entry)]
                rows.append({"name": name, "error": found.error, "nll": found.nll})
                xs, ys = [100 * b.confidence for b in found.bins], [100 * b.accuracy for b in found.bins]
                chart.line(xs, ys, i)
                for b in found.bins:
                    told = f"{name}: {b.images} images, right {100 * b.accuracy:.1f} %"
                    chart.point(100 * b.confidence, 100 * b.accuracy, i, title=told)
            title = f"{column.name}, {count_of(shots, 'shot')}"
            told = "; ".join(
                f"{row['name']}: calibration error {100 * row['error']:.1f} points" for row in rows
            )
            names = [row["name"] for row in rows]
            out.append(
                {"title": title, "svg": chart.render(title, told), "legend": legend(names), "rows": rows}
            )
    return out


def _time(store: Store, entry: CellResult, name: str) -> dict[str, Any]:
    seconds = entry.series.seconds
    found = store.query(
        "SELECT device, MIN(batch) AS least, MAX(batch) AS most FROM results WHERE run = ? GROUP BY device",
        (entry.number,),
    )
    try:
        for row in found:
            check_types(row, {"device": str, "least": int, "most": int})
    except ValueError as error:
        raise damaged(store.path, f"run {entry.number}: {error}") from error
    batches = sorted({row[end] for row in found for end in ("least", "most")})
    return {
        "name": name,
        "pool": entry.column.name,
        "shots": entry.run.shape.shots,
        "mean": float(seconds.mean()),
        "median": float(np.median(seconds)),
        "total": float(seconds.sum()),
        "tasks": len(seconds),
        "device": ", ".join(row["device"] for row in found),
        "batch": " to ".join(map(str, batches)),
    }


def _facts(store: Store, entries: list[CellResult]) -> dict[str, str]:
    marks = ", ".join("?" * len(entries))
    numbers = [entry.number for entry in entries]
    found = store.query(f"SELECT DISTINCT version FROM results WHERE run IN ({marks})", numbers)
    seeds = sorted({int(seed) for entry in entries for seed in entry.series.seeds})
    run = entries[0].run
    return {
        "Model": run.model,
        "Its content": run.model_fingerprint,
        "Precision": run.precision,
        "Prompt": run.template,
        "Tasks": f"{run.shape}, protocol {run.protocol}",
        "Seeds": ", ".join(map(str, seeds)),
        "Made by": "farshot " + ", ".join(str(row["version"]) for row in found),
    }


def _pools(entries: list[CellResult]) -> list[dict[str, Any]]:
    found = {entry.column: entry.run for entry in entries}
    return [
        {"name": c.name, "classes": c.class_names, "notes": found[c].notes, "fingerprint": c.fingerprint}
        for c in in_order(found)
    ]


def _sorted(entries: list[CellResult]) -> list[CellResult]:
    order = in_order(entry.column for entry in entries)
    return sorted(entries, key=lambda e: (e.run.shape.shots, order.index(e.column), _apart(e)))


def _apart(entry: CellResult) -> bool:
    """Transductive methods come last."""
    return entry.run.kind == "transductive"


def count_of(number: int, thing: str) -> str:
    """A number and its noun: `1 task`, `2 tasks`."""
    return f"{number} {thing}{'s' * (number != 1)}"

"""Compare two methods on the same tasks: paired differences, corrected for the number of cells."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from farshot.arrays import NDArray
from farshot.bench.records import Series, marked
from farshot.bench.render import Block, Value, number, signed
from farshot.bench.results import (
    ACCURACY,
    Calibration,
    Calibrations,
    CellResult,
    Column,
    TableKey,
    in_order,
    likeness,
    read_groups,
    repeated,
)
from farshot.bench.store import Store
from farshot.errors import SettingError
from farshot.evaluation.intervals import (
    LEAST,
    Interval,
    PairedDifference,
    holm,
    mean_interval,
    over_cells,
    paired_difference,
)
from farshot.methods.catalogue import catalogue

NO_SPREAD = "all tasks differ by as much, which gives no interval"


@dataclass(frozen=True)
class CellComparison:
    """A and B on the tasks of one pool and number of shots that both have results for.

    Attributes:
        column: the pool.
        a, b: the metric over the common tasks, in [0, 1].
        difference: A minus B, paired.
        t_holm, sign_holm: p-values corrected over all cells of the group.
        a_kind, b_kind: of the methods: features, fine-tuned or transductive.
    """

    column: Column
    shots: int
    a: Interval
    b: Interval
    a_calibration: Calibration
    b_calibration: Calibration
    difference: PairedDifference
    t_holm: float
    sign_holm: float
    a_kind: str
    b_kind: str

    @property
    def pool(self) -> str:
        """Name of the column."""
        return self.column.name


@dataclass(frozen=True)
class _Wanted:
    """What a run must have to be compared."""

    method: str
    revision: int
    settings: dict[str, Any]
    label: str = field(compare=False)


def compare(
    store: Store,
    a: str,
    b: str,
    groups: Mapping[TableKey, list[CellResult]] | None = None,
    calibrations: Calibrations | None = None,
    metric: str = ACCURACY,
) -> dict[TableKey, list[CellComparison]]:
    """Compare two methods, each written as for `farshot bench`, in every cell that has both.

    Args:
        groups, calibrations: of the store, where they are known already; groups by this metric.
        metric: one of `farshot.bench.results.METRICS`.

    Raises:
        SettingError: one of them, or common tasks, are not in the store.
    """
    out: dict[TableKey, list[CellComparison]] = {}
    groups = read_groups(store, metric) if groups is None else groups
    calibrations = calibrations or Calibrations(store)
    everything = [entry for entries in groups.values() for entry in entries]
    first, second = (_wanted(store, spec, everything) for spec in (a, b))
    if first == second:
        raise SettingError(f"{a} and {b} are the same method with the same settings.")
    for group, entries in groups.items():
        mine, its = ([entry for entry in entries if _is(entry, wanted)] for wanted in (first, second))
        if cells := compare_entries(mine, its, calibrations):
            out[group] = cells
    if not out:
        raise SettingError(
            f"{store.path} has fewer than {LEAST} tasks of a cell that both {first.label} and "
            f"{second.label} have done; run both on the same pools, shots and seed."
        )
    return out


def compare_entries(
    mine: Sequence[CellResult], its: Sequence[CellResult], calibrations: Calibrations
) -> list[CellComparison]:
    """Compare results of two methods in each cell that both have; empty where too few tasks are common."""
    pairs = [(one, other) for one in mine for other in its if _place(one) == _place(other)]
    cells = [cell for pair in pairs if (cell := _compare_cell(calibrations, *pair)) is not None]
    order = in_order(one.column for one, _ in pairs)
    return sorted(_corrected(cells), key=lambda cell: (cell.shots, order.index(cell.column)))


def comparison_block(
    group: TableKey, cells: list[CellComparison], a: str, b: str, metric: str = ACCURACY
) -> Block:
    """The comparison as a table; the metric and differences in points."""
    header = [
        "pool",
        "shots",
        "tasks",
        f"A: {marked(a, cells[0].a_kind)}",
        f"B: {marked(b, cells[0].b_kind)}",
        "A - B",
        "t 95 %",
        "bootstrap 95 %",
        "p t",
        "p t (Holm)",
        "p sign",
        "p sign (Holm)",
        "smallest found",
        "tasks to find 0.5",
        "tasks for +-0.5",
        "ECE A",
        "ECE B",
        "NLL A",
        "NLL B",
    ]
    rows = [_row(cell) for cell in cells]
    notes = [
        f"A - B: mean difference in points of {metric.replace('-', ' ')} over tasks that both have done, with"
        " 95 % intervals.",
        *_overall(cells),
        "Holm: corrected over the cells of this table. Smallest found: the true difference in points that so"
        " many tasks find (p < 0.05) in 80 % of cases; tasks to find 0.5: how many find half a point so"
        " often; tasks for +-0.5: how many bring the half width of the interval to half a point.",
        "ECE in points, NLL in nats, over all query images.",
    ]
    if not all(cell.difference.varies for cell in cells):
        notes.append(f"-: {NO_SPREAD}; only the sign test says something.")
    if any("transductive" in name for name in header[3:5]):
        notes.append("A transductive method sees all queries of a task together, which others do not.")
    records = [_record(group, cell, a, b, metric) for cell in cells]
    return Block(str(group), header, [("", rows)], notes, records)


def _overall(cells: list[CellComparison]) -> list[str]:
    """The mean over cells in words; none where cells are of several forms of one pool."""
    by_shots: dict[int, list[Column]] = {}
    for cell in cells:
        by_shots.setdefault(cell.shots, []).append(cell.column)
    twice = dict.fromkeys(tuple(forms) for columns in by_shots.values() for forms in repeated(columns))
    if twice:
        return [f"{likeness(forms)}, so there is no mean over all cells." for forms in twice]
    overall, _ = over_cells([cell.difference for cell in cells])
    precision = f" +- {number(100 * overall.half)}" if overall.half else ""
    return [f"Over all {len(cells)} cells: {signed(100 * overall.mean)}{precision} points."]


def _record(group: TableKey, cell: CellComparison, a: str, b: str, metric: str) -> dict[str, Value]:
    """A cell as a record; metric, differences and calibration errors in points."""
    d = cell.difference
    ends = {
        "low": d.low,
        "high": d.high,
        "bootstrap_low": d.bootstrap_low,
        "bootstrap_high": d.bootstrap_high,
    }
    points: dict[str, float] = {
        "a_mean": cell.a.mean,
        "a_ci95": cell.a.half,
        "b_mean": cell.b.mean,
        "b_ci95": cell.b.half,
        "difference": d.mean,
        "a_ece": cell.a_calibration.error,
        "b_ece": cell.b_calibration.error,
    }
    return {
        **group.place(cell.shots),
        "pool": cell.pool,
        "a": a,
        "b": b,
        "metric": metric,
        "n": d.n,
        **{name: 100 * value for name, value in points.items()},
        **{name: 100 * value if d.varies else None for name, value in ends.items()},
        "a_nll": cell.a_calibration.nll,
        "b_nll": cell.b_calibration.nll,
        "p_t": d.t_p,
        "p_t_holm": cell.t_holm,
        "p_sign": d.sign_p,
        "p_sign_holm": cell.sign_holm,
        "smallest_found": 100 * d.smallest_effect if d.varies else None,
        "tasks_to_find_half_a_point": d.tasks_to_find if d.varies else None,
        "tasks_for_half_a_point": d.tasks_for_precision if d.varies else None,
    }


def _row(cell: CellComparison) -> list[str]:
    d = cell.difference
    return [
        cell.pool,
        str(cell.shots),
        str(d.n),
        f"{number(100 * cell.a.mean)} +- {number(100 * cell.a.half)}",
        f"{number(100 * cell.b.mean)} +- {number(100 * cell.b.half)}",
        signed(100 * d.mean),
        f"{signed(100 * d.low)} to {signed(100 * d.high)}" if d.varies else "-",
        f"{signed(100 * d.bootstrap_low)} to {signed(100 * d.bootstrap_high)}" if d.varies else "-",
        *(f"{p:.2g}" for p in (d.t_p, cell.t_holm, d.sign_p, cell.sign_holm)),
        number(100 * d.smallest_effect) if d.varies else "-",
        str(d.tasks_to_find) if d.varies else "-",
        str(d.tasks_for_precision) if d.varies else "-",
        number(100 * cell.a_calibration.error),
        number(100 * cell.b_calibration.error),
        f"{cell.a_calibration.nll:.3f}",
        f"{cell.b_calibration.nll:.3f}",
    ]


def _compare_cell(calibrations: Calibrations, one: CellResult, other: CellResult) -> CellComparison | None:
    """Compare one cell; None if too few tasks are common."""
    mine, its = _common(one.series, other.series)
    if len(mine) < LEAST:
        return None
    a, b = one.scores[mine], other.scores[its]
    common = one.series.only(mine).keys
    return CellComparison(
        one.column,
        one.run.shape.shots,
        mean_interval(a),
        mean_interval(b),
        calibrations.of(one.number, common),
        calibrations.of(other.number, common),
        paired_difference(a, b),
        1.0,
        1.0,
        one.run.kind,
        other.run.kind,
    )


def _common(one: Series, other: Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the tasks that both have, in each."""
    mine, its = (series.seeds * 2**32 + series.indices for series in (one, other))
    if np.array_equal(mine, its):
        return np.arange(len(mine)), np.arange(len(mine))
    _, places, others = np.intersect1d(mine, its, return_indices=True)
    return places, others


def _corrected(cells: list[CellComparison]) -> list[CellComparison]:
    t = holm([cell.difference.t_p for cell in cells])
    sign = holm([cell.difference.sign_p for cell in cells])
    return [
        replace(cell, t_holm=t_holm, sign_holm=sign_holm)
        for cell, t_holm, sign_holm in zip(cells, t, sign, strict=True)
    ]


def _is(entry: CellResult, wanted: _Wanted) -> bool:
    run = entry.run
    return (run.method, run.revision, run.settings) == (wanted.method, wanted.revision, wanted.settings)


def _place(entry: CellResult) -> tuple[Column, int]:
    return entry.column, entry.run.shape.shots


def _wanted(store: Store, spec: str, entries: Sequence[CellResult]) -> _Wanted:
    """The runs of the method that a spec describes, as this farshot has it.

    Raises:
        SettingError: the store has none, or the spec is not one.
    """
    name = spec.strip()
    if about := catalogue(glob.escape(name)).get(name):
        wanted = _Wanted(name, about["revision"], about["settings"], name)
    else:
        from farshot.bench.grid import label, parse_method  # imports torch

        method = parse_method(spec)
        wanted = _Wanted(method.name, method.revision, method.settings(), label(method))
    if not any(_is(entry, wanted) for entry in entries):
        runs = [entry.run for entry in entries]
        several = any(run.label == wanted.label for run in runs)  # then the revision tells them apart
        shown = f"{wanted.label} (revision {wanted.revision})" if several else wanted.label
        names = (
            f"{run.label} (revision {run.revision})" if run.label == wanted.label else run.label
            for run in runs
        )
        known = ", ".join(dict.fromkeys(names)) or "nothing yet"
        raise SettingError(f"{store.path} has no results of {shown}; it has: {known}.")
    return wanted

"""The results of a store as a figure: every method against the number of labelled images per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite, sqrt
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farshot.bench.results import ACCURACY, CellResult, Column, TableKey, average, in_order, repeated, titled
from farshot.bench.table import marks, most_tasks, row_key, row_names
from farshot.errors import DataError
from farshot.evaluation.intervals import Interval
from farshot.explain.saved import save_figure
from farshot.explain.style import DASHES, MARKERS, PALETTE, colour

_ACROSS, _SIDE = 3, 3.4  # panels in a row; inches
_HOLLOW = "hollow: marked in the table, or without an interval"


@dataclass(frozen=True)
class _Point:
    score: Interval
    marked: bool

    @property
    def hollow(self) -> bool:
        return self.marked or not isfinite(self.score.half)


_Points = dict[str, dict[int, _Point]]  # method -> shots -> point


def draw_results(groups: Mapping[TableKey, list[CellResult]], path: Path, metric: str = ACCURACY) -> None:
    """Write a figure with one panel for every pool, and one for their average, of each group of comparable
    results.

    The points are means over tasks, the bars 1.96 sd / sqrt(n). Points that
    the table marks, or that have no interval, are hollow. The average has those methods and shots that
    were run on all pools; there is none where two are forms of one pool.

    Args:
        groups: of `farshot.bench.results.read_groups`, by this metric.
        path: a .png or .svg file; an older chart of farshot is replaced.

    Raises:
        DataError: no results, or as `farshot.explain.saved.check_figure`.
    """
    if not groups:
        raise DataError("There are no results to draw; `farshot bench` makes some.")
    panels = [
        panel for group, entries in groups.items() for panel in _panels(group, entries, len(groups) > 1)
    ]
    names = list(dict.fromkeys(name for _, points in panels for name in points))
    across = min(_ACROSS, ceil(sqrt(len(panels))))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(2, across) * _SIDE, down * _SIDE + 1), layout="constrained")
    drawn = {}
    for index, (title, points) in enumerate(panels):
        axes = figure.add_subplot(down, across, index + 1)
        axes.set_title(title, fontsize=9)
        drawn.update(_draw(axes, points, names))
        if index % across == 0:
            axes.set_ylabel(f"{titled(metric)}, % (95 % interval)")
    if len(groups) == 1:
        figure.suptitle(fill(str(next(iter(groups))), 45 * max(2, across)), fontsize=9)
    handles, labels = [drawn[name] for name in names], list(names)
    if any(point.hollow for _, by_name in panels for points in by_name.values() for point in points.values()):
        handles.append(Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", color="black"))
        labels.append(_HOLLOW)
    figure.legend(handles, labels, loc="outside lower center", ncols=across, fontsize=8)
    save_figure(figure, path, "--figure")


def _panels(group: TableKey, entries: list[CellResult], several: bool) -> list[tuple[str, _Points]]:
    """Title and points of each panel; the title names the group where there are several."""
    names = row_names(entries)
    cells: dict[tuple[Column, int], list[CellResult]] = {}
    for entry in entries:
        cells.setdefault((entry.column, entry.run.shape.shots), []).append(entry)
    most = {cell: most_tasks(found) for cell, found in cells.items()}
    columns = in_order(entry.column for entry in entries)
    by_pool: dict[str, _Points] = {column.name: {} for column in columns}
    for entry in entries:
        points = by_pool[entry.column.name].setdefault(names[row_key(entry)], {})
        shots = entry.run.shape.shots
        points[shots] = _Point(entry.score, bool(marks(entry, most[entry.column, shots])))
    if len(columns) > 1 and not repeated(columns) and (averages := _averages(list(by_pool.values()))):
        by_pool[f"average of {len(columns)} pools"] = averages
    heading = f"\n{fill(str(group), 50)}" if several else ""
    return [(f"{name}{heading}", points) for name, points in by_pool.items()]


def _averages(pools: list[_Points]) -> _Points:
    """Of the methods and shots that every pool has."""
    out: _Points = {}
    for name, points in pools[0].items():
        for shots in points:
            every = [pool.get(name, {}).get(shots) for pool in pools]
            found = [point for point in every if point is not None]
            if len(found) == len(pools):
                mean = average([point.score for point in found])
                out.setdefault(name, {})[shots] = _Point(mean, any(point.marked for point in found))
    return out


def _draw(axes: Axes, points: _Points, names: list[str]) -> dict[str, Line2D]:
    """Draw the methods, slightly apart so that their bars do not hide each other; return their handles."""
    drawn: dict[str, Line2D] = {}
    every = sorted({shots for by_shots in points.values() for shots in by_shots})
    for place, name in enumerate(name for name in names if name in points):
        index = names.index(name)
        by_shots = sorted(points[name].items())
        apart = 1.02 ** (place - (len(points) - 1) / 2)
        bars = axes.errorbar(
            [shots * apart for shots, _ in by_shots],
            [100 * point.score.mean for _, point in by_shots],
            yerr=[100 * point.score.half for _, point in by_shots],
            color=colour(index),
            marker=MARKERS[index % len(MARKERS)],
            linestyle=DASHES[index // len(PALETTE) % len(DASHES)],
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
        hollow = [(shots * apart, 100 * point.score.mean) for shots, point in by_shots if point.hollow]
        if hollow:
            axes.plot(
                *zip(*hollow, strict=True),
                color=colour(index),
                marker=MARKERS[index % len(MARKERS)],
                markerfacecolor="white",
                linestyle="none",
                markersize=4,
                zorder=3,
            )
        drawn[name] = bars.lines[0]
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, [str(shots) for shots in every])
    axes.minorticks_off()
    axes.set_xlabel("labelled images per class")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    return drawn

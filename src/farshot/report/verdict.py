"""The first sentences of the report of a store: which method wins, by how much, and what cannot be told
apart.

Methods are compared on the tasks that all of them have done, cell by cell (a cell: a pool and a number of
shots); every cell counts as much. Differences to the winner are paired, and their p-values are corrected by
Holm's method for the number of comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from farshot.arrays import NDArray
from farshot.bench.compare import NO_SPREAD
from farshot.bench.records import marked
from farshot.bench.results import CellResult, Column, repeated
from farshot.bench.table import RowKey, row_key, row_names
from farshot.evaluation.intervals import LEAST, Interval, holm, over_cells, paired_difference
from farshot.explain.html import bdi
from farshot.sanitize import plain

LEVEL = 0.05
_MOST_NAMED = 8
_EQUAL = 1e-9  # means that differ by less do so by rounding
_DRAWS = 2  # of a bootstrap that is not shown

Cell = tuple[Column, int]
_Tasks = Mapping[Cell, frozenset[tuple[int, int]]]  # (seed, index)


@dataclass(frozen=True)
class Rival:
    """A method that did not win.

    Attributes:
        name: as shown.
        mean: over cells, in [0, 1].
        ahead: how much better the winner is, paired; None with fewer than LEAST tasks in a cell.
        p: corrected by Holm's method; None where `ahead` is.
    """

    name: str
    mean: float
    ahead: Interval | None
    p: float | None

    @property
    def is_behind(self) -> bool:
        """By more than luck explains."""
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class Verdict:
    """The methods of a group on the tasks that they share.

    Attributes:
        winner: the method of the highest mean accuracy, as shown.
        mean: its accuracy, mean over cells, in [0, 1].
        rivals: the others, the best first.
        cells, tasks: on which they are compared.
        left_out: methods that lack some of these cells.
        set_aside: columns that do not count, each with the one of the same pool that does.
    """

    winner: str
    mean: float
    rivals: tuple[Rival, ...]
    cells: int
    tasks: int
    left_out: tuple[str, ...] = ()
    set_aside: tuple[tuple[Column, Column], ...] = ()

    @property
    def sentences(self) -> list[Markup]:
        """Two sentences, with more where methods or columns are left out; names are escaped."""
        said = [*(_of_several(self) if self.rivals else _of_one(self))]
        if self.left_out:
            said.append(
                Markup("Not ranked, since they lack some of these pools, shots or tasks: {}.").format(
                    _listed(self.left_out)
                )
            )
        for column, counted in self.set_aside:
            why = (
                "{} does not count: it is the same tasks as {} with other class names."
                if column.fingerprint == counted.fingerprint
                else "{} does not count: it and {} are versions of one pool with different images."
            )
            said.append(Markup(why).format(bdi(plain(column.name)), bdi(plain(counted.name))))
        return said


def verdict(entries: Sequence[CellResult]) -> Verdict | None:
    """Rank the methods of a group; None where they have no task in common."""
    kinds = {row_key(entry): entry.run.kind for entry in entries}
    shown = {key: marked(name, kinds[key]) for key, name in row_names(entries).items()}
    entries, set_aside = _once(entries)
    methods: dict[RowKey, dict[Cell, CellResult]] = {}
    for entry in entries:
        methods.setdefault(row_key(entry), {})[entry.column, entry.run.shape.shots] = entry
    names, shared = _ranked(methods)
    if not names or len(names) < min(2, len(shown)):
        return None
    scores: dict[RowKey, list[Float[NDArray[np.float64], " tasks"]]] = {name: [] for name in names}
    for cell in sorted(shared, key=lambda one: (one[0].name, one[1])):
        for name, found in _common({name: methods[name][cell] for name in names}).items():
            scores[name].append(found)
    means = {name: float(np.mean([one.mean() for one in found])) for name, found in scores.items()}
    best, *others = sorted(names, key=lambda name: -means[name])
    return Verdict(
        shown[best],
        means[best],
        _rivals(scores[best], [(shown[name], means[name], scores[name]) for name in others]),
        len(shared),
        sum(map(len, scores[best])),
        tuple(name for key, name in shown.items() if key not in names),
        set_aside,
    )


def _ranked(methods: Mapping[RowKey, Mapping[Cell, CellResult]]) -> tuple[list[RowKey], list[Cell]]:
    """The methods that can be ranked, and the cells in which all have tasks in common: those that have
    every cell, where two or more share tasks in each; otherwise the most that share tasks in any cell."""
    everything = list(dict.fromkeys(cell for cells in methods.values() for cell in cells))
    if len(methods) == 1:
        return list(methods), everything
    tasks = {
        name: {cell: frozenset(entry.series.keys) for cell, entry in cells.items()}
        for name, cells in methods.items()
    }
    complete = [name for name, cells in methods.items() if len(cells) == len(everything)]
    for least in (LEAST, 1):
        for names, needed in ((complete, len(everything)), (list(methods), 1)):
            found, cells = _sharing({name: tasks[name] for name in names}, least, needed)
            if len(found) > 1:
                return found, cells
    return [], []


def _sharing(tasks: Mapping[RowKey, _Tasks], least: int, needed: int) -> tuple[list[RowKey], list[Cell]]:
    """Methods, as many as can be found one by one, that have at least so many tasks in common in at least so
    many cells; and these cells."""
    best: tuple[list[RowKey], _Tasks] = ([], {})
    for first, its in tasks.items():
        group, common = [first], its
        for name, others in tasks.items():
            both = {cell: found & others[cell] for cell, found in common.items() if cell in others}
            both = {cell: found for cell, found in both.items() if len(found) >= least}
            if name != first and len(both) >= needed:
                group, common = [*group, name], both
        best = max(best, (group, common), key=lambda one: (len(one[0]), sum(map(len, one[1].values()))))
        if len(group) == len(tasks):
            break
    return [name for name in tasks if name in best[0]], list(best[1])


def _once(entries: Sequence[CellResult]) -> tuple[list[CellResult], tuple[tuple[Column, Column], ...]]:
    """The entries with one form of each pool: of several, at each number of shots the one with the most
    methods counts. And the columns left out, each with the one that counts."""
    kept = list(entries)
    aside: dict[tuple[Column, Column], None] = {}
    for shots in sorted({entry.run.shape.shots for entry in entries}):
        here = [entry for entry in entries if entry.run.shape.shots == shots]
        for forms in repeated(entry.column for entry in here):
            counted = max(forms, key=lambda form: sum(entry.column == form for entry in here))
            gone = [form for form in forms if form != counted]
            aside.update({(form, counted): None for form in gone})
            kept = [one for one in kept if one.run.shape.shots != shots or one.column not in gone]
    return kept, tuple(aside)


def _common(entries: dict[RowKey, CellResult]) -> dict[RowKey, Float[NDArray[np.float64], " tasks"]]:
    """Accuracy of each method on the tasks of a cell that all have done; empty where there are none."""
    ids = {name: one.series.seeds * 2**32 + one.series.indices for name, one in entries.items()}
    both = reduce(np.intersect1d, ids.values())
    if not len(both):
        return {}
    order = {name: np.argsort(found, kind="stable") for name, found in ids.items()}
    return {
        name: entries[name].scores[order[name][np.searchsorted(found[order[name]], both)]]
        for name, found in ids.items()
    }


def _rivals(
    best: list[Float[NDArray[np.float64], " tasks"]],
    others: list[tuple[str, float, list[Float[NDArray[np.float64], " tasks"]]]],
) -> tuple[Rival, ...]:
    if min(map(len, best)) < LEAST:
        return tuple(Rival(name, mean, None, None) for name, mean, _ in others)
    found = [
        over_cells([paired_difference(a, b, draws=_DRAWS) for a, b in zip(best, scores, strict=True)])
        for _, _, scores in others
    ]
    corrected = holm([p for _, p in found])
    return tuple(
        Rival(name, mean, ahead, p)
        for (name, mean, _), (ahead, _), p in zip(others, found, corrected, strict=True)
    )


def _of_one(found: Verdict) -> list[Markup]:
    return [
        Markup("Only {} has results here: {} % of the queries right on {}.").format(
            bdi(plain(found.winner)), _share(found.mean), _where(found)
        ),
        Markup("Which method is better cannot be said before another one has done the same tasks."),
    ]


def _of_several(found: Verdict) -> list[Markup]:
    second = found.rivals[0]
    name, next_best = bdi(plain(found.winner)), bdi(plain(second.name))
    right = Markup("{} % of the queries right on {}").format(_share(found.mean), _where(found))
    tied = [one.name for one in found.rivals if abs(found.mean - one.mean) < _EQUAL]
    if tied:
        highest = Markup("{} have the same mean accuracy, the highest: {}").format(
            _listed([found.winner, *tied]), right
        )
    else:
        highest = Markup("{} has the highest mean accuracy, {}, {} points more than {}").format(
            name, right, _more(found.mean - second.mean), next_best
        )
    if second.ahead is None:
        return [
            Markup("Too few tasks to say which method wins: {}.").format(highest),
            Markup("An interval takes at least {} common tasks of every pool and number of shots.").format(
                LEAST
            ),
        ]
    if tied:
        return [Markup("No method clearly wins: {}.").format(highest), _second(found)]
    interval = NO_SPREAD
    if second.ahead.low < second.ahead.high:
        interval = f"95 % interval {_signed(second.ahead.low)} to {_signed(second.ahead.high)}, paired"
    apart = Markup("{} points more than the next best, {} ({})").format(
        _more(second.ahead.mean), next_best, interval
    )
    told = (
        "{} wins: {}, {}."
        if all(one.is_behind for one in found.rivals)
        else "No method clearly wins: {} has the highest mean accuracy, {}, {}."
    )
    return [Markup(told).format(name, right, apart), _second(found)]


def _second(found: Verdict) -> Markup:
    """What cannot be told apart from the winner."""
    close = [one.name for one in found.rivals if not one.is_behind]
    k = len(found.rivals)
    for_k = f" after Holm’s correction for {k} comparisons" if k > 1 else ""
    if close and found.rivals[0].is_behind:
        behind = [one.name for one in found.rivals if one.is_behind]
        return Markup("It is clearly better than {}, but not told apart from {} (p ≥ {:g}{}).").format(
            _listed(behind), _listed(close), LEVEL, for_k
        )
    if close:
        return Markup("Not told apart from {} (p ≥ {:g}{}): {}.").format(
            bdi(plain(found.winner)), LEVEL, for_k, _listed(close)
        )
    others = "The other method is" if k == 1 else f"All {k} other methods are"
    return Markup("{} behind by more than chance explains (p &lt; {:g}{}).").format(others, LEVEL, for_k)


def _where(found: Verdict) -> str:
    """The cells and tasks in words."""
    tasks = f"{found.tasks} task{'s' * (found.tasks != 1)}"
    common = f" that all {'ranked ' * bool(found.left_out)}methods have done" if found.rivals else ""
    if found.cells == 1:
        return f"{tasks}{common}"
    return f"average over {found.cells} combinations of pool and shots ({tasks}{common})"


def _listed(names: Sequence[str]) -> Markup:
    more = len(names) - _MOST_NAMED
    named = Markup(", ").join(bdi(plain(name)) for name in names[:_MOST_NAMED])
    return named + (f" and {more} more" if more > 0 else "")


def _share(value: float) -> str:
    return f"{100 * value:.2f}"


def _more(value: float) -> str:
    """Points by which a method is better."""
    text = _share(abs(value))
    return text if text != "0.00" else "less than 0.01"


def _signed(value: float) -> str:
    text = f"{100 * value:+.2f}"
    return "0.00" if text in ("-0.00", "+0.00") else text.replace("-", "−")

"""How long a grid will take on this machine, from trials of its real methods, model and images.

Every method is tried at every number of shots on a few images of each pool, on tasks that are not part of
any benchmark. Training is timed step by step and stopped when its share of the time is used; what a machine
is too slow to try is computed from the time of a forward pass, with a wide range.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from farshot.bench.grid import Cell, Grid, label
from farshot.bench.load import Load, choose_load, cost, images_per_step
from farshot.bench.store import Store
from farshot.bench.tasks import DEVELOPMENT_SEEDS
from farshot.bench.worker import device_name, run_tasks, tasks_of
from farshot.data.pool import Pool
from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, use_cache

_SPARE = 4  # images of a class beyond those of a task, so that tasks differ
_AFTER = 3  # reports of progress from which on a trial may stop
_PROBED = 16  # images of a forward pass
_PROBE_S = 0.5
_MARGIN = 0.2  # either way, at least: the machine may be busier or cooler later
_UNTRIED = 2.0  # factor either way of what is computed from forward passes alone
_MOST_TRIALS = 40  # of a method
_STORED = 3  # results of a method from which on the store's times are used


@dataclass(frozen=True)
class Seconds:
    """A time with its range.

    Attributes:
        low, mid, high: seconds.
    """

    low: float
    mid: float
    high: float

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.low * factor, self.mid * factor, self.high * factor)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.low + other.low, self.mid + other.mid, self.high + other.high)

    @classmethod
    def of(cls, samples: Sequence[Seconds]) -> Seconds:
        """From several trials: the extremes, and the median; at least the margin either way."""
        mid = float(np.median([sample.mid for sample in samples]))
        low, high = min(sample.low for sample in samples), max(sample.high for sample in samples)
        return cls(min(low, (1 - _MARGIN) * mid), mid, max(high, (1 + _MARGIN) * mid))


NOTHING = Seconds(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Part:
    """What a method takes at one number of shots.

    Attributes:
        method: its label.
        left: tasks that are not stored yet, of all pools.
        each: of a task.
        source: where the time comes from: trials, the store, or forward passes.
    """

    method: str
    shots: int
    left: int
    each: Seconds
    source: str

    @property
    def total(self) -> Seconds:
        """Of all tasks left, one after the other."""
        return self.each * self.left


@dataclass(frozen=True)
class Rates:
    """What a task of each method takes, by (label, shots), and an image that is decoded."""

    tasks: Mapping[tuple[str, int], tuple[Seconds, str]]
    image: Seconds

    def parts(self, left: Sequence[tuple[Cell, int]]) -> list[Part]:
        """The time of the cells' tasks that are left."""
        counts: dict[tuple[str, int], int] = {}
        for cell, tasks in left:
            counts[_key(cell)] = counts.get(_key(cell), 0) + _computed(cell, tasks)
        return [
            Part(method, shots, count, *self.tasks[method, shots])
            for (method, shots), count in counts.items()
            if count
        ]


def calibrate(
    grid: Grid,
    left: Sequence[tuple[Cell, int]],
    encoder: Encoder,
    seconds: float,
    known: Mapping[tuple[str, int], Seconds],
    at_once: tuple[int | None, int | None] = (None, None),
) -> Rates:
    """Try every method at every number of shots that has tasks left, within about so many seconds.

    Args:
        grid: of the cells.
        left: cells, and how many of their tasks are not stored.
        known: times that need no trial, as `stored_rates` gives them.
        at_once: tasks of a batch, and images of a micro-batch; None as memory allows.
    """
    start = time.perf_counter()
    small = {pool.name: small_pool(pool, grid) for pool in grid.pools}
    rates: dict[tuple[str, int], tuple[Seconds, str]] = {
        key: (one, "the store") for key, one in known.items()
    }
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell, tasks in left:
        if tasks and _key(cell) not in known:
            groups.setdefault(_key(cell), []).append(cell)
    if not groups:
        return Rates(rates, NOTHING)
    image = _decoding(list(small.values()), encoder)
    forward = _forward_pass(next(iter(small.values())), encoder)
    ordered = sorted(groups.items(), key=lambda group: _cost(group[1][0]))
    trials = _Trials(grid, small, encoder, forward, at_once)
    trials.warm_up([cells[0] for _, cells in ordered], seconds)
    for number, (key, cells) in enumerate(ordered):
        share = max(0.0, seconds - (time.perf_counter() - start)) / (len(ordered) - number)
        rates[key] = _try(trials, cells, share)
    return Rates(rates, image)


def stored_rates(store: Store | None, grid: Grid, encoder: Encoder) -> dict[tuple[str, int], Seconds]:
    """Times of tasks of these methods that a store has from this kind of device."""
    found: dict[tuple[str, int], list[float]] = {}
    if store is None:
        return {}
    numbers = {run.identity: number for number, run in store.runs().items()}
    for cell in grid.cells:
        number = numbers.get(grid.run(cell, encoder).identity)
        if number is not None:
            rows = store.query(
                "SELECT seconds FROM results WHERE run = ? AND device = ?", (number, device_name(encoder))
            )
            found.setdefault(_key(cell), []).extend(row["seconds"] for row in rows)
    return {
        key: Seconds.of([Seconds(*np.quantile(times, (0.1, 0.5, 0.9)).tolist())])
        for key, times in found.items()
        if len(times) >= _STORED
    }


def left_of(grid: Grid, encoder: Encoder, store: Store | None) -> list[tuple[Cell, int]]:
    """Every cell with the number of its tasks that are not stored."""
    numbers: dict[str, int] = {}
    if store is not None:
        numbers = {run.identity: number for number, run in store.runs().items()}
    out = []
    for cell in grid.cells:
        number = numbers.get(grid.run(cell, encoder).identity)
        done = 0
        if store is not None and number is not None:
            done = store.done_count(number, grid.seed, cell.tasks)
        out.append((cell, cell.tasks - done))
    return out


def small_pool(pool: Pool, grid: Grid) -> Pool:
    """A few images of as many classes as a task has, spread over the pool."""
    most = max(grid.shots) + grid.queries + _SPARE
    ways = max(cell.shape.ways for cell in grid.cells if cell.pool.name == pool.name)
    labels = pool.table.labels
    assert labels is not None
    by_class: list[list[int]] = [[] for _ in pool.table.classes]
    for row in sorted(range(len(pool.ids)), key=pool.ids.__getitem__):
        by_class[labels[row]].append(row)
    fullest = sorted(range(len(by_class)), key=lambda c: -len(by_class[c]))[:ways]
    chosen = []
    for c in sorted(fullest):
        rows = by_class[c]
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
        chosen += [rows[place] for place in places.tolist()]
    table = pool.table
    codes = {c: code for code, c in enumerate(sorted(fullest))}
    part = ImageTable(
        tuple(table.images[row] for row in chosen),
        np.array([codes[int(labels[row])] for row in chosen], dtype=np.int64),
        tuple(table.classes[c] for c in sorted(fullest)),
        tuple(table.names[c] for c in sorted(fullest)),
        options=table.options,
    )
    return Pool(pool.name, part, tuple(pool.ids[row] for row in chosen), revision=pool.revision or "trial")


class _Enough(Exception):
    """A trial has used its time."""


class _Clock:
    """Progress of a trial: when each step was done."""

    def __init__(self, seconds: float) -> None:
        self.start, self._seconds = time.perf_counter(), seconds
        self.steps: list[tuple[int, float]] = []
        self.total = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        self.steps.append((done, now))
        self.total = total
        if len(self.steps) >= _AFTER and done < total and now - self.start > self._seconds:
            raise _Enough

    def whole(self, queries: float) -> Seconds:
        """Of all steps, and of predictions that cost as much as so many steps."""
        done, at = (np.array(column, dtype=np.float64) for column in zip(*self.steps, strict=True))
        each = np.diff(at) / np.diff(done)
        before = max(0.0, float(at[0] - self.start - done[0] * np.median(each)))
        ordered = np.sort(each)
        half = max(1, len(ordered) // 2)
        low, mid, high = ordered[:half].mean(), ordered.mean(), ordered[-half:].mean()
        return Seconds(*(before + (self.total + queries) * float(step) for step in (low, mid, high)))


@dataclass(frozen=True)
class _Trials:
    """What all trials share.

    Attributes:
        small: pools by name.
        forward: seconds of an image in a forward pass.
        at_once: as for `calibrate`.
    """

    grid: Grid
    small: Mapping[str, Pool]
    encoder: Encoder
    forward: float
    at_once: tuple[int | None, int | None]

    def load(self, cell: Cell) -> Load:
        """As the real run's."""
        return choose_load(cell.method, self.encoder, cell.shape, *self.at_once)

    def fitting(self, cell: Cell, share: float) -> int | None:
        """Tasks of a trial: the batch of the real run, or one, if the time allows; None where it does
        not."""
        images = images_per_step(cell.method, cell.shape)
        each = 2 * _AFTER * images if images else cell.queries + cell.shape.ways * cell.shape.shots
        for tasks in (self.load(cell).tasks, 1) if images else (1,):
            if tasks * each * self.forward <= share:
                return tasks
        return None

    def warm_up(self, cells: Sequence[Cell], seconds: float) -> None:
        """Take a few steps of training that do not count: the first ones load what all need."""
        trained = [cell for cell in cells if images_per_step(cell.method, cell.shape)]
        if trained and self.fitting(trained[0], seconds / len(cells)) is not None:
            self.run(trained[0], 1, 0.0)

    def run(self, cell: Cell, tasks: int, seconds: float) -> Seconds:
        """Seconds of a task, from one batch on a small pool."""
        pool = self.small[cell.pool.name]
        shape = replace(cell.shape, ways=min(cell.shape.ways, len(pool.sizes)))
        grid = replace(self.grid, seed=DEVELOPMENT_SEEDS[-1], pools=[pool])
        drawn = tasks_of(grid, Cell(pool, shape, cell.method, tasks), range(tasks))
        micro_batch = self.load(cell).micro_batch
        clock = _Clock(seconds)
        try:
            with use_cache(FeatureCache()):
                run_tasks(
                    *(cell.method, self.encoder, drawn, range(tasks)),
                    micro_batch=micro_batch,
                    progress=clock,
                )
        except _Enough:
            predicting = cell.queries / (2 * images_per_step(cell.method, cell.shape))
            return clock.whole(predicting) * (1 / tasks)
        taken = (time.perf_counter() - clock.start) / tasks
        return Seconds(taken, taken, taken)


def _try(trials: _Trials, cells: Sequence[Cell], share: float) -> tuple[Seconds, str]:
    """Seconds of a task of these cells, which differ in their pools only, and where they come from."""
    tasks = trials.fitting(cells[0], share)
    if tasks is None:
        guess = _cost(cells[0]) * trials.forward
        return Seconds(guess / _UNTRIED, guess, guess * _UNTRIED), "forward passes"
    samples: list[Seconds] = []
    start = time.perf_counter()
    for number in range(_MOST_TRIALS):
        used = time.perf_counter() - start
        if samples and used + used / len(samples) > share:
            break
        still = max(1, len(cells) - number)
        samples.append(trials.run(cells[number % len(cells)], tasks, (share - used) / still))
    return Seconds.of(samples), "trials"


def _decoding(pools: Sequence[Pool], encoder: Encoder) -> Seconds:
    """Seconds of an image that is read from its file."""
    rates = []
    for pool in pools:
        rows = list(range(0, len(pool.table), max(1, len(pool.table) // _PROBED)))
        start = time.perf_counter()
        pool.table.pixels(rows, "squash", encoder.size)
        rates.append((time.perf_counter() - start) / len(rows))
    return Seconds.of([Seconds(min(rates), float(np.mean(rates)), max(rates))])


def _forward_pass(pool: Pool, encoder: Encoder) -> float:
    """Seconds of an image in a forward pass."""
    pixels = pool.table.pixels(list(range(min(_PROBED, len(pool.table)))), "squash", encoder.size)
    images = np.stack(list(pixels))
    encoder.encode_images(images[:1])
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < _PROBE_S:
        encoder.encode_images(images).cpu()  # waits for a GPU
        count += len(images)
    return (time.perf_counter() - start) / count


def _computed(cell: Cell, tasks: int) -> int:
    """Tasks that cost their full time: methods on frozen features look at an image once."""
    if images_per_step(cell.method, cell.shape):
        return tasks
    images = cell.queries + cell.shape.ways * cell.shape.shots
    return min(tasks, -(-len(cell.pool.table) // images))


def _cost(cell: Cell) -> float:
    return cost(cell.method, cell.shape, cell.queries)


def _key(cell: Cell) -> tuple[str, int]:
    return label(cell.method), cell.shape.shots

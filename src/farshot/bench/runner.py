"""Runs a grid into a store: claims a batch, computes it, records it, until nothing is missing.

The same call goes on where an earlier one stopped, whatever stopped it, and adds what more tasks ask for.
Several processes may run it on one store at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from farshot.bench.executors import Load, choose_load, cost, run_tasks
from farshot.bench.grid import Cell, Grid
from farshot.bench.records import Episode
from farshot.bench.store import Store
from farshot.bench.tasks import query_labels, sample_task
from farshot.errors import FarshotError
from farshot.finetune import Progress
from farshot.model.encoder import DualEncoder
from farshot.stats import mean_interval
from farshot.task import Task

_POLL_S = 0.5


@runtime_checkable
class Watcher(Protocol):
    """Who is told how far the grid is; work is counted in images forwarded."""

    def begin(self, work: float, done: float) -> None:
        """All work of the grid, and what is stored already."""
        ...

    def working(self, cell: Cell, work: float) -> None:
        """Work of this process in the current batch, so far."""
        ...

    def stored(self, work: float) -> None:
        """A batch is stored."""
        ...

    def finished(self, cell: Cell, accuracy: Sequence[float], seconds: float) -> None:
        """All tasks of a cell are stored: their accuracy in [0, 1] and mean seconds."""
        ...


def run_grid(
    grid: Grid,
    encoder: DualEncoder,
    store: Store,
    *,
    tasks_per_batch: int | None = None,
    micro_batch: int | None = None,
    watcher: Watcher | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fills the store with every task of every cell.

    Args:
        tasks_per_batch, micro_batch: None chooses by memory (`choose_load`).
        sleep: waits while other processes work on all that is left.

    Raises:
        FarshotError: from a method or the store; what is stored stays.
    """
    grid.check()
    runs = {cell: store.run_id(grid.run(cell, encoder)) for cell in grid.cells}
    if watcher:
        watcher.begin(*_work(grid, store, runs))
    left = list(runs)
    with store.renewing():
        while left:
            before = len(left)
            busy = False
            for cell in list(left):
                load = choose_load(cell.method, encoder, cell.shape, tasks_per_batch, micro_batch)
                while chosen := store.claim(runs[cell], grid.seed, cell.tasks, load.tasks):
                    _batch(grid, cell, encoder, store, runs[cell], chosen, load, watcher)
                    busy = True
                if len(store.done(runs[cell], grid.seed, cell.tasks)) == cell.tasks:
                    left.remove(cell)
                    _report(cell, store, runs[cell], grid.seed, watcher)
            if left and len(left) == before and not busy:
                sleep(_POLL_S)


def tasks_of(grid: Grid, cell: Cell, indices: Sequence[int]) -> list[Task]:
    """The tasks of a cell with these numbers."""
    shape = cell.shape
    return [
        sample_task(
            cell.pool,
            ways=shape.ways,
            shots=shape.shots,
            queries=shape.queries,
            seed=grid.seed,
            index=index,
            template=grid.template,
            descriptions=grid.descriptions,
        )
        for index in indices
    ]


def episode_of(cell: Cell, task: Task, seed: int, index: int) -> Episode:
    """What the store keeps of a task."""
    table, ids = cell.pool.table, cell.pool.ids
    assert table.labels is not None
    shots = cell.shape.shots
    return Episode(
        seed,
        index,
        tuple(table.classes[code] for code in table.labels[task.support[::shots]]),
        tuple(ids[row] for row in task.support),
        tuple(ids[row] for row in task.query),
        query_labels(task).astype(np.uint8),
    )


def _batch(
    grid: Grid,
    cell: Cell,
    encoder: DualEncoder,
    store: Store,
    run: int,
    chosen: Sequence[int],
    load: Load,
    watcher: Watcher | None,
) -> None:
    work = cost(cell.method, cell.shape) * len(chosen)
    report: Progress | None = None
    if watcher:
        report = lambda done, of: watcher.working(cell, work * done / of)  # noqa: E731
        report(0, 1)
    tasks = tasks_of(grid, cell, chosen)
    try:
        results = run_tasks(
            cell.method, encoder, tasks, chosen, micro_batch=load.micro_batch, progress=report
        )
    except FarshotError as error:
        raise FarshotError(f"{cell}, tasks {chosen[0]} to {chosen[-1]}: {error}") from error
    episodes = [episode_of(cell, task, grid.seed, i) for task, i in zip(tasks, chosen, strict=True)]
    store.record(run, grid.seed, results, episodes)
    if watcher:
        watcher.stored(work)


def _work(grid: Grid, store: Store, runs: dict[Cell, int]) -> tuple[float, float]:
    total = done = 0.0
    for cell, run in runs.items():
        each = cost(cell.method, cell.shape)
        total += each * cell.tasks
        done += each * len(store.done(run, grid.seed, cell.tasks))
    return total, done


def _report(cell: Cell, store: Store, run: int, seed: int, watcher: Watcher | None) -> None:
    if watcher is None:
        return
    series = store.series(run)
    mine = series.only((series.seeds == seed) & (series.indices < cell.tasks))
    watcher.finished(cell, mine.accuracy.tolist(), mean_interval(mine.seconds).mean)

"""Run a grid: claim a chunk of tasks, compute it, record it, until no task is missing.

The same call continues where an earlier one was interrupted, and adds tasks when more are requested.
Several processes may run it on one store at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from farshot.bench.grid import Cell, Grid, precision_of
from farshot.bench.load import Load, cost
from farshot.bench.records import Episode, Series
from farshot.bench.store import Store
from farshot.bench.tasks import query_labels
from farshot.bench.worker import Chunk, Here, Worker, tasks_of
from farshot.errors import FarshotError
from farshot.evaluation.intervals import mean_interval
from farshot.model.encoder import Encoder
from farshot.storage.paths import base_name
from farshot.task import Task
from farshot.training.tracking import current
from farshot.workers.executors import Executor, Finished, Lost

_POLL_S = 0.5
_MOST_DEATHS = 3  # of workers with the same tasks: then the tasks are to blame, not the machines


@runtime_checkable
class Watcher(Protocol):
    """Receives the progress of the grid; work is counted in images forwarded."""

    def begin(self, work: float, done: float) -> None:
        """The total work of the grid, and how much is stored already."""
        ...

    def working(self, cell: Cell, work: float) -> None:
        """The progress of a chunk of this cell."""
        ...

    def stored(self, work: float) -> None:
        """A chunk is stored."""
        ...

    def finished(self, cell: Cell, accuracy: Sequence[float], seconds: float) -> None:
        """All tasks of a cell are stored: their accuracy in [0, 1] and mean seconds."""
        ...


def run_grid(
    grid: Grid,
    encoder: Encoder,
    store: Store,
    *,
    executor: Executor | None = None,
    tasks_per_batch: int | None = None,
    micro_batch: int | None = None,
    watcher: Watcher | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fills the store with every task of every cell.

    Args:
        encoder: names the model in the store; without an executor it also does the work.
        executor: whose workers compute; this process by default.
        tasks_per_batch, micro_batch: of this process; None chooses by memory (`choose_load`).
        sleep: waits while other processes work on all that is left.

    Raises:
        FarshotError: from a method, the executor or the store; what is stored stays.
    """
    grid.check()
    runs = _run_ids(grid, encoder, store)
    if executor is None:
        worker = Worker(grid, encoder, tasks_per_batch=tasks_per_batch, micro_batch=micro_batch)
        executor = Here(worker, _report_to(watcher, grid.cells) if watcher else None)
    name, facts = _facts(grid, encoder)
    if tracker := current():
        tracker.on_settings(name, facts)
    filling = _Filling(grid, store, runs, executor, watcher, name)
    with store.renewing():
        filling.run(sleep)


def _run_ids(grid: Grid, encoder: Encoder, store: Store) -> list[int]:
    """The stored run of each cell; runs of version 0.1 are continued, except in bf16, whose numbers
    changed."""
    runs = [grid.run(cell, encoder) for cell in grid.cells]
    exact = bool(runs) and runs[0].precision == "float32"
    old = encoder.fingerprint_of_version_1() if exact else None
    return [store.run_id(run, run.former_identities(old) if old else ()) for run in runs]


class _Filling:
    """The state of one call of `run_grid`: cells left, chunks in progress, chunks lost."""

    def __init__(
        self,
        grid: Grid,
        store: Store,
        runs: Sequence[int],
        executor: Executor,
        watcher: Watcher | None,
        name: str,
    ) -> None:
        self.grid, self.cells, self.store, self.runs = grid, grid.cells, store, runs
        self.executor, self.watcher, self.name = executor, watcher, name
        self.left = list(range(len(self.cells)))  # cells not yet complete
        self.under_way = 0  # chunks
        self.lost: list[Chunk] = []
        self.deaths: Counter[tuple[int, int]] = Counter()  # by cell and task

    def run(self, sleep: Callable[[float], None]) -> None:
        if self.watcher:
            self.watcher.begin(*self._work())
        self._close_cells(self.left)
        while self.left:
            self._hand_out()
            if self.under_way or not self.executor.idle():
                for event in self.executor.wait(_POLL_S):
                    self._note(event)
                continue
            before = len(self.left)
            self._close_cells(self.left)  # by other processes
            if len(self.left) == before:
                sleep(_POLL_S)

    def _hand_out(self) -> None:
        for worker in self.executor.idle():
            chunk = self._next(self.executor.loads(worker))
            if chunk is None:
                return
            self.executor.give(worker, chunk)
            self.under_way += 1
            if self.watcher:
                self.watcher.working(self.cells[chunk.cell], 0)

    def _next(self, loads: Sequence[Load]) -> Chunk | None:
        """The next chunk for a worker with these loads."""
        if self.lost:
            chunk = self.lost.pop()
            now, later = chunk.indices[: (n := loads[chunk.cell].tasks)], chunk.indices[n:]
            if later:
                self.lost.append(Chunk(chunk.cell, later))
            return Chunk(chunk.cell, now)
        for cell in self.left:
            run, tasks = self.runs[cell], self.cells[cell].tasks
            if indices := self.store.claim(run, self.grid.seed, tasks, loads[cell].tasks):
                return Chunk(cell, tuple(indices))
        return None

    def _note(self, event: Finished | Lost) -> None:
        self.under_way -= 1
        chunk: Chunk = event.chunk
        cell = self.cells[chunk.cell]
        if isinstance(event, Lost):
            self.deaths.update((chunk.cell, index) for index in chunk.indices)
            if max(self.deaths[chunk.cell, index] for index in chunk.indices) >= _MOST_DEATHS:
                raise FarshotError(
                    f"{cell}, tasks {chunk.indices[0]} to {chunk.indices[-1]}: {_MOST_DEATHS} workers died "
                    f"with them ({event.why}); fewer --tasks-per-batch or --micro-batch need less memory."
                )
            self.lost.append(chunk)
            return
        tasks = tasks_of(self.grid, cell, chunk.indices)
        episodes = [
            episode_of(cell, task, self.grid.seed, index)
            for task, index in zip(tasks, chunk.indices, strict=True)
        ]
        self.store.record(self.runs[chunk.cell], self.grid.seed, event.results, episodes)
        if tracker := current():
            for result in event.results:
                tracker.on_task(self._tracked(cell), result.index, result.accuracy)
        if self.watcher:
            self.watcher.stored(cost(cell.method, cell.shape, cell.queries) * len(chunk.indices))
        self._close_cells([chunk.cell])

    def _close_cells(self, candidates: Sequence[int]) -> None:
        """Remove complete cells from the list, and report them."""
        for number in list(candidates):
            cell, run = self.cells[number], self.runs[number]
            if number in self.left and self._done(number) == cell.tasks:
                self.left.remove(number)
                tracker = current()
                if self.watcher is None and tracker is None:
                    continue
                series = self.store.series(run)
                mine = series.only((series.seeds == self.grid.seed) & (series.indices < cell.tasks))
                seconds = mean_interval(mine.seconds).mean
                if tracker is not None:
                    tracker.on_result(self._tracked(cell), _values(mine, seconds))
                if self.watcher is not None:
                    self.watcher.finished(cell, mine.accuracy.tolist(), seconds)

    def _tracked(self, cell: Cell) -> str:
        """What trackers call a cell: results that are not comparable never share a curve."""
        return f"{cell}, {cell.shape.ways}-way, {self.name}"

    def _done(self, number: int) -> int:
        return self.store.done_count(self.runs[number], self.grid.seed, self.cells[number].tasks)

    def _work(self) -> tuple[float, float]:
        """The total work, and the stored part."""
        each = [cost(cell.method, cell.shape, cell.queries) for cell in self.cells]
        done = sum(e * self._done(number) for number, e in enumerate(each))
        return sum(e * cell.tasks for e, cell in zip(each, self.cells, strict=True)), done


def _facts(grid: Grid, encoder: Encoder) -> tuple[str, dict[str, Any]]:
    """Name and settings of a bench for trackers. The name follows from the settings that a cell lacks."""
    shape = grid.cells[0].shape
    facts = {"fingerprint": encoder.fingerprint, "precision": precision_of(encoder), "seed": grid.seed}
    facts |= {"protocol": shape.protocol_name, "imbalance": str(shape.imbalance or "")}
    facts |= {"queries": grid.queries, "template": grid.template, "descriptions": dict(grid.descriptions)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    ways = {cell.pool.name: cell.shape.ways for cell in grid.cells}
    return f"bench-{digest}", {"model": base_name(str(encoder.source)), "ways": ways} | facts


def _values(series: Series, seconds: float) -> dict[str, float]:
    """The result of a cell by name; without an interval where there are too few tasks."""
    found = mean_interval(series.accuracy)
    values = {"accuracy": found.mean, "accuracy_low": found.low, "accuracy_high": found.high}
    values |= {"tasks": found.n, "seconds_per_task": seconds}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def episode_of(cell: Cell, task: Task, seed: int, index: int) -> Episode:
    """The task as the store keeps it."""
    table, ids = cell.pool.table, cell.pool.ids
    assert table.labels is not None
    firsts = np.searchsorted(task.labels, range(len(task.class_names)))
    return Episode(
        seed,
        index,
        tuple(table.classes[code] for code in table.labels[task.support[firsts]]),
        tuple(ids[row] for row in task.support),
        tuple(ids[row] for row in task.query),
        query_labels(task).astype(np.uint8),
    )


def _report_to(watcher: Watcher, cells: Sequence[Cell]) -> Callable[[Chunk, int, int], None]:
    """Convert the progress of a chunk into that of its cell."""

    def report(chunk: Chunk, done: int, of: int) -> None:
        cell = cells[chunk.cell]
        watcher.working(cell, cost(cell.method, cell.shape, cell.queries) * len(chunk.indices) * done / of)

    return report

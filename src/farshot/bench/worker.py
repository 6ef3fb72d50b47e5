"""The worker: computes chunks of a grid. It does not use the store, so it can run anywhere.

A worker in another process or on another machine is made from a `Setup`, which travels there once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from farshot.bench.grid import Cell, Grid, precision_of
from farshot.bench.load import choose_load
from farshot.bench.records import Result
from farshot.bench.split import split_task
from farshot.bench.tasks import query_labels, sample_task
from farshot.data.pool import Pool
from farshot.errors import FarshotError
from farshot.methods import Method
from farshot.methods.base import softmax
from farshot.model.encoder import Encoder
from farshot.model.find import absolute_source, load_encoder
from farshot.task import Task
from farshot.training.forecast import largest_size
from farshot.training.loop import Progress
from farshot.training.tracking import track
from farshot.workers.executors import Finished, Lost, check_version


@dataclass(frozen=True)
class Chunk:
    """Tasks that are computed in one batch.

    Attributes:
        cell: its number in `Grid.cells`.
        indices: the tasks' numbers in their series.
    """

    cell: int
    indices: tuple[int, ...]


class Worker:
    """Computes chunks of one grid, with its own encoder and a view of the pools' caches.

    Args:
        tasks_per_batch, micro_batch: None chooses by memory (`choose_load`).
        share: of the device's memory, where several workers use it.

    Attributes:
        loads: what it can take at once, for every cell of the grid.
    """

    def __init__(
        self,
        grid: Grid,
        encoder: Encoder,
        *,
        tasks_per_batch: int | None = None,
        micro_batch: int | None = None,
        share: float = 1.0,
    ) -> None:
        self.grid, self.encoder, self._cells = grid, encoder, grid.cells
        self.loads = tuple(
            choose_load(cell.method, encoder, cell.shape, tasks_per_batch, micro_batch, share)
            for cell in self._cells
        )

    def compute(self, chunk: Chunk, progress: Progress | None = None) -> list[Result]:
        """The results of a chunk, in the order of its indices.

        Raises:
            FarshotError: from the method; names cell and tasks.
        """
        cell, indices = self._cells[chunk.cell], chunk.indices
        micro_batch = self.loads[chunk.cell].micro_batch
        tasks = tasks_of(self.grid, cell, indices)
        try:
            with track(None):  # the steps of many tasks make no curve
                return run_tasks(
                    cell.method, self.encoder, tasks, indices, micro_batch=micro_batch, progress=progress
                )
        except FarshotError as error:
            raise FarshotError(f"{cell}, tasks {indices[0]} to {indices[-1]}: {error}") from error


@dataclass(frozen=True)
class Setup:
    """What a remote worker is created from.

    Attributes:
        model: as `load_encoder` takes it; a folder by its absolute path.
        fingerprint: of the model that the driver has.
        version: of the driver's farshot.
    """

    grid: Grid
    model: str
    precision: str
    fingerprint: str
    version: str
    tasks_per_batch: int | None = None
    micro_batch: int | None = None

    def worker(self, device: str, share: float = 1.0) -> Worker:
        """Create the worker on a device of this machine, with this share of its memory.

        Raises:
            FarshotError: another version of farshot or another model than the driver's.
        """
        check_version(self.version)
        encoder = load_encoder(self.model, device=device, precision=self.precision)
        if encoder.fingerprint != self.fingerprint:
            raise FarshotError(
                f"The model {self.model} of this worker is not the driver's; copy the same to every machine."
            )
        return Worker(
            self.grid,
            encoder,
            tasks_per_batch=self.tasks_per_batch,
            micro_batch=self.micro_batch,
            share=share,
        )


def setup_for(
    grid: Grid,
    encoder: Encoder,
    *,
    tasks_per_batch: int | None = None,
    micro_batch: int | None = None,
) -> Setup:
    """The setup of remote workers for this grid, with absolute paths."""
    return Setup(
        dataclasses.replace(grid, pools=tuple(map(_absolute, grid.pools))),
        absolute_source(encoder.source),
        precision_of(encoder),
        encoder.fingerprint,
        version("farshot"),
        tasks_per_batch,
        micro_batch,
    )


def _absolute(pool: Pool) -> Pool:
    return dataclasses.replace(pool, table=pool.table.with_absolute_paths())


def tasks_of(grid: Grid, cell: Cell, indices: Sequence[int]) -> list[Task]:
    """The tasks of a cell with these numbers."""
    shape = cell.shape
    if not shape.queries:
        return [
            split_task(
                cell.pool,
                shape.shots,
                seed=grid.seed,
                index=index,
                template=grid.template,
                descriptions=grid.descriptions,
            )
            for index in indices
        ]
    return [
        sample_task(
            cell.pool,
            ways=shape.ways,
            shots=shape.shots,
            queries=shape.queries,
            seed=grid.seed,
            index=index,
            imbalance=shape.imbalance,
            template=grid.template,
            descriptions=grid.descriptions,
        )
        for index in indices
    ]


def run_tasks(
    method: Method,
    encoder: Encoder,
    tasks: Sequence[Task],
    indices: Sequence[int],
    *,
    micro_batch: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Adapts to T tasks together and classifies the queries of each in one call.

    Args:
        tasks: as `sample_task` gives them.
        indices: the number of each in its series.

    Raises:
        FarshotError: from the method, or scores that are not finite.
    """
    on_gpu = encoder.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(encoder.device)
    start = time.perf_counter()
    adapted = method.adapt(encoder, tasks, micro_batch=micro_batch, progress=progress)
    logits = [one.logits(task.table, task.query) for one, task in zip(adapted, tasks, strict=True)]
    seconds = (time.perf_counter() - start) / len(tasks)
    memory = torch.cuda.max_memory_allocated(encoder.device) if on_gpu else largest_size()
    device = device_name(encoder)
    results = []
    for one, task, index, scores in zip(adapted, tasks, indices, logits, strict=True):
        if not np.isfinite(scores).all():
            raise FarshotError(f"{method.name} gave scores that are not finite in task {index}; use float32.")
        predictions = scores.argmax(1).astype(np.uint8)
        results.append(
            Result(
                index=index,
                predictions=predictions,
                probabilities=softmax(scores).astype(np.float16),
                accuracy=float((predictions == query_labels(task)).mean()),
                loss=float(one.losses[-1]) if len(one.losses) else None,
                seconds=seconds,
                peak_memory=memory,
                batch=len(tasks),
                device=device,
            )
        )
    return results


def device_name(encoder: Encoder) -> str:
    """What the store calls the device of an encoder."""
    device = encoder.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


Report = Callable[[Chunk, int, int], None]
"""(the chunk, steps done, of)."""


class Here:
    """The only worker is this process; a chunk is computed while the runner waits.

    Args:
        report: told how far the chunk is.
    """

    def __init__(self, worker: Worker, report: Report | None = None) -> None:
        self._worker, self._report = worker, report
        self._chunk: Chunk | None = None

    def idle(self) -> Sequence[int]:
        """Worker 0, if it has no chunk."""
        return [0] if self._chunk is None else []

    def loads(self, worker: int) -> Sequence[Any]:
        """As Executor's."""
        return self._worker.loads

    def give(self, worker: int, chunk: Chunk) -> None:
        """As Executor's."""
        self._chunk = chunk

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """Computes the chunk."""
        chunk, self._chunk, report = self._chunk, None, self._report
        if chunk is None:
            return []
        progress = (lambda done, of: report(chunk, done, of)) if report else None
        return [Finished(chunk, self._worker.compute(chunk, progress))]

"""Measures what a large grid costs in addition to the learning itself: the constants of docs/scale.md.

    python -m benchmarks.scale.measure --out benchmarks/scale/constants.json

Rows per second of the driver come from the real runner and the real store, with an executor that answers at
once; the rest from one worker on this machine's processor, in another process and through Ray.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from farshot.bench.grid import Grid, parse_method
from farshot.bench.load import Load
from farshot.bench.records import Result
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.bench.worker import Chunk, Setup, Worker, setup_for
from farshot.data.pools import open_pool
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.workers.cluster import Cluster
from farshot.workers.executors import Executor, Finished, Here, Lost
from farshot.workers.processes import Processes

CHUNKS = (1, 8, 64)  # tasks
ROWS = 512
REPEATS = 3


class Ready:
    """An executor whose worker has every result at hand.

    Args:
        tasks: of a chunk.
    """

    def __init__(self, tasks: int, cells: int) -> None:
        self._loads, self._chunk = (Load(tasks),) * cells, None
        self.message = 0  # bytes of the last answer

    def idle(self) -> Sequence[int]:
        return [] if self._chunk else [0]

    def loads(self, worker: int) -> Sequence[Load]:
        return self._loads

    def give(self, worker: int, chunk: Chunk) -> None:
        self._chunk = chunk

    def wait(self, seconds: float) -> list[Finished | Lost]:
        chunk, self._chunk = self._chunk, None
        results = [_result(index) for index in chunk.indices]
        self.message = len(pickle.dumps(results))
        return [Finished(chunk, results)]


def _result(index: int) -> Result:
    """As large as that of a 5-way task with 75 queries."""
    return Result(
        index=index,
        predictions=np.zeros(75, np.uint8),
        probabilities=np.full((75, 5), 0.2, np.float16),
        accuracy=0.2,
        loss=1.0,
        seconds=1.0,
        peak_memory=1 << 30,
        batch=1,
        device="cpu",
    )


def filled(grid: Grid, encoder: Encoder, executor: Executor) -> tuple[float, int]:
    """Seconds to fill a new store, and the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.db"
        with Store(path) as store:
            start = time.perf_counter()
            run_grid(grid, encoder, store, executor=executor)
            seconds = time.perf_counter() - start
        return seconds, path.stat().st_size


def driver(encoder: Encoder) -> dict[str, object]:
    """Seconds of the driver per chunk, by its tasks, and bytes per task."""
    pool = open_pool("mini-crops")
    seconds: dict[int, float] = {}
    for tasks in CHUNKS:
        grid = Grid([pool], [1], [parse_method("zero-shot")], min(ROWS, 128 * tasks))
        runs = []
        for _ in range(REPEATS):
            executor = Ready(tasks, 1)
            took, size = filled(grid, encoder, executor)
            runs.append(took / (grid.cells[0].tasks / tasks))
        seconds[tasks] = statistics.median(runs)
    return {
        "driver_seconds_per_chunk": seconds,
        "message_bytes_per_task": executor.message / CHUNKS[-1],
        "store_bytes_per_task": size / ROWS,
    }


def overhead(encoder: Encoder) -> dict[str, object]:
    """Start of a worker in seconds, and seconds of a chunk of one task beyond those in this process."""
    pool = open_pool("mini-crops")
    warm = Grid([pool], [1], [parse_method("zero-shot")], 200)
    grid = Grid([pool], [1], [parse_method("zero-shot[scale=50]")], 400)
    setup = setup_for(grid, encoder, tasks_per_batch=1)
    here: Callable[[], Executor] = lambda: Here(Worker(grid, encoder, tasks_per_batch=1))  # noqa: E731
    filled(warm, encoder, Here(Worker(warm, encoder)))
    alone = statistics.median(filled(grid, encoder, here())[0] for _ in range(REPEATS)) / 400
    out: dict[str, object] = {"here_seconds_per_chunk": alone}
    for name, make in (("process", _process), ("ray", _ray)):
        starts, extra = [], []
        for _ in range(REPEATS):
            start = time.perf_counter()
            with make(setup) as executor:
                while not executor.idle():
                    executor.wait(0.1)
                starts.append(time.perf_counter() - start)
                filled(grid, encoder, executor)  # knows its features now
                extra.append(filled(grid, encoder, executor)[0] / 400 - alone)
        out[f"{name}_start_seconds"] = statistics.median(starts)
        out[f"{name}_extra_seconds_per_chunk"] = statistics.median(extra)
    return out


def _process(setup: Setup) -> Processes:
    return Processes(setup, ["cpu"])


def _ray(setup: Setup) -> Cluster:
    return Cluster(setup, workers=1, cpus=1, gpus=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    encoder = load_encoder("mini")
    found = driver(encoder) | overhead(encoder)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

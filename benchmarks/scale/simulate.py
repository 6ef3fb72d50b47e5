"""Simulates a grid on 10 to 1,000 GPUs with measured constants and prints the tables of docs/scale.md.

    python -m benchmarks.scale.simulate --constants benchmarks/scale/constants.json

Every worker starts, then takes one chunk at a time; the driver hands out and records one chunk after another.
Only seconds per task on a GPU are assumed: three values a decade apart.
"""

from __future__ import annotations

import argparse
import heapq
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORKERS = (10, 100, 1000)
# the field's table: four pools, 800 tasks at 1 shot and 400 at 5 shots, twelve methods that train
TASKS = 4 * (800 + 400) * 12


@dataclass(frozen=True)
class Costs:
    """Seconds; of a chunk where nothing else is said.

    Attributes:
        start: of a worker.
        fixed, per_task: of the driver, for a chunk and for each of its tasks.
        extra: of Ray, on the worker's side.
        task: of computing a task.
    """

    start: float
    fixed: float
    per_task: float
    extra: float
    task: float

    def driver(self, tasks: int) -> float:
        """Seconds in which the driver does nothing else."""
        return self.fixed + self.per_task * tasks

    def worker(self, tasks: int) -> float:
        """Seconds that a chunk takes a worker."""
        return self.extra + self.task * tasks


@dataclass(frozen=True)
class Outcome:
    """What a simulated grid took.

    Attributes:
        seconds: from the start of the command.
        useful: share of the workers' time spent computing.
        driver: share of the time in which the driver was busy.
    """

    seconds: float
    useful: float
    driver: float


def simulate(workers: int, tasks: int, chunk: int, costs: Costs) -> Outcome:
    """Plays a grid event by event.

    Args:
        tasks: of the grid.
        chunk: tasks of a chunk; the last may be smaller.
    """
    chunks = [chunk] * (tasks // chunk) + ([tasks % chunk] if tasks % chunk else [])
    free = [costs.start] * workers  # when a worker asks for its next chunk
    heapq.heapify(free)
    driver = busy = useful = end = 0.0
    for size in chunks:
        asked = heapq.heappop(free)
        driver = max(driver, asked) + costs.driver(size)  # records the last chunk and hands out the next
        busy += costs.driver(size)
        useful += costs.task * size
        end = max(end, driver + costs.worker(size))
        heapq.heappush(free, driver + costs.worker(size))
    return Outcome(end, useful / (workers * end), busy / end)


def costs_from(constants: dict[str, object], task: float) -> Costs:
    """The measured constants; the driver's seconds are a line fitted to three sizes of chunks."""
    seconds = {int(n): float(s) for n, s in constants["driver_seconds_per_chunk"].items()}  # type: ignore[attr-defined]
    per_task, fixed = np.polyfit(list(seconds), list(seconds.values()), 1)
    return Costs(
        float(constants["ray_start_seconds"]),  # type: ignore[arg-type]
        max(0.0, float(fixed)),
        float(per_task),
        float(constants["ray_extra_seconds_per_chunk"]),  # type: ignore[arg-type]
        task,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constants", type=Path, required=True)
    constants = json.loads(parser.parse_args().constants.read_text())
    print("| seconds per task | tasks per chunk | GPUs | minutes | useful | driver busy |")
    print("|---:|---:|---:|---:|---:|---:|")
    for task, chunk in ((0.01, 50), (0.1, 64), (1.0, 64), (1.0, 8), (10.0, 8), (10.0, 1)):
        costs = costs_from(constants, task)
        for workers in WORKERS:
            found = simulate(workers, TASKS, chunk, costs)
            print(
                f"| {task:g} | {chunk} | {workers:,} | {found.seconds / 60:.1f} | {100 * found.useful:.0f} % "
                f"| {100 * found.driver:.0f} % |"
            )
    print("\n| seconds per task | tasks per chunk | GPUs that keep the driver busy |\n|---:|---:|---:|")
    for task, chunk in ((0.01, 50), (0.1, 64), (1.0, 64), (1.0, 8), (10.0, 8), (10.0, 1)):
        costs = costs_from(constants, task)
        print(f"| {task:g} | {chunk} | {(costs.worker(chunk) / costs.driver(chunk)):,.0f} |")


if __name__ == "__main__":
    main()

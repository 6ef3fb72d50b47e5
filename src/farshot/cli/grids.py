"""Run a grid where the options of a command say, with its progress on the screen."""

from __future__ import annotations

from functools import partial

from farshot.bench.grid import Grid
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.bench.worker import setup_for
from farshot.cli import console
from farshot.cli.console_bench import GridProgress
from farshot.model.encoder import Encoder
from farshot.workers.machines import Machines


def run_on_machines(
    grid: Grid,
    encoder: Encoder,
    store: Store,
    machines: Machines,
    tasks_per_batch: int | None = None,
    micro_batch: int | None = None,
) -> None:
    """Fill the store with the tasks of a grid; Ctrl-C ends with a farewell that says how to go on."""
    setup = partial(setup_for, grid, encoder, tasks_per_batch=tasks_per_batch, micro_batch=micro_batch)
    try:
        with machines.open(setup) as at_work, GridProgress() as watcher:
            run_grid(
                grid,
                encoder,
                store,
                executor=at_work,
                tasks_per_batch=tasks_per_batch,
                micro_batch=micro_batch,
                watcher=watcher,
            )
    except KeyboardInterrupt:
        farewell = f"stopped; {store.path} holds all finished tasks, and the same command goes on."
        raise console.Stopped(farewell) from None

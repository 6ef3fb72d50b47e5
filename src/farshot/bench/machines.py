"""Where `farshot bench` computes a grid: in this process, on every GPU of this machine, or on a Ray
cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farshot.bench.cluster import Cluster, Needs
from farshot.bench.executors import Executor
from farshot.bench.grid import Grid
from farshot.bench.processes import Processes, devices_for
from farshot.bench.worker import setup_for
from farshot.errors import SettingError
from farshot.model.encoder import Encoder


@dataclass(frozen=True)
class Machines:
    """Where the work is done.

    Attributes:
        executor: "local" or "ray".
        device: of this machine, for "local".
        workers: how many; None as many as there are GPUs, or as fit on the cluster.
        address: of a running Ray cluster; None starts Ray here.
        gpus, cpus: of a worker on a Ray cluster; None for gpus takes one where the cluster has any.
    """

    executor: str = "local"
    device: str = "auto"
    workers: int | None = None
    address: str | None = None
    gpus: float | None = None
    cpus: float = 1

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise SettingError(f"There is no executor {self.executor!r}; choose local or ray.")
        if self.executor == "local" and (self.address is not None or self.gpus is not None or self.cpus != 1):
            raise SettingError(
                "--address, --gpus-per-worker and --cpus-per-worker are Ray's; add --executor ray."
            )
        if self.gpus is not None:
            Needs(self.cpus, self.gpus)

    @property
    def devices(self) -> list[str]:
        """Devices of the workers on this machine; empty on a cluster."""
        return devices_for(self.device, self.workers) if self.executor == "local" else []

    @property
    def driver_device(self) -> str:
        """The device of this process's model: the CPU if only other processes compute."""
        return self.devices[0] if len(self.devices) == 1 else "cpu"

    @contextmanager
    def open(
        self, grid: Grid, encoder: Encoder, tasks_per_batch: int | None, micro_batch: int | None
    ) -> Iterator[Executor | None]:
        """Create the executor for a grid; None if this process does the work.

        Raises:
            SettingError: no Ray, or no cluster at the address.
        """
        if len(self.devices) == 1:
            yield None
            return
        setup = setup_for(grid, encoder, tasks_per_batch=tasks_per_batch, micro_batch=micro_batch)
        if self.executor == "local":
            with Processes(setup, self.devices) as processes:
                yield processes
            return
        with Cluster(setup, self.address, workers=self.workers, cpus=self.cpus, gpus=self.gpus) as cluster:
            yield cluster

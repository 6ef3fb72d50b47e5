"""Where a grid or predictions are computed: in this process, on every GPU of this machine, or on a Ray
cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farshot.errors import SettingError
from farshot.workers.cluster import Cluster, Needs
from farshot.workers.executors import Executor, Job
from farshot.workers.processes import Processes, devices_for


@dataclass(frozen=True)
class Machines:
    """Where the work is done.

    Attributes:
        executor: "local" or "ray".
        device: of this machine, for "local".
        workers: how many; None as many as there are GPUs, or as fit on the cluster.
        address: of a running Ray cluster; None starts Ray here.
        gpus, cpus: of a worker on a Ray cluster; None for gpus takes one where the cluster has any, for cpus
            all of a node.
    """

    executor: str = "local"
    device: str = "auto"
    workers: int | None = None
    address: str | None = None
    gpus: float | None = None
    cpus: float | None = 1

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise SettingError(f"There is no executor {self.executor!r}; choose local or ray.")
        if self.executor == "local" and (
            self.address is not None or self.gpus is not None or self.cpus not in (1, None)
        ):
            raise SettingError(
                "--address, --gpus-per-worker and --cpus-per-worker are Ray's; add --executor ray."
            )
        if self.gpus is not None:
            Needs(1 if self.cpus is None else self.cpus, self.gpus)

    @property
    def devices(self) -> list[str]:
        """Devices of the workers on this machine; empty on a cluster."""
        return devices_for(self.device, self.workers) if self.executor == "local" else []

    @property
    def several(self) -> bool:
        """Whether other processes than this one do the work."""
        return len(self.devices) != 1

    @property
    def driver_device(self) -> str:
        """The device of this process's model: the CPU if only other processes compute."""
        return "cpu" if self.several else self.devices[0]

    @contextmanager
    def open(self, setup: Callable[[], Job]) -> Iterator[Executor | None]:
        """Create the executor for what `setup` returns; None if this process does the work.

        Raises:
            SettingError: no Ray, or no cluster at the address.
        """
        if not self.several:
            yield None
            return
        if self.executor == "local":
            with Processes(setup(), self.devices) as processes:
                yield processes
            return
        with Cluster(setup(), self.address, workers=self.workers, cpus=self.cpus, gpus=self.gpus) as cluster:
            yield cluster

"""Workers on a Ray cluster: actors that hold the encoder and compute chunks; only the driver writes to the
store.

docs/cluster.md goes from a laptop to a cluster in three commands.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from farshot.errors import FarshotError, SettingError
from farshot.workers.executors import Computing, Crew, Finished, Job, Lost, Member, last_line, words_of

_LOOK_S = 5.0  # how often the cluster is asked whether there is room for more workers
_MOST_FAILED_STARTS = 3  # in a row
_KNOCK_S = 10.0
_PATIENCE_S = 120.0  # without any worker, while the cluster has none of what one needs


@dataclass(frozen=True)
class Needs:
    """The resources of one worker.

    Attributes:
        cpus: processors, which are also its threads.
        gpus: of a GPU; 0.5 puts two workers on one, 0 computes on processors.
    """

    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or not (self.cpus or self.gpus):
            raise SettingError(f"A worker needs processors or GPUs, not {self.cpus:g} and {self.gpus:g}.")
        if self.gpus > 1:
            raise SettingError(f"A worker uses one GPU at most, not {self.gpus:g}.")

    def room(self, resources: Mapping[str, float]) -> int:
        """How many workers fit these resources; none uses parts of two GPUs."""
        found = []
        if self.cpus:
            found.append(_times(self.cpus, resources.get("CPU", 0)))
        if self.gpus:
            whole, rest = divmod(resources.get("GPU", 0), 1)
            found.append(int(whole) * _times(self.gpus, 1) + _times(self.gpus, rest))
        return min(found)

    def most(self, nodes: Iterable[Mapping[str, Any]]) -> int:
        """How many workers fit these nodes (as `ray.nodes` describes them); none spans two nodes."""
        return sum(self.room(node["Resources"]) for node in nodes if node["Alive"])


class Actor:
    """A worker on a node, created empty, so that errors in `begin` can be reported."""

    def begin(self, setup: Job, needs: Needs) -> Sequence[Any]:
        """Load the model; returns how much this worker can compute at once."""
        import torch

        threads = max(1, int(needs.cpus))
        torch.set_num_threads(threads)
        device, share = ("cuda", needs.gpus) if needs.gpus else ("cpu", threads / (os.cpu_count() or 1))
        self._worker: Computing = setup.worker(device, min(1.0, share))
        return self._worker.loads

    def compute(self, chunk: Any) -> Any:
        """As Worker's."""
        return self._worker.compute(chunk)


@dataclass(kw_only=True)
class _Actor(Member):
    actor: Any
    pending: Any  # what it has been asked for last


class Cluster(Crew[_Actor]):
    """Workers on a Ray cluster (farshot.workers.executors.Executor); to be closed.

    Nodes may come and go: a dead worker's chunk is given to another, and where room appears a worker starts.

    Args:
        setup: what the workers begin with.
        address: of a running cluster; None starts Ray on this machine for as long as this lasts.
        workers: how many at most; None as many as fit.
        cpus: processors of each; None all of a node, or its share of a GPU, so that a node's workers load
            the model as few times as they can.
        gpus: of each; None takes one where the cluster has any.

    Raises:
        SettingError: no Ray, or no cluster at the address.
    """

    def __init__(
        self,
        setup: Job,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus: float | None = 1,
        gpus: float | None = None,
    ) -> None:
        super().__init__()
        self._ray = _connect(address)
        if gpus is None:
            gpus = float(self._ray.cluster_resources().get("GPU", 0) > 0)
        self._needs = Needs(_whole_node(self._ray.nodes(), gpus) if cpus is None else cpus, gpus)
        self._setup = self._ray.put(setup)
        self._most = workers
        self._started = self._failed = 0
        self._looked = float("-inf")
        self._last_member = time.monotonic()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()  # ends the actors, and the cluster if it was started here

    def give(self, worker: int, chunk: Any) -> None:
        """As Executor's."""
        member = self.members[worker]
        member.chunk, member.pending = chunk, member.actor.compute.remote(chunk)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """As Executor's."""
        self._look_for_room()
        pending = {
            m.pending: worker for worker, m in self.members.items() if m.chunk is not None or not m.loads
        }
        if not pending:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(pending), num_returns=len(pending), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=seconds)
        events: list[Finished | Lost] = []
        for reference in ready:
            events += self._answer(pending[reference])
        return events

    def _answer(self, worker: int) -> list[Finished | Lost]:
        member = self.members[worker]
        try:
            answer = self._ray.get(member.pending)
        except FarshotError as error:  # Ray's error of this kind has the worker's traceback in its text
            raise FarshotError(str(getattr(error, "cause", error))) from None
        except (self._ray.exceptions.RayError, RuntimeError, MemoryError) as error:
            return self._bury(worker, error)
        self._failed = 0
        return self._note(member, answer)

    def _bury(self, worker: int, error: BaseException) -> list[Finished | Lost]:
        """Remove a worker that died or cannot continue."""
        member = self.members.pop(worker)
        self._ray.kill(member.actor)
        self._looked = float("-inf")
        why = f"the last with {words_of(error)}"
        if member.chunk is not None:
            return [Lost(member.chunk, why)]
        self._failed += 1
        if self._failed >= _MOST_FAILED_STARTS and not any(m.loads for m in self.members.values()):
            raise FarshotError(f"{self._failed} workers could not start, {why}.")
        return []

    def _look_for_room(self) -> None:
        """Start workers where they fit; queries the cluster only occasionally."""
        now = time.monotonic()
        if self.members:
            self._last_member = now
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        room = self._needs.room(self._ray.available_resources())
        waiting = sum(1 for m in self.members.values() if not m.loads)
        most = self._needs.most(self._ray.nodes())
        room = min(room, (most if self._most is None else min(most, self._most)) - len(self.members))
        for _ in range(max(0, room - waiting)):
            self._start()
        if not self.members and now - self._last_member > _PATIENCE_S:
            raise FarshotError(
                f"The cluster has no room for a worker of {self._needs.cpus:g} processors and "
                f"{self._needs.gpus:g} GPUs; use --cpus-per-worker and --gpus-per-worker, or add nodes."
            )

    def _start(self) -> None:
        needs = self._needs
        kind = self._ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0)(Actor)
        actor = kind.remote()
        pending = actor.begin.remote(self._setup, needs)
        self.members[self._started] = _Actor(actor=actor, pending=pending)
        self._started += 1


def _connect(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
    try:
        import ray
    except ImportError as error:
        raise SettingError('--executor ray needs Ray: pip install "farshot[ray]".') from error
    try:
        with _own_signals():
            if address is None:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        if address is None:
            raise SettingError(f"Ray does not start on this machine ({last_line(error)}).") from error
        raise SettingError(
            f"No Ray cluster answers at {address!r} ({last_line(error)}); start one with "
            "`ray start --head`, or leave --address out to use this machine."
        ) from error
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the program's handler of SIGTERM, which Ray replaces by one that exits without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Raise an error at once if no cluster answers; Ray itself would retry for minutes.

    Raises:
        OSError: says why.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


def _whole_node(nodes: Iterable[Mapping[str, Any]], gpus: float) -> float:
    """Processors of a worker where the workers of a node share all of them, on the smallest node."""
    shares = []
    for node in nodes:
        resources = node["Resources"]
        workers = Needs(0, gpus).room(resources) if gpus else 1
        if node["Alive"] and workers and resources.get("CPU", 0) >= 1:
            shares.append(max(1.0, resources["CPU"] // workers))
    return min(shares, default=1.0)


def _times(need: float, of: float) -> int:
    return int(of / need + 1e-6)

"""Executors: compute chunks in this process, in a process per device, or on a Ray cluster.

An executor has workers and moves chunks to them and results back; what a chunk is, and what comes back, is
between the caller and its `Job`: tasks of a grid (`farshot.bench.runner`), or images to predict
(`farshot.classifier.distributed`). A worker has one chunk at a time, so no more is ever under way than can be
recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from farshot.errors import FarshotError


@runtime_checkable
class Computing(Protocol):
    """A worker, where it computes.

    Attributes:
        loads: what it can take at once; never empty.
    """

    @property
    def loads(self) -> Sequence[Any]: ...

    def compute(self, chunk: Any, /) -> Any:
        """The results of a chunk."""
        ...


@runtime_checkable
class Job(Protocol):
    """What remote workers are created from; it travels to each of them once."""

    def worker(self, device: str, share: float = 1.0) -> Computing:
        """Create a worker on a device of this machine, with this share of its memory."""
        ...


@dataclass(frozen=True)
class Finished:
    """A chunk is computed."""

    chunk: Any
    results: Any


@dataclass(frozen=True)
class Lost:
    """A worker died with a chunk, which has to be computed again.

    Attributes:
        why: what is known of the cause, for a person.
    """

    chunk: Any
    why: str


@runtime_checkable
class Executor(Protocol):
    """Workers, known by number."""

    def idle(self) -> Sequence[int]:
        """The workers that can take a chunk now."""
        ...

    def loads(self, worker: int) -> Sequence[Any]:
        """What a worker can take at once, for every cell of a grid."""
        ...

    def give(self, worker: int, chunk: Any) -> None:
        """Hands a chunk to an idle worker."""
        ...

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """Wait for a chunk to be finished or lost, or for a worker to start, at most for this time.

        Raises:
            FarshotError: from a method, or no worker is left.
        """
        ...


@dataclass
class Member:
    """A remote worker, as seen by the driver.

    Attributes:
        loads: what it can take at once; None until it is ready.
        chunk: what it has been given and has not answered.
    """

    loads: Sequence[Any] | None = None
    chunk: Any = None


M = TypeVar("M", bound=Member)


class Crew(Generic[M]):
    """The remote workers of an executor: which are ready, and which chunk each has.

    Attributes:
        members: the workers that are alive or being started, by number.
    """

    def __init__(self) -> None:
        self.members: dict[int, M] = {}

    def idle(self) -> Sequence[int]:
        """Workers that are ready and have no chunk."""
        return [worker for worker, member in self.members.items() if member.loads and member.chunk is None]

    def loads(self, worker: int) -> Sequence[Any]:
        """As Executor's."""
        return self.members[worker].loads or ()

    def _note(self, member: M, answer: Any) -> list[Finished | Lost]:
        """Process an answer: the first one of a worker is its load, all others are results of chunks."""
        if member.chunk is None:
            member.loads = answer
            return []
        chunk, member.chunk = member.chunk, None
        return [Finished(chunk, answer)]


def words_of(error: BaseException) -> str:
    """Why a worker died, in one line."""
    return f"{type(error).__name__}: {last_line(error)}"


def last_line(error: BaseException) -> str:
    """The last line of an error, where Ray and CUDA put the cause."""
    return (str(error).strip().splitlines() or [""])[-1].strip()[:200]


def check_version(driver: str) -> None:
    """Refuse to work for a driver of another version of farshot.

    Raises:
        FarshotError: names both versions.
    """
    if version("farshot") != driver:
        raise FarshotError(
            f"This worker has farshot {version('farshot')}, the driver {driver}; install the same on every "
            "machine."
        )

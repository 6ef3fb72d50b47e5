"""One worker process per device of this machine: every GPU at once, or several shares of the CPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch

from farshot.errors import FarshotError
from farshot.model.device import check_device
from farshot.workers.executors import Crew, Finished, Job, Lost, Member, words_of
from farshot.workers.processors import usable

MOST_STARTS = 3  # of one worker; a device that ends three processes is left alone
_END_S = 5.0


def devices_for(device: str, workers: int | None = None) -> list[str]:
    """The devices of workers: all GPUs of this machine for "auto" and "cuda", else the given device.

    Args:
        workers: how many; by default one per device. More than devices share them.

    Raises:
        SettingError: there is no such device.
    """
    place = check_device(device)
    if place.type == "cuda" and place.index is None:
        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    else:
        found = [str(place)]
    return [found[i % len(found)] for i in range(workers or len(found))]


@dataclass(frozen=True)
class LastWords:
    """The last message of a worker that ends with an error other than FarshotError, such as no memory."""

    said: str


@dataclass(kw_only=True)
class ProcessMember(Member):
    """A worker in a process of this machine.

    Attributes:
        connection: the driver's end of the pipe to it.
        last_words: with which error it is ending, where it could say so.
    """

    process: BaseProcess
    connection: Connection
    last_words: str = ""


class Processes(Crew[ProcessMember]):
    """Workers in separate processes (farshot.workers.executors.Executor); to be closed.

    Args:
        setup: what they begin with.
        devices: one for each worker.
    """

    def __init__(self, setup: Job, devices: Sequence[str]) -> None:
        super().__init__()
        self.setup, self.devices = setup, tuple(devices)
        self._starts: Counter[int] = Counter()

    def __enter__(self) -> Processes:
        for worker in range(len(self.devices)):
            self._start(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():
            member.process.kill()
        for member in self.members.values():
            member.process.join(_END_S)
            member.connection.close()
        self.members.clear()

    def give(self, worker: int, chunk: Any) -> None:
        """As Executor's."""
        member = self.members[worker]
        member.chunk = chunk
        with contextlib.suppress(OSError):  # it has just died, which wait will find
            member.connection.send(chunk)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """As Executor's; workers that died are started again."""
        events: list[Finished | Lost] = []
        connections = {member.connection: worker for worker, member in self.members.items()}
        for connection in wait(list(connections), seconds):
            worker = connections[connection]  # type: ignore[index]
            member = self.members[worker]
            try:
                answer = member.connection.recv()
            except (EOFError, OSError):
                events += self._bury(worker)
                continue
            if isinstance(answer, FarshotError):
                raise answer
            if isinstance(answer, LastWords):
                member.last_words = answer.said  # the end of its pipe comes next
                continue
            events += self._note(member, answer)
        return events

    def _start(self, worker: int) -> None:
        self._starts[worker] += 1
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        here, there = context.Pipe()
        device = self.devices[worker]
        threads = max(1, usable() // len(self.devices))
        share = 1 / self.devices.count(device)
        arguments = (there, self.setup, device, threads, share)
        process = context.Process(target=serve_chunks, args=arguments, daemon=True)
        process.start()
        there.close()  # so that its death is the end of the pipe
        self.members[worker] = ProcessMember(process=process, connection=here)

    def _bury(self, worker: int) -> list[Finished | Lost]:
        """Handle a dead worker: return its chunk and start another worker."""
        member = self.members.pop(worker)
        member.process.join(_END_S)
        member.connection.close()
        cause = member.last_words or f"code {member.process.exitcode}"
        why = f"a worker on {self.devices[worker]} ended with {cause}"
        if self._starts[worker] < MOST_STARTS:
            self._start(worker)
        elif not self.members:
            raise FarshotError(
                f"No worker is left: {why}. What is stored stays; the same command goes on, and "
                "--workers 1 shows the cause."
            )
        return [] if member.chunk is None else [Lost(member.chunk, why)]


def serve_chunks(connection: Connection, setup: Job, device: str, threads: int, share: float) -> None:
    """The main loop of a worker: report its load, then compute chunks until the driver is gone.

    An error is the last answer: a FarshotError as it is, any other as LastWords.

    Args:
        connection: the worker's end of the pipe to the driver.
        share: of the device's memory that it may use.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):  # the driver is gone
        worker = _attempt(setup.worker, device, share)
        broken = isinstance(worker, FarshotError | LastWords)
        connection.send(worker if broken else worker.loads)
        while not broken:
            answer = _attempt(worker.compute, connection.recv())
            connection.send(answer)
            if isinstance(answer, FarshotError | LastWords):
                return


def _attempt(do: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, or its error, for the driver to report."""
    try:
        return do(*arguments)
    except FarshotError as error:
        return error
    except Exception as error:  # the driver gives the chunk to another worker
        return LastWords(words_of(error))

"""How long a job will take on this machine, from its first steps, and whether that is too long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from farshot.errors import FarshotError

_AFTER = 3
"""Steps that are timed; the first also prepares what all need, so it does not count."""


class TooLong(FarshotError):
    """A job was stopped because it would take longer than it may.

    Args:
        seconds: that it would take in all.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"It would take about {spoken(seconds)} on this machine.")
        self.seconds = seconds


class Forecast:
    """Progress of a job, from whose first steps the time of all is projected.

    Args:
        progress: called with (done, in all), as without a forecast.
        told: called once with the seconds that the whole job will take.
        seconds: that it may take; more raises TooLong.
    """

    def __init__(
        self,
        progress: Callable[[int, int], None] | None = None,
        *,
        told: Callable[[float], None] | None = None,
        seconds: float | None = None,
    ) -> None:
        self._progress, self._told, self._limit = progress, told, seconds
        self._start = time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._calls = 0
        self._is_told = False

    def __call__(self, done: int, total: int) -> None:
        """Note a step.

        Raises:
            TooLong: the whole job would take longer than it may.
        """
        if self._progress is not None:
            self._progress(done, total)
        now = time.perf_counter()
        self._calls += 1
        if self._first is None:
            self._first = done, now
        elif not self._is_told and self._calls >= _AFTER and done < total:
            begun, at = self._first
            whole = at - self._start + (total - begun) * (now - at) / (done - begun)
            self._is_told = True
            if self._limit is not None and whole > self._limit:
                raise TooLong(whole)
            if self._told is not None:
                self._told(whole)


def spoken(seconds: float) -> str:
    """A time with its unit, to two digits or so: "40 s", "12 min", "1.8 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def peak_memory() -> int | None:
    """Most bytes that this process has held at a time, on the GPU if it computes there; None where the
    system does not say."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    return largest_size() or None


def largest_size() -> int:
    """Most bytes of main memory that this process has held at a time; 0 where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) if sys.platform == "darwin" else int(most) * 1024

"""What a person sees while a benchmark runs: one bar for the grid with the time left, one line per cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from farshot.bench.grid import Cell
from farshot.cli import console
from farshot.evaluation.intervals import mean_interval


class GridProgress:
    """Shows how far a grid is (farshot.bench.runner.Watcher).

    Time left is the work left, counted in images forwarded, at this process's speed so far.

    Args:
        clock: seconds from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._bar = clock, _bar()
        self._line: TaskID = self._bar.add_task("", total=None, left="")
        self._total = self._done = self._own = 0.0
        self._start = clock()

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, work: float, done: float) -> None:
        """All work of the grid, and what is stored already."""
        self._total, self._done, self._own, self._start = work, done, 0.0, self._clock()
        self._bar.update(self._line, total=work, completed=done)

    def working(self, cell: Cell, work: float) -> None:
        """Work done in the current batch."""
        self._bar.update(
            self._line, completed=self._done + work, description=str(cell), left=self.time_left(work)
        )

    def stored(self, work: float) -> None:
        """A batch is stored."""
        self._done += work
        self._own += work
        self._bar.update(self._line, completed=self._done, left=self.time_left())

    def finished(self, cell: Cell, accuracy: Sequence[float], seconds: float) -> None:
        """One line per cell; it stays on the screen and in logs."""
        found = mean_interval(accuracy)
        left = self.time_left()
        console.err.print(
            f"{cell}: {100 * found.mean:.2f} +- {100 * found.half:.2f} over {found.n} tasks, "
            f"{seconds:.2f} s each" + (f"; {left} left" if left else ""),
            markup=False,
        )

    def time_left(self, work: float = 0.0) -> str:
        """In words; empty before anything is known."""
        own = self._own + work
        if not own or self._done + work >= self._total:
            return ""
        return in_words((self._clock() - self._start) / own * (self._total - self._done - work))


def in_words(seconds: float) -> str:
    """A duration a person can use: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[left]} left"),
    )
    return Progress(*columns, console=console.err, transient=True, disable=not console.err.is_terminal)

"""Callbacks for experiment trackers: settings, the loss of every step, tasks of a benchmark, and results.

    with track(tracker):
        classifier.fit(images, labels)

`farshot.trackers` has those of TensorBoard, MLflow and Weights & Biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Literal

Outcome = Literal["finished", "stopped", "failed"]
"""How the work ended: it is done, a person ended it, or an error did."""


class Tracker:
    """Hears what happens; subclasses override what they want to know. An exception ends the work."""

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """The settings of a training run, such as the method's, before it begins."""

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """The loss of a training step before its update, the mean over tasks that train together.

        Args:
            step: from 1.
            steps: in all, as far as they are known.
        """

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        """The accuracy in [0, 1] on a task of a benchmark; `cell` names pool, shots, method, ways
        and bench."""

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        """Numbers that are final, such as "accuracy" with "accuracy_low" and "accuracy_high" in [0, 1]."""

    def close(self, outcome: Outcome = "finished") -> None:
        """Write what is left, and how the work ended."""


class Several(Tracker):
    """Tells several trackers."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def on_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """To each."""
        for one in self._trackers:
            one.on_settings(name, settings)

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """To each."""
        for one in self._trackers:
            one.on_step(step, steps, loss)

    def on_task(self, cell: str, task: int, accuracy: float) -> None:
        """To each."""
        for one in self._trackers:
            one.on_task(cell, task, accuracy)

    def on_result(self, name: str, values: Mapping[str, float]) -> None:
        """To each."""
        for one in self._trackers:
            one.on_result(name, values)

    def close(self, outcome: Outcome = "finished") -> None:
        """Close each."""
        with ExitStack() as closing:
            for one in self._trackers:
                closing.callback(one.close, outcome)


_current: ContextVar[Tracker | None] = ContextVar("tracker", default=None)


def current() -> Tracker | None:
    """The tracker that is in use here; None if there is none."""
    return _current.get()


@contextmanager
def track(tracker: Tracker | None) -> Iterator[None]:
    """Use a tracker for what this thread does; None uses none. It is not closed."""
    before = _current.set(tracker)
    try:
        yield
    finally:
        _current.reset(before)

"""Whose turn it is to compute: one job at a time, in turn, so that a short one does not wait for the end of a
long one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK = 0.2  # seconds between two looks at whether the person has stopped the job
_SLICE = 0.5  # seconds of a turn before others have theirs: short steps do not each wait for a long one


class Turns:
    """A lock that is given to those who wait in the order they came, and may be passed on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._holder: object | None = None
        self._since = 0.0  # when it got its turn

    def locked(self) -> bool:
        """Whether somebody computes."""
        return self._holder is not None

    @contextmanager
    def mine(self, check: Callable[[], object] | None = None) -> Iterator[Callable[[], None]]:
        """Wait for a turn; yields a function that lets those who wait have theirs first,
        once this turn has been long enough.

        Args:
            check: called while waiting; raises where the job has been stopped.
        """
        ticket = object()
        self._take(ticket, check)
        try:
            yield lambda: self._pass_on(ticket, check)
        finally:
            self._give(ticket)

    def _take(self, ticket: object, check: Callable[[], object] | None) -> None:
        with self._changed:
            self._waiting.append(ticket)
        try:
            while True:
                with self._changed:
                    if self._holder is None and self._waiting[0] is ticket:
                        self._waiting.popleft()
                        self._holder, self._since = ticket, time.monotonic()
                        return
                    self._changed.wait(_LOOK)
                if check is not None:
                    check()
        except BaseException:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            raise

    def _give(self, ticket: object) -> None:
        with self._changed:
            if self._holder is ticket:
                self._holder = None
                self._changed.notify_all()

    def _pass_on(self, ticket: object, check: Callable[[], object] | None) -> None:
        with self._changed:
            if not self._waiting or time.monotonic() - self._since < _SLICE:
                return
        self._give(ticket)
        self._take(ticket, check)

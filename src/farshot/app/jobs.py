"""Jobs: what takes seconds or minutes, in a thread that pages follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from farshot.app.memory import give_back
from farshot.app.texts import Text, message
from farshot.app.workspace.encoders import Report
from farshot.errors import FarshotError

_GIVE_BACK = 5  # seconds between two times that freed memory is returned


class Stopped(Exception):
    """The user stopped the job."""


class Job:
    """A job in its own thread, whose progress several pages may follow.

    Attributes:
        phase, done, total: what is being done, and how far; the phase and the error may be a `Text`.
        error: what was wrong, in one sentence; None where nothing was, or while it is running.
        stopped: whether the person ended it.
        told: whether a page has shown how it ended.
    """

    def __init__(self, work: Callable[[Report], object]) -> None:
        self.phase: str = Text("job.waiting")
        self.done, self.total = 0, 0
        self.error: str | None = None
        self.stopped = False
        self.told = False
        self._stop = threading.Event()
        self._gave_back = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the job is running."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it ends at its next step."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop the job at its next step."""
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Wait until the job has ended, at most for so many seconds."""
        self._thread.join(seconds)

    def _run(self, work: Callable[[Report], object]) -> None:
        try:
            work(self._report)
        except Stopped:
            self.stopped = True
        except FarshotError as error:
            self.error = message(error)
        except Exception as error:
            self.error = Text("job.fault", what=f"{type(error).__name__}: {error}")
        finally:
            give_back()

    def _report(self, phase: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
        self.phase, self.done, self.total = phase, done, total
        if time.monotonic() - self._gave_back > _GIVE_BACK:
            give_back()
            self._gave_back = time.monotonic()

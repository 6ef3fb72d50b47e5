"""What is said of a picture that cannot be decoded, and what a decoder's library would say itself.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library only.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


class Unreadable(Exception):
    """A picture cannot be decoded; the message says why and what to do, and follows a name and a colon."""

    @property
    def reason(self) -> str:
        """The sentence."""
        return str(self.args[0])


class _Stderr:
    """Suppress the error stream while libtiff decodes: it writes there directly, and its errors are raised
    as well. The first thread redirects the stream, the last one restores it."""

    def __init__(self) -> None:
        self._lock, self._users, self._kept = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            try:
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
            except OSError:  # there is no error stream
                self._kept = -1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1


quiet_stderr = _Stderr()
"""A context, for any number of threads at once."""

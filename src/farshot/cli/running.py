"""Commands that run until they are ended: the app and the service."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farshot.cli import console
from farshot.errors import DataError

_SERVE_EXTRA = ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart", "httpx")


def until_stopped(is_alive: Callable[[], bool] = lambda: True) -> None:
    """Wait for Ctrl-C, a service manager's signal, or the end of the terminal.

    Args:
        is_alive: whether what runs still does; its end is not waited for.
    """
    ended = threading.Event()
    ends = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = [(one, signal.signal(one, lambda *_: ended.set())) for one in ends]
    try:
        while not ended.wait(0.5) and is_alive():
            pass
    except KeyboardInterrupt:
        raise console.Stopped("ended.") from None
    finally:
        for one, handler in before:
            signal.signal(one, handler)


@contextmanager
def needs_serve_extra(what: str) -> Iterator[None]:
    """Imports that the extra `serve` brings.

    Raises:
        DataError: one is missing; `what` needs it.
    """
    try:
        yield
    except ImportError as error:
        if not (error.name or "").startswith(_SERVE_EXTRA):
            raise
        raise DataError(
            f"The {what} needs an extra ({error.name} is missing): pip install 'farshot[serve]'."
        ) from error


def warn_of_network() -> None:
    """Say what it means that other computers reach a service."""
    console.err.print(
        "Other computers can reach it, and what is sent is not encrypted: put a server with TLS in front of "
        "it, or use it in a network that you trust.",
        markup=False,
        style="red",
    )

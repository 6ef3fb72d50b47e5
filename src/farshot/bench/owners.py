"""Who claims tasks of a store: a process, by machine, number and a random word."""

from __future__ import annotations

import os
import socket
import uuid

_MOST_PROCESS = 2**31 - 1


def new_owner() -> str:
    """A name for this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"


def is_dead(owner: str) -> bool:
    """Whether it is no owner at all, or a process of this machine that has ended."""
    host, _, rest = owner.partition(":")
    number = rest.partition(":")[0]
    if not (number.isascii() and number.isdigit()) or int(number) > _MOST_PROCESS:
        return True
    return host == socket.gethostname() and not _alive(int(number))


def _alive(pid: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question but an end
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's process
    return True

"""Locks on open files (flock), which end with the process that holds them."""

from __future__ import annotations


def take(number: int) -> bool | None:
    """Take the lock of an open file without waiting.

    Args:
        number: of the file, as the system counts.

    Returns:
        Whether it was free; None where the system or the file system has no such locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True

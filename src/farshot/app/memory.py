"""Memory that was freed goes back to the system, where the C library can be asked for it."""

from __future__ import annotations

import ctypes
import sys

_C = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
_TRIM = getattr(_C, "malloc_trim", None)  # of glibc


def give_back() -> None:
    """Return freed memory; takes some milliseconds.

    Between decoded pictures lie small results that are kept, and glibc keeps what is free around them: a
    gigabyte after 5,000 pictures.
    """
    if _TRIM is not None:
        _TRIM(0)

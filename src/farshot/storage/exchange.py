"""Exchange two folders in one step, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # linux/fs.h, sys/stdio.h
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def exchange(a: Path, b: Path) -> bool:
    """Let two paths change places, at no moment with neither; False where this file system cannot.

    Raises:
        OSError: one of them is not there, or may not be moved.
    """
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(a), os.fsencode(b)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(a))


@cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """renameat2 of Linux or renamex_np of macOS."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            linux = library.renameat2
            return lambda a, b: int(linux(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE))
        if sys.platform == "darwin":
            mac = library.renamex_np
            return lambda a, b: int(mac(a, b, _RENAME_SWAP))
    except (OSError, AttributeError, TypeError):
        pass
    return None

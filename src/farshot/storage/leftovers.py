"""Temporary files and folders next to the places that they will take: names, owners, and removal of those
whose process was killed.

A process holds a lock (flock) on what it writes. What nobody holds is left of a process that was killed, and
is removed when farshot next writes to that folder. It may also have been made a moment ago and not be locked
yet: `made` then makes it again. Where the system has no such locks nothing is removed.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farshot.storage.locks import take

_PREFIX = ".farshot-"  # short, and not the place's own name: that may be as long as the system allows
_OURS = re.compile(r"\.farshot-[0-9a-f]{8}(-old|-name)?(\.[A-Za-z0-9]{1,8})?")
_PATIENCE_S, _POLL_S = 1.0, 0.002
_MOST_MADE = 64
_swept: set[Path] = set()
_made: list[tuple[int, Path]] = []  # process and path


def new_name(place: Path, suffix: str = "") -> Path:
    """An unused name next to a place; what has it when the process ends is removed."""
    path = place.with_name(f"{_PREFIX}{secrets.token_hex(4)}{suffix}")
    if len(_made) >= _MOST_MADE:
        _made[:] = [(process, made) for process, made in _made if os.path.lexists(made)]
    _made.append((os.getpid(), path.absolute()))
    return path


@atexit.register
def _tidy() -> None:
    """Remove what is left: a signal may have come at any moment of a clean-up. This one is completed."""
    mine = [path for process, path in _made if process == os.getpid()]
    if mine:
        with suppress(ValueError):  # not the main thread
            for one in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)):
                signal.signal(one, signal.SIG_IGN)
    for path in mine:
        with suppress(OSError):
            _remove(path)
            _restore(path.with_name(f"{path.name}-name"))


@contextmanager
def held(*paths: Path) -> Iterator[None]:
    """Mark files or folders as in use by this process; those that are not there are passed over."""
    # a sweep of another process or thread holds each for a moment, to ask whether it is in use
    files = [number for path in paths if (number := _lock(path, _PATIENCE_S)) is not None]
    try:
        yield
    finally:
        for number in files:
            os.close(number)


@contextmanager
def made(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Make a file or folder and mark it as in use by this process.

    Args:
        path: a name from `new_name`.
        make: makes it, empty; called again if a sweep removed it before it was marked.
    """
    while True:
        make(path)
        number = _lock(path, _PATIENCE_S)
        if number is not None or os.path.lexists(path):  # the latter: no locks here
            break
    try:
        yield
    finally:
        if number is not None:
            os.close(number)


def sweep(folder: Path, *, again: bool = False) -> None:
    """Remove what killed processes left in a folder, and put back what they had moved aside.

    Args:
        again: also where this process has done so already.
    """
    if folder in _swept and not again:
        return
    _swept.add(folder)
    with suppress(OSError):
        left = sorted(entry.name for entry in os.scandir(folder) if _OURS.fullmatch(entry.name))
        for name in sorted(left, key=lambda name: "-name" not in name):  # what is to be put back first
            _remove_or_restore(folder / name)


def _remove_or_restore(path: Path) -> None:
    number = _lock(path)
    if number is None:  # in use, gone, or no locks here
        return
    try:
        if path.name.endswith("-name"):
            _restore(path)
        elif not (path.name.endswith("-old") and path.with_name(f"{path.name[:-4]}-name").exists()):
            _remove(path)  # else `_restore` could not put it back
    finally:
        os.close(number)


def _restore(note: Path) -> None:
    """Put a folder back that was moved aside for one that never came."""
    old = note.with_name(f"{note.name[:-5]}-old")
    with suppress(OSError):
        try:
            place = note.with_name(os.fsdecode(note.read_bytes()))
        except ValueError:  # no plain name, such as where a process was killed before it wrote one
            if not old.exists():
                note.unlink()
            return
        if old.exists() and not os.path.lexists(place):
            old.rename(place)
        elif old.exists():
            _remove(old)
        note.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(path: Path, patience: float = 0.0) -> int | None:
    """An open file that holds the lock of a file or folder; None where another process has it, it is not
    there, or there are no locks.

    Args:
        patience: seconds to try again while another has it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    until = time.monotonic() + patience
    with suppress(OSError):
        while True:
            number = os.open(path, flags)
            free = take(number)
            with suppress(OSError):
                if free and os.path.samestat(
                    os.fstat(number), path.lstat()
                ):  # else it was replaced meanwhile
                    return number
            os.close(number)
            if free is None or time.monotonic() >= until:
                return None
            time.sleep(_POLL_S)
    return None

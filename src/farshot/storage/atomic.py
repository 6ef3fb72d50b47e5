"""Atomic writes: files and folders are written next to their place first, then moved there.

A place is checked by what will be done to it, before any work and again right before it is replaced. Links
are followed: what they lead to is replaced, not they. Nothing that farshot did not write is deleted. Where
the system can exchange two folders there is no moment without either; elsewhere a note next to them lets the
next run put the old one back.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from farshot.errors import DataError
from farshot.storage.exchange import exchange
from farshot.storage.leftovers import held, made, new_name, sweep
from farshot.storage.paths import home

Check = Callable[[Path], None]
"""Refuses a place, with one sentence."""

_LONGEST_SUFFIX = 8
_TRIES = 20  # at moving there, while other processes do the same
_OVERTAKEN = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}
_MOVING = threading.Lock()


@contextmanager
def whole_folder(folder: Path, check: Check) -> Iterator[Path]:
    """Yield an empty folder to write to, which replaces `folder` at the end.

    If the writing fails or is interrupted, what was there before stays, and nothing else. Of
    several who write to one place at once, the last one stays.

    Args:
        check: of the place, such as `check_folder`; asked before, and again right before replacing.

    Raises:
        DataError: `check` refuses the place, or it cannot be written.
    """
    check(folder)
    place = _followed(folder)
    way = "free some space or choose another --out"
    with _beside(folder, place, way) as staging, made(staging, Path.mkdir):
        yield staging
        _share(staging, place)
        with _MOVING:
            _take_place(staging, place, lambda: check(folder), check)


@contextmanager
def whole_file(path: Path, check: Check, way: str = "choose another --out") -> Iterator[Path]:
    """Yield a path to write a file to, which replaces `path` at the end, as `whole_folder` does.

    Args:
        way: out, where it cannot be written.
    """
    check(path)
    place = _followed(path)
    with _beside(path, place, way) as staging, made(staging, _touch):
        yield staging
        with suppress(FileNotFoundError):
            shutil.copymode(place, staging)
        with _MOVING:
            check(path)
            staging.replace(place)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a new path next to `path` for a file of farshot's own, which replaces `path` at the end.

    For files in a folder that only farshot writes to: nothing is checked. On an error the new file is removed
    and `path` is unchanged.
    """
    sweep(path.parent)
    staging = new_name(path, path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else "")
    try:
        with made(staging, _touch):
            yield staging
            staging.replace(path)
    finally:
        with suppress(OSError):
            staging.unlink()


def check_folder(
    folder: Path,
    what: str,
    files: Callable[[Path], Collection[str] | None],
    way: str = "choose another --out",
) -> None:
    """Refuse a place for a folder that is taken by something else, cannot be replaced, or is not writable.

    Args:
        what: what is going to be written, in words: "an adapted model".
        files: names of the files that such a folder may hold, of folders with a slash at the end; None where
            it is no such folder.
        way: out, in words.
    """
    place = _checked(folder, way)
    if os.path.lexists(place):
        if _is_here(place):
            raise DataError(
                f"{folder} is the folder that you are in, which cannot be replaced; name a new folder in it."
            )
        if os.path.ismount(place):
            raise DataError(f"{folder} is a mount point, which cannot be replaced; name a new folder in it.")
        for left in reversed(range(_TRIES)):
            before = _identity(place)
            try:
                _check_inside(folder, place, what, files, way)
                break
            except DataError:
                if before == _identity(place) or not left:  # else another writer replaced it meanwhile
                    raise
    _try_out(folder, place, way)


def check_file(
    path: Path, what: str, ours: Callable[[Path], bool], way: str = "choose another --out"
) -> None:
    """Refuse a place for a file that is taken by something else or is not writable.

    Args:
        what: what is going to be written, in words: "a report of farshot".
        ours: whether a file that is there was written by farshot.
        way: out, in words.
    """
    place = _checked(path, way)
    if os.path.lexists(place):
        try:
            known = place.is_file() and (place.stat().st_size == 0 or ours(place))
        except OSError as error:
            raise DataError(f"{path} cannot be looked into ({reason(error)}); {way}.") from error
        if not known:
            raise DataError(f"{path} exists and is not {what}; {way}, or remove it.")
        if os.path.ismount(place):
            raise DataError(f"{path} is a mount point, which cannot be replaced; {way}.")
    _try_out(path, place, way)


def check_writable(folder: Path, way: str, *names: str) -> None:
    """Refuse a folder, existing or not, in which no file can be created.

    Args:
        way: out, in words.
        names: what the folder's files will be called.
    """
    place = _checked(folder, way)
    if os.path.lexists(place) and not place.is_dir():
        raise DataError(f"{folder} is no folder; {way}.")
    for name in names or ("",):
        _try_out(folder / name, place / (name or "x"), way)


def reason(error: BaseException) -> str:
    """The message of an error, in one line."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:200]


def _checked(path: Path, way: str) -> Path:
    """The target of a path; refuses dangling links and impossible names."""
    path = home(path)
    for part in (path, *path.parents):
        if os.path.lexists(part) and part.is_symlink() and not part.exists():
            raise DataError(f"{part} is a link to nothing; remove it, or {way}.")
    try:
        place = _followed(path)
        with suppress(
            FileNotFoundError, NotADirectoryError
        ):  # what is missing can be made, or `_try_out` says
            place.lstat()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}); {way}.") from error
    return place


def _followed(path: Path) -> Path:
    """The path without links or dots."""
    return Path(os.path.realpath(home(path)))


def _check_inside(
    folder: Path, place: Path, what: str, files: Callable[[Path], Collection[str] | None], way: str
) -> None:
    """Refuse a folder that holds anything but the known files."""
    try:
        inside = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(place)}
        known = files(place)
    except FileNotFoundError:  # another who writes here has just moved it away
        return
    except NotADirectoryError:
        inside, known = {}, None
    except OSError as error:
        raise DataError(f"{folder} cannot be looked into ({reason(error)}); {way}.") from error
    if known is None and (inside or not place.is_dir()):
        raise DataError(f"{folder} exists and is not {what}; {way}, or remove it.")
    others = sorted(
        name for name, is_folder in inside.items() if f"{name}{'/' * is_folder}" not in (known or ())
    )
    if others:
        raise DataError(f"{folder} holds more than {what} ({others[0]}), which would be lost; {way}.")


def _identity(place: Path) -> tuple[int, int] | None:
    """Which folder is at a place; None where there is none."""
    with suppress(OSError):
        found = place.stat()
        return found.st_dev, found.st_ino
    return None


def _is_here(place: Path) -> bool:
    """Whether it is the working folder, or one above."""
    with suppress(OSError):
        here = Path.cwd().resolve()
        return place == here or place in here.parents
    return False


def _try_out(path: Path, place: Path, way: str) -> None:
    """Try to create the same names in the nearest existing folder, and remove them."""
    above = next(parent for parent in place.parents if os.path.lexists(parent))
    sweep(above, again=True)  # it need not be the folder that is written to
    trial = new_name(above / "x")

    def make(trial: Path) -> None:
        try:
            trial.mkdir()
        except OSError as error:
            raise DataError(
                f"{path} cannot be written, since {above} cannot ({reason(error)}); {way}."
            ) from error

    try:
        with made(trial, make):
            for name in place.relative_to(above).parts:
                (trial / name).mkdir(exist_ok=True)
        if place.exists() and _is_stuck(place, above):
            raise PermissionError(errno.EPERM, f"{above} lets only its owner replace it")
    except DataError:  # which is a ValueError
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}); {way}.") from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


def _is_stuck(place: Path, above: Path) -> bool:
    """Whether the folder prevents users from moving what others own, as /tmp does."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return False
    folder = above.stat()
    return bool(folder.st_mode & stat.S_ISVTX) and os.geteuid() not in (folder.st_uid, place.stat().st_uid)


@contextmanager
def _beside(path: Path, place: Path, way: str) -> Iterator[Path]:
    """A temporary name next to a place; it is removed at the end, with new parent folders if unused."""
    missing = [parent for parent in place.parents if not parent.exists()]
    sweep(place.parent, again=True)
    staging = new_name(place)
    done = False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield staging
        done = True
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}); {way}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            staging.unlink()
        if not done:
            with suppress(OSError):
                for parent in missing:
                    parent.rmdir()


def _take_place(staging: Path, place: Path, check: Callable[[], None], check_old: Check) -> None:
    """Let the new folder and the old one change places and remove the old; on an error the old one stays."""
    try:
        for left in reversed(range(_TRIES)):
            check()
            try:
                if not place.exists():
                    staging.rename(place)
                    return
                with held(place):
                    if not exchange(staging, place):
                        _move_aside(staging, place, check_old)
                        return
                    try:
                        check_old(staging)  # somebody may have put something into it since
                    except DataError:
                        exchange(staging, place)
                        raise
                shutil.rmtree(staging, ignore_errors=True)
                return
            except OSError as error:
                if error.errno not in _OVERTAKEN or not left:
                    raise
    except DataError as error:
        raise DataError(str(error).replace(str(staging), str(place))) from error


def _move_aside(staging: Path, place: Path, check_old: Check) -> None:
    """Where two folders cannot be exchanged: move the old one aside and the new one into place. A note with
    the name lets the next run undo it."""
    old, note = (staging.with_name(f"{staging.name}{end}") for end in ("-old", "-name"))
    known = False
    try:
        with made(note, _touch):
            note.write_bytes(os.fsencode(place.name))
            place.rename(old)
            try:
                check_old(old)  # somebody may have put something into it since
            except DataError as error:
                raise DataError(str(error).replace(str(old), str(place))) from error
            known = True
            staging.rename(place)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)  # stopped between the two: the old one stays
        elif known:
            shutil.rmtree(old, ignore_errors=True)
        note.unlink(missing_ok=True)


def _share(staging: Path, place: Path) -> None:
    """Set the permissions of the folder before, or of new folders; safetensors creates files for the owner
    only."""
    try:
        mode = stat.S_IMODE(place.stat().st_mode)
    except OSError:  # there is none, or another writer has just moved it away
        mode = stat.S_IMODE(staging.stat().st_mode)
    for path in staging.iterdir():
        path.chmod(mode if path.is_dir() else mode & 0o666)
    staging.chmod(mode)

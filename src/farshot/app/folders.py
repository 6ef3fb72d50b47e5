"""The app's folders: one that it removes at the end, or one that keeps projects, for one app at a time.

.farshot-app       lock of the app that uses the folder, with its address
.farshot-key       what browsers' cookies are signed with
.farshot-open.html leads the browser that the app opens to its address
.deleted-*         a project that is being deleted
.arriving-*        a project that is being imported, or its file
(32 hex digits)    a project
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farshot.data.files import is_litter
from farshot.errors import DataError
from farshot.storage import locks
from farshot.storage.atomic import check_writable, reason
from farshot.storage.paths import home

ARRIVING = ".arriving-"
DELETED = ".deleted-"
"""How folders of sessions begin that are being deleted."""
_NAME = re.compile("[0-9a-f]{32}")  # of the folder of a session
_WRITTEN = {
    *("adapted", "downloads", "thumbnails", "incoming", "removed", "run.json", "predictions.json"),
    *("left_out.json", "left_out_before.json", "copies.json", "more_labels.json", "open_set.json"),
}
"""What jobs write within the folder of a session, without what a person added."""
_PASSING = ("removed", "incoming")  # of those, the ones whose files are of no use to the next app
_PREFIX = "farshot-app-"  # then the process that the folder belongs to
_LOCK, _KEY, _OPEN = ".farshot-app", ".farshot-key", ".farshot-open.html"
_KEY_BYTES = 32
_OPENING = (
    '<!DOCTYPE html><meta charset="utf-8"><title>farshot</title>'
    '<script>location.replace("{0}")</script><a href="{0}">farshot</a>\n'
)
_LEFT = re.compile(rf"({re.escape(DELETED)}|{re.escape(ARRIVING)})[0-9a-f]{{32}}")


class Kept:
    """A folder of projects, which no other app uses while this one does.

    Attributes:
        folder: where it is.
        key: secret of this folder; whoever knows it can make cookies that open the projects.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self._lock = folder, lock
        self.key = _key(folder / _KEY)

    def tell_address(self, address: str) -> None:
        """Write down where the app is, for whoever starts another one on the folder."""
        os.ftruncate(self._lock, 0)
        os.lseek(self._lock, 0, os.SEEK_SET)
        os.write(self._lock, address.encode())

    def opening(self, address: str) -> Path:
        """A page that leads to an address, readable for this user only: other users see the command lines of
        browsers, and with them the addresses that they are given."""
        place = self.folder / _OPEN
        place.unlink(missing_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_OPENING.format(address))
        return place


@contextmanager
def temporary() -> Iterator[Path]:
    """A private folder that is removed at the end; removes those that killed apps left, too."""
    _sweep()
    prefix = f"{_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as place:
        yield Path(place)


@contextmanager
def kept(folder: Path) -> Iterator[Kept]:
    """A folder of projects, made where it does not exist; one that is there keeps its permissions.

    Raises:
        DataError: it cannot be written, holds something else, or is used by another app.
    """
    _sweep()
    folder = home(folder).absolute()
    check_writable(folder, "name another --keep")
    _check_content(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise DataError(f"{folder} cannot be used ({error.strerror}); name another --keep.") from error
    try:
        alone = locks.take(lock)  # None where there are no locks: then nobody is kept out
        if alone is False:
            address = os.read(lock, 500).decode(errors="replace").strip()
            app = f"another farshot app at {address}" if address else "another farshot app"
            raise DataError(f"{folder} is in use by {app}: open that one, end it, or name another --keep.")
        _tidy(folder, alone is True)
        try:
            yield Kept(folder, lock)
        finally:  # the lock's file stays: removed, it could be locked once more under the same name
            _tidy(folder, alone is True)
            with suppress(OSError):
                os.ftruncate(lock, 0)
                (folder / _OPEN).unlink()
    finally:
        os.close(lock)


def is_session(folder: Path) -> bool:
    """Whether it is the folder, no link, of a session."""
    named = _NAME.fullmatch(folder.name) is not None
    return named and not folder.is_symlink() and (folder / "pictures").is_dir()


def _tidy(folder: Path, alone: bool) -> None:
    """Delete what should be gone: deleted projects and, where no other app can be using the folder, removed
    pictures and half-received files. What cannot be deleted is left for the next start."""
    entries = list[Path]()
    with suppress(OSError):  # somebody took the folder away
        entries += folder.iterdir()
    for entry in entries:
        with suppress(OSError):
            if _LEFT.fullmatch(entry.name) and (alone or entry.name.startswith(DELETED)):
                if _is_ours(entry):
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.is_file() and not entry.is_symlink():
                    entry.unlink()
            elif alone and is_session(entry):
                for name in _PASSING:
                    shutil.rmtree(entry / name, ignore_errors=True)
            elif alone and _is_rest(entry):
                shutil.rmtree(entry, ignore_errors=True)


def _is_rest(folder: Path) -> bool:
    """Whether it is what a job wrote for a project that was deleted: its folder without pictures."""
    if _NAME.fullmatch(folder.name) is None or not _is_ours(folder) or is_session(folder):
        return False
    return {entry.name for entry in folder.iterdir()} <= _WRITTEN


def holds(root: Path, id: str) -> bool:
    """Whether a folder of sessions has one of this id, which may be any text."""
    return _NAME.fullmatch(id) is not None and is_session(root / id)


@contextmanager
def gradio_files() -> Iterator[None]:
    """A private place for Gradio's files: its own, in the shared temporary folder, may be another user's."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as place:
        os.environ["GRADIO_TEMP_DIR"] = place
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("GRADIO_TEMP_DIR", None)
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def _key(place: Path) -> bytes:
    """The key in a file that only this user can read; a new one where there is none such."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with suppress(FileNotFoundError):
            with os.fdopen(os.open(place, os.O_RDONLY | flags), "rb") as file:
                about = os.fstat(file.fileno())
                found = file.read(_KEY_BYTES + 1)
            if (
                len(found) == _KEY_BYTES
                and stat.S_ISREG(about.st_mode)
                and not (os.name == "posix" and about.st_mode & 0o077)
            ):
                return found
            place.unlink()
        key = secrets.token_bytes(_KEY_BYTES)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600), "wb") as file:
            file.write(key)
    except OSError as error:
        raise DataError(
            f"{place} cannot be used ({reason(error)}); remove it or name another --keep."
        ) from error
    return key


def _check_content(folder: Path) -> None:
    """Refuse a folder that holds anything else, which would be hard to tell apart from pictures later."""
    try:
        for entry in folder.iterdir() if folder.is_dir() else ():
            if not (is_session(entry) or _is_rest(entry) or is_litter([entry.name], hidden=True)):
                raise DataError(f"{folder} holds something else ({entry.name}); name a new folder as --keep.")
    except OSError as error:
        place = error.filename or folder
        raise DataError(f"{place} cannot be read ({reason(error)}); name another --keep.") from error


def _sweep() -> None:
    """Delete what apps left in the temporary folder that were killed before they could."""
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        number = place.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdigit() and _is_ours(place) and not _is_running(int(number)):
            shutil.rmtree(place, ignore_errors=True)


def _is_ours(place: Path) -> bool:
    """Whether it is a folder, no link, of this user."""
    try:
        about = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == getattr(os, "getuid", lambda: about.st_uid)()


def _is_running(process: int) -> bool:
    """Whether there is a process of this number; True where that cannot be known."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

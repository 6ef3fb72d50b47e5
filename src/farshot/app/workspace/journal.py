"""The state of a workspace on disk: a snapshot, and a log of the changes since.

    state.json         the snapshot, and the number of its log
    changes-N.jsonl    one change a line

A change costs what it holds, however large the state is: it is appended, and is on disk once `append`
returns, also where the program is killed right after. A line that a killed program did not finish was never
acknowledged and is dropped. Once the log outgrows the snapshot, a new snapshot with an empty log replaces
both; a program that is killed in between leaves the old pair or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from farshot.app.texts import Fault
from farshot.storage.atomic import reason, replaced
from farshot.storage.json_text import as_json, parse_object, read_object

FORMAT = 3
"""Of the snapshot; 1 had no log, 2 no folders and groups of pictures."""

STATE = "state.json"
_LOG = "changes-*.jsonl"
SMALLEST_LOG = 1 << 18  # bytes up to which a log is not worth a new snapshot


class Journal:
    """Snapshot and log in one folder; who writes has the workspace's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number: int | None = None  # of the log that belongs to the snapshot; None without one
        self._size = 0  # bytes of the log, whole lines only
        self._snapshot_size = 0

    def files(self) -> list[Path]:
        """What the state is made of."""
        return [self.folder / STATE, *sorted(self.folder.glob(_LOG))]

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The snapshot and the changes since; None where there is no state yet.

        Raises:
            DataError: it is damaged, or was written by a newer farshot.
        """
        place = self.folder / STATE
        if not place.exists():
            return None
        found = read_json(place, "disk.damaged")
        version, number = found.get("format", 0), found.get("log")
        if isinstance(version, int) and version > FORMAT:
            raise Fault("disk.newer", place=self.folder)
        self._snapshot_size = place.stat().st_size
        if number is None:
            return found, []
        if not isinstance(number, int) or isinstance(number, bool):
            raise Fault("disk.no_number", place=place, folder=self.folder)
        self._number = number
        return found, self._changes()

    def append(self, change: dict[str, Any], whole: Callable[[], dict[str, Any]]) -> None:
        """Write a change.

        Args:
            whole: the whole state after it, for a snapshot where one is due.

        Raises:
            DataError: the disk is full or cannot be written; nothing is changed.
        """
        if self._number is None or self._size > max(SMALLEST_LOG, 2 * self._snapshot_size):
            self.write(whole())
            return
        line = (as_json(change, separators=(",", ":")) + "\n").encode()
        place = self._log
        try:
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            try:
                os.ftruncate(handle, self._size)  # without what a killed program did not finish
                os.lseek(handle, self._size, os.SEEK_SET)
                left = memoryview(line)
                while left:
                    left = left[os.write(handle, left) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, self._size)
                raise
            finally:
                os.close(handle)
        except OSError as error:
            raise _not_written(place, error) from error
        self._size += len(line)

    def write(self, state: dict[str, Any]) -> None:
        """Write a new snapshot, with an empty log.

        Raises:
            DataError: the disk is full or cannot be written; nothing is changed.
        """
        number = 0 if self._number is None else self._number + 1
        place = self.folder / STATE
        (self.folder / _LOG.replace("*", str(number))).unlink(missing_ok=True)  # of a snapshot never finished
        write_json(place, {"format": FORMAT, "log": number, **state})
        self._number, self._size, self._snapshot_size = number, 0, place.stat().st_size
        for old in self.folder.glob(_LOG):
            if old != self._log:
                with suppress(OSError):
                    old.unlink()

    @property
    def _log(self) -> Path:
        return self.folder / _LOG.replace("*", str(self._number))

    def _changes(self) -> list[dict[str, Any]]:
        try:
            text = self._log.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Fault("disk.not_read", place=self._log, why=reason(error)) from error
        whole = text[: text.rfind(b"\n") + 1]
        self._size = len(whole)
        try:
            return [parse_object(line) for line in whole.splitlines()]
        except ValueError as error:
            raise Fault("disk.damaged", place=self._log, why=str(error), folder=self.folder) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    try:
        with replaced(path) as staging:
            staging.write_text(as_json(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _not_written(path, error) from error


def read_json(path: Path, damaged: str = "disk.damaged_remove") -> dict[str, Any]:
    """What `write_json` wrote.

    Args:
        damaged: key of what is said of a damaged file, with its `place` and `why`.

    Raises:
        DataError: it is no such file.
    """
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise Fault(damaged, place=path, why=str(error), folder=path.parent) from error


def _not_written(path: Path, error: OSError) -> Fault:
    return Fault("disk.not_written", place=path, why=error.strerror)

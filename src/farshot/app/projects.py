"""Projects: named workspaces in a folder, which every browser that has access to the app opens.

Each is a session's folder with its name and age in `project.json`. Folders of browsers, which earlier
versions kept, are projects, too; they are called by their date.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from farshot.app.folders import ARRIVING, is_session
from farshot.app.sessions import Sessions
from farshot.app.workspace.archive import imported
from farshot.app.workspace.classes import one_line
from farshot.app.workspace.intake import Refused
from farshot.app.workspace.journal import Journal, read_json, write_json
from farshot.app.workspace.picture import State
from farshot.app.workspace.state import Workspace
from farshot.app.workspace.stored import stored
from farshot.errors import DataError
from farshot.sanitize import plain

MOST_LETTERS = 80
MOST_PROJECTS = 1000
_ABOUT = "project.json"
_FORMAT = 1


@dataclass(frozen=True)
class Project:
    """A project in the list.

    Attributes:
        id: name of its folder.
        name: that the person gave it.
        changed: when its pictures, labels or classes last changed, in seconds since 1970.
        pictures, labelled, classes: how many there are.
        adapted: whether it has a model.
        fault: why it cannot be opened, in one sentence; None where it can.
    """

    id: str
    name: str
    changed: float
    pictures: int = 0
    labelled: int = 0
    classes: int = 0
    adapted: bool = False
    fault: str | None = None

    @property
    def day(self) -> str:
        """When it changed, in this computer's time zone."""
        return datetime.fromtimestamp(self.changed).strftime("%Y-%m-%d %H:%M")


class Projects:
    """The projects of a folder.

    Args:
        sessions: of this folder.
        models: names of the base models that a project may choose.
    """

    def __init__(self, sessions: Sessions, models: Collection[str] = ()) -> None:
        self.sessions, self.models = sessions, list(models)
        self._lock = threading.Lock()

    def offer(self, model: str) -> None:
        """Let imported projects choose another base model."""
        self.models.append(model)

    def all(self) -> list[Project]:
        """All projects, the one that changed last first."""
        found = []
        for id in self._ids():
            with suppress(FileNotFoundError):  # deleted meanwhile
                found += [one] if (one := self._about(id)) is not None else []
        return sorted(found, key=lambda one: -one.changed)

    def name(self, id: str) -> str:
        """The name of a project.

        Raises:
            DataError: there is none.
        """
        self._check_here(id)
        return self._name(id)

    def create(self, name: str) -> str:
        """Make an empty project; returns its id.

        Raises:
            DataError: the name cannot be used, or there are too many projects.
        """
        with self._lock:
            name = self._checked(name)
            return self._placed(self._staged(), name)

    def rename(self, id: str, name: str) -> None:
        """Give a project another name.

        Raises:
            DataError: there is no such project, or the name cannot be used.
        """
        with self._lock:
            self._check_here(id)
            name = self._checked(name, id)
            self._write(self.sessions.root / id, name)

    def delete(self, id: str) -> None:
        """Delete a project with its pictures, labels and model; nothing else is touched.

        Raises:
            DataError: there is no such project, or it cannot be deleted.
        """
        self._check_here(id)
        self.sessions.delete(id)

    def add(self, path: Path) -> tuple[str, list[Refused]]:
        """Import a project's file; returns the id of the new project, and the pictures that were not added.

        Raises:
            DataError: the file cannot be used; nothing of it stays.
        """
        staging = self._staged()
        try:
            wanted, refused = imported(
                path, Workspace(staging, self.sessions.limits, self.sessions.choice), self.models
            )
            with self._lock:
                return self._placed(staging, self._unused(wanted)), refused
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # where it was not placed

    def arriving(self) -> Path:
        """A new place for a file that is to be imported."""
        return self.sessions.root / f"{ARRIVING}{secrets.token_hex(16)}"

    # Names -------------------------------------------------------------------------------------------

    def _checked(self, name: str, id: str | None = None) -> str:
        """The cleaned name of a project, new by default."""
        name = _cleaned(name)
        if not name:
            raise DataError("Give the project a name.")
        if len(name) > MOST_LETTERS:
            raise DataError(f"The name is too long; {MOST_LETTERS} letters at most.")
        others = [one for one in self._ids() if one != id]
        if any(self._name(one).casefold() == name.casefold() for one in others):
            raise DataError(f"There is a project {name!r} already; choose another name.")
        if len(others) >= MOST_PROJECTS:
            raise DataError(f"There are {MOST_PROJECTS:,} projects; delete one first.")
        return name

    def _unused(self, wanted: str) -> str:
        """The wanted name, with a number where there is one already."""
        name = stem = _cleaned(wanted)[: MOST_LETTERS - 6].strip() or "Imported project"
        taken, number = {self._name(id).casefold() for id in self._ids()}, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem} ({number})"
        return self._checked(name)

    def _ids(self) -> list[str]:
        return [entry.name for entry in self.sessions.root.iterdir() if is_session(entry)]

    def _name(self, id: str) -> str:
        folder = self.sessions.root / id
        try:
            name = read_json(folder / _ABOUT)["name"]
            if isinstance(name, str) and _cleaned(name):
                return _cleaned(name)[:MOST_LETTERS]
        except (DataError, KeyError):
            pass
        return f"Pictures of {datetime.fromtimestamp(_changed(folder)):%Y-%m-%d %H:%M}"

    # On disk -----------------------------------------------------------------------------------------

    def _staged(self) -> Path:
        """An empty workspace that is not in the list."""
        folder = self.arriving()
        try:
            folder.mkdir(mode=0o700)
            (folder / "pictures").mkdir()
        except OSError as error:
            raise DataError(f"{folder} cannot be made ({error.strerror}).") from error
        return folder

    def _placed(self, staging: Path, name: str) -> str:
        """Put a workspace into the list."""
        id = secrets.token_hex(16)
        self._write(staging, name)
        staging.rename(self.sessions.root / id)
        return id

    def _write(self, folder: Path, name: str) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        before = folder / _ABOUT
        with suppress(DataError):
            created = read_json(before).get("created", created) if before.exists() else created
        write_json(before, {"format": _FORMAT, "name": name, "created": created})

    def _check_here(self, id: str) -> None:
        if not self.sessions.has(id):
            raise DataError("This project is not here any more.")

    def _about(self, id: str) -> Project | None:
        """What the list shows; None for a folder that nobody named or put anything in."""
        folder = self.sessions.root / id
        open_one, name, changed = self.sessions.open_project(id), self._name(id), _changed(folder)
        try:
            state = open_one.workspace.state if open_one else stored(Journal(folder))
        except DataError as error:
            return Project(id, name, changed, fault=str(error))
        state = state or State()
        if not (folder / _ABOUT).exists() and not state.pictures and not state.classes:
            return None
        labelled = sum(picture.label is not None for picture in state.pictures.values())
        counts = len(state.pictures), labelled, len(state.classes)
        return Project(id, name, changed, *counts, adapted=(folder / "run.json").exists())


def _cleaned(name: str) -> str:
    return plain(one_line(name), len(name))


def _changed(folder: Path) -> float:
    """When a project changed last."""
    files = [folder / _ABOUT, folder / "run.json", *Journal(folder).files()]
    return max([file.stat().st_mtime for file in files if file.is_file()], default=folder.stat().st_mtime)

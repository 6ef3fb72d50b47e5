"""What a workspace holds: pictures, classes and labels, read from disk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from farshot.app.texts import Fault
from farshot.app.workspace.classes import ClassWords
from farshot.app.workspace.groups import groups_of
from farshot.app.workspace.intake import UNFINISHED
from farshot.app.workspace.journal import Journal
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.picture import Picture, Setup, State
from farshot.app.workspace.stored import stored
from farshot.app.workspace.thumbnails import rendition, write_thumbnail
from farshot.app.workspace.undo import Undo
from farshot.data.given import labelled_table
from farshot.data.table import ImageTable
from farshot.storage.paths import home


class Contents:
    """A person's pictures and labels, without the ways to change them.

    Args:
        folder: made where it does not exist.
        limits: of what is taken in.
        choice: of model and method, until the person chooses.

    Raises:
        DataError: the folder's state is damaged, or was written by a newer farshot.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, choice: Setup | None = None) -> None:
        self.folder, self.limits = home(folder), limits or Limits()
        folder = self.folder
        self._lock = threading.RLock()  # labels change while a model is being adapted
        self._taking = threading.Lock()  # one zip at a time, while labels go on
        self._state = State(choice=choice or Setup())
        for name in ("pictures", "thumbnails", "removed"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for left in (folder / "pictures").glob(f"{UNFINISHED}*"):  # by a program that was ended
            left.unlink(missing_ok=True)
        self._jobs = 0  # that read pictures
        self._storing = False  # whether an upload is, which may be of a picture that was removed
        self._removed = set[str]()  # files that are moved to `removed` once there are none of these
        self._undo = Undo(folder / "removed")
        self._journal = Journal(folder)
        self._load()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures in the order they came."""
        with self._lock:
            return tuple(self._state.pictures.values())

    @property
    def classes(self) -> tuple[ClassWords, ...]:
        """The classes in the order they were named."""
        return self._state.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names."""
        return self._state.class_names

    @property
    def choice(self) -> Setup:
        """The chosen model and method."""
        return self._state.choice

    @property
    def counts(self) -> dict[str, int]:
        """Class -> number of pictures with that label."""
        found = dict.fromkeys(self.class_names, 0)
        for picture in self.pictures:
            if picture.label is not None:
                found[picture.label] += 1
        return found

    @property
    def unlabelled(self) -> tuple[Picture, ...]:
        """Pictures without a label, which a model predicts."""
        return tuple(picture for picture in self.pictures if picture.label is None)

    @property
    def state(self) -> State:
        """All that the person decided, as it is now."""
        return self._state

    @property
    def undoable(self) -> str | None:
        """The change that `undo` would take back, in words; None where there is none."""
        return self._undo.last

    @property
    def redoable(self) -> str | None:
        """The change that `redo` would do again, in words; None where there is none."""
        return self._undo.last_undone

    @property
    def adapted(self) -> Path:
        """Folder of the adapted model."""
        return self.folder / "adapted"

    def picture(self, id: str) -> Picture:
        """The picture of this id.

        Raises:
            DataError: there is none.
        """
        with self._lock:
            if id not in self._state.pictures:
                raise Fault("act.no_picture")
            return self._state.pictures[id]

    def state_files(self) -> list[Path]:
        """Files that change when the names, labels or classes do."""
        return self._journal.files()

    def path(self, picture: Picture) -> Path:
        """Its file."""
        return self.folder / "pictures" / picture.file

    def thumbnail(self, id: str) -> Path:
        """A small JPEG of a picture, made when it is first asked for."""
        picture = self.picture(id)
        place = self.folder / "thumbnails" / f"{picture.id}.jpg"
        if not place.exists():
            write_thumbnail(self.path(picture), place)
        return place

    def rendition(self, id: str) -> bytes:
        """A JPEG of a picture for the large view, as the model reads it.

        Raises:
            DataError: there is no such picture, or its file cannot be read.
        """
        return rendition(self.path(self.picture(id)))

    def support(self) -> ImageTable:
        """The labelled pictures as a table; its classes are those with a picture.

        Raises:
            DataError: there are not two classes with a picture each.
        """
        labelled = [picture for picture in self.pictures if picture.label is not None]
        if len({picture.label for picture in labelled}) < 2:
            raise Fault("act.two_classes")
        table, _ = labelled_table([self.path(p) for p in labelled], [str(p.label) for p in labelled])
        groups = self.groups()
        apart = tuple(groups.get(picture.id, picture.id) for picture in labelled) if groups else None
        # a picture's id is its content hash: what is known is not computed again
        ids = {row: picture.id for row, picture in enumerate(labelled)}
        return replace(table, groups=apart, _ids=ids)

    def table(self, pictures: Sequence[Picture]) -> ImageTable:
        """Pictures without labels as a table."""
        ids = {row: picture.id for row, picture in enumerate(pictures)}
        return ImageTable(tuple(self.path(picture) for picture in pictures), None, (), (), _ids=ids)

    def descriptions(self) -> dict[str, str]:
        """Class -> words in place of its name, for those that have some."""
        return {words.name: words.description for words in self._state.classes if words.description}

    def groups(self) -> dict[str, str]:
        """Picture -> what it was taken of, for those of which that is known."""
        state = self._state
        return groups_of(tuple(state.pictures.values()), state.groups)

    def stamp(self, setup: Setup | None = None) -> str:
        """Hash of all that an adapted model depends on: with another one, adapting again changes it.

        Args:
            setup: model and method; by default those that are chosen.
        """
        with self._lock:
            labels = sorted((p.id, p.label) for p in self.pictures if p.label is not None)
            choice = asdict(setup or self._state.choice)
            del choice["wanted"]  # a model is not adapted again for it
            groups = self.groups()
            apart = [sorted((id, groups[id]) for id, _ in labels if id in groups)] if groups else []
            words = json.dumps([labels, self.descriptions(), choice, *apart], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    def _load(self) -> None:
        state = stored(self._journal)
        if state is not None:
            # a file that somebody took away is no picture any more
            there = {id: picture for id, picture in state.pictures.items() if self.path(picture).is_file()}
            self._state = replace(state, pictures=there)

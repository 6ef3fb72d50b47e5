"""Pictures, classes and labels of a workspace, kept on disk.

    state.json         pictures, classes, chosen model and method (journal.py)
    changes-N.jsonl    what changed since
    pictures/          the picture files, by content
    removed/           those whose removal can be taken back
    thumbnails/        small copies that are shown
    adapted/           the adapted model, as FewShotClassifier saves it
    run.json           what is known of it
    predictions.json   its predictions for the unlabelled pictures

Every change is on disk before the call returns, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from farshot.app.workspace.classes import ClassWords, check, class_of_folder, cleaned
from farshot.app.workspace.intake import UNFINISHED, Refused, Upload, take_in
from farshot.app.workspace.journal import Journal
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.picture import Picture, Setup, State
from farshot.app.workspace.stored import stored
from farshot.app.workspace.thumbnails import write_thumbnail
from farshot.app.workspace.undo import Change, Undo, in_words, labels_of
from farshot.data.given import labelled_table
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.storage.paths import home


class Workspace:
    """A person's pictures and labels.

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
        self._undo = Undo(folder / "removed")
        self._journal = Journal(folder)
        self._load()

    # What there is -----------------------------------------------------------------------------------

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
                raise DataError("This picture is not here any more; load the page again.")
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

    def support(self) -> ImageTable:
        """The labelled pictures as a table; its classes are those with a picture.

        Raises:
            DataError: there are not two classes with a picture each.
        """
        labelled = [picture for picture in self.pictures if picture.label is not None]
        if len({picture.label for picture in labelled}) < 2:
            raise DataError("Give pictures to at least two classes first: a model learns to tell them apart.")
        table, _ = labelled_table([self.path(p) for p in labelled], [str(p.label) for p in labelled])
        # a picture's id is its content hash: what is known is not computed again
        return replace(table, _ids={row: picture.id for row, picture in enumerate(labelled)})

    def table(self, pictures: Sequence[Picture]) -> ImageTable:
        """Pictures without labels as a table."""
        ids = {row: picture.id for row, picture in enumerate(pictures)}
        return ImageTable(tuple(self.path(picture) for picture in pictures), None, (), (), _ids=ids)

    def descriptions(self) -> dict[str, str]:
        """Class -> words in place of its name, for those that have some."""
        return {words.name: words.description for words in self._state.classes if words.description}

    def stamp(self) -> str:
        """Hash of all that an adapted model depends on: with another one, adapting again changes it."""
        with self._lock:
            labels = sorted((p.id, p.label) for p in self.pictures if p.label is not None)
            choice = asdict(self._state.choice)
            del choice["wanted"]  # a model is not adapted again for it
            words = json.dumps([labels, self.descriptions(), choice], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    # Changes -----------------------------------------------------------------------------------------

    def take(
        self, uploads: Sequence[Upload], label: str | None = None
    ) -> tuple[list[Picture], list[Refused]]:
        """Takes pictures in. One that is here already gets the class that it comes with.

        Args:
            label: class of all of them; by default the folder that a picture came in is its class.

        Returns:
            The new pictures, and what was not stored with the reason.
        """
        if label is not None:
            self._known(label)
        with self._taking:
            place = self.folder / "pictures"
            taken, refused = take_in(uploads, place, self.limits, frozenset(self._state.pictures))
            with self._lock:
                label = label if label in self.class_names else None  # it may have been renamed meanwhile
                classes = list(self._state.classes)
                new = {}
                for one in taken:
                    name = label or class_of_folder(one.folder, classes)
                    new[one.id] = Picture(one.id, one.name, one.path.name, name)
                known = {
                    one.same_as: label or class_of_folder(one.folder, classes)
                    for one in refused
                    if one.same_as
                }
                before = {
                    id: self._state.pictures[id]
                    for id, name in known.items()
                    if name and id in self._state.pictures and self._state.pictures[id].label != name
                }
                after = {id: replace(picture, label=known[id]) for id, picture in before.items()}
                self._commit({**new, **after}, classes=tuple(classes))
                if before:
                    self._undo.add(Change(f"the class that {in_words(before)} came with", before))
            said = [
                replace(
                    one, reason=f"the same image is already here; its class is now {known[one.same_as]!r}."
                )
                if one.same_as in after
                else one
                for one in refused
            ]
            return list(new.values()), said

    def name_classes(self, wanted: Sequence[ClassWords]) -> None:
        """Set the classes and their order; other capitals or another description are the same class.

        A class that has pictures stays: a list does not tell its new name, `rename_class` does.

        Raises:
            DataError: an empty, overlong or repeated name; too many classes; a class with pictures is
                missing. Nothing is changed.
        """
        classes = tuple(cleaned(words) for words in wanted)
        check(classes)
        with self._lock:
            spelled = {words.name.casefold(): words.name for words in classes}
            for name, count in self.counts.items():
                if count and name.casefold() not in spelled:
                    pictures = f"{count} picture{'s' if count > 1 else ''}"
                    raise DataError(
                        f"{name!r} is missing from the list and has {pictures}. Give it another name with "
                        "Rename, or its pictures another class first; nothing was changed."
                    )
            self._relabel(lambda name: spelled.get(name.casefold(), name), classes)

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name; its pictures, its place and its description go along.

        Raises:
            DataError: no such class, or a name that is empty, overlong or another class's.
        """
        with self._lock:
            self._known(old)
            classes = tuple(
                cleaned(replace(words, name=new)) if words.name == old else words
                for words in self._state.classes
            )
            check(classes)
            name = classes[self.class_names.index(old)].name
            self._relabel(lambda label: name if label == old else label, classes)

    def _relabel(self, new: Callable[[str], str], classes: tuple[ClassWords, ...]) -> None:
        """Change the names of all labels, and the classes."""
        changed = {
            id: replace(picture, label=new(picture.label))
            for id, picture in self._state.pictures.items()
            if picture.label is not None and new(picture.label) != picture.label
        }
        self._commit(changed, classes=classes)
        self._undo.relabel(new)

    def label(self, ids: Iterable[str], name: str | None) -> None:
        """Gives pictures a class; None takes it away. Raises as `label_each`."""
        self.label_each(dict.fromkeys(ids, name))

    def label_each(self, labels: Mapping[str, str | None]) -> int:
        """Give each picture its class, as one change; returns how many have another one now.

        Raises:
            DataError: no such class, or no such picture.
        """
        with self._lock:
            names = {name for name in labels.values() if name is not None}
            for name in names:
                self._known(name)
            before = {one.id: one for one in map(self.picture, labels) if one.label != labels[one.id]}
            if before:
                self._commit({id: replace(picture, label=labels[id]) for id, picture in before.items()})
                self._undo.add(labels_of(before, names))
            return len(before)

    def remove(self, ids: Iterable[str], *, again: bool = False) -> None:
        """Remove pictures; their files are deleted once this can no longer be taken back.

        Args:
            again: whether this was done before and taken back.
        """
        with self._lock:
            before = {id: self.picture(id) for id in ids}
            order = tuple(self._state.pictures)
            self._commit(dict.fromkeys(before))
            for picture in before.values():
                with suppress(OSError):  # else it is deleted with the folder
                    self.path(picture).replace(self.folder / "removed" / picture.file)
                (self.folder / "thumbnails" / f"{picture.id}.jpg").unlink(missing_ok=True)
            self._undo.add(Change(f"the removal of {in_words(before)}", before, order), again=again)

    def undo(self) -> str:
        """Take back the last labels or removal; returns what, in words.

        Raises:
            DataError: there is nothing to take back.
        """
        with self._lock:
            change = self._undo.pop()
            if change is None:
                raise DataError("There is nothing to take back.")
            self._undo.taken_back(self._reversed(change))
            return change.what

    def redo(self) -> str:
        """Do again what was taken back last; returns what, in words.

        Raises:
            DataError: there is nothing to do again.
        """
        with self._lock:
            change = self._undo.pop_undone()
            if change is None:
                raise DataError("There is nothing to do again.")
            if change.order is None:
                self._undo.add(self._reversed(change), again=True)
            else:
                self.remove([id for id in change.before if id in self._state.pictures], again=True)
            return change.what

    def _reversed(self, change: Change) -> Change:
        """Put pictures back to what they were before a change; returns the change that does the opposite."""
        found = change.with_labels({*self.class_names, None})
        if change.order is None:
            found = {id: picture for id, picture in found.items() if id in self._state.pictures}
            now = {id: self._state.pictures[id] for id in found}
            self._commit(found)
            return replace(change, before=now)
        for picture in found.values():
            with suppress(OSError):
                (self.folder / "removed" / picture.file).replace(self.path(picture))
        back = {
            id: picture
            for id, picture in found.items()
            if id not in self._state.pictures and self.path(picture).is_file()
        }
        state = self._state.changed(back).ordered(change.order)
        self._journal.write(state.written())
        self._state = state
        return replace(change, before=back)

    def forget_removed(self) -> None:
        """Delete what was removed; after that nothing can be taken back."""
        with self._lock:
            self._undo.clear()

    def choose(self, choice: Setup) -> None:
        """Set model and method."""
        with self._lock:
            self._commit({}, choice=choice)

    def _known(self, name: str) -> None:
        if name not in self.class_names:
            raise DataError(f"There is no class {name!r}; name it first.")

    # On disk -----------------------------------------------------------------------------------------

    def _commit(
        self,
        pictures: Mapping[str, Picture | None],
        classes: tuple[ClassWords, ...] | None = None,
        choice: Setup | None = None,
    ) -> None:
        """Change the state on disk, then in memory.

        Args: as `State.changed` takes them.
        """
        before, after = self._state, self._state.changed(pictures, classes, choice)
        if pictures or (after.classes, after.choice) != (before.classes, before.choice):
            self._journal.append(after.difference(before, pictures), after.written)
            self._state = after

    def _load(self) -> None:
        state = stored(self._journal)
        if state is not None:
            # a file that somebody took away is no picture any more
            there = {id: picture for id, picture in state.pictures.items() if self.path(picture).is_file()}
            self._state = replace(state, pictures=there)

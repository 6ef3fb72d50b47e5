"""Changes of a workspace: pictures are taken in, labelled and removed, classes are edited.

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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from farshot.app.texts import Fault, Text
from farshot.app.workspace.classes import ClassWords, FolderClasses, NoSuchClass, check, cleaned
from farshot.app.workspace.contents import Contents
from farshot.app.workspace.groups import preview
from farshot.app.workspace.intake import Refused, Taken, Upload, take_in
from farshot.app.workspace.picture import Picture, Setup
from farshot.app.workspace.undo import Change, ClassEdit, labels_of


class Workspace(Contents):
    """A person's pictures and labels.

    Args:
        folder: made where it does not exist.
        limits: of what is taken in.
        choice: of model and method, until the person chooses.

    Raises:
        DataError: the folder's state is damaged, or was written by a newer farshot.
    """

    def take(
        self, uploads: Sequence[Upload], label: str | None = None
    ) -> tuple[list[Picture], list[Refused]]:
        """Takes pictures in. One that is here already gets the class that it comes with, and one that comes
        twice the last; both classes are named. One whose folder cannot be its class is refused.

        Args:
            label: class of all of them; by default the folder that a picture came in is its class.

        Returns:
            The new pictures, and what was not stored with the reason.

        Raises:
            NoSuchClass: of the label; nothing is added.
            DataError: the state cannot be written; nothing is added.
        """
        if label is not None:
            self._known(label)
        with self._uploading():
            place = self.folder / "pictures"
            taken, refused = take_in(uploads, place, self.limits, frozenset(self._state.pictures))
            with self._lock, self._nothing_left(taken):
                if label is not None:  # it may have been renamed meanwhile
                    self._known(label)
                here = self._state.pictures
                folders = FolderClasses(self.classes)
                new: dict[str, Picture] = {}
                after: dict[str, Picture] = {}
                said = []
                stored = {one.id: one for one in taken}
                for one in taken:
                    try:
                        name = label or folders.of(one.place)
                    except Fault as error:
                        said.append(Refused(one.name, error.text))
                    else:
                        new[one.id] = Picture(one.id, one.name, one.path.name, name, one.folders)
                for other in refused:
                    id = other.same_as or ""
                    now = new.get(id) or after.get(id) or here.get(id)
                    lost = (
                        None if now else stored.get(id)
                    )  # a copy that came before was refused by its folder
                    try:
                        name = label or folders.of(other.place) if now or lost else None
                    except Fault as error:
                        said.append(Refused(other.name, error.text))
                        continue
                    if lost:
                        new[id] = Picture(id, other.name, lost.path.name, name, other.folders)
                        continue
                    if now and name and name != now.label:
                        (new if id in new else after)[id] = replace(now, label=name)
                        key = "upload.same_with_class" if now.label is None else "upload.in_two_classes"
                        other = replace(other, reason=Text(key, name=name, old=now.label))
                    said.append(other)
                before = {id: here[id] for id in after}
                self._commit({**new, **after}, classes=tuple(folders.classes))
                if before:
                    self._undo.add(Change(Text("change.came_with", n=len(before)), before))
            return list(new.values()), said

    @contextmanager
    def _uploading(self) -> Iterator[None]:
        """One upload at a time; files of pictures that are removed meanwhile stay where they are."""
        with self._taking:
            with self._lock:
                self._storing = True
            try:
                yield
            finally:
                with self._lock:
                    self._storing = False
                    self._put_aside()

    @contextmanager
    def _nothing_left(self, taken: Sequence[Taken]) -> Iterator[None]:
        """Delete the files of pictures that are not added in the end, but none of one that is here or that
        was removed."""
        try:
            yield
        finally:
            needed = self._removed | {picture.file for picture in self._state.pictures.values()}
            for one in taken:
                if one.path.name not in needed:
                    one.path.unlink(missing_ok=True)

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
                    raise Fault("class.missing", name=name, n=count)
            renamed = {name: spelled.get(name.casefold(), name) for name in self.class_names}
            self._edit(Text("change.classes"), classes, renamed)

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
            self._edit(Text("change.renamed", new=name, old=old), classes, {old: name})

    def _edit(self, what: str, classes: tuple[ClassWords, ...], renamed: Mapping[str, str]) -> None:
        """Change the classes, and the labels of those that get another name."""
        edit = ClassEdit(self._state.classes, classes, {a: b for a, b in renamed.items() if a != b})
        if classes != self._state.classes:
            self._commit(self._renamed(edit.renamed), classes=classes, renamed=edit.renamed)
            self._undo.add(Change(what, {}, edit=edit))

    def _renamed(self, names: Mapping[str, str]) -> dict[str, Picture]:
        """The pictures whose class gets another name, with that."""
        return {
            id: replace(picture, label=names[picture.label])
            for id, picture in self._state.pictures.items()
            if picture.label is not None and picture.label in names
        }

    def label(self, ids: Iterable[str], name: str | None) -> None:
        """Gives pictures a class; None takes it away. Raises as `label_each`."""
        self.label_each(dict.fromkeys(ids, name))

    def label_each(
        self,
        labels: Mapping[str, str | None],
        classes: Sequence[ClassWords] = (),
        what: str | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> int:
        """Give each picture its class, as one change; returns how many have another class or group now.

        Args:
            labels: picture -> class; None takes it away.
            classes: those that are new among them.
            what: the change in words, as for `undoable`.
            groups: picture -> its group, of those that get one.

        Raises:
            DataError: a class that is neither here nor new, or cannot be added; no such picture.
        """
        with self._lock:
            known = self._state.classes
            all_classes = (*known, *(cleaned(words) for words in classes))
            if classes:
                check(all_classes)
            names = {name for name in labels.values() if name is not None}
            if missing := names - {words.name for words in all_classes}:
                raise NoSuchClass(min(missing))
            told = {id: replace(self.picture(id), label=name) for id, name in labels.items()}
            for id, group in (groups or {}).items():
                told[id] = replace(told.get(id) or self.picture(id), group=group)
            before = {id: self.picture(id) for id in told if told[id] != self.picture(id)}
            if before:
                after = {id: told[id] for id in before}
                self._commit(after, classes=all_classes)
                change = labels_of(before, names)
                edit = ClassEdit(known, all_classes, {}) if classes else None
                self._undo.add(replace(change, what=what or change.what, edit=edit))
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
            self._removed |= {picture.file for picture in before.values()}
            for picture in before.values():
                (self.folder / "thumbnails" / f"{picture.id}.jpg").unlink(missing_ok=True)
            self._undo.add(Change(Text("change.removal", n=len(before)), before, order), again=again)
            self._put_aside()

    @contextmanager
    def read_by_job(self) -> Iterator[None]:
        """Files of pictures that are removed meanwhile stay where they are until the end."""
        with self._lock:
            self._jobs += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs -= 1
                self._put_aside()

    def _put_aside(self, *, final: bool = False) -> None:
        """Move the files of removed pictures away once nothing uses them; those whose removal is final go.

        Args:
            final: do not wait for jobs, since the app ends.
        """
        if self._storing or (self._jobs and not final):
            return
        self._removed -= {picture.file for picture in self._state.pictures.values()}
        for file in tuple(self._removed):
            place = self.folder / "pictures" / file
            with suppress(OSError):  # another program has it open: next time
                if file in self._undo.held:
                    place.replace(self._undo.aside / file)
                else:
                    place.unlink(missing_ok=True)
                self._removed.discard(file)

    def undo(self) -> str:
        """Take back the last labels, removal or edit of classes; returns what, in words.

        Raises:
            DataError: there is nothing to take back, or files of removed pictures are gone; the others are
                back.
        """
        with self._lock:
            change = self._undo.pop()
            if change is None:
                raise Fault("act.nothing_to_undo")
            undone = self._reversed(change)
            if undone.order is None or undone.before:
                self._undo.taken_back(undone)
            if undone.order is not None and (gone := change.before.keys() - self._state.pictures.keys()):
                raise Fault("act.removed_gone", n=len(gone))
            return change.what

    def redo(self) -> str:
        """Do again what was taken back last; returns what, in words.

        Raises:
            DataError: there is nothing to do again.
        """
        with self._lock:
            change = self._undo.pop_undone()
            if change is None:
                raise Fault("act.nothing_to_redo")
            if change.order is None:
                self._undo.add(self._reversed(change), again=True)
            else:
                self.remove([id for id in change.before if id in self._state.pictures], again=True)
            return change.what

    def _reversed(self, change: Change) -> Change:
        """Put pictures and classes back to what they were before a change; returns the change that does the
        opposite."""
        if change.order is not None:
            return self._brought_back(change)
        here = {id for id in change.before if id in self._state.pictures}
        edit = None
        if change.edit is not None:
            used = {one.label for id, one in self._state.pictures.items() if id not in here}
            edit = change.edit.opposite(self._state.classes, used)
        classes = self._state.classes if edit is None else edit.after
        found = change.with_labels({*(words.name for words in classes), None})
        now = {id: self._state.pictures[id] for id in here}
        renamed = {} if edit is None else edit.renamed
        pictures = {**self._renamed(renamed), **{id: found[id] for id in here}}
        self._commit(pictures, classes=classes, renamed=renamed)
        return replace(change, before=now, edit=edit)

    def _brought_back(self, change: Change) -> Change:
        """The same for a removal."""
        found = change.with_labels({*self.class_names, None})
        for picture in found.values():
            with suppress(OSError):
                (self.folder / "removed" / picture.file).replace(self.path(picture))
        back = {
            id: picture
            for id, picture in found.items()
            if id not in self._state.pictures and self.path(picture).is_file()
        }
        state = self._state.changed(back).ordered(change.order or ())
        self._journal.write(state.written())
        self._state = state
        return replace(change, what=Text("change.removal", n=len(back)), before=back)

    def forget_removed(self) -> None:
        """Delete what was removed; after that nothing can be taken back."""
        with self._lock:
            self._undo.clear()
            self._put_aside(final=True)

    def choose(self, choice: Setup) -> None:
        """Set model and method."""
        with self._lock:
            self._commit({}, choice=choice)

    def group_by(self, pattern: str) -> None:
        """Keep pictures together whose folder and name have the same match; an empty pattern keeps those
        together that a table of labels said.

        Raises:
            DataError: no regular expression, or one that takes too long.
        """
        with self._lock:
            if pattern:
                preview(self.pictures, pattern)
            self._commit({}, groups=pattern)

    def came_from(self, places: Mapping[str, tuple[str, str | None]]) -> None:
        """Set folder and group of imported pictures."""
        with self._lock:
            here = self._state.pictures
            self._commit(
                {
                    id: replace(here[id], folder=folder, group=group)
                    for id, (folder, group) in places.items()
                    if id in here
                }
            )

    def _known(self, name: str) -> None:
        if name not in self.class_names:
            raise NoSuchClass(name)

    def _commit(
        self,
        pictures: Mapping[str, Picture | None],
        classes: tuple[ClassWords, ...] | None = None,
        choice: Setup | None = None,
        groups: str | None = None,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        """Change the state on disk, then in memory.

        Args: as `State.changed` takes them.
        """
        before, after = self._state, self._state.changed(pictures, classes, choice, groups, renamed)
        settings = [(one.classes, one.choice, one.groups) for one in (before, after)]
        if pictures or settings[0] != settings[1]:
            self._journal.append(after.difference(before, pictures), after.written)
            self._state = after

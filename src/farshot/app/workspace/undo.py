"""Take back labels, removals and edits of classes, and do them again: what the last changes replaced, in
memory.

Files of removed pictures are kept aside until their removal can no longer be taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from farshot.app.texts import Text
from farshot.app.workspace.classes import ClassWords
from farshot.app.workspace.picture import Picture

MOST = 20
"""Changes that can be taken back."""


@dataclass(frozen=True)
class ClassEdit:
    """Classes that were added, removed, renamed, ordered or described.

    Attributes:
        before, after: all classes.
        renamed: old name -> new name, of those that got another.
    """

    before: tuple[ClassWords, ...]
    after: tuple[ClassWords, ...]
    renamed: Mapping[str, str]

    def opposite(self, now: tuple[ClassWords, ...], used: Collection[str | None]) -> ClassEdit:
        """The edit that takes this one back. Uploads may have changed the classes since: what they added
        stays, and so does an added class that has pictures.

        Args:
            now: all classes.
            used: names of those with pictures.
        """
        known = {words.name.casefold(): words.name for words in self.before}
        back = {new: old for old, new in self.renamed.items()}
        added = {words.name for words in self.after}
        kept = tuple(
            words
            for words in now
            if words.name not in back
            and words.name.casefold() not in known
            and (words.name not in added or words.name in used)
        )
        names = {one.name: back.get(one.name, known.get(one.name.casefold(), one.name)) for one in now}
        renamed = {old: new for old, new in names.items() if old != new}
        return ClassEdit(now, (*self.before, *kept), renamed)


@dataclass(frozen=True)
class Change:
    """A change that can be taken back.

    Attributes:
        what: in words, after "Taken back: "; may be a `Text`.
        before: picture -> what it was, in the order of all pictures.
        order: ids of all pictures before a removal; None where nothing was removed.
        edit: of the classes; None where they stayed.
    """

    what: str
    before: Mapping[str, Picture]
    order: tuple[str, ...] | None = None
    edit: ClassEdit | None = None

    def with_labels(self, names: Collection[str | None]) -> dict[str, Picture]:
        """The pictures as they were, without labels that are none of these names."""
        return {
            id: picture if picture.label in names else replace(picture, label=None)
            for id, picture in self.before.items()
        }


class Undo:
    """The last changes of a workspace.

    Args:
        aside: folder of removed pictures; emptied, since nothing of an earlier program can be taken back.
    """

    def __init__(self, aside: Path) -> None:
        self.aside = aside
        self._changes: deque[Change] = deque()
        self._undone: deque[Change] = deque()
        self._delete(aside.glob("*"))

    @property
    def last(self) -> str | None:
        """The change that would be taken back, in words."""
        return self._changes[-1].what if self._changes else None

    @property
    def last_undone(self) -> str | None:
        """The change that would be done again, in words."""
        return self._undone[-1].what if self._undone else None

    @property
    def held(self) -> set[str]:
        """Files of the removals that can be taken back."""
        return {
            one.file for other in self._changes if other.order is not None for one in other.before.values()
        }

    def add(self, change: Change, *, again: bool = False) -> None:
        """Remember a change; the oldest one is final where there are too many.

        Args:
            again: whether it is one that was taken back; after any other nothing can be done again.
        """
        if not again:
            self._undone.clear()
        self._changes.append(change)
        while len(self._changes) > MOST:
            self._end(self._changes.popleft())

    def pop(self) -> Change | None:
        """The last change, which is forgotten."""
        return self._changes.pop() if self._changes else None

    def taken_back(self, change: Change) -> None:
        """Remember how to do again what was taken back."""
        self._undone.append(change)

    def pop_undone(self) -> Change | None:
        """The change that was taken back last, which is forgotten."""
        return self._undone.pop() if self._undone else None

    def clear(self) -> None:
        """Make all changes final."""
        self._undone.clear()
        while self._changes:
            self._end(self._changes.popleft())

    def _end(self, change: Change) -> None:
        if change.order is None:
            return
        held = self.held
        self._delete(self.aside / p.file for p in change.before.values() if p.file not in held)

    def _delete(self, files: Iterable[Path]) -> None:
        for file in files:
            file.unlink(missing_ok=True)


def labels_of(before: Mapping[str, Picture], names: Collection[str]) -> Change:
    """The change that gave pictures these classes.

    Args:
        before: the pictures as they were.
        names: of the classes; none where they lost theirs.
    """
    count = len(before)
    if not names:
        return Change(Text("change.no_class", n=count), before)
    if len(names) == 1:
        return Change(Text("change.label", name=min(names), n=count), before)
    return Change(Text("change.labels", n=count), before)

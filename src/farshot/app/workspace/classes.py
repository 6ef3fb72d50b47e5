"""Classes as a person names them: cleaned, and refused where they cannot be told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farshot.app.texts import Fault
from farshot.app.workspace.names import Place, places_of
from farshot.data.names import nfc
from farshot.sanitize import plain

MOST_CLASSES = 50
MOST_LETTERS = {"name": 60, "description": 300}


@dataclass(frozen=True)
class ClassWords:
    """A class, and the words that may replace its name in prompts."""

    name: str
    description: str = ""


class NoSuchClass(Fault):
    """A class that is not here, or not any more."""

    def __init__(self, name: str) -> None:
        super().__init__("class.unknown", name=name)


def cleaned(words: ClassWords) -> ClassWords:
    return ClassWords(*(plain(one_line(text), len(text)) for text in (words.name, words.description)))


def one_line(text: str) -> str:
    return " ".join(nfc(text).split())


def check(classes: Sequence[ClassWords]) -> None:
    if len(classes) > MOST_CLASSES:
        raise Fault("class.too_many", n=len(classes), most=MOST_CLASSES)
    seen: set[str] = set()
    for words in classes:
        if not words.name:
            raise Fault("class.no_name")
        for what, most in MOST_LETTERS.items():
            if len(getattr(words, what)) > most:
                raise Fault(f"class.{what}_too_long", start=words.name[:20], most=most)
        if words.name.casefold() in seen:
            raise Fault("class.twice", name=words.name)
        seen.add(words.name.casefold())


class FolderClasses:
    """The classes that folders propose. No two folders of one selection become the same class, and none
    becomes another one than its name says.

    Args:
        classes: all that there are.
        labelled: class and folders of the pictures that have both.
    """

    def __init__(self, classes: Sequence[ClassWords], labelled: Iterable[tuple[str, str]]) -> None:
        self.classes = list(classes)
        self._before, self._now = defaultdict[str, set[str]](set), dict[str, str]()
        for label, folders in set(labelled):
            (place,) = places_of([f"{folders}/picture"], wrapped=False)
            if _proposed(place).casefold() == label.casefold():
                self._before[label.casefold()].add(place.path)

    def of(self, place: Place) -> str | None:
        """The class of a place, added to the others where it is new; None where no folder proposes one.

        Raises:
            Fault: the folder cannot be a class, or is of pictures that are not trained on.
        """
        name = _proposed(place)
        if not name:
            return None
        if place.split not in (None, "train"):
            raise Fault("upload.of_split", split=place.split)
        if len(name) > MOST_LETTERS["name"]:
            raise Fault("upload.folder_too_long", most=MOST_LETTERS["name"])
        key = name.casefold()
        others = (one for one in self._before[key] if _of_one_selection(one, place.path))
        other = self._now.get(key) or next(others, place.path)
        if other != place.path:
            raise Fault("upload.folders_alike", folder=place.path, other=other)
        known = {words.name.casefold(): words.name for words in self.classes}
        if key not in known:
            if len(self.classes) == MOST_CLASSES:
                raise Fault("upload.too_many_classes", most=MOST_CLASSES)
            self.classes.append(ClassWords(name))
        self._now[key] = place.path
        return known.get(key, name)


def _proposed(place: Place) -> str:
    folder = one_line((place.folder or "").replace("_", " "))
    return plain(folder, len(folder))


def _of_one_selection(one: str, other: str) -> bool:
    """Whether two paths look as if they came together: within the same folder, at any depth."""
    above, top = one.rpartition("/")[0], one.partition("/")[0]
    return above == other.rpartition("/")[0] or top == other.partition("/")[0]

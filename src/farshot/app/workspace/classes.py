"""Classes as a person names them: cleaned, and refused where they cannot be told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farshot.app.texts import Fault, Text
from farshot.app.workspace.names import Place, class_name, places_of
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
    """The classes that folders propose. Names that differ only in capitals, spaces or underscores are one.

    Args:
        classes: all that there are.
    """

    def __init__(self, classes: Sequence[ClassWords]) -> None:
        self.classes = list(classes)

    def of(self, place: Place) -> str | None:
        """The class of a place, added to the others where it is new; None where no folder proposes one.

        Raises:
            Fault: the folder cannot be a class, or is of pictures that are not trained on.
        """
        name = class_name(place.folder or "")
        if not name:
            return None
        if place.split not in (None, "train"):
            raise Fault("upload.of_split", split=place.split)
        if len(name) > MOST_LETTERS["name"]:
            raise Fault("upload.folder_too_long", most=MOST_LETTERS["name"])
        known = {words.name.casefold(): words.name for words in self.classes}
        if name.casefold() not in known:
            if len(self.classes) == MOST_CLASSES:
                raise Fault("upload.too_many_classes", most=MOST_CLASSES)
            self.classes.append(ClassWords(name))
        return known.get(name.casefold(), name)


def folders_alike(folders: Iterable[str]) -> list[str]:
    """A sentence on each two folders of one selection that are one class under different spellings."""
    spelled = defaultdict[str, set[str]](set)
    for place in places_of([f"{folder}/picture" for folder in folders]):
        if place.folder is not None:
            spelled[class_name(place.folder).casefold()].add(place.folder)
    pairs = [(first, other) for first, *others in map(sorted, spelled.values()) for other in others]
    return [Text("upload.folders_alike", folder=folder, other=other) for folder, other in pairs]

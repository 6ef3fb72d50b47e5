"""Classes as a person names them: cleaned, and refused where they cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.app.texts import Fault
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


def class_of_folder(folder: str | None, classes: list[ClassWords]) -> str | None:
    """The class that a folder's name proposes, added to the list where it is new and there is room for it."""
    name = plain(one_line((folder or "").replace("_", " ")), MOST_LETTERS["name"])
    if not name:
        return None
    known = {words.name.casefold(): words.name for words in classes}
    if name.casefold() in known:
        return known[name.casefold()]
    if len(classes) == MOST_CLASSES:
        return None
    classes.append(ClassWords(name))
    return name

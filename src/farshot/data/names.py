"""Classes: their labels, their order, and the names and descriptions used in prompts.

Names and labels are compared in Unicode's composed form (NFC), since file systems and keyboards differ in how
they write an accented letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from farshot.data.text import load_json, read_text
from farshot.errors import DataError
from farshot.sanitize import plain, short
from farshot.storage.paths import home

ClassNames = Mapping[Any, str] | Sequence[str] | str | Path | None
"""Names for prompts: by label, in the order of the classes, or a file that says so."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,100}")
_OTHER_MARKS = re.compile(r"\s*(?:=>|->|=|\t)\s*")
_MOST_LISTED = 10


def nfc(text: str) -> str:
    """Text in Unicode's composed form."""
    return unicodedata.normalize("NFC", text)


def default_name(label: str) -> str:
    """What prompts call a class that was given no name: its label, '_' read as a space."""
    return " ".join(nfc(label).replace("_", " ").split())


def in_class_order(labels: Iterable[str]) -> list[str]:
    """Labels in the order of classes: whole numbers by value, then everything else as text."""

    def place(label: str) -> tuple[bool, int, str]:
        number = _WHOLE_NUMBER.fullmatch(label)
        return number is None, int(label) if number else 0, nfc(label)

    return sorted(labels, key=place)


def check_labels(classes: Sequence[str], where: str) -> tuple[str, ...]:
    """Check that the labels are text and all different, and return them.

    Args:
        where: what to call the data in a refusal.
    """
    _check_text(classes, where)
    twice = _twice(map(nfc, classes))
    if twice:
        raise DataError(f"{where} has two classes of one name, {short(twice)}; rename or merge them.")
    return tuple(classes)


def names_in_prompts(names: ClassNames, classes: Sequence[str], where: str) -> tuple[str, ...]:
    """One name per class, in the order of the classes; by default the class itself, '_' read as a space.

    Args:
        where: what to call the data in a refusal.

    Raises:
        DataError: a class without a name, a name for a label that is no class, two classes of one name, or a
            name that is no text.
    """
    check_labels(classes, where)
    found = tuple(" ".join(nfc(name).split()) for name in _prompt_names(names, classes))
    _check_text(found, where)
    twice = _twice(map(str.casefold, found))
    if twice:
        alike = [label for label, name in zip(classes, found, strict=True) if name.casefold() == twice]
        raise DataError(
            f"{where} has two classes of one name in prompts, {short(twice)}: {short(alike[0])} and "
            f"{short(alike[1])}; "
            "rename or merge them, or give --class-names."
        )
    return found


def read_names(path: Path) -> Mapping[str, str] | tuple[str, ...]:
    """The names in a file of class names when the classes are not known from data; of `label: name`, by
    label.

    Raises:
        DataError: a file that cannot be read, lines of both forms, or two names that are the same.
    """
    found = _names_file(home(path), None)
    if isinstance(found, Mapping):
        return dict(zip(found, names_in_prompts(found, tuple(found), str(path)), strict=True))
    return names_in_prompts(None, tuple(found), str(path))


def read_descriptions(
    path: Path, names: Sequence[str], classes: Sequence[str] | None = None
) -> dict[str, str]:
    """Class descriptions from a JSON file, as `descriptions_of` returns them."""
    found = load_json(path)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(f"{path} must be a JSON object: class name -> description.")
    return descriptions_of(found, names, classes, str(path))


def descriptions_of(
    given: Mapping[Any, str],
    names: Sequence[str],
    classes: Sequence[str] | None = None,
    where: str = "descriptions",
) -> dict[str, str]:
    """Class descriptions: name in prompts -> words that replace it.

    Args:
        given: the same by names in prompts or by labels.
        names: of the classes, as prompts call them.
        classes: the same, as the data calls them.
        where: what to call the descriptions in a refusal.

    Raises:
        DataError: a description of something that is not a class, or two of one class.
    """
    by_name = {nfc(name): name for name in names}
    by_label = dict(zip(map(nfc, classes or names), names, strict=True))
    found: dict[str, str] = {}
    for key, words in given.items():
        word = nfc(str(key))
        name = by_name.get(word, by_label.get(word))
        if name is None:
            known = [*by_name, *by_label]
            raise DataError(
                f"{where} describes {short(word)}, which is not a class{_meant(word, known)}; the classes "
                f"are: {listed(names)}."
            )
        if word in by_name and by_label.get(word, name) != name:
            raise DataError(
                f"{where} describes {short(word)}, which is the label of one class and the name of another "
                "in prompts; give the classes other names."
            )
        if name in found:
            raise DataError(f"{where} describes the class {short(name)} twice; keep one description.")
        if not isinstance(words, str) or not words.strip() or not is_text(words):
            raise DataError(f"{where} has {short(words)} as the description of {short(word)}; give it words.")
        found[name] = words
    return found


def names_by_label(given: Mapping[Any, str], labels: Sequence[str], where: str) -> list[str]:
    """The name of each label in a mapping, which may name further classes.

    Raises:
        DataError: a label without a name, with the key that was probably meant; two keys for one label.
    """
    by_label: dict[str, str] = {}
    for key, name in given.items():
        word = nfc(str(key))
        if word in by_label:
            raise DataError(f"{where} names {short(word)} twice; keep one name.")
        by_label[word] = name
    known = set(map(nfc, labels))
    missing = [label for label in labels if nfc(label) not in by_label]
    others = [label for label in by_label if label not in known]
    if missing and others:
        close = get_close_matches(nfc(missing[0]), others, 1, 0.0)[0]
        raise DataError(
            f"{where} has no name for the class {short(missing[0])}, but one for {short(close)}, which is "
            f"not a class; correct the label (the classes are: {listed(labels)})."
        )
    if missing:
        raise DataError(f"{where} has no name for the class {short(missing[0])}; name every class.")
    return [by_label[nfc(label)] for label in labels]


def names_in_order(names: Sequence[str], labels: Sequence[str], where: str) -> list[str]:
    """Names given in the order of the labels.

    Raises:
        DataError: too many or few, or names that are labels of other classes, which shows another order.
    """
    if len(names) != len(labels):
        raise DataError(
            f"{where} has {len(names)} names but the data has {len(labels)} classes ({listed(labels)})."
        )
    if _twice(_spoken(str(name)) for name in names):
        return list(names)  # refused later, with the two classes
    codes = {_spoken(label): code for code, label in enumerate(labels)}
    for code, (name, label) in enumerate(zip(names, labels, strict=True)):
        other = codes.get(_spoken(str(name)), code)
        if other != code:
            raise DataError(
                f"{where} calls the class {short(label)} {short(name)}, which is another class; names must "
                f"follow the order of the classes ({listed(labels)}), or say which is which (label: name)."
            )
    return list(names)


def _prompt_names(names: ClassNames, classes: Sequence[str]) -> list[str]:
    if names is None:
        return [name.replace("_", " ") for name in classes]
    where = "class_names"
    if isinstance(names, str | Path):
        where = str(names)
        names = _names_file(home(names), classes)
    if isinstance(names, Mapping):
        return [str(name) for name in names_by_label(names, classes, where)]
    return [str(name) for name in names_in_order(names, classes, where)]


def _check_text(names: Sequence[str], where: str) -> None:
    for name in names:
        if not name.strip() or not is_text(name):
            raise DataError(f"{where} has a class of the name {short(name)}; give it a name in plain text.")


def is_text(name: str) -> bool:
    """Whether a name can be encoded as text; file names may hold bytes that are no characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _names_file(path: Path, classes: Sequence[str] | None) -> Mapping[str, str] | Sequence[str]:
    """Read a file of class names: by label if it has any, else in order."""
    if path.suffix.lower() == ".json":
        found = load_json(path)
        names = list(found.values()) if isinstance(found, dict) else found
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path} must be a JSON object (class -> name) or list of names.")
        return found
    numbered = [
        (number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()
    ]
    pairs = {number: _pair(line, classes) for number, line in numbered}
    if not any(pairs.values()):
        for number, line in numbered:
            _check_plain(path, number, line, classes)
        return [line for _, line in numbered]
    by_label: dict[str, str] = {}
    for number, line in numbered:
        pair = pairs[number]
        if pair is None:
            raise DataError(
                f"{path}, line {number}: {short(line)} is not of the form 'label: name' as other lines are; "
                "write all lines in one form, or names that contain colons as a JSON list."
            )
        label, name = pair
        if nfc(label) in map(nfc, by_label):
            raise DataError(f"{path}, line {number}: {short(label)} is named twice; keep one name.")
        if not name:
            raise DataError(f"{path}, line {number}: no name for {short(label)}; write one after the colon.")
        by_label[label] = name
    return by_label


def _pair(line: str, classes: Sequence[str] | None) -> tuple[str, str] | None:
    """Label and name of a line `label: name`; of several colons, the last that follows a known label."""
    colons = [match.start() for match in re.finditer(":", line)]
    if not colons:
        return None
    known = set(map(nfc, classes or ()))
    if nfc(line) in known:  # a label with a colon in it, alone
        return None
    ends = [colon for colon in colons if nfc(line[:colon].strip()) in known]
    end = ends[-1] if ends else colons[0]
    return line[:end].strip(), line[end + 1 :].strip()


def _check_plain(path: Path, number: int, line: str, classes: Sequence[str] | None) -> None:
    """Refuse a line that separates label and name by anything but a colon."""
    label = _OTHER_MARKS.split(line, maxsplit=1)
    if len(label) == 2 and classes is not None and nfc(line) not in map(nfc, classes):
        raise DataError(
            f"{path}, line {number}: {short(line)} is neither a name nor 'label: name'; write "
            f"'{plain(label[0], 60)}: {plain(label[1], 60)}', or give the names in a JSON list."
        )


def _spoken(name: str) -> str:
    """A name in the form used in prompts, for comparison."""
    return default_name(name).casefold()


def _meant(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f" (did you mean {short(close[0])}?)" if close else ""


def listed(names: Sequence[str]) -> str:
    """The first names of a list in words, and how many more there are."""
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(plain(name, 60) for name in names[:_MOST_LISTED]) + more


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)

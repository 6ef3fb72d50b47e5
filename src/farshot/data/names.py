"""What prompts call the classes: names and descriptions, as given or from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from farshot.data.text import load_json, read_text
from farshot.errors import DataError

ClassNames = Mapping[str, str] | Sequence[str] | str | Path | None
"""Names for prompts: by label, in the order of the classes, or a file that says so."""


def check_labels(classes: Sequence[str], where: str) -> tuple[str, ...]:
    """The classes as the data calls them, if they are text and all different.

    Args:
        where: what to call the data in a refusal.
    """
    _check_text(classes, where)
    twice = [name for name, n in Counter(classes).items() if n > 1]
    if twice:
        raise DataError(f"{where} has two classes of one name, {twice[0]!r}; rename or merge them.")
    return tuple(classes)


def names_in_prompts(names: ClassNames, classes: Sequence[str], where: str) -> tuple[str, ...]:
    """One name per class, in the order of the classes; by default the class itself, '_' read as a space.

    Args:
        where: what to call the data in a refusal.

    Raises:
        DataError: a class without a name, two classes of one name, or a name that is no text.
    """
    check_labels(classes, where)
    found = tuple(" ".join(name.split()) for name in _prompt_names(names, classes))
    _check_text(found, where)
    twice = [name for name, n in Counter(map(str.casefold, found)).items() if n > 1]
    if twice:
        alike = [label for label, name in zip(classes, found, strict=True) if name.casefold() == twice[0]]
        raise DataError(
            f"{where} has two classes of one name in prompts, {twice[0]!r}: {alike[0]!r} and {alike[1]!r}; "
            "rename or merge them, or give --class-names."
        )
    return found


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a file of class names, where no data says what the classes are; of `label: name`, the
    names.

    Raises:
        DataError: a file that cannot be read, or two names that are the same.
    """
    found = _names_file(path.expanduser(), ())
    names = [str(name) for name in (found.values() if isinstance(found, Mapping) else found)]
    if all(":" in name for name in names):
        names = [name.partition(":")[2].strip() for name in names]
    return names_in_prompts(None, names, str(path))


def read_descriptions(
    path: Path, names: Sequence[str], classes: Sequence[str] | None = None
) -> dict[str, str]:
    """Class descriptions from a JSON file: name in prompts -> words that take its place.

    Args:
        names: of the classes, as prompts call them.
        classes: the same, as the data calls them; the file may use these as well.
    """
    found = load_json(path)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(f"{path} must be a JSON object: class name -> description.")
    known = dict(zip(classes or names, names, strict=True)) | {name: name for name in names}
    unknown = [name for name in found if name not in known]
    if unknown:
        listed = ", ".join(names)
        raise DataError(f"{path} describes {unknown[0]!r}, which is not a class; the classes are: {listed}.")
    return {known[name]: words for name, words in found.items()}


def _prompt_names(names: ClassNames, classes: Sequence[str]) -> list[str]:
    if names is None:
        return [name.replace("_", " ") for name in classes]
    where = "class_names"
    if isinstance(names, str | Path):
        where = str(names)
        names = _names_file(Path(names).expanduser(), classes)
    if isinstance(names, Mapping):
        missing = [name for name in classes if name not in names]
        if missing:
            raise DataError(f"{where} has no name for the class {missing[0]!r}; name every class.")
        return [str(names[name]) for name in classes]
    if len(names) != len(classes):
        raise DataError(
            f"{where} has {len(names)} names but the data has {len(classes)} classes ({', '.join(classes)})."
        )
    return [str(name) for name in names]


def _check_text(names: Sequence[str], where: str) -> None:
    for name in names:
        if not name.strip() or not _is_text(name):
            raise DataError(f"{where} has a class of the name {name!r}; give it a name in plain text.")


def _is_text(name: str) -> bool:
    """Whether a name can be written; names of files may hold bytes that are no characters."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _names_file(path: Path, classes: Sequence[str]) -> Mapping[str, str] | Sequence[str]:
    if path.suffix.lower() == ".json":
        found = load_json(path)
        names = list(found.values()) if isinstance(found, dict) else found
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path} must be a JSON object (class -> name) or list of names.")
        return found
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    pairs = [line.partition(":") for line in lines]
    if all(colon and label.strip() in classes for label, colon, _ in pairs):
        return {label.strip(): name for label, _, name in pairs}
    return lines

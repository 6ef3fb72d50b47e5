"""The app's texts, in the language of whoever reads them.

`languages/LANGUAGE.json` is a catalogue: key -> text with named {placeholders}, or its singular and plural as
{"one": ..., "other": ...}, between which the value `n` chooses. A file more is a language more. A `Text` is a
text whose reader is not known yet: what workspaces and jobs report is translated where it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from farshot.errors import DataError
from farshot.sanitize import visible
from farshot.web.origin import cookie_of

ENGLISH = "en"
COOKIE = "farshot_language"
"""Holds the language that a person chose; the page's own script sets it."""

MARK, END, END_OF_HTML = "\ue000", "\ue001", "\ue002"
"""Around the key of a text in a page that is built once for all languages: as it is, or escaped for HTML."""

_FOLDER = Path(__file__).parent / "languages"
_MARKS = "marks"
_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


@cache
def languages() -> tuple[str, ...]:
    """Codes of the languages that have a catalogue."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


@cache
def catalogue(language: str) -> dict[str, Any]:
    """All texts of a language."""
    found: dict[str, Any] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


class Text(str):
    """A text of the catalogue with its values; as a string it is English.

    Args:
        key: of the catalogue.
        values: names, numbers, or texts in turn; `n` chooses between singular and plural.
    """

    key: str
    values: Mapping[str, object]

    def __new__(cls, key: str, **values: object) -> Text:
        made = super().__new__(cls, _filled(ENGLISH, key, values))
        made.key, made.values = key, values
        return made


class Fault(DataError):
    """An error whose text is in the catalogue. Args: as `Text`."""

    def __init__(self, key: str, **values: object) -> None:
        self.text = Text(key, **values)
        super().__init__(self.text)


def text(key: str, **values: object) -> str:
    """A text in the reader's language."""
    if _language.get() == _MARKS:
        return f"{MARK}{_mark(key, values)}{END}"
    return _filled(_language.get(), key, values)


def html(key: str, **values: object) -> Markup:
    """The same for a template: the text is HTML already, and its values are escaped."""
    if _language.get() == _MARKS:
        return Markup(f"{MARK}{_mark(key, values)}{END_OF_HTML}")
    return Markup(_filled(_language.get(), key, values, Markup))


def shown(said: str) -> str:
    """What is shown of a message: a `Text` in the reader's language; any other string as it is."""
    return visible(text(said.key, **said.values)) if isinstance(said, Text) else said


def message(error: Exception) -> str:
    """What `shown` takes of an error: a `Text` where the catalogue has it."""
    return error.text if isinstance(error, Fault) else str(error)


def read(error: Exception) -> str:
    """The message of an error in the reader's language."""
    return shown(message(error))


def number(value: int) -> str:
    """A whole number with its thousands apart."""
    grouped = f"{value:,}"
    if language() == ENGLISH:
        return grouped
    # Spanish leaves four digits together
    return str(value) if language() == "es" and abs(value) < 10_000 else grouped.replace(",", ".")


def decimal(written: str) -> str:
    """A number that was written with a point, with the sign of the language."""
    return written if language() == ENGLISH else written.replace(".", ",")


# Whose language -------------------------------------------------------------------------------------------


def language() -> str:
    """The reader's language."""
    return ENGLISH if _language.get() == _MARKS else _language.get()


def speak(cookie: str | None, accepted: str | None) -> None:
    """From now on, in this thread or task, texts are in the language that a request asks for. Args: as
    `chosen`."""
    _language.set(chosen(cookie, accepted))


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Texts are in this language while the context lasts."""
    before = _language.set(language)
    try:
        yield
    finally:
        _language.reset(before)


@contextmanager
def marking() -> Iterator[None]:
    """Keys take the place of texts while the context lasts, for `farshot.app.translated`."""
    with speaking(_MARKS):
        yield


def chosen(cookie: str | None, accepted: str | None) -> str:
    """The language that a person chose, or else the first of those that the browser accepts.

    Args:
        cookie, accepted: headers of a request.
    """
    wanted = cookie_of(cookie, COOKIE)
    if wanted in languages():
        return wanted
    ranked = sorted(map(_ranked, (accepted or "").split(",")[:50]), key=lambda one: -one[0])
    return next((name for weight, name in ranked if weight > 0 and name in languages()), ENGLISH)


def _ranked(entry: str) -> tuple[float, str]:
    """Weight and language of an entry such as "de-AT;q=0.8"."""
    name, _, weight = entry.partition(";")
    _, _, value = weight.partition("=")
    try:
        found = float(value) if value.strip() else 1.0
    except ValueError:
        found = 0.0
    return found, name.strip().lower().partition("-")[0]


# Filling in -----------------------------------------------------------------------------------------------


def _filled(language: str, key: str, values: Mapping[str, object], kind: type[str] = str) -> str:
    found = catalogue(language)[key]
    if isinstance(found, dict):
        found = found["one" if values["n"] == 1 else "other"]
    with speaking(language):
        return kind(found).format(**{name: _word(language, value) for name, value in values.items()})


def _mark(key: str, values: Mapping[str, object]) -> str:
    """What takes the place of a text in a page for all languages; of values only numbers are known then."""
    assert all(isinstance(value, int) for value in values.values()), f"{key} is filled in once for all"
    return "|".join((key, *(f"{name}={value}" for name, value in values.items())))


def marked(mark: str) -> tuple[str, dict[str, int]]:
    """The key and the values of a mark."""
    key, *values = mark.split("|")
    return key, {name: int(value) for name, value in (one.split("=") for one in values)}


def _word(language: str, value: object) -> object:
    if isinstance(value, Text):
        return _filled(language, value.key, value.values)
    if isinstance(value, tuple):
        return ", ".join(str(_word(language, one)) for one in value)
    return number(value) if isinstance(value, int) else value

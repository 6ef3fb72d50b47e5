"""Render the app's templates in the reader's language."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from farshot.app import texts
from farshot.explain.html import common, environment, points

STATIC = Path(__file__).parent / "static"
_FOR_SCRIPTS = "js."
"""How the keys of texts begin that scripts show."""


def render(template: str, **words: Any) -> str:
    """A template with these variables and those of all pages.

    In templates `t(key, ...)` is a text of the catalogue, `| shown` what is shown of a message, and
    `| decimal(digits)` a number; `plus` gives it a sign.
    """
    return _environment().get_template(template).render(**{**common(), **words})


def script_texts() -> str:
    """A script with the texts of all other scripts, and the languages to choose from."""
    language = texts.language()
    found = {
        key.removeprefix(_FOR_SCRIPTS): value
        for key, value in texts.catalogue(language).items()
        if key.startswith(_FOR_SCRIPTS)
    }
    told = json.dumps({"language": language, "texts": found}, ensure_ascii=False)
    told = told.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return script("texts.js").replace("FARSHOT_TEXTS", told)


@cache
def script(name: str) -> str:
    """A file of the folder of scripts and styles."""
    return (STATIC / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = environment("farshot.app")
    made.globals.update(t=texts.html, speaks=texts.language, languages=_languages)
    made.filters.update(points=_points, decimal=_decimal, shown=texts.shown)
    return made


def _languages() -> list[tuple[str, str]]:
    """Code and name of each language, the name in the language itself."""
    return [(code, texts.catalogue(code)["language.name"]) for code in texts.languages()]


def _points(share: float, digits: int = 1) -> str:
    return texts.decimal(points(share, digits))


def _decimal(value: float, digits: int = 1, *, plus: bool = False) -> str:
    return texts.decimal(f"{value:{'+' if plus else ''}z.{digits}f}")

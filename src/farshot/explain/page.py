"""Write explanations to a folder: a figure per image, one HTML page, and the numbers as JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from farshot.explain.explanation import Explanation
from farshot.explain.figure import Panel, compose, panels, ranked_classes
from farshot.explain.html import data_uri, environment
from farshot.explain.style import colour, letter
from farshot.sanitize import plain
from farshot.storage.atomic import check_folder, whole_folder

_NUMBERS, _PAGE = "explanations.json", "index.html"


@dataclass(frozen=True)
class About:
    """The facts about the model on a page.

    Attributes:
        model: of the base model.
        method: with the settings that are not its defaults.
        class_names: the N classes.
        calibrated: whether a temperature was fitted.
    """

    model: str
    method: str
    class_names: tuple[str, ...]
    calibrated: bool


def write_explanations(
    folder: str | Path, explanations: Iterable[Explanation], about: About, origin: str
) -> int:
    """Writes NNN-name.png for each image, index.html and explanations.json; returns the number of images.

    The folder is written completely or not at all. A folder of explanations is
    replaced.

    Args:
        explanations: consumed one by one, so that memory does not grow with their number.
        origin: where the class directions come from, in words (`Subject.origin`).

    Raises:
        DataError: the place is taken by something else, or cannot be written.
    """
    with whole_folder(Path(folder), check_place) as staging:
        shown: list[dict[str, Any]] = []
        numbers: list[dict[str, Any]] = []
        for explanation in explanations:
            drawn = panels(explanation)
            file = figure_name(len(shown) + 1, explanation.name)
            compose(explanation, drawn).save(staging / file)
            shown.append(described(explanation, drawn) | {"file": file})
            numbers.append({"figure": file, **explanation.to_dict()})
        page = environment().get_template("explain.html")
        words = {"title": "What the model looked at", "about": about, "origin": origin, "shown": shown}
        _write(staging / _PAGE, page.render(**words, moves=any(n["blocks"] for n in numbers), **common()))
        _write(staging / _NUMBERS, json.dumps(numbers, ensure_ascii=False, indent=1) + "\n")
    return len(shown)


def check_place(folder: Path) -> None:
    """Refuse a place that is taken by anything but explanations; called before any work."""
    check_folder(folder, "a folder of explanations", _files)


def _files(folder: Path) -> Collection[str] | None:
    """The files that an earlier call wrote; None where the folder holds no explanations."""
    try:
        numbers = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        if not isinstance(numbers, list):
            return None
        return {_NUMBERS, _PAGE, *(str(one["figure"]) for one in numbers)}
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def figure_name(number: int, name: str) -> str:
    """A file name that is safe everywhere."""
    stem = unicodedata.normalize("NFKD", Path(name).stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:40]
    return f"{number:03d}-{slug}.png" if slug else f"{number:03d}.png"


def described(explanation: Explanation, drawn: Sequence[Panel]) -> dict[str, Any]:
    """An explanation as variables of the template `panels.html`."""
    listed = ranked_classes(explanation)
    names, p = explanation.class_names, explanation.probabilities
    return {
        "name": Path(explanation.name).name,
        "predicted": names[explanation.predicted],
        "probability": float(p.max()),
        "calibrated": explanation.calibrated,
        "panels": [_compressed(panel) for panel in drawn],
        "classes": [{"index": c, "name": names[c], "probability": float(p[c])} for c in listed],
        "left_out": len(names) - len(listed),
    }


def _compressed(panel: Panel) -> dict[str, Any]:
    """A panel as compressed text, since those of hundreds of images would not fit in memory."""
    return {
        "title": panel.title,
        "caption": plain(panel.caption),
        "alt": plain(panel.alt),
        "source": data_uri(panel.picture),
        "width": panel.picture.width,
        "height": panel.picture.height,
    }


def common() -> dict[str, Any]:
    """Variables of all templates."""
    return {"version": version("farshot"), "colour": colour, "letter": letter}


def _write(path: Path, text: str) -> None:
    # file names that are no valid Unicode have characters that UTF-8 cannot write
    path.write_text(text, encoding="utf-8", errors="replace")

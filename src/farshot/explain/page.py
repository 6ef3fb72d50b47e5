"""Write explanations to a folder: a figure per image, one HTML page, and the numbers as JSON."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from farshot.explain.explanation import Explanation
from farshot.explain.figure import Panel, compose, panels, ranked_classes
from farshot.explain.html import common, data_uri, environment
from farshot.explain.overlay import overlay
from farshot.model.catalogue import toy_note
from farshot.sanitize import plain
from farshot.storage.atomic import check_folder, whole_folder
from farshot.storage.json_text import as_json, parse

PER_PAGE = 25
"""Images of a page: 5 MB."""

_NUMBERS, _PAGE = "explanations.json", "index.html"
_THUMBNAIL = 64  # pixels a side


@dataclass(frozen=True)
class About:
    """The facts about the model on a page.

    Attributes:
        model: of the base model.
        method: with the settings that are not its defaults.
        class_names: the N classes, as their labels call them.
        calibrated: whether a temperature was fitted.
    """

    model: str
    method: str
    class_names: tuple[str, ...]
    calibrated: bool

    @property
    def toy(self) -> str:
        """What has to be said where it is a toy."""
        return toy_note(self.model)


def write_explanations(
    folder: str | Path, explanations: Iterable[Explanation], about: About, origin: str
) -> int:
    """Write a figure NNN-name.png for each image, index.html and explanations.json; return the number of
    images.

    Of more than PER_PAGE images, index.html shows small pictures that lead to page-NNN.html, with PER_PAGE
    images each. The folder is written completely or not at all. A folder of explanations is replaced.

    Args:
        explanations: consumed one by one, and not kept, so that memory does not grow with their number.
        origin: where the class directions come from, in words (`Subject.origin`).

    Raises:
        DataError: the place is taken by something else, or cannot be written.
    """
    with whole_folder(Path(folder), check_place) as staging:
        pages = _Pages(staging, {"about": about, "origin": origin, **common()})
        with (staging / _NUMBERS).open("w", encoding="utf-8") as numbers:
            for explanation in explanations:
                drawn = panels(explanation)
                file = figure_name(pages.images + 1, explanation.name)
                compose(explanation, drawn).save(staging / file)
                numbers.write(",\n" if pages.images else "[\n")
                numbers.write(as_json({"figure": file, **explanation.to_dict()}, indent=1))
                shown = described(explanation, drawn) | {"file": file, "glance": glance(explanation)}
                pages.add(explanation, shown)
            numbers.write("\n]\n" if pages.images else "[]\n")
        pages.finish()
    return pages.images


class _Pages:
    """Pages of a folder, each written when it is full.

    Args:
        words: variables of every page.
    """

    def __init__(self, folder: Path, words: Mapping[str, Any]) -> None:
        self._folder, self._words = folder, words
        self._shown: list[dict[str, Any]] = []  # of the present page
        self._listed: list[dict[str, Any]] = []  # of the full ones, a few words and a small picture each
        self._moves = False
        self.images = 0

    def add(self, explanation: Explanation, shown: dict[str, Any]) -> None:
        """Add an image, the next by number."""
        if len(self._shown) == PER_PAGE:
            self._write_page(page_name(self.images + 1))
        small = Image.fromarray(explanation.pixels).resize((_THUMBNAIL, _THUMBNAIL))
        self._moves |= bool(explanation.moved)
        self.images += 1
        self._shown.append(shown | {"number": self.images, "small": data_uri(small)})

    def finish(self) -> None:
        """Write index.html."""
        words = {"title": "What the model looked at", "images": self.images, "moves": self._moves}
        if self.images <= PER_PAGE:
            self._write(_PAGE, "explain.html", words | {"shown": self._shown, "pages": ()})
            return
        self._write_page(None)
        self._write(_PAGE, "explained.html", words | {"listed": self._listed})

    def _write_page(self, following: str | None) -> None:
        first, last = self._shown[0]["number"], self._shown[-1]["number"]
        file = page_name(first)
        before = page_name(first - PER_PAGE) if first > 1 else None
        words = {"title": f"Images {first} to {last}", "images": self.images, "moves": self._moves}
        self._write(file, "explain.html", words | {"shown": self._shown, "pages": (before, following)})
        kept = ("name", "predicted", "probability", "calibrated", "sure", "number", "small")
        self._listed += [{"page": file} | {word: one[word] for word in kept} for one in self._shown]
        self._shown = []

    def _write(self, file: str, template: str, words: Mapping[str, Any]) -> None:
        # file names that are no valid Unicode have characters that UTF-8 cannot write
        page = environment().get_template(template).render(**self._words, **words)
        (self._folder / file).write_text(page, encoding="utf-8", errors="replace")


def page_name(first: int) -> str:
    """The file of the page on which the image of this number comes first."""
    return f"page-{(first - 1) // PER_PAGE + 1:03d}.html"


def check_place(folder: Path) -> None:
    """Refuse a place that is taken by anything but explanations; called before any work."""
    check_folder(folder, "a folder of explanations", _files)


def _files(folder: Path) -> Collection[str] | None:
    """The files that an earlier call wrote; None where the folder holds no explanations."""
    try:
        numbers = parse((folder / _NUMBERS).read_bytes())
        if not isinstance(numbers, list):
            return None
        pages = {page_name(number) for number in range(1, len(numbers) + 1)}
        return {_NUMBERS, _PAGE, *pages, *(str(one["figure"]) for one in numbers)}
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError):
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
        "sure": explanation.sure,
        "panels": [_compressed(panel) for panel in drawn],
        "classes": [{"index": c, "name": names[c], "probability": float(p[c])} for c in listed],
        "left_out": len(names) - len(listed),
    }


def glance(explanation: Explanation) -> dict[str, Any]:
    """One overlay as variables of the template `panels.html`."""
    drawn = overlay(explanation)
    name = explanation.class_names[explanation.predicted]
    return {
        "name": name,
        "source": data_uri(drawn.picture),
        "width": drawn.picture.width,
        "height": drawn.picture.height,
        "marked": drawn.marked,
        "is_cut": drawn.is_cut,
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

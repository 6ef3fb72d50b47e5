"""A class has one letter, colour and border wherever it is shown: tiles, answers, explanations, reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from farshot.app import view
from farshot.app.sessions import Sessions, new_token
from farshot.app.workspace import ClassWords, Setup
from farshot.app.workspace.downloads import prepare
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.run import adapt, adapted_model
from farshot.explain.figure import swatch
from farshot.explain.style import edge, letter, places
from farshot.pick import pick_next
from farshot.pick.sheet import write_choice
from tests import app_clients
from tests.test_workspace import quiet
from tests.workspaces import CLASSES, drawn, uploads

pytestmark = app_clients.marks

TYPED = tuple(sorted(CLASSES, reverse=True))
"""Not in the order that a model has."""

KEY = re.compile(r'<span class="key" style="([^"]*)">([A-Z]+)</span>:?\s*(?:<bdi>)?([^<:]*)')


def keys(html: str) -> dict[str, set[tuple[str, str]]]:
    """Class -> its keys on a page: (style, letter)."""
    found: dict[str, set[tuple[str, str]]] = {}
    for style, sign, text in KEY.findall(html):
        for name in CLASSES:
            if name in text:
                found.setdefault(name, set()).add((style, sign))
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Every place that shows classes, of one model."""
    place, encoders = tmp_path_factory.mktemp("keys"), Encoders("cpu")
    session = Sessions(place / "sessions").get(new_token())
    workspace = session.workspace
    workspace.name_classes([ClassWords(name) for name in TYPED])
    pictures = drawn(5)
    taken, _ = workspace.take(uploads(place / "sent", pictures))
    for number, (picture, (label, _)) in enumerate(zip(taken, pictures, strict=True)):
        if number % 5 < 3:
            workspace.label([picture.id], label)
    before = view.board(session)
    workspace.choose(Setup("mini", "prototypes"))
    run = adapt(workspace, encoders, quiet)
    session.view.chosen = workspace.unlabelled[0].id
    model = adapted_model(workspace, run, encoders)
    left = workspace.table(workspace.unlabelled)
    write_choice(place / "picked", pick_next(model, left, 4), left)
    yield {
        "board before": before,
        "board": view.board(session),
        "answers": view.answers(session, run),
        "detail": view.detail(session, run, encoders),
        "result": view.result(session, run),
        "report": prepare(workspace, encoders, "report").read_text(),
        "pick": (place / "picked" / "index.html").read_text(),
    }


def test_a_class_has_one_key_everywhere(pages: dict[str, str]) -> None:
    expected = {name: {(edge(i), letter(i))} for i, name in enumerate(sorted(CLASSES))}
    for place, html in pages.items():
        found = keys(html)
        assert found, place
        assert found == {name: expected[name] for name in found}, place
        if place not in ("answers", "pick"):  # which may predict one class only
            assert found.keys() == expected.keys(), place


def test_forty_classes_have_different_keys() -> None:
    assert len({(edge(i), letter(i)) for i in range(40)}) == 40
    assert len({edge(i) for i in range(32)}) == 32


def test_drawn_keys_differ_without_their_letters() -> None:
    """Patches may be too small for letters, and colours begin again with the ninth class."""

    def drawn_key(c: int) -> bytes:
        canvas = Image.new("RGB", (60, 24), "white")
        swatch(ImageDraw.Draw(canvas), (2, 2), c)
        return np.asarray(canvas)[2:20, 2:6].tobytes()  # the left border and what lies next to it

    assert len({drawn_key(c) for c in range(16)}) == 16


def test_places_are_those_of_the_model_and_then_in_its_order() -> None:
    assert places(["b", "a", "10", "9"]) == {"9": 0, "10": 1, "a": 2, "b": 3}
    assert places(["b", "a", "c"], ["b", "c"]) == {"b": 0, "c": 1, "a": 2}


def test_a_class_that_was_renamed_has_another_key_than_those_of_the_model(tmp_path: Path) -> None:
    assert len(set(places(["new", "b"], ["old", "b"]).values())) == 3

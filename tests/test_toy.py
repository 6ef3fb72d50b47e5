"""The bundled model is called a toy wherever it is used."""

from __future__ import annotations

import json
from pathlib import Path

from farshot.app.models import MINI
from farshot.app.workspace.downloads import readme
from farshot.classifier.card import what
from farshot.model.catalogue import TOY_NOTE, toy_note
from tests.input_helpers import Farshot, class_folders

REAL = "openai/clip-vit-base-patch16"


def test_commands_reports_and_cards_call_mini_a_toy(farshot: Farshot, tmp_path: Path) -> None:
    data, adapted = tmp_path / "data", tmp_path / "adapted"
    class_folders(data)
    told = farshot("adapt", data, "--model", "mini", "--out", adapted, "--no-estimate")
    assert told.code == 0 and TOY_NOTE in " ".join(told.err.split())
    picture = next(data.rglob("*.png"))
    told = farshot("predict", adapted, picture)
    assert told.code == 0 and TOY_NOTE in " ".join(told.err.split()) and TOY_NOTE not in told.out
    told = farshot("report", adapted, "--out", tmp_path / "report.html")
    assert told.code == 0 and TOY_NOTE in (tmp_path / "report.html").read_text()
    about = json.loads((adapted / "farshot.json").read_text())
    assert TOY_NOTE in readme(about, "") and TOY_NOTE in what(about)
    about["base_model"] = REAL
    assert TOY_NOTE not in readme(about, "") and TOY_NOTE not in what(about)


def test_a_real_encoder_is_not_called_a_toy(farshot: Farshot, place: Path, tmp_path: Path) -> None:
    assert toy_note(REAL) == ""
    told = farshot(
        "adapt", place / "data", "--model", place / "clip", "--out", tmp_path / "adapted", "--no-estimate"
    )
    assert told.code == 0 and "toy" not in told.err
    assert "toy" in MINI.title and "toy" in MINI.about

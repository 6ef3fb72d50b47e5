"""The demo: what it prints is true, and its examples are not chosen by their result."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from farshot import load
from farshot.classifier import FewShotClassifier
from farshot.cli import demo
from farshot.data.readers import read_table
from tests.input_helpers import Farshot, command_line

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture
def told(shown: Path, capfd, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the demo prints; measured tasks are kept from test to test."""
    farshot: Farshot = command_line(capfd, monkeypatch)
    found = farshot("demo", "--out", shown, "--tasks", 4)
    assert found.code == 0, found.err
    return found.out


LINE = re.compile(r"^(\w+)/\d+\.png +(\w+) +(\d+) % +(right|wrong)$", re.MULTILINE)


def test_what_the_demo_prints_is_true(told: str, shown: Path) -> None:
    pattern = r"accuracy ([\d.]+) \[([\d.]+), ([\d.]+)\] % .*; chance is ([\d.]+) %"
    accuracy, low, high, chance = map(float, re.search(pattern, told).groups())
    classes = len(list((shown / "images").iterdir()))
    assert chance == pytest.approx(100 / classes, abs=0.05)
    assert low > 5 * chance and low < accuracy < high
    lines = LINE.findall(told)
    assert len(lines) == demo.EXAMPLES >= 12
    assert all((true == found) == (verdict == "right") for true, found, _, verdict in lines)
    right = sum(verdict == "right" for *_, verdict in lines)
    assert f"{right} of {len(lines)} right" in told
    sure = np.array([float(percent) for *_, percent, _ in lines]) / 100
    assert abs(right - sure.sum()) < 3 * np.sqrt((sure * (1 - sure)).sum()) + 0.5
    with (shown / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [found for _, found, *_ in lines]
    explained = json.loads((shown / "explained" / "explanations.json").read_text(encoding="utf-8"))
    for one, row in zip(explained, rows, strict=False):  # the first of them
        expected = {name: float(row[name]) for name in one["probabilities"]}
        assert one["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_examples_are_drawn_without_a_look_at_the_result(
    told: str, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, classifier = read_table(str(shown / "images")), load(shown / "adapted")
    rows = demo.examples(table, classifier)
    for name in ("predict", "predict_proba", "evaluate"):
        monkeypatch.setattr(FewShotClassifier, name, None)
    assert np.array_equal(rows, demo.examples(table, classifier))
    assert not table.among(set(classifier.support_ids_))[rows].any()
    assert [true for true, *_ in LINE.findall(told)] == [table.classes[code] for code in table.labels[rows]]


@pytest.mark.slow
def test_without_calibration_there_are_no_percentages_of_an_example(
    shown: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farshot.evaluation.crossval.fit_temperature", lambda *_: 1.0)
    told = command_line(capfd, monkeypatch)("demo", "--out", shown, "--tasks", 4).out
    examples = [line for line in told.splitlines() if line.endswith(("right", "wrong"))]
    assert len(examples) == demo.EXAMPLES
    assert not any("%" in line for line in examples)
    assert "by its own percentages" not in told

"""Folders that farshot 0.1 saved (format 1) load and give the probabilities that 0.1 gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from farshot import load
from farshot.data.table import ImageTable

SAVED = Path(__file__).parent / "fixtures" / "saved-by-0.1"


def pictures() -> list[np.ndarray]:
    """The eight pictures that these models were adapted to: four discs, four stripes."""
    generator, (y, x) = np.random.default_rng(5), np.mgrid[:64, :64]
    drawn = []
    for stripe in (False, True):
        for i in range(4):
            image = generator.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            if stripe:
                image[i * 8 : i * 8 + 12] = (200, 40, 30)
            else:
                image[(y - 32) ** 2 + (x - 20 - 4 * i) ** 2 < 150] = (40, 180, 60)
            drawn.append(image)
    return drawn


@pytest.fixture(params=["atha", "linear-probe"])
def saved(request) -> Path:
    return SAVED / request.param


def expected(folder: Path) -> np.ndarray:
    return np.array(json.loads((folder / "expected.json").read_text()))


def test_the_probabilities_are_those_of_0_1(saved: Path):
    classifier = load(saved)
    np.testing.assert_allclose(classifier.predict_proba(pictures()), expected(saved), atol=2e-6)
    assert list(classifier.classes_) == ["disc", "stripe"]


def test_it_can_be_saved_and_loaded_by_the_present_version(saved: Path, tmp_path: Path):
    load(saved).save(tmp_path / "again")
    again = load(tmp_path / "again")
    np.testing.assert_allclose(again.predict_proba(pictures()), expected(saved), atol=2e-6)
    assert json.loads((tmp_path / "again" / "farshot.json").read_text())["format"] == 2


def test_a_picture_it_was_adapted_to_is_recognised(saved: Path):
    """0.1 kept hashes of a file's bytes."""
    table = ImageTable((SAVED / "disc-0.png", pictures()[1]), None, ("disc",), ("disc",))
    assert table.among(set(load(saved).support_ids_)).tolist() == [True, False]


def test_a_setting_that_exists_no_more_is_read_at_its_default(tmp_path: Path):
    shutil.copytree(SAVED / "atha", tmp_path / "old")
    about = json.loads((tmp_path / "old" / "farshot.json").read_text())
    assert about["settings"]["first_block"] == 0
    load(tmp_path / "old")

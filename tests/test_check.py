"""`farshot check` finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from farshot import FewShotClassifier
from farshot.check import Checked, check_images
from farshot.check.findings import LIKELY, doubtful_labels, not_told_apart
from farshot.check.report import rows, write_page
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.crossval import HeldOut
from tests.input_helpers import Farshot
from tests.toy import as_folder, world_table

TABLE = world_table(count=480, classes=("highway", "orchard", "river", "forest"))
"""Four classes that the mini CLIP tells apart well."""


@pytest.fixture(scope="module")
def probe() -> FewShotClassifier:
    return FewShotClassifier("mini", "linear-probe")


@pytest.fixture(scope="module")
def clean(probe: FewShotClassifier) -> Checked:
    return check_images(TABLE, probe)


def with_wrong_labels(share: float) -> tuple[ImageTable, np.ndarray]:
    """The table with a share of its labels replaced by others, and which."""
    assert TABLE.labels is not None
    draws = np.random.default_rng(3)
    wrong = draws.random(len(TABLE)) < share
    labels = TABLE.labels.copy()
    labels[wrong] = (labels[wrong] + draws.integers(1, len(TABLE.classes), wrong.sum())) % len(TABLE.classes)
    return replace(TABLE, labels=labels), wrong


def test_clean_labels_are_seldom_called_wrong(clean: Checked):
    assert clean.evaluation is not None
    assert clean.evaluation.accuracy.mean > 0.8
    assert sum(one.is_likely for one in clean.wrong) < 0.07 * len(TABLE)
    assert clean.sizes == tuple(np.bincount(TABLE.labels).tolist())
    assert not (clean.copies or clean.dim or clean.unreadable or clean.small or clean.pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "least_recall"), [(0.1, 0.6), (0.3, 0.3)])
def test_planted_wrong_labels_are_found(probe: FewShotClassifier, share: float, least_recall: float):
    table, wrong = with_wrong_labels(share)
    found = check_images(table, probe)
    likely = [one.row for one in found.wrong if one.is_likely]
    assert wrong[likely].mean() > 0.7  # precision
    assert wrong[[one.row for one in found.wrong]].sum() > least_recall * wrong.sum()  # of all doubts
    ratios = [one.ratio for one in found.wrong]
    assert ratios == sorted(ratios, reverse=True)
    assert TABLE.labels is not None
    right = [one.suggested == TABLE.labels[one.row] for one in found.wrong if wrong[one.row]]
    assert np.mean(right) > 0.8


def test_planted_copies_are_found(probe: FewShotClassifier):
    assert TABLE.labels is not None
    images, labels = list(TABLE.images[:60]), TABLE.labels[:60].tolist()
    pictures = [TABLE.image(row) for row in range(60)]
    elsewhere = next(row for row in range(60) if labels[row] != labels[0])
    planted = [
        (Image.fromarray(np.asarray(pictures[3])), labels[3]),  # a copy
        (ImageOps.mirror(pictures[4]), labels[4]),  # a near copy
        (pictures[0], labels[elsewhere]),  # one picture, two labels
    ]
    table = ImageTable(
        (*images, *(image for image, _ in planted)),
        np.array([*labels, *(label for _, label in planted)]),
        TABLE.classes,
        TABLE.names,
    )
    found = check_images(table, probe)
    assert [(one.rows, one.exact, len(one.labels)) for one in found.copies] == [
        ((0, 62), True, 2),
        ((3, 60), True, 1),
        ((4, 61), False, 1),
    ]
    assert not {0, 62} & {one.row for one in found.wrong}  # told as a contradiction, not as a doubt
    splits = tuple("train" if row < 60 else "test" for row in range(63))
    found = check_images(replace(table, splits=splits), probe)
    assert {one.splits for one in found.copies} == {("test", "train")}


@pytest.mark.parametrize("name", ["site A: leaf 3.png", "=1.png"])
def test_an_unreadable_file_is_listed_by_its_whole_name(
    name: str, probe: FewShotClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"no picture")
    table = TABLE.subset(range(40))
    assert table.labels is not None
    given = replace(table, images=(*table.images, Path(name)), labels=np.append(table.labels, 0), _ids={})
    found = check_images(given, probe)
    (row,) = (row for row in rows(found) if row[0] == "unreadable")
    assert row[1].removeprefix("./") == name and not row[1].startswith("=")
    assert row[3] == found.unreadable[0].reason
    assert ": " not in row[3]
    write_page(tmp_path / "check.html", found, "leaves")
    assert f"<bdi>{name}</bdi>: " in (tmp_path / "check.html").read_text(encoding="utf-8")


def test_poor_pictures_and_small_classes_are_found(probe: FewShotClassifier, tmp_path: Path):
    assert TABLE.labels is not None
    draws = np.random.default_rng(0)
    poor = {
        "dark": draws.integers(0, 30, (64, 64, 3)),
        "bright": draws.integers(225, 256, (64, 64, 3)),
        "one colour": np.full((64, 64, 3), 90),
        "few grey levels": np.repeat(draws.integers(0, 4, (64, 64, 1)) * 80, 3, axis=2),
    }
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    keep = np.flatnonzero((TABLE.labels != 3) | (np.cumsum(TABLE.labels == 3) <= 2))[:80]
    table = TABLE.subset(keep)
    assert table.labels is not None
    images = (*table.images, *(value.astype(np.uint8) for value in poor.values()), tmp_path / "broken.jpg")
    found = check_images(
        replace(table, images=images, labels=np.append(table.labels, [0] * 5), _ids={}), probe
    )
    assert [one.what for one in found.dim] == list(poor)
    assert [one.row for one in found.dim] == list(range(len(table), len(table) + 4))
    assert len(found.unreadable) == 1
    assert found.unreadable[0].name == str(tmp_path / "broken.jpg")
    assert found.small == (3,)
    found_in_all = (found.unreadable, found.wrong, found.copies, found.pairs, found.dim, found.small)
    assert sum(map(len, found_in_all)) >= 6


def test_too_few_images_are_said_and_the_rest_is_checked(probe: FewShotClassifier):
    table = ImageTable(TABLE.images[:2], np.array([0, 1]), ("a", "b"), ("a", "b"))
    found = check_images(table, probe)
    assert found.evaluation is None
    assert "label at least two of every class" in found.not_judged
    assert found.small == (0, 1)
    with pytest.raises(DataError, match="no labels"):
        check_images(replace(table, labels=None), probe)


def held_out(logits: np.ndarray, labels: np.ndarray) -> HeldOut:
    classes = tuple(map(str, range(logits.shape[1])))
    return HeldOut(classes, labels, logits.astype(np.float32), np.arange(len(labels)) % 2)


def test_classes_drawn_by_a_coin_are_not_told_apart():
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    logits = draws.normal(size=(120, 3))
    logits[np.arange(120), labels] += 3 * (labels == 2)
    logits[:80, 2] -= 3
    (pair,) = not_told_apart(held_out(logits, labels))
    assert pair.classes == (0, 1)
    assert pair.right.low < 0.5 < pair.right.high


def test_copies_do_not_make_enough_images_of_a_pair():
    rows = np.tile(np.arange(8), 5)
    logits = np.random.default_rng(0).normal(size=(8, 2))[rows]
    found = held_out(logits, rows % 2)
    assert not_told_apart(found)  # of 20 images each
    assert not_told_apart(replace(found, unit=rows)) == ()  # of 4


def test_classes_of_the_same_patients_are_not_told_apart():
    labels, unit = np.repeat([0, 1], 20), np.tile(np.arange(20), 2)  # an eye of each class
    logits = np.random.default_rng(3).normal(0, 1, (40, 2)).astype(np.float32)
    (pair,) = not_told_apart(replace(held_out(logits, labels), unit=unit))
    (alone,) = not_told_apart(held_out(logits, labels))
    assert pair.classes == (0, 1)
    assert pair.right.mean == alone.right.mean
    assert pair.right.low < alone.right.low  # 20 patients are fewer than 40 pictures


def test_a_doubt_is_named_by_how_much_more_probable_another_class_is():
    labels = np.array([0, 1] * 40)
    logits = np.where(np.eye(2)[labels] == 1, 2.0, 0.0)
    logits[0] = [0, 6]
    (doubt,) = doubtful_labels(held_out(logits, labels))
    assert (doubt.row, doubt.suggested, doubt.is_likely) == (0, 1, True)
    assert doubt.ratio > LIKELY


# the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = as_folder(TABLE, tmp_path / "images", range(60))
    first = sorted(place.rglob("*.png"))
    Image.open(first[0]).save(first[-1].parent / "copy.png")
    return place


def test_the_command_prints_lists_and_draws_what_it_finds(farshot: Farshot, folder: Path, tmp_path: Path):
    page = tmp_path / "check.html"
    told = farshot("check", folder, "--model", "mini", "--out", page)
    assert told.code == 0, told.err
    assert "one picture, several labels: 2" in told.out
    text = page.read_text()
    assert "One picture, several labels" in text
    assert text.count("<img") >= 2
    assert "copy.png" in text
    rows = list(csv.DictReader(io.StringIO(farshot("check", folder, "--model", "mini", "--csv").out)))
    assert {row["problem"] for row in rows} >= {"one picture, several labels"}
    told = farshot("check", folder, "--model", "mini", "--json")
    found = json.loads(told.out)
    assert found["images"] == 61
    assert [row["image"] for row in found["problems"]] == [row["image"] for row in rows]
    (tmp_path / "mine.html").write_text("a page of mine")
    told = farshot("check", folder, "--model", "mini", "--out", tmp_path / "mine.html")
    assert told.code == 2
    assert (tmp_path / "mine.html").read_text() == "a page of mine"
    assert farshot("check", folder, "--csv", "--json").code == 2


def test_every_number_of_a_problem_says_what_it_counts(probe: FewShotClassifier):
    assert TABLE.labels is not None
    table = TABLE.subset(np.flatnonzero(TABLE.labels < 2)[:60])
    table = replace(table, classes=table.classes[:2], names=table.names[:2])
    labels = np.random.default_rng(0).permutation(table.labels)
    found = check_images(replace(table, labels=labels), probe)
    by_problem = {problem: (detail, score) for problem, _, _, detail, score in rows(found)}
    detail, score = by_problem["classes not told apart"]
    (pair,) = found.pairs
    shares = [f"{100 * share:.1f}" for share in (pair.right.low, pair.right.high)]
    assert (
        detail == f"and {table.classes[1]}: the right one in {100 * float(score):.1f} [{', '.join(shares)}] %"
    )
    detail, score = by_problem["doubtful label"]
    assert detail in {f"{score} times more like {name}" for name in table.classes}

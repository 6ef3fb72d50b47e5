"""Answers from a hierarchy: the class where that is certain, else what it belongs to, right often enough."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshot import FewShotClassifier
from farshot.errors import DataError, SettingError
from farshot.evaluation.hierarchy import Answer, Hierarchy, read_hierarchy
from tests.input_helpers import Farshot, class_folders, refusal
from tests.toy import world_table

CLASSES = ("oak", "beech", "fir", "rose")
PARENTS = {"oak": "broadleaf", "beech": "broadleaf", "fir": "conifer", "broadleaf": "tree", "conifer": "tree"}
TREES = Hierarchy(CLASSES, PARENTS)


def table(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_the_answer_is_the_first_name_of_the_chain_above_the_threshold():
    p = table([0.7, 0.2, 0.08, 0.02])
    expected = {0.6: ("oak", 0.7), 0.8: ("broadleaf", 0.9), 0.95: ("tree", 0.98), 0.99: (None, 1.0)}
    for threshold, (name, probability) in expected.items():
        (answer,) = TREES.answers(p, threshold)
        assert answer.name == name
        assert answer.probability == pytest.approx(probability)
    (answer,) = TREES.answers(table([0.1, 0.1, 0.2, 0.6]), 0.7)
    assert answer == Answer(None, 1.0)


def test_an_answer_is_right_if_it_is_the_true_class_or_above_it():
    for name, right in (
        ("oak", [1, 0, 0, 0]),
        ("broadleaf", [1, 1, 0, 0]),
        ("tree", [1, 1, 1, 0]),
        (None, [1] * 4),
    ):
        assert [TREES.is_right(Answer(name, 1.0), label) for label in range(4)] == right


def test_the_threshold_is_the_lowest_that_answers_so_many_of_the_images_rightly():
    # wrong below 0.6, 0.9 and 0.5; right at once
    p = table([0.6, 0.3, 0.05, 0.05], [0.5, 0.4, 0.05, 0.05], [0.1, 0.1, 0.3, 0.5], [0.9, 0.05, 0.03, 0.02])
    labels = np.array([1, 2, 0, 0])
    assert TREES.threshold(p, labels, 0.2) == 0  # rank 1: the image that is right at once
    assert TREES.threshold(p, labels, 0.4) == pytest.approx(0.5)
    assert TREES.threshold(p, labels, 0.6) == pytest.approx(0.6)
    assert TREES.threshold(p, labels, 0.8) == pytest.approx(0.9)
    with pytest.raises(SettingError, match="need at least 9 labelled images, and there are 4"):
        TREES.threshold(p, labels, 0.9)


@given(st.integers(0, 10_000), st.sampled_from([0.7, 0.8, 0.9]))
def test_enough_answers_are_right_and_they_are_not_all_the_top(seed: int, share: float):
    """Of the images that chose the threshold, for any probabilities and labels."""
    draws = np.random.default_rng(seed)
    p = draws.dirichlet([0.4] * 4, size=60).astype(np.float32)
    labels = np.array([draws.choice(4, p=row / row.sum()) for row in p.astype(float)])
    threshold = TREES.threshold(p, labels, share)
    answers = TREES.answers(p, threshold)
    right = np.mean(
        [TREES.is_right(answer, label) for answer, label in zip(answers, labels.tolist(), strict=True)]
    )
    assert right >= share
    lower = TREES.answers(p, np.nextafter(threshold, 0))  # the threshold is no higher than it must be
    assert threshold == 0 or sum(a != b for a, b in zip(answers, lower, strict=True)) >= 1
    assert any(answer.name in CLASSES for answer in answers)


def test_the_promise_is_kept_on_new_images():
    right, draws = [], np.random.default_rng(0)
    for _ in range(300):
        p = draws.dirichlet([0.4] * 4, size=50).astype(np.float32)
        labels = np.array([draws.choice(4, p=row / row.sum()) for row in p.astype(float)])
        answers = TREES.answers(p[49:], TREES.threshold(p[:49], labels[:49], 0.8))
        right.append(TREES.is_right(answers[0], int(labels[49])))
    assert np.mean(right) == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 300))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a first row with the columns name and parent"),
        ("label,parent\noak,tree\n", "needs a first row with the columns name and parent"),
        ("name,parent\noak,tree\n", "no row for the class 'beech'"),
        ("name,parent\noak,a\noak,b\n", "row 3: 'oak' has two parents"),
        ("name,parent\noak,a\noak,\n", "row 3: 'oak' has two parents"),
        ("name,parent\n,a\n", "row 2: write a name and its parent"),
        ("name,parent\noak,beech\nbeech,\nfir,\nrose,\n", "puts the class 'oak' below 'beech'"),
        ("name,parent\noak,a\nbeech,a\nfir,a\nrose,a\na,b\nb,a\n", "circle: oak < a < b < a"),
        (f'name,parent\n"{"x" * 200_000}",a\n', "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_hierarchy_is_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(DataError, match=words) as caught:
        read_hierarchy(write(tmp_path / "h.csv", text), CLASSES)
    assert "h.csv" in str(caught.value)


def test_columns_may_be_swapped_and_names_that_lead_nowhere_are_passed_over(tmp_path: Path):
    text = "parent,name\ntree,oak\ntree,beech\n\n,fir\n,rose\ninsects,bee\n,tree\n"
    found = read_hierarchy(write(tmp_path / "h.csv", text), CLASSES)
    assert found.chains == [("oak", "tree"), ("beech", "tree"), ("fir",), ("rose",)]


def test_names_may_be_numbers_and_parents_none_or_blank():
    found = Hierarchy(np.array([0, 1, 2]), {0: "even", 1: None, "2": "even", "even": " "})
    assert found.chains == [("0", "even"), ("1",), ("2", "even")]


@pytest.mark.parametrize("labels", [["caf\xe9", "tea"], [3, 10], [False, True]])
def test_a_model_answers_from_a_hierarchy_of_its_classes_alone(labels):
    table = world_table(count=24)
    assert table.labels is not None
    made = FewShotClassifier("mini", "prototypes", calibrate=True)
    made.fit(table.images, [labels[code] for code in table.labels])
    names = [str(label) for label in made.classes_.tolist()]
    parents = dict.fromkeys(names, "any of both")
    given = Hierarchy([unicodedata.normalize("NFD", name) for name in names], parents)
    images = table.images[:4]
    answers = made.predict_from(images, Hierarchy(made.classes_, parents), 0.8)
    assert {answer.name for answer in answers} <= {*names, "any of both"}
    assert made.predict_from(images, given, 0.8) == answers
    for other in (names[::-1], names[:1], [*names, "rose"]):
        with pytest.raises(DataError, match=r"hierarchy is of the classes .*, and the model has"):
            made.predict_from(images, Hierarchy(other, parents), 0.8)


def test_the_command_answers_from_a_hierarchy(farshot: Farshot, tmp_path: Path):
    data, out = class_folders(tmp_path / "data", images=12), tmp_path / "m"
    classes = sorted(path.name for path in data.iterdir())
    adapt = ("adapt", data, "--model", "mini", "--method", "linear-probe", "--out", out)
    h = write(tmp_path / "h.csv", "name,parent\n" + "".join(f"{name},animal\n" for name in classes))
    predict = ("predict", out, data, "--hierarchy", h)
    assert farshot(*adapt, "--no-calibrate").code == 0
    assert "need cross-validated predictions" in refusal(farshot(*predict))
    assert farshot(*adapt).code == 0
    assert "leave out --only" in refusal(farshot(*predict, "--only", classes[0], "--only", classes[1]))
    found = json.loads(farshot(*predict, "--json").out)
    assert {row["answer"] for row in found} <= {*classes, "animal"}
    assert all(row["answer"] in (row["class"], "animal") for row in found)
    assert all(row["answer_probability"] == pytest.approx(1) for row in found if row["answer"] == "animal")
    rows = list(csv.DictReader(farshot(*predict, "--csv", "--coverage", "0.8").out.splitlines()))
    assert all(row["answer"] and float(row["answer_probability"]) > 0 for row in rows)
    line = farshot(*predict).out.splitlines()[0].split("\t")
    assert line[-1].startswith(found[0]["answer"])

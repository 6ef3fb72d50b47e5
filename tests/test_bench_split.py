"""Tasks of the owner's split, and metrics other than accuracy."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from farshot.bench.grid import Grid, parse_method
from farshot.bench.records import Run
from farshot.bench.results import METRICS, read_groups
from farshot.bench.split import split_task
from farshot.bench.store import Store
from farshot.bench.tasks import Shape, query_labels, sample_task
from farshot.data.pool import Pool, pool_of
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from tests.bench_helpers import picture, tiny_checkpoint
from tests.input_helpers import Farshot, refusal

TRAIN, TEST = 6, (2, 5, 3)


def numbers(labels: list[int], splits: list[str], groups: tuple[str, ...] | None = None) -> Pool:
    """A pool of arrays, each a different picture."""
    images = tuple(np.full((2, 2, 3), number, np.uint8) for number in range(len(labels)))
    names = ("a", "b", "c")
    table = ImageTable(images, np.array(labels, np.int64), names, names, tuple(splits), groups)
    return Pool("numbers", table, tuple(f"{n:03d}" for n in range(len(labels))), near=groups is not None)


def split_pool() -> Pool:
    labels = [c for c in range(3) for _ in range(TRAIN + TEST[c] + 1)]
    splits = [s for c in range(3) for s in ("train",) * TRAIN + ("test",) * TEST[c] + ("val",)]
    return numbers(labels, splits)


def test_a_task_has_all_classes_all_test_images_and_shots_of_the_training_images() -> None:
    pool = split_pool()
    splits = np.array(pool.table.splits)
    seen = set()
    for index in range(20):
        task = split_task(pool, 2, index=index)
        assert task.class_names == ("a", "b", "c")
        assert set(splits[task.support]) == {"train"}
        assert sorted(task.query.tolist()) == np.flatnonzero(splits == "test").tolist()
        assert pool.table.labels is not None
        assert pool.table.labels[task.support].tolist() == [0, 0, 1, 1, 2, 2]
        assert np.bincount(query_labels(task)).tolist() == list(TEST)
        assert len(set(task.support.tolist())) == 6
        seen.add(tuple(task.support.tolist()))
    assert len(seen) > 15
    again, other = (split_task(pool, 2, seed=seed, index=3).support.tolist() for seed in (1, 2))
    assert again == split_task(pool, 2, index=3).support.tolist() != other


def test_the_draw_is_the_one_that_the_docs_describe() -> None:
    """SHA-256 in counter mode, big-endian words, a Fisher-Yates shuffle per class."""
    pool, sizes = split_pool(), [TRAIN] * 3
    words = ",".join(map(str, [2, 3, 2, 0, 1, 7, *sizes]))
    stream = b"".join(hashlib.sha256(f"farshot,{words},{c}".encode()).digest() for c in range(8))
    left = [int.from_bytes(stream[i : i + 8], "big") for i in range(0, len(stream), 8)]
    expected = []
    for c in range(3):
        order = list(range(TRAIN))
        for i in range(2):
            j = i + left.pop(0) % (TRAIN - i)
            order[i], order[j] = order[j], order[i]
        expected += [pool.by_class[c][rank] for rank in order[:2]]
    assert split_task(pool, 2, index=7).support.tolist() == expected


def test_what_the_test_images_show_is_not_drawn() -> None:
    labels, splits = [0] * 4 + [1] * 4 + [2] * 4, ["train", "train", "train", "test"] * 3
    pool = numbers(labels, splits)
    images = list(pool.table.images)
    images[0] = images[3]  # class a: a training image that is a test image
    images[4] = images[5]  # class b: a training image twice
    copied = replace(pool, table=replace(pool.table, images=tuple(images), _ids={}, _contents={}))
    for index in range(20):
        support = split_task(copied, 2, index=index).support.tolist()
        assert 0 not in support
        assert len({4, 5} & set(support)) < 2
    with pytest.raises(DataError, match=r"3 shots need 3 different training .*'a' has 2: use fewer --shots"):
        split_task(copied, 3)
    grouped = numbers(labels, splits, tuple(f"g{n // 2}" for n in range(12)))
    for index in range(5):
        assert not {2, 6, 10} & set(split_task(grouped, 2, index=index).support.tolist())


def test_pools_that_have_no_split_are_refused() -> None:
    pool = split_pool()
    with pytest.raises(DataError, match=r"not divided into train and test.*split_zhou"):
        split_task(replace(pool, table=replace(pool.table, splits=None)), 1)
    training = ("train",) * len(pool.table)
    with pytest.raises(DataError, match="no test images"):
        split_task(replace(pool, table=replace(pool.table, splits=training)), 1)
    with pytest.raises(SettingError, match="at least 1 query per class"):
        sample_task(pool, ways=3, queries=0)


def test_another_split_is_another_pool_and_episodes_stay_what_they_were() -> None:
    pool = split_pool()
    assert pool.table.splits is not None
    other = replace(pool, table=replace(pool.table, splits=("test", *pool.table.splits[1:])))
    assert pool.fingerprint == other.fingerprint
    assert pool.split_fingerprint != other.split_fingerprint
    shape = Shape(5, 1, 15)
    run = Run("m", 1, {}, "float32", "f", "p", "q", ("a",), "{}", shape, shape.protocol)
    assert run.identity == "62687d0a0d49795abd7c709b24e93f34"  # of stores that are there


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, predicted = (np.array(values, np.uint8) for values in zip(*pairs, strict=True))
    shown = np.unique(true)
    recalls = [float((predicted[true == c] == c).mean()) for c in shown]
    assert METRICS["balanced-accuracy"](true, predicted) == pytest.approx(np.mean(recalls))
    if len(shown) > 1 and set(predicted) <= set(true):
        assert np.mean(recalls) == pytest.approx(balanced_accuracy_score(true, predicted))
    classes = np.union1d(true, predicted)
    expected = f1_score(true, predicted, labels=classes, average="macro", zero_division=0)
    assert METRICS["macro-f1"](true, predicted) == pytest.approx(expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and test folders of three classes, and a model."""
    folder = tmp_path_factory.mktemp("split")
    for c, name in enumerate("abc"):
        for i in range(TRAIN):
            picture(folder / "images" / "train" / name / f"{i}.png", 100 * c + i)
        for i in range(TEST[c]):
            picture(folder / "images" / "test" / name / f"{i}.png", 100 * c + 50 + i)
    tiny_checkpoint(folder / "m")
    return folder


def test_a_grid_of_the_split_from_the_command_line(farshot: Farshot, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "r.db"
    pool = f"p={folder / 'images'}"
    bench = ("bench", "--pools", pool, "--protocol", "split", "--shots", 1, 2, "--model", folder / "m")
    bench += ("--methods", "zero-shot", "linear-probe", "--device", "cpu", "--store", store)
    bench += ("--cache", tmp_path / "cache")
    assert "leave out --ways" in refusal(farshot(*bench, "--ways", "all"))
    assert "leave out --queries" in refusal(farshot(*bench, "--queries", 3))
    assert "no protocol 'coop'" in refusal(farshot(*bench[:4], "coop", *bench[5:]))
    told = farshot(*bench)
    assert told.code == 0, told.err
    assert "draw from all splits" not in told.err
    tables = {}
    for metric in METRICS:
        told = farshot("table", "--store", store, "--format", "csv", "--metric", metric)
        tables[metric] = list(csv.DictReader(io.StringIO(told.out)))
        assert {row["metric"] for row in tables[metric]} == {metric}
        assert [row["n"] for row in tables[metric]] == ["3"] * 4
    with Store(store, read_only=True) as filled:
        (group, entries), *others = read_groups(filled).items()
        assert not others
        assert str(group).count("3-way, all test images of the split") == 1
        for row, entry in zip(tables["macro-f1"], entries, strict=True):
            found = {
                key: f1_score(true, said, average="macro", zero_division=0)
                for key, true, said in filled.task_predictions(entry.number)
            }
            assert row["mean"] == f"{100 * np.mean(list(found.values())):.6g}"
    accuracy, balanced = ([float(row["mean"]) for row in tables[m]] for m in list(METRICS)[:2])
    assert accuracy != balanced
    told = farshot("compare", "linear-probe", "zero-shot", "--store", store, "--metric", "balanced-accuracy")
    assert "points of balanced accuracy" in told.out
    assert "no metric 'auc'" in refusal(farshot("table", "--store", store, "--metric", "auc"))
    assert "leave out --published" in refusal(
        farshot("table", "--store", store, "--metric", "macro-f1", "--published")
    )
    report = tmp_path / "r.html"
    assert farshot("report", store, "--out", report).code == 0
    assert "--protocol split" in report.read_text(encoding="utf-8")


def test_a_pool_without_a_split_is_named(folder: Path) -> None:
    pool = pool_of("plain", read_table(folder / "images" / "train"))
    with pytest.raises(DataError, match="The pool plain: Its images are not divided"):
        Grid([pool], [1], [parse_method("zero-shot")], queries=0).check()

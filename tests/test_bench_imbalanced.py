"""Imbalanced tasks: class sizes are drawn as documented, the same for every method; old tasks stay."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, dirichlet_multinomial

from farshot.bench.grid import Grid, parse_method
from farshot.bench.imbalance import Imbalance
from farshot.bench.records import Run
from farshot.bench.store import Store
from farshot.bench.tasks import Shape, draw_ranks, query_labels, sample_task
from farshot.bench.worker import tasks_of
from farshot.data.pool import Pool
from farshot.errors import DataError, SettingError
from tests.bench_helpers import folder_pool, tiny_checkpoint
from tests.input_helpers import Farshot, refusal
from tests.test_bench_tasks import FROZEN, number_pool

imbalances = st.one_of(
    st.builds(Imbalance, st.just("dirichlet"), st.integers(1, 999_999)),
    st.builds(Imbalance, st.just("long-tail"), st.integers(1000, 999_999)),
)


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(9, 60), min_size=2, max_size=9),
    ways=st.integers(2, 6),
    shots=st.integers(2, 6),
    queries=st.integers(1, 3),
    imbalance=imbalances,
    index=st.integers(0, 10_000),
)
def test_a_task_has_its_shape_and_shares_no_image(
    sizes: list[int], ways: int, shots: int, queries: int, imbalance: Imbalance, index: int
) -> None:
    ways = min(ways, len(sizes))
    pool = number_pool(sizes)
    task = sample_task(pool, ways=ways, shots=shots, queries=queries, imbalance=imbalance, index=index)
    counts = np.bincount(task.labels, minlength=ways)
    assert counts.sum() == ways * shots
    assert counts.min() >= 1
    assert np.bincount(query_labels(task)).tolist() == [queries] * ways
    rows = np.concatenate([task.support, task.query]).tolist()
    assert len(set(rows)) == len(rows) == ways * (shots + queries)
    assert pool.table.labels is not None
    names = [pool.table.names[c] for c in pool.table.labels[task.support]]
    assert names == [task.class_names[label] for label in task.labels]
    assert sorted(task.labels.tolist()) == task.labels.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(2, 20), st.integers(1000, 999_999), st.integers(0, 99))
def test_a_long_tail_falls_by_its_ratio(ways: int, shots: int, thousandths: int, start: int) -> None:
    total = ways * shots
    imbalance = Imbalance("long-tail", thousandths)
    sizes = sorted(imbalance.sizes(total, [total] * ways, lambda n: start % n), reverse=True)
    weights = (thousandths / 1000) ** (-np.arange(ways) / (ways - 1))
    shares = total * weights / weights.sum()
    if shares[-1] >= 1.5:  # nobody is lifted to one image: rounding alone moves a size
        assert np.abs(sizes - shares).max() < 1.5
    assert sum(sizes) == total


def test_dirichlet_sizes_have_the_distribution_of_scipy() -> None:
    ways, shots, draws = 3, 3, 1000
    for concentration in (0.5, 2.0):
        imbalance = Imbalance.parse(f"dirichlet:{concentration}")
        seen: Counter[tuple[int, ...]] = Counter()
        for index in range(draws):
            ranks = draw_ranks([40] * ways, Shape(ways, shots, 1, imbalance), 1, index)
            sizes = dict(zip(ranks.classes, map(len, ranks.support), strict=True))
            seen[tuple(sizes[c] - 1 for c in range(ways))] += 1
        free = ways * (shots - 1)
        kinds = [(a, b, free - a - b) for a in range(free + 1) for b in range(free + 1 - a)]
        law = dirichlet_multinomial([concentration] * ways, free)
        expected = draws * np.array([law.pmf(kind) for kind in kinds])
        assert sum(seen[kind] for kind in kinds) == draws
        assert chisquare([seen[kind] for kind in kinds], expected).pvalue > 1e-4


def test_the_draw_is_the_one_that_the_docs_describe() -> None:
    pool, shots = number_pool([9, 12, 10]), 3
    words = ",".join(map(str, [3_000_500, 2, shots, 1, 1, 7, 9, 12, 10]))
    stream = b"".join(hashlib.sha256(f"farshot,{words},{c}".encode()).digest() for c in range(8))
    left = [int.from_bytes(stream[i : i + 8], "big") for i in range(0, len(stream), 8)]

    def shuffled(n: int, k: int) -> list[int]:
        order = list(range(n))
        for i in range(k):
            j = i + left.pop(0) % (n - i)
            order[i], order[j] = order[j], order[i]
        return order[:k]

    classes, sizes = shuffled(3, 2), [1, 1]
    for _ in range(2 * shots - 2):
        first = 500 + 1000 * (sizes[0] - 1)
        sizes[left.pop(0) % (1000 + 1000 * (sum(sizes) - 2)) >= first] += 1
    expected = [shuffled((9, 12, 10)[c], size + 1) for c, size in zip(classes, sizes, strict=True)]
    task = sample_task(
        pool, ways=2, shots=shots, queries=1, index=7, imbalance=Imbalance.parse("dirichlet:0.5")
    )
    rows = [[int(pool.by_class[c][r]) for r in ranks] for c, ranks in zip(classes, expected, strict=True)]
    assert task.support.tolist() == rows[0][:-1] + rows[1][:-1]
    assert task.query.tolist() == [rows[0][-1], rows[1][-1]]


def test_the_first_imbalanced_tasks_are_frozen() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert {entry["imbalance"] for entry in frozen["imbalanced"]} == {"dirichlet:1", "long-tail:10"}
    for entry in frozen["imbalanced"]:
        sizes = frozen["class_sizes"][entry["pool"]]
        shape = Shape(5, entry["shots"], 15, Imbalance.parse(entry["imbalance"]))
        ranks = draw_ranks(sizes, shape, entry["seed"], entry["index"])
        assert list(ranks.classes) == entry["classes"]
        assert [list(r) for r in ranks.support] == entry["support"]
        assert [list(r) for r in ranks.query] == entry["query"]


@pytest.mark.parametrize("text", ["dirichlet:1", "dirichlet:0.3", "long-tail:10", "long-tail:100.5"])
def test_an_imbalance_is_named_in_words_and_in_the_version_of_the_draw(text: str) -> None:
    imbalance = Imbalance.parse(text)
    assert str(imbalance) == text
    assert Imbalance.of_protocol(imbalance.protocol) == imbalance
    assert Imbalance.of_protocol(1) is None


@pytest.mark.parametrize(
    "text", ["dirichlet", "dirichlet:0", "dirichlet:1000", "long-tail:0.5", "zipf:1", "dirichlet:1.0001", ""]
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match=r"--imbalance is .*dirichlet:.*long-tail:"):
        Imbalance.parse(text)


def test_no_class_takes_more_images_than_it_has() -> None:
    pool = number_pool([6, 6, 40])
    for kind in ("dirichlet:0.01", "long-tail:900"):
        for index in range(20):
            task = sample_task(pool, ways=3, shots=4, queries=2, index=index, imbalance=Imbalance.parse(kind))
            sizes = dict(zip(task.class_names, np.bincount(task.labels).tolist(), strict=True))
            assert sizes["class 0"] <= 4 and sizes["class 1"] <= 4
    with pytest.raises(DataError, match=r"6 shots on average need 18 support images.*have 12"):
        sample_task(number_pool([6] * 3), ways=3, shots=6, queries=2, imbalance=Imbalance.parse(kind))
    with pytest.raises(DataError, match=r"2 queries and a support image need 3 .*smallest has 2"):
        sample_task(number_pool([2, 40]), ways=2, shots=4, queries=2, imbalance=Imbalance.parse(kind))
    with pytest.raises(SettingError, match="At 1 shot every class has exactly one image"):
        Shape(5, 1, 15, Imbalance.parse(kind))


def test_tasks_do_not_depend_on_the_method_and_balanced_runs_keep_their_identity() -> None:
    pool = number_pool([20] * 4)
    methods = [parse_method(name) for name in ("zero-shot", "linear-probe", "atha[views=none]")]
    grid = Grid([pool], [4], methods, 2, ways=3, queries=2, imbalance=Imbalance.parse("dirichlet:1"))
    grid.check()
    drawn = [tasks_of(grid, cell, [0, 1]) for cell in grid.cells]
    for others in drawn[1:]:
        for one, other in zip(drawn[0], others, strict=True):
            assert one.support.tolist() == other.support.tolist()
            assert one.query.tolist() == other.query.tolist()
            assert (one.labels.tolist(), one.key) == (other.labels.tolist(), other.key)
    shapes = [Shape(5, 5, 15, i) for i in (None, *map(Imbalance.parse, ("dirichlet:1", "dirichlet:2")))]
    runs = [
        Run("m", 1, {}, "float32", "f", "p", "q", ("a",), "{}", shape, shape.protocol) for shape in shapes
    ]
    assert len({run.identity for run in runs}) == 3
    shape = Shape(5, 1, 15)
    balanced = Run("m", 1, {}, "float32", "f", "p", "q", ("a",), "{}", shape, shape.protocol)
    assert balanced.identity == "62687d0a0d49795abd7c709b24e93f34"  # of stores that exist


def test_images_of_a_group_are_not_on_both_sides_of_a_task() -> None:
    plain = number_pool([20] * 3)
    groups = tuple(f"g{row // 2}" for row in range(60))
    table = plain.table
    grouped = type(table)(table.images, table.labels, table.classes, table.names, None, groups)
    pool = Pool("grouped", grouped, plain.ids)
    assert pool.fingerprint != plain.fingerprint
    for index in range(20):
        task = sample_task(
            pool, ways=3, shots=3, queries=3, index=index, imbalance=Imbalance.parse("dirichlet:1")
        )
        assert not {groups[row] for row in task.support} & {groups[row] for row in task.query}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three classes, and a model."""
    folder = tmp_path_factory.mktemp("imbalanced")
    folder_pool(folder / "images", classes=3, images=14)
    tiny_checkpoint(folder / "m")
    return folder


@pytest.mark.slow
def test_a_grid_of_imbalanced_tasks_from_the_command_line(
    farshot: Farshot, folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "r.db"
    common = ("--pools", f"p={folder / 'images'}", "--ways", 3, "--queries", 4, "--model", folder / "m")
    common += ("--methods", "zero-shot", "linear-probe", "tip-adapter", "--tasks", 4, "--device", "cpu")
    common += ("--store", store, "--cache", tmp_path / "cache")
    bench = ("bench", *common, "--protocol", "imbalanced", "--shots", 3)
    assert "needs --imbalance" in refusal(farshot(*bench))
    assert "at least 2" in refusal(farshot(*bench[:-1], 1, "--imbalance", "dirichlet:1.0"))
    assert "for --protocol imbalanced" in refusal(
        farshot("bench", *common, "--shots", 3, "--imbalance", "dirichlet:1")
    )
    for more in (("--imbalance", "dirichlet:1.0"), ("--imbalance", "long-tail:5")):
        told = farshot(*bench, *more)
        assert told.code == 0, told.err
    told = farshot("bench", *common, "--shots", 3)
    assert told.code == 0, told.err
    told = farshot("table", "--store", store)
    for words in ("3-way, 4 queries", "class sizes dirichlet:1,", "class sizes long-tail:5,"):
        assert told.out.count(words) == 1, told.out
    rows = list(csv.DictReader(io.StringIO(farshot("table", "--store", store, "--format", "csv").out)))
    assert Counter((row["protocol"], row["imbalance"]) for row in rows) == {
        ("imbalanced", "dirichlet:1"): 3,
        ("imbalanced", "long-tail:5"): 3,
        ("episodes", ""): 3,
    }
    told = farshot("compare", "linear-probe", "zero-shot", "--store", store, "--metric", "macro-f1")
    assert told.out.count("class sizes") == 2, told.out
    report = tmp_path / "r.html"
    assert farshot("report", store, "--out", report).code == 0
    text = report.read_text(encoding="utf-8")
    assert "--protocol imbalanced --imbalance dirichlet:1 --ways 3 --queries 4" in text
    assert farshot("store", "export", store, tmp_path / "r.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        imbalance = Imbalance.of_protocol(line["protocol"])
        assert len(line["support"]) == 9
        assert len(set(line["classes"])) == 3
        sizes = Counter(name.partition("/")[0] for name in line["support"])
        assert list(sizes) == line["classes"]
        assert imbalance is not None or set(sizes.values()) == {3}
    with Store(store, read_only=True) as filled:
        shapes = {run.shape.imbalance for run in filled.runs().values()}
    assert shapes == {None, Imbalance.parse("dirichlet:1"), Imbalance.parse("long-tail:5")}


def test_a_store_with_an_impossible_imbalance_is_damaged(tmp_path: Path) -> None:
    shape = Shape(3, 2, 4, Imbalance.parse("dirichlet:1"))
    run = Run("m", 1, {}, "float32", "f", "p", "q", ("a",), "{}", shape, shape.protocol)
    with Store(tmp_path / "r.db") as store:
        store.run_id(run)
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection, connection:
        connection.execute("UPDATE runs SET protocol = 3000000")
    with Store(tmp_path / "r.db", read_only=True) as store, pytest.raises(Exception, match="is damaged"):
        store.runs()

"""Tasks are facts: the same on every machine, well formed, and never changed by a new version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshot.bench.tasks import PROTOCOL, Shape, check_seed, draw_ranks, query_labels, sample_task
from farshot.data.pool import Pool, pool_of
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError

FROZEN = Path(__file__).parent / "fixtures" / "first_tasks.json"


def number_pool(sizes: list[int], order: list[int] | None = None) -> Pool:
    """A pool of different one-pixel images; `order` is that in which a file system might list them."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = list(range(len(labels))) if order is None else order
    names = tuple(f"class {c}" for c in range(len(sizes)))
    pixels = [np.array([[[i // 256, i % 256, 0]]], np.uint8) for i in order]
    table = ImageTable(tuple(pixels), labels[order], names, names)
    return Pool("numbers", table, tuple(f"{i:05d}.png" for i in order))


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(6, 60), min_size=2, max_size=9),
    ways=st.integers(2, 6),
    shots=st.integers(1, 3),
    queries=st.integers(1, 3),
    seed=st.integers(1, 5000),
    index=st.integers(0, 10_000),
)
def test_a_task_has_its_shape_and_shares_no_image(
    sizes: list[int], ways: int, shots: int, queries: int, seed: int, index: int
) -> None:
    ways = min(ways, len(sizes))
    pool = number_pool(sizes)
    task = sample_task(pool, ways=ways, shots=shots, queries=queries, seed=seed, index=index)
    rows = np.concatenate([task.support, task.query])
    assert len(set(rows.tolist())) == ways * (shots + queries)
    assert len(set(task.class_names)) == ways
    labels = pool.table.labels
    assert labels is not None
    names = [pool.table.names[c] for c in labels[task.support]]
    assert names == [task.class_names[label] for label in task.labels]
    names = [pool.table.names[c] for c in labels[task.query]]
    assert names == [task.class_names[label] for label in query_labels(task)]
    assert np.bincount(query_labels(task)).tolist() == [queries] * ways


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_the_order_of_files_does_not_matter(random, index: int) -> None:
    order = list(range(60))
    random.shuffle(order)
    sorted_pool, shuffled = number_pool([20, 20, 20]), number_pool([20, 20, 20], order)
    one = sample_task(sorted_pool, ways=3, shots=1, queries=4, index=index)
    other = sample_task(shuffled, ways=3, shots=1, queries=4, index=index)
    assert [sorted_pool.ids[r] for r in one.query] == [shuffled.ids[r] for r in other.query]
    assert [sorted_pool.ids[r] for r in one.support] == [shuffled.ids[r] for r in other.support]
    assert one.class_names == other.class_names
    assert one.key == other.key
    assert sorted_pool.fingerprint == shuffled.fingerprint


def test_the_first_tasks_of_every_protocol_are_frozen() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert frozen["protocol"] == PROTOCOL
    assert {entry["pool"] for entry in frozen["tasks"]} == {"eurosat", "cropdiseases", "isic", "chestx"}
    for entry in frozen["tasks"]:
        sizes = frozen["class_sizes"][entry["pool"]]
        ranks = draw_ranks(sizes, Shape(5, entry["shots"], 15), entry["seed"], entry["index"])
        assert list(ranks.classes) == entry["classes"]
        assert [list(r) for r in ranks.support] == entry["support"]
        assert [list(r) for r in ranks.query] == entry["query"]


def test_every_image_and_class_is_drawn_about_as_often() -> None:
    drawn = np.zeros((6, 12))
    chosen = np.zeros(6)
    for index in range(2000):
        ranks = draw_ranks([12] * 6, Shape(3, 1, 2), 1, index)
        for c, support, query in zip(ranks.classes, ranks.support, ranks.query, strict=True):
            chosen[c] += 1
            drawn[c, list(support + query)] += 1
    # 1000 draws of each class, 250 of each image; five standard deviations
    assert np.abs(chosen - 1000).max() < 5 * np.sqrt(1000 * 0.5)
    assert np.abs(drawn - 250).max() < 5 * np.sqrt(250)


@pytest.mark.parametrize("change", [{"seed": 2}, {"index": 1}, {"shots": 2}, {"queries": 3}])
def test_whatever_is_asked_for_changes_the_draw(change: dict[str, int]) -> None:
    pool = number_pool([30] * 8)
    base = {"ways": 5, "shots": 1, "queries": 4, "seed": 1, "index": 0}
    one, other = sample_task(pool, **base), sample_task(pool, **(base | change))
    assert one.support.tolist() != other.support.tolist()


def test_pools_too_small_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="--ways"):
        sample_task(number_pool([20] * 4))
    with pytest.raises(DataError, match="--queries"):
        sample_task(number_pool([20] * 4 + [15]))
    with pytest.raises(SettingError, match="at least 2 ways"):
        Shape(1, 1, 1)


def test_development_and_reporting_seeds_are_kept_apart() -> None:
    assert check_seed(7, report=False) == 7
    assert check_seed(1000, report=True) == 1000
    for seed, report in ((0, False), (100, False), (1000, False), (7, True), (999, True)):
        with pytest.raises(SettingError):
            check_seed(seed, report)


def test_names_are_paths_below_the_folder_the_images_share(tmp_path: Path) -> None:
    files = [tmp_path / "pool" / c / f"{i}.png" for c in "ab" for i in range(2)]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([number]))
    table = ImageTable(tuple(files), np.array([0, 0, 1, 1]), ("a", "b"), ("a", "b"))
    pool = pool_of("own", table)
    assert pool.ids == ("a/0.png", "a/1.png", "b/0.png", "b/1.png")
    before = pool.fingerprint
    files[0].write_bytes(b"another picture")
    fresh = ImageTable(tuple(files), np.array([0, 0, 1, 1]), ("a", "b"), ("a", "b"))
    assert pool_of("own", fresh).fingerprint != before

"""Accuracy against the number of labels, and what more would bring."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from farshot.choose.curve import learning_curve
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.methods import create
from farshot.methods.prototypes import Prototypes
from farshot.model.encoder import Encoder
from farshot.task import Task
from tests.input_helpers import Farshot
from tests.toy import as_folder, world_table

TABLE = world_table(count=400, classes=("highway", "orchard", "river", "forest"))


@pytest.mark.slow
def test_a_curve_rises_and_its_forecast_lies_above_no_gain(mini: Encoder):
    seen: list[tuple[int, int]] = []
    found = learning_curve(
        create("prototypes"), mini, TABLE, progress=lambda done, total: seen.append((done, total))
    )
    assert found.sizes[:4] == (1, 2, 3, 5)
    assert TABLE.labels is not None
    smallest = int(np.bincount(TABLE.labels).min())
    assert found.gain_from == smallest
    assert found.sizes[-1] <= smallest - smallest / 5
    means = [one.mean for one in found.accuracy]
    assert means[0] < means[2] < means[-1]
    assert all(one.low < one.mean < one.high for one in found.accuracy)
    assert 0 <= found.gain.mean < 0.1
    assert found.gain.low < found.gain.mean < found.gain.high
    assert seen[-1] == (len(found.sizes), len(found.sizes))
    again = learning_curve(create("prototypes"), mini, TABLE)
    assert again == found


def test_a_method_that_learns_nothing_has_a_flat_curve(mini: Encoder):
    found = learning_curve(create("zero-shot"), mini, TABLE.subset(range(100)), repeats=5)
    assert len({round(one.mean, 12) for one in found.accuracy}) == 1
    assert found.gain.mean == pytest.approx(0, abs=1e-12)


def test_an_accuracy_of_all_images_has_an_interval_with_a_width(mini: Encoder):
    table, rows = TABLE.subset(range(100)), np.arange(100)
    assert table.labels is not None
    task = Task(table, table.names, rows, table.labels, rows)
    adapted = next(iter(create("zero-shot").adapt(mini, [task])))
    right = adapted.logits(table, rows).argmax(1) == table.labels
    found = learning_curve(create("zero-shot"), mini, table.subset(np.flatnonzero(right)), repeats=5)
    for one in found.accuracy:
        assert one.mean == 1
        assert 0.8 < one.low < 0.99 and one.high == 1
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0, abs=1e-12)
    assert -0.2 < found.gain.low < -0.01 and found.gain.high == 0


def test_no_forecast_leads_above_all_or_below_none(mini: Encoder):
    """A steep rise to a high accuracy, and a fall, where a label says nothing of the picture."""
    draws = np.random.default_rng(0)
    table, ends = TABLE.subset(range(40)), list[float]()
    assert table.labels is not None
    for labels in (table.labels, draws.permutation(table.labels)):
        given = replace(table, labels=labels)
        for seed in range(2):
            found = learning_curve(create("prototypes"), mini, given, repeats=2, more=100_000, seed=seed)
            assert found.gain is not None
            assert found.gain.low <= found.gain.mean <= found.gain.high
            ends += [found.accuracy[-1].mean + one for one in (found.gain.low, found.gain.high)]
    assert min(ends) >= -1e-12 and max(ends) <= 1 + 1e-12
    assert max(ends) == pytest.approx(1)  # where the line would lead further


def test_a_forecast_needs_two_sizes(mini: Encoder):
    found = learning_curve(create("zero-shot"), mini, easy(), repeats=2, sizes=(4,))
    assert found.sizes == (4,)
    assert found.gain is None


def test_copies_and_groups_stay_on_one_side(mini: Encoder):
    """Four versions of each picture do not make a curve that is higher than that of one."""
    assert TABLE.labels is not None
    few = TABLE.subset(np.concatenate([np.flatnonzero(TABLE.labels == c)[:8] for c in range(4)]))
    assert few.labels is not None
    four = replace(few, images=few.images * 4, labels=np.tile(few.labels, 4), _ids={}, _contents={})
    once, copied = (learning_curve(create("prototypes"), mini, one, repeats=10) for one in (few, four))
    assert copied.sizes == once.sizes
    assert copied.gain_from == once.gain_from == 8
    assert copied.accuracy[-1].mean == pytest.approx(once.accuracy[-1].mean, abs=0.12)


def test_groups_with_images_of_several_classes_leave_the_sizes_that_are_named(mini: Encoder):
    assert TABLE.labels is not None
    few = TABLE.subset(np.concatenate([np.flatnonzero(TABLE.labels == c)[:8] for c in range(4)]))
    plates = replace(few, groups=tuple(f"plate {n % 8}" for n in range(32)))
    asked: list[int] = []

    class Counting(Prototypes):
        def adapt(self, encoder, tasks, **more):
            asked.extend(len(task.support) for task in tasks)
            return super().adapt(encoder, tasks, **more)

    found = learning_curve(Counting(), mini, plates, repeats=4)
    assert found.sizes == (1, 2, 3, 5)
    assert asked == [4 * size for size in found.sizes for _ in range(4)]


def test_too_few_images_are_refused(mini: Encoder):
    assert TABLE.labels is not None
    few = TABLE.subset(np.concatenate([np.flatnonzero(TABLE.labels == c)[:3] for c in range(4)]))
    with pytest.raises(DataError, match="at least 4 independent images of every class, and 'highway' has 3"):
        learning_curve(create("prototypes"), mini, few)
    with pytest.raises(DataError, match="no labels"):
        learning_curve(create("prototypes"), mini, replace(TABLE, labels=None))


def test_a_gain_of_nothing_has_no_minus(farshot: Farshot, tmp_path: Path):
    table = easy()
    told = farshot("curve", as_folder(table, tmp_path / "images"), "--model", "mini", "--repeats", 5)
    assert told.code == 0, told.err
    assert "100.0 [" in told.out.splitlines()[-2]
    assert "would bring about +0.0 points [-" in told.out


def easy() -> ImageTable:
    """Bright and dark pictures: every method tells them apart."""
    generator = np.random.default_rng(1)
    pixels = [np.clip(generator.normal((40, 200)[n % 2], 20, (32, 32, 3)), 0, 255) for n in range(12)]
    images = tuple(one.astype(np.uint8) for one in pixels)
    return ImageTable(images, np.arange(12) % 2, ("dark", "light"), ("dark", "light"))


def test_the_command_prints_and_draws_a_curve(farshot: Farshot, tmp_path: Path):
    images = as_folder(TABLE, tmp_path / "images", range(60))
    command = ("curve", images, "--model", "mini", "--method", "prototypes", "--repeats", 4)
    told = farshot(*command, "--out", tmp_path / "curve.png")
    assert told.code == 0, told.err
    assert "10 more per class than the" in told.out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(farshot(*command, "--json").out)
    assert [one["images_per_class"] for one in found["points"]][:3] == [1, 2, 3]
    assert found["forecast"]["low"] <= found["forecast"]["gain"] <= found["forecast"]["high"]
    told = farshot(*command, "--out", tmp_path / "curve.pdf")
    assert told.code == 2
    assert "drawn as .png or .svg" in told.err


def test_images_to_test_on_are_no_part_of_the_curve(mini: Encoder):
    own = replace(TABLE, splits=tuple("test" if row % 5 == 0 else "train" for row in range(len(TABLE))))
    alone = TABLE.subset(own.train_rows())
    found, expected = (
        learning_curve(create("prototypes"), mini, one, repeats=3, seed=-1) for one in (own, alone)
    )
    assert found == expected

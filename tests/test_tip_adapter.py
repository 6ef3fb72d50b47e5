"""What the rule of tip-adapter holds out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from farshot.data.table import ImageTable
from farshot.methods import create
from farshot.methods.tip_adapter import AT_ONE_SHOT, folds, held_out_losses
from farshot.model.encoder import Encoder
from farshot.task import Task
from tests.features import drawn, frozen
from tests.toy import world_table

TABLE = world_table("mini-crops", 100, ("canker", "rust"))


def twice(shots: int, *, groups: bool = False) -> Task:
    """Pictures of each class and a brighter copy of each behind them; or others of the same groups."""
    rows = np.concatenate([np.flatnonzero(TABLE.labels == c)[: 2 * shots] for c in (0, 1)])
    labels = np.tile(np.repeat([0, 1], shots), 2)
    rows = np.concatenate([rows.reshape(2, 2, shots)[:, half].ravel() for half in (0, 1)])
    pictures = [TABLE.images[row] for row in rows]
    if not groups:
        first = pictures[: 2 * shots]
        pictures = first + [np.clip(one.astype(int) + 3, 0, 255).astype(np.uint8) for one in first]
    names = [str(i) for i in range(2 * shots)] * 2
    table = ImageTable(tuple(pictures), labels, TABLE.classes, TABLE.names)
    table = replace(table, groups=tuple(names)) if groups else table
    return Task(table, TABLE.names, np.arange(4 * shots), labels)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_copies_and_groups_are_held_out_together(name: str, groups: bool, mini: Encoder):
    method, task = frozen(name), twice(3, groups=groups)
    assert folds(method.support(mini, [task]))[0].tolist() == [0, 1, 2] * 4
    alone = replace(task, independent=True)  # as in a benchmark, whose tasks hold no copies
    assert folds(method.support(mini, [alone]))[0].tolist() == [0, 1, 2] * 2 + [3, 4, 5] * 2


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_one_picture_and_its_copy_are_one_shot(name: str, mini: Encoder):
    settings = {"steps": 1} if name == "tip-adapter-f" else {}
    state = create(name, settings).adapt(mini, [twice(1)])[0].tensors()
    assert (float(state["alpha"]), float(state["beta"])) == AT_ONE_SHOT


def test_a_support_set_with_copies_of_all_has_the_losses_of_one_without():
    """The cache sums over images, so that half the alpha does the same for twice the images."""
    once = drawn(shots=3)
    images, labels = torch.cat([once.images] * 2, 1), torch.cat([once.labels] * 2, 1)
    units = torch.arange(labels.shape[1] // 2).repeat(len(labels), 2)
    both = replace(once, images=images, labels=labels, units=units, shots=6)
    expected = held_out_losses(once, once.images, (2.0, 6.0), (1.0, 5.0))
    torch.testing.assert_close(held_out_losses(both, images, (1.0, 3.0), (1.0, 5.0)), expected)

"""Tasks of the owner's split: every class, K support images of each drawn from the training images, and all
test images as queries.

This is the protocol of CoOp (Zhou et al., IJCV 2022), in which CoOp, Tip-Adapter, LP++ and CLAP report their
numbers: 1, 2, 4, 8 and 16 shots, the mean of three draws. A draw uses nothing but SHA-256 and whole numbers,
as in farshot.bench.tasks; docs/benchmark.md describes it. The authors' draws come from Python's generator and
the order of their files, and are others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from farshot.arrays import NDArray
from farshot.bench.tasks import SPLIT_PROTOCOL, Draw
from farshot.data.pool import Pool
from farshot.errors import DataError
from farshot.randomness import key
from farshot.task import DEFAULT_TEMPLATE, Task

TASKS = 3
"""Draws of a cell, where --tasks does not say: CoOp's three seeds."""

Rows = NDArray[np.int64]


def test_images(pool: Pool) -> int:
    """The number of query images of a task."""
    return sum(map(len, _by_class(pool, pool.table.test_split)))


def check_split(pool: Pool, shots: int) -> None:
    """Refuse a pool without a split, or with too few training images.

    Raises:
        DataError: names the class and the way out.
    """
    _draw(pool, shots, "check")


def split_task(
    pool: Pool,
    shots: int,
    *,
    seed: int = 1,
    index: int = 0,
    template: str = DEFAULT_TEMPLATE,
    descriptions: Mapping[str, str] | None = None,
) -> Task:
    """Draw the support images of the task with this number; the queries are the same in all.

    Support and query rows are grouped by class, in the pool's order of classes. A training image that shows a
    picture, or is of a group, that the test images also have is not drawn.

    Raises:
        DataError: as `check_split`.
    """
    support, queries = _draw(pool, shots, f"{seed},{index}")
    return Task(
        pool.table,
        pool.table.names,
        np.concatenate(support),
        np.repeat(np.arange(len(support)), shots),
        np.concatenate(queries),
        template,
        dict(descriptions or {}),
        key("task", pool.name, shots, seed, index),
        independent=True,
    )


def _draw(pool: Pool, shots: int, number: str) -> tuple[list[Rows], list[Rows]]:
    """Support and query rows by class.

    Args:
        number: seed and index of the task.
    """
    if pool.table.splits is None:
        raise DataError(
            "Its images are not divided into train and test; give a folder with train and test, a table with "
            "a column `split`, or a CoOp split file (split_zhou_*.json)."
        )
    queries, training = (_by_class(pool, split) for split in (pool.table.test_split, "train"))
    tested = np.concatenate(queries).tolist()
    if not tested:
        raise DataError("Its split has no test images; call some of them test.")
    sizes = [len(rows) for rows in training]
    draw = Draw(",".join(map(str, [SPLIT_PROTOCOL, len(sizes), shots, 0, number, *sizes])))
    seen = {pool.copies[row] for row in tested if row in pool.copies}
    groups = pool.table.groups
    others = {groups[row] for row in tested} if groups else set[str]()
    support = []
    for name, rows in zip(pool.table.classes, training, strict=True):
        chosen: list[int] = []
        for rank in draw.numbers(len(rows)):
            row = int(rows[rank])
            picture = pool.copies.get(row)
            if picture in seen or (groups and groups[row] in others):
                continue
            if picture is not None:
                seen.add(picture)
            chosen.append(row)
            if len(chosen) == shots:
                break
        if len(chosen) < shots:
            raise DataError(
                f"{shots} shots need {shots} different training images of every class, of pictures and "
                f"groups that are not among the test images; {name!r} has {len(chosen)}: use fewer --shots, "
                "or add images."
            )
        support.append(np.array(chosen, dtype=np.int64))
    return support, queries


def _by_class(pool: Pool, split: str | None) -> list[Rows]:
    """Rows of a split by class, sorted by the images' names."""
    inside = np.array([name == split for name in pool.table.splits or ()], dtype=bool)
    return [rows[inside[rows]] for rows in pool.by_class]

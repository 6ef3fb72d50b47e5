"""Whether results of one task agree: with themselves, and with a second computation of them.

"The same" in float32 (docs/benchmark.md): labels agree in at least 99.9 % of queries, and probabilities
within 0.001 in 99 % of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from farshot.arrays import NDArray
from farshot.bench.records import Episode, Run, check_types, probabilities_of
from farshot.bench.tasks import Shape

EQUAL_LABELS, CLOSE_PROBABILITIES, CLOSE = 0.999, 0.99, 1e-3
"""Shares of queries, and the largest difference of a probability."""

_TASK_LABELS, _TASK_CLOSE = 0.98, 0.9  # of a single task, where a few queries may lie between two classes
_SUM = 2e-3  # by which halves may miss a sum of 1
_LARGEST = 2**31 - 1
_LONGEST = 300  # characters of a device or version


@dataclass(frozen=True)
class Row:
    """A stored result with its task.

    Attributes:
        run: identity of its run.
        columns: accuracy, predictions, probabilities (bytes) and the other columns of the table `results`.
    """

    run: str
    episode: Episode
    columns: Mapping[str, Any]

    @property
    def key(self) -> tuple[int, int]:
        """Seed and index of the task."""
        return self.episode.seed, self.episode.index

    @property
    def predictions(self) -> UInt8[NDArray[np.uint8], " Q"]:
        """Predicted class of each query image."""
        return np.frombuffer(self.columns["predictions"], np.uint8)

    def probabilities(self, ways: int) -> Float[NDArray[np.float32], "Q N"]:
        """Of each query image, every class.

        Raises:
            ValueError: they are not between 0 and 1, or not so many.
        """
        return probabilities_of(np.frombuffer(self.columns["probabilities"], "<f2").reshape(-1, ways))


@dataclass(frozen=True)
class Agreement:
    """How two computations of the same queries agree.

    Attributes:
        queries: how many.
        labels: with the same predicted class.
        close: whose probabilities all lie within 0.001.
        largest: largest difference of a probability.
    """

    queries: int = 0
    labels: int = 0
    close: int = 0
    largest: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.queries + other.queries,
            self.labels + other.labels,
            self.close + other.close,
            max(self.largest, other.largest),
        )

    @property
    def same(self) -> bool:
        """Whether many tasks together are the same."""
        return self.labels >= EQUAL_LABELS * self.queries and self.close >= CLOSE_PROBABILITIES * self.queries

    @property
    def same_task(self) -> bool:
        """Whether a single task is the same: one query, or 2 %, may have another label."""
        differing = self.queries - self.labels
        return (
            differing <= max(1, (1 - _TASK_LABELS) * self.queries)
            and self.close >= _TASK_CLOSE * self.queries
        )

    def __str__(self) -> str:
        share = 100 / max(1, self.queries)
        return (
            f"labels agree in {share * self.labels:.2f} % of {self.queries} queries, probabilities within "
            f"{CLOSE} in {share * self.close:.2f} %, the largest difference is {self.largest:.1e}"
        )


def agreement(one: Row, other: Row, ways: int) -> Agreement:
    """Compare two computations of one task.

    Raises:
        ValueError: another number of queries.
    """
    mine, its = one.probabilities(ways), other.probabilities(ways)
    if mine.shape != its.shape:
        raise ValueError(f"{len(mine)} and {len(its)} queries")
    gaps = np.abs(mine - its).max(1, initial=0.0)
    return Agreement(
        len(gaps),
        int((one.predictions == other.predictions).sum()),
        int((gaps <= CLOSE).sum()),
        float(gaps.max(initial=0.0)),
    )


def check_row(run: Run, row: Row) -> None:
    """Refuse a result that does not agree with itself or with its task.

    Raises:
        ValueError: says what; the sentence follows the name of the task and a colon.
    """
    check_episode(run.shape, row.episode)
    _check_columns(row.columns)
    ways, labels, predictions = run.shape.ways, row.episode.labels, row.predictions
    if len(predictions) != len(labels):
        raise ValueError(f"it has {len(predictions)} predictions for {len(labels)} query images")
    try:
        probabilities = row.probabilities(ways)
    except ValueError as error:
        raise ValueError(f"its probabilities are not those of {ways} classes ({error})") from error
    if len(probabilities) != len(labels):
        raise ValueError(f"it has probabilities for {len(probabilities)} of {len(labels)} query images")
    if int(predictions.max()) >= ways:
        raise ValueError(f"it predicts class {predictions.max()} of {ways}")
    if (np.abs(probabilities.sum(1, dtype=np.float64) - 1) > _SUM).any():
        raise ValueError("its probabilities do not add up to 1")
    if (probabilities[np.arange(len(labels)), predictions] < probabilities.max(1)).any():
        raise ValueError("its predictions are not the most probable classes")
    accuracy = float((predictions == labels).mean())
    if abs(accuracy - row.columns["accuracy"]) > 1e-9:
        raise ValueError(
            f"its accuracy is {row.columns['accuracy']:.4f}, its predictions give {accuracy:.4f}"
        )


def check_episode(shape: Shape, episode: Episode) -> None:
    """Refuse a task that does not have its shape.

    Raises:
        ValueError: as `check_row`.
    """
    ways, labels = shape.ways, episode.labels
    if not (0 <= episode.seed <= _LARGEST and 0 <= episode.index <= _LARGEST):
        raise ValueError("its seed or index is no number of a task")
    if len(episode.classes) != ways or len(set(episode.classes)) != ways:
        raise ValueError(f"it does not have {ways} different classes")
    if len(episode.support) != ways * shape.shots:
        raise ValueError(f"it has {len(episode.support)} support images, not {ways * shape.shots}")
    if not len(labels) or len(episode.query) != len(labels):
        raise ValueError(f"it has {len(labels)} true classes for {len(episode.query)} query images")
    if len({*episode.support, *episode.query}) != len(episode.support) + len(episode.query):
        raise ValueError("it has an image twice")
    if shape.queries:
        fitting = np.array_equal(labels, np.repeat(np.arange(ways), shape.queries))
    else:
        fitting = bool((np.diff(labels.astype(int)) >= 0).all()) and int(labels.max()) < ways
    if not fitting:
        raise ValueError("its true classes are not in the order of its classes")


def _check_columns(columns: Mapping[str, Any]) -> None:
    check_types(columns)
    for name in ("accuracy", "seconds", "created", "loss"):
        value = columns[name]
        if value is not None and (np.isnan(value) or (name != "loss" and not 0 <= value <= _LARGEST**2)):
            raise ValueError(f"its {name} is {value}")
    for name, least in (("batch", 1), ("peak_memory", 0)):
        if isinstance(columns[name], bool) or not least <= columns[name] < 2**63:
            raise ValueError(f"its {name} is {columns[name]}")
    for name in ("device", "version"):
        if len(columns[name]) > _LONGEST:
            raise ValueError(f"its {name} has {len(columns[name])} characters")

"""Whether two stores hold the same numbers: after an interruption, on another machine, with other batches.

    python -m tests.same_rows A.db B.db

"The same" in float32: the same tasks with the same images, equal labels in at least 99.9 % of queries, and
probabilities within 0.001 in 99 % of them. Times, memory and batch sizes may differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from farshot.bench.agreement import CLOSE, CLOSE_PROBABILITIES, EQUAL_LABELS
from farshot.bench.export import rows
from farshot.bench.store import Store


@dataclass(frozen=True)
class Difference:
    """How two stores differ.

    Attributes:
        only_a, only_b: tasks that one store has and the other has not.
        tasks, queries: that both have.
        other_images: tasks whose classes or images differ.
        labels: share of queries with the same predicted class.
        close: share of queries whose probabilities all lie within 0.001.
        largest: largest difference of a probability.
    """

    only_a: int
    only_b: int
    tasks: int
    queries: int
    other_images: int
    labels: float
    close: float
    largest: float

    @property
    def same(self) -> bool:
        """Whether all tasks are there and their numbers agree."""
        missing = self.only_a + self.only_b + self.other_images
        return not missing and self.labels >= EQUAL_LABELS and self.close >= CLOSE_PROBABILITIES

    def __str__(self) -> str:
        return (
            f"{self.tasks} tasks in both, {self.only_a} only in the first, {self.only_b} only in the second, "
            f"{self.other_images} with other images; {100 * self.labels:.3f} % of {self.queries} queries "
            f"have the same label and {100 * self.close:.3f} % probabilities within {CLOSE}; "
            f"the largest gap is {self.largest:.1e}"
        )


def difference(a: Store, b: Store) -> Difference:
    """Compares two stores row by row, run by run: neither is ever in memory as a whole."""
    one, other = ({run.identity: number for number, run in store.runs().items()} for store in (a, b))
    counts = dict.fromkeys(("only_a", "only_b", "tasks", "queries", "images", "equal", "close"), 0)
    largest = 0.0
    for identity in sorted(one.keys() | other.keys()):
        both = (rows(a, one.get(identity)), rows(b, other.get(identity)))
        for mine, its in _side_by_side(*both):
            if mine is None or its is None:
                counts["only_a" if its is None else "only_b"] += 1
                continue
            counts["tasks"] += 1
            counts["images"] += any(mine[c] != its[c] for c in ("classes", "support", "query"))
            if len(mine["predictions"]) != len(its["predictions"]):
                continue  # other images, counted above
            gaps = np.abs(np.array(mine["probabilities"]) - np.array(its["probabilities"])).max(1)
            counts["queries"] += len(gaps)
            counts["equal"] += int((np.array(mine["predictions"]) == np.array(its["predictions"])).sum())
            counts["close"] += int((gaps <= CLOSE).sum())
            largest = max(largest, float(gaps.max(initial=0.0)))
    queries = counts["queries"]
    return Difference(
        counts["only_a"],
        counts["only_b"],
        counts["tasks"],
        queries,
        counts["images"],
        counts["equal"] / queries if queries else 1.0,
        counts["close"] / queries if queries else 1.0,
        largest,
    )


Row = dict[str, Any]


def _side_by_side(a: Iterator[Row], b: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """Rows of the same task, of two streams that are in order of (seed, index); None where one lacks it."""
    mine, its = next(a, None), next(b, None)
    while mine is not None or its is not None:
        first = min((row["seed"], row["index"]) for row in (mine, its) if row is not None)
        here = [
            row if row is not None and (row["seed"], row["index"]) == first else None for row in (mine, its)
        ]
        yield here[0], here[1]
        mine = next(a, None) if here[0] is not None else mine
        its = next(b, None) if here[1] is not None else its


if __name__ == "__main__":
    with Store(sys.argv[1], read_only=True) as first, Store(sys.argv[2], read_only=True) as second:
        found = difference(first, second)
    print("The same:" if found.same else "Different:", found)
    sys.exit(not found.same)

"""Whether two stores hold the same numbers: after an interruption, on another machine, with other batches.

    python -m tests.same_rows A.db B.db

"The same" in float32: the same tasks with the same images, equal labels in at least 99.9 % of queries, and
probabilities within 0.001 in 99 % of them. Times, memory and batch sizes may differ.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from farshot.bench.export import rows
from farshot.bench.store import Store

EQUAL_LABELS, CLOSE_PROBABILITIES, CLOSE = 0.999, 0.99, 1e-3


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
    """Compares two stores row by row."""
    first, second = ({(r["run"], r["seed"], r["index"]): r for r in rows(store)} for store in (a, b))
    common = sorted(first.keys() & second.keys())
    images = sum(any(first[k][c] != second[k][c] for c in ("classes", "support", "query")) for k in common)
    equal: list[bool] = []
    gaps: list[float] = []
    for k in common:
        one, other = first[k], second[k]
        if len(one["predictions"]) != len(other["predictions"]):
            continue  # other images, counted above
        equal += [p == q for p, q in zip(one["predictions"], other["predictions"], strict=True)]
        gap = np.abs(np.array(one["probabilities"]) - np.array(other["probabilities"]))
        gaps += gap.max(1).tolist()
    return Difference(
        len(first) - len(common),
        len(second) - len(common),
        len(common),
        len(equal),
        images,
        float(np.mean(equal)) if equal else 1.0,
        float(np.mean(np.array(gaps) <= CLOSE)) if gaps else 1.0,
        max(gaps, default=0.0),
    )


if __name__ == "__main__":
    with Store(sys.argv[1], read_only=True) as first, Store(sys.argv[2], read_only=True) as second:
        found = difference(first, second)
    print("The same:" if found.same else "Different:", found)
    sys.exit(not found.same)

"""What the differences of `transclip` from its authors' program change: a row of docs/methods.md.

    python -m benchmarks.transclip --tasks 200

Reporting tasks of the mini worlds, 5 classes, 15 queries each; every difference is put back alone and
compared on the same tasks. Points, mean over worlds and shots, each cell counting as much.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farshot.bench.tasks import query_labels, sample_task
from farshot.data.pools import open_pool
from farshot.evaluation.intervals import over_cells, paired_difference
from farshot.methods.transclip import TransCLIP
from farshot.model.find import load_encoder
from farshot.world.pools import POOLS

WEIGHTS = (0.002, 0.01, 0.2)
"""Of the support images, which the authors choose from on validation images, besides 0.02."""


@dataclass(frozen=True)
class Theirs(TransCLIP):
    """With differences put back.

    Attributes:
        mixed: support images come first in w and last in z.
        dropped: the nearest query of each support image does not count.
    """

    mixed: bool = False
    dropped: bool = False

    def affinities(
        self, images: Float[Tensor, "B E"], support: Float[Tensor, "S E"]
    ) -> tuple[Float[Tensor, "B B"], Float[Tensor, "B S"]]:
        """As the authors have them."""
        among, below = super().affinities(images, support)
        if self.dropped:
            cosines = support @ images.mT
            best = cosines.topk(min(self.neighbours + 1, len(images)), dim=-1)
            kept = torch.zeros_like(cosines).scatter(-1, best.indices[:, 1:], best.values[:, 1:])
            below = kept.mT
        if self.mixed:
            every = torch.cat([below, among], dim=1)
            among, below = every[:, : len(images)], every[:, len(images) :]
        return among, below


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=200, help="per world and number of shots")
    parser.add_argument("--seed", type=int, default=1000)
    given = parser.parse_args()
    ours = Theirs()
    changed = {f"weight {weight}": replace(ours, support_weight=weight) for weight in WEIGHTS}
    changed |= {"mixed order": replace(ours, mixed=True), "nearest dropped": replace(ours, dropped=True)}
    changed["both"] = replace(ours, mixed=True, dropped=True)
    encoder = load_encoder("mini")
    found: dict[str, list[list[float]]] = {name: [] for name in ("ours", *changed)}
    for world in POOLS:
        pool = open_pool(world)
        for shots in (1, 5):
            tasks = [
                sample_task(pool, shots=shots, seed=given.seed, index=index) for index in range(given.tasks)
            ]
            for name, method in {"ours": ours, **changed}.items():
                adapted = method.adapt(encoder, tasks)
                found[name].append(
                    [
                        float(np.mean(one.logits(task.table, task.query).argmax(1) == query_labels(task)))
                        for one, task in zip(adapted, tasks, strict=True)
                    ]
                )
    for name in changed:
        cells = [paired_difference(a, b) for a, b in zip(found[name], found["ours"], strict=True)]
        mean, _ = over_cells(cells)
        parts = ", ".join(f"{100 * one.mean:+.1f}" for one in cells)
        print(f"{name}: {100 * mean.mean:+.2f} [{100 * mean.low:+.2f}, {100 * mean.high:+.2f}]; {parts}")


if __name__ == "__main__":
    main()

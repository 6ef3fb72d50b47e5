"""Whether classes of unequal size should weigh the same in linear-probe. Prints the table of docs/trust.md.

    python -m benchmarks.class_weights --model mini --draws 50
    python -m benchmarks.class_weights --model CLIP --draws 50 RSSCN7=PATH NEU=PATH leaves=PATH

Of five classes 20, 11, 6, 4 and 2 pictures are labelled, in random order; others of each are classified.
Balanced accuracy is the mean over classes; accuracy is that where classes are as frequent as among the
labels.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.draws import narrowed

from farshot import FewShotClassifier, load_encoder
from farshot.data.pools import open_pool
from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder

MINI = ("mini-crops", "mini-land", "mini-skin", "mini-xray")
SIZES = (20, 11, 6, 4, 2)
QUERIES = 20


def measured(encoder: Encoder, table: ImageTable, seed: int) -> dict[str, tuple[float, float]]:
    """Balanced accuracy and accuracy of one draw, for each way to weigh."""
    assert table.labels is not None
    generator = np.random.default_rng(seed)
    enough = np.flatnonzero(np.bincount(table.labels) >= max(SIZES) + QUERIES)
    chosen = np.sort(generator.choice(enough, min(len(SIZES), len(enough)), replace=False))
    sizes = generator.permutation(SIZES[: len(chosen)])
    support: list[int] = []
    others: list[int] = []
    for c, size in zip(chosen, sizes, strict=True):
        order = generator.permutation(np.flatnonzero(table.labels == c)).tolist()
        support += order[:size]
        others += order[size : size + QUERIES]
    labelled, asked = narrowed(table.subset(support), chosen), narrowed(table.subset(others), chosen)
    out = {}
    for weight in ("none", "balanced"):
        settings = {"class_weight": weight}
        made = FewShotClassifier(encoder, "linear-probe", settings=settings).fit(labelled)
        recall = made.evaluate(asked).confusion.diagonal() / QUERIES
        out[weight] = float(recall.mean()), float(recall @ sizes / sizes.sum())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pools", nargs="*", default=MINI, help="pools, or NAME=PATH")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--draws", type=int, default=50)
    given = parser.parse_args()
    encoder = load_encoder(given.model)
    print("pool, balanced accuracy: none, balanced, difference; accuracy: none, balanced, difference")
    for name in given.pools:
        table = open_pool(name).table
        found = [measured(encoder, table, seed) for seed in range(given.draws)]
        cells = []
        for place in (0, 1):
            none, balanced = (100 * np.array([one[w][place] for one in found]) for w in ("none", "balanced"))
            gain = balanced - none
            half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            cells.append(f"{none.mean():.1f}, {balanced.mean():.1f}, {gain.mean():+.1f} +- {half:.1f}")
        print(f"{name.partition('=')[0]}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()

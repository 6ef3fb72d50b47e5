"""Is the forecast of `farshot curve` right? Prints the table of docs/choose.md.

    python -m benchmarks.curve --model CLIP --draws 6 --sets RSSCN7=PATH NEU=PATH leaves=PATH

From K pictures of each class a curve is measured and the gain of ten more is forecast. The truth: a
classifier adapted to these and to ten more of each class, both measured on all others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from farshot import FewShotClassifier, load_encoder
from farshot.choose.curve import learning_curve
from farshot.data.readers import read_table
from farshot.methods import create

SIZES, MORE = (5, 10, 20), 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--draws", type=int, default=6, help="for each set")
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=PATH")
    given = parser.parse_args()
    encoder = load_encoder(given.model)
    method = create("linear-probe")
    print("| pictures per class | forecast | truth | forecast minus truth | truth within the interval, % |")
    print("|---:|---:|---:|---:|---:|")
    for size in SIZES:
        forecast, truth, within = [], [], []
        for pair in given.sets:
            table = read_table(str(Path(pair.split("=", 1)[1])))
            assert table.labels is not None
            for seed in range(given.draws):
                generator = np.random.default_rng([seed, size])
                orders = [
                    generator.permutation(np.flatnonzero(table.labels == c))
                    for c in range(len(table.classes))
                ]
                few = table.subset(np.concatenate([rows[:size] for rows in orders]))
                many = table.subset(np.concatenate([rows[: size + MORE] for rows in orders]))
                rest = table.subset(np.concatenate([rows[size + MORE :] for rows in orders]))
                found = learning_curve(method, encoder, few, more=MORE, seed=seed).gain
                assert found is not None
                scores = [
                    FewShotClassifier(encoder, "linear-probe").fit(one).evaluate(rest).balanced_accuracy.mean
                    for one in (few, many)
                ]
                gain = scores[1] - scores[0]
                forecast.append(found.mean)
                truth.append(gain)
                within.append(found.low <= gain <= found.high)
        apart = np.array(forecast) - truth
        words = [
            f"{100 * np.mean(x):.1f} +- {196 * np.std(x, ddof=1) / len(x) ** 0.5:.1f}"
            for x in (forecast, truth, apart)
        ]
        print(f"| {size} | {' | '.join(words)} | {100 * np.mean(within):.0f} |", flush=True)


if __name__ == "__main__":
    main()

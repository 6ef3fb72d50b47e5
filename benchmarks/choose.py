"""Does choosing pay? Encoders and methods by cross-validation, and each fixed one. Prints the tables of
docs/choose.md.

    python -m benchmarks.choose --models mini CLIP --draws 50 --sets RSSCN7=PATH NEU=PATH leaves=PATH

Each draw takes up to five classes of a set and K pictures of each; the truth is measured on up to 40 others
per class. With --noise each encoder is also taken with noise on its weights, as a weaker encoder of the
same cost.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarks.draws import draw

from farshot import FewShotClassifier, load_encoder
from farshot.arrays import NDArray
from farshot.choose.selection import Candidate, decide
from farshot.choose.selection import measure as cross_validate
from farshot.data.independence import units
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder

MINI = ("mini-crops", "mini-land", "mini-skin", "mini-xray")
METHODS = ("zero-shot", "prototypes", "linear-probe", "tip-adapter")
SHOTS = (1, 2, 5, 20)
QUERIES = 40


def with_noise(encoder: Encoder, share: float) -> Encoder:
    """The encoder with noise of this share of each weight's spread."""
    generator = torch.Generator().manual_seed(0)
    changed = {
        name: value + share * value.std() * torch.randn(value.shape, generator=generator)
        for name, value in encoder.vision.tensors.items()
        if value.ndim > 1
    }
    return encoder.with_tensors({"vision": changed})


def measure(
    encoders: Mapping[str, Encoder], table: ImageTable, shots: int, seed: int
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], Candidate], NDArray[np.int64]]:
    """True balanced accuracy of every candidate, what cross-validation sees of it, and which pictures are
    copies."""
    support, queries, _ = draw(table, shots, QUERIES, np.random.default_rng([seed, shots]))
    truth, found = {}, {}
    for name, encoder in encoders.items():
        for method in METHODS:
            classifier = FewShotClassifier(encoder, method, seed=seed)
            truth[name, method] = classifier.fit(support).evaluate(queries).balanced_accuracy.mean
            if shots > 1:
                found[name, method] = cross_validate(name, encoder, method, {}, support, seed)
    return truth, found, units(support, range(len(support)))


def noisy_too(models: Sequence[str], noise: Sequence[float]) -> dict[str, Encoder]:
    """Encoders by name, and for each share of noise a copy of each."""
    whole = {Path(name).name: load_encoder(name) for name in models}
    return whole | {
        f"{name} with noise {share:g}": with_noise(encoder, share)
        for share in noise
        for name, encoder in whole.items()
    }


def shown(values: list[float]) -> str:
    """Mean over draws and 1.96 standard errors, in points."""
    x = 100 * np.asarray(values)
    return f"{x.mean():.2f} +- {1.96 * x.std(ddof=1) / np.sqrt(len(x)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["mini"])
    parser.add_argument("--noise", type=float, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=50, help="over all sets, in turn")
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS))
    parser.add_argument("--sets", nargs="*", default=[], metavar="NAME=PATH")
    given = parser.parse_args()
    encoders = noisy_too(given.models, given.noise)
    sets = {name: open_pool(name, images=60).table for name in MINI}
    sets |= {name: read_table(str(Path(path))) for name, path in (pair.split("=", 1) for pair in given.sets)}
    for shots in given.shots:
        regret: dict[str, list[float]] = defaultdict(list)
        error: dict[str, list[float]] = defaultdict(list)
        for number in range(given.draws):
            table = list(sets.values())[number % len(sets)]
            truth, candidates, unit = measure(encoders, table, shots, number)
            keys = list(truth)
            best = max(truth.values())
            for key in keys:
                regret[" + ".join(key)].append(best - truth[key])
            for name in encoders:  # the default method against the best fixed method on the same encoder
                own = [truth[name, method] for method in METHODS]
                regret[f"default method, on {name}, to its best method"].append(
                    max(own) - truth[name, "linear-probe"]
                )
            if shots == 1:
                continue
            pairs = {
                "choose encoder (linear-probe)": [k for k in keys if k[1] == "linear-probe"],
                "choose encoder and method": keys,
            } | {f"choose method on {name}": [k for k in keys if k[0] == name] for name in encoders}
            for what, among in pairs.items():
                if len(among) < 2:
                    continue
                chosen = decide([candidates[key] for key in among], unit, draws=300, seed=number)
                means = [candidates[key].evaluation.balanced_accuracy.mean for key in among]
                winner, most = among[chosen.chosen], among[int(np.argmax(means))]
                regret[what].append(best - truth[winner])
                regret[f"{what}, highest estimate"].append(best - truth[most])
                found = chosen.estimate
                error[f"{what}: corrected"].append(found.mean - truth[winner])
                error[f"{what}: covered"].append(float(found.low <= truth[winner] <= found.high))
                error[f"{what}: width"].append(found.high - found.low)
                error[f"{what}: highest estimate"].append(max(means) - truth[most])
        print(
            f"\n{shots} per class, {given.draws} draws\n\n| | points below the best of all candidates "
            f"|\n|---|---:|"
        )
        for name, values in sorted(regret.items(), key=lambda item: np.mean(item[1])):
            print(f"| {name} | {shown(values)} |")
        if error:
            print("\n| estimate | points |\n|---|---:|")
            for name, values in error.items():
                print(f"| {name} | {shown(values)} |")


if __name__ == "__main__":
    main()

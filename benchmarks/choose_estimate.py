"""How far the estimate of `farshot choose` is from the truth, on many draws: a table of docs/choose.md.

    python -m benchmarks.choose_estimate --models mini CLIP --noise 0.3 --draws 900 --shots 5 \
        --features FOLDER --sets RSSCN7=PATH NEU=PATH leaves=PATH

Encoders and draws are those of benchmarks.choose; `linear-probe`, encoders chosen. Each picture is encoded
once per encoder (kept in FOLDER), and the folds of a draw are fitted together, which gives the weights of
farshot.methods.linear_probe.solve to within 1e-4 (checked on the first draw). Copies of a picture are not
kept together. The truth is measured on all other pictures of the set.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.choose import MINI, noisy_too, shown
from benchmarks.draws import WAYS

from farshot.arrays import NDArray
from farshot.choose.extrapolation import LEAST_FOLDS, gain_to_all
from farshot.choose.selection import HALVINGS, corrected_estimate, select
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.evaluation.crossval import MOST_FOLDS, crossval_interval
from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import balanced_accuracy, class_weights
from farshot.methods.frozen import class_texts
from farshot.methods.linear_probe import LinearProbe, solve
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.task import Task

C = LinearProbe().C
_GRADIENT, _STEPS = 1e-3, 60


@dataclass(frozen=True)
class Features:
    """Of the images of a set, (B, E), with their classes, (B,), and the zero-shot weights, (N, E)."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    start: NDArray[np.float64]
    parameters: int

    @classmethod
    def of(cls, encoder: Encoder, table: ImageTable, place: Path | None) -> Features:
        """Of a table; kept in a file where there is a place for it."""
        if place is None or not place.exists():
            assert table.labels is not None
            rows = np.arange(len(table))
            texts = class_texts(encoder, [Task(table, table.names, rows, table.labels)])[0].double().numpy()
            found = {
                "images": image_features(encoder, table, rows, "model").double().numpy(),
                "labels": table.labels,
                "start": encoder.logit_scale * texts / np.linalg.norm(texts, axis=1, keepdims=True),
                "parameters": np.array(sum(v.numel() for v in encoder.vision.tensors.values())),
            }
            if place is None:
                return cls(found["images"], found["labels"], found["start"], int(found["parameters"]))
            np.savez(place, **found)
        with np.load(place) as kept:
            return cls(kept["images"], kept["labels"], kept["start"], int(kept["parameters"]))


def solve_together(
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    start: NDArray[np.float64],
    parts: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The weights of linear-probe on T parts of the same images, (T, N, E), by Newton's method with conjugate
    gradients.

    Args:
        parts: which images each part has, (T, S).
    """
    _, spread, axes = np.linalg.svd(images, full_matrices=False)
    axes = axes[spread > 1e-8 * spread[0]]
    x, base = images @ axes.T, images @ start.T  # (S, R), (S, N)
    targets, counts = np.eye(len(start))[labels][..., None], C * parts.T[:, None, :]
    shape = (len(axes), len(start), len(parts))

    def logits(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x @ weights.reshape(len(axes), -1)).reshape(len(x), *shape[1:])

    def back(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x.T @ values.reshape(len(x), -1)).reshape(shape)

    def shares_and_loss(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        z = base[..., None] + logits(weights)
        z -= z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        return np.exp(log_p), (weights**2).sum((0, 1)) / 2 - (counts * targets * log_p).sum((0, 1))

    weights = np.zeros(shape)
    p, loss = shares_and_loss(weights)
    for _ in range(_STEPS):
        slope = back(counts * (p - targets)) + weights
        size = np.sqrt((slope**2).sum((0, 1)))
        if size.max() < _GRADIENT:
            break
        step, left = np.zeros(shape), -slope
        ahead, now = left.copy(), (left**2).sum((0, 1))
        enough = now * np.minimum(0.1, np.sqrt(size)) ** 2
        for _ in range(_STEPS):
            moved = logits(ahead)
            bend = p * moved
            bend -= p * bend.sum(1, keepdims=True)
            curved = back(counts * bend) + ahead
            far = np.where(now > enough, now / np.maximum((ahead * curved).sum((0, 1)), 1e-300), 0)
            step += far * ahead
            left = left - far * curved
            then = (left**2).sum((0, 1))
            if (then <= enough).all():
                break
            ahead = left + then / np.maximum(now, 1e-300) * ahead
            now = then
        share = np.ones(len(parts))
        for _ in range(30):
            p, new = shares_and_loss(weights + share * step)
            worse = new > loss + 1e-9 * np.abs(loss)
            if not worse.any():
                break
            share[worse] /= 2
        weights, loss = weights + share * step, new
    return start + np.einsum("rnt,re->tne", weights, axes)


def folds_of(labels: NDArray[np.int64], folds: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """A fold for each image, every class spread evenly."""
    found = np.zeros(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == c))
        found[own] = np.arange(len(own)) % folds
    return found


def one_draw(encoders: list[Features], shots: int, number: int, draws: int) -> dict[str, float]:
    """Errors of the estimates, in shares, and whether their intervals have the truth."""
    generator = np.random.default_rng([number, shots])
    all_labels = encoders[0].labels
    enough = np.flatnonzero(np.bincount(all_labels) > shots)
    chosen = np.sort(generator.choice(enough, min(WAYS, len(enough)), replace=False))
    orders = [generator.permutation(np.flatnonzero(all_labels == c)) for c in chosen]
    rows, others = (np.concatenate([o[part] for o in orders]) for part in (slice(shots), slice(shots, None)))
    labels, true = (np.searchsorted(chosen, all_labels[part]) for part in (rows, others))
    folds = min(shots, MOST_FOLDS)
    plans = [folds_of(labels, folds, generator)] + [
        folds_of(labels, 2, generator) for _ in range(HALVINGS if folds >= LEAST_FOLDS else 0)
    ]
    parts = [np.ones((1, len(rows)), dtype=bool)] + [
        plan != np.arange(plan.max() + 1)[:, None] for plan in plans
    ]
    truths, rights, gains = [], [], []
    for one in encoders:
        images, start = one.images[rows], one.start[chosen]
        weights = solve_together(images, labels, start, np.concatenate(parts))
        if number == 0:
            first = parts[1][0]
            assert np.abs(weights[1] - solve(images[first], labels[first], start, C)).max() < 1e-4
        truths.append(class_weights(true) @ ((one.images[others] @ weights[0].T).argmax(1) == true))
        predicted = np.einsum("se,tne->tsn", images, weights[1:]).argmax(2)
        right, place = [], 0
        for plan in plans:
            right.append(predicted[place + plan, np.arange(len(rows))] == labels)
            place += plan.max() + 1
        rights.append(right[0])
        if folds >= LEAST_FOLDS:
            gains.append(gain_to_all(right[0].astype(float), np.mean(right[1:], axis=0), folds))
    matrix, unit = np.stack(rights, axis=1), np.arange(len(rows))
    ranks = [(one.parameters,) for one in encoders]
    gain = np.mean(gains, axis=0) if gains else None
    winner = select(matrix, labels, ranks)
    estimate = corrected_estimate(
        matrix, labels, unit, ranks, gain=gain, folds=folds, draws=draws, seed=number
    )
    means = class_weights(labels) @ matrix
    found = _compared("chosen", estimate, truths[winner])
    found["chosen, not corrected: error"] = float(means[winner] - truths[winner])
    for c, (mean, truth) in enumerate(zip(means, truths, strict=True)):  # each alone, as `adapt` estimates it
        right = matrix[:, c].astype(float)
        fixed = crossval_interval(float(mean), right, labels, unit, folds)
        for name, value in _compared("fixed", fixed, truth).items():
            found[name] = found.get(name, 0) + value / len(encoders)
        plain = balanced_accuracy(np.bincount(labels, right).astype(np.int64), np.bincount(labels))
        for name, value in _compared("fixed, beta interval", plain, truth).items():
            found[name] = found.get(name, 0) + value / len(encoders)
    return found


def _compared(name: str, found: Interval, truth: float) -> dict[str, float]:
    return {
        f"{name}: error": found.mean - truth,
        f"{name}: covered": float(found.low <= truth <= found.high),
        f"{name}: width": found.high - found.low,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["mini"])
    parser.add_argument("--noise", type=float, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=900, help="over all sets, in turn")
    parser.add_argument("--bootstrap", type=int, default=200, help="draws of the correction")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--images", type=int, default=260, help="for each class of a mini world")
    parser.add_argument("--features", type=Path, help="a folder to keep features in")
    parser.add_argument("--sets", nargs="*", default=[], metavar="NAME=PATH")
    given = parser.parse_args()
    encoders = noisy_too(given.models, given.noise)
    places = dict(pair.split("=", 1) for pair in given.sets)
    if given.features is not None:
        given.features.mkdir(exist_ok=True)
    sets: dict[str, list[Features]] = {}
    for name in (*MINI, *places):
        table = open_pool(name, images=given.images).table if name in MINI else read_table(places[name])
        sets[name] = [
            Features.of(encoder, table, given.features and given.features / f"{name}-{which}.npz")
            for which, encoder in encoders.items()
        ]
    for shots in given.shots:
        found: defaultdict[str, list[float]] = defaultdict(list)
        for number in range(given.draws):
            own = list(sets.values())[number % len(sets)]
            for name, value in one_draw(own, shots, number, given.bootstrap).items():
                found[name].append(value)
        print(f"\n{shots} per class, {given.draws} draws\n\n| estimate | points |\n|---|---:|")
        for name, values in found.items():
            print(f"| {name} | {shown(values)} |", flush=True)


if __name__ == "__main__":
    main()

"""Compare encoders and methods on a person's own images, on the same folds, and choose one.

The simplest candidate whose balanced accuracy is within one standard error of the best one's is chosen
(Breiman et al., 1984), image by image on the same folds. The winner of several looks better than it is; its
estimate is corrected by the bootstrap (bootstrap bias-corrected cross-validation: Tsamardinos, Greasidou
and Borboudakis, 2018): candidates are chosen on images drawn with replacement and measured on those that
were not drawn. It is also corrected for the smaller number of images that each fold adapts to
(farshot.choose.extrapolation). What was measured: docs/choose.md. Shapes: S labelled images, C candidates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from farshot.arrays import NDArray
from farshot.choose.extrapolation import LEAST_FOLDS, gain_to_all
from farshot.classifier import FewShotClassifier
from farshot.data.independence import draw_units, units, worth
from farshot.data.table import ImageTable
from farshot.errors import DataError, FarshotError, SettingError
from farshot.evaluation.crossval import MOST_FOLDS, HeldOut, crossval_interval, dependence
from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import Evaluation, class_weights
from farshot.methods.frozen import FrozenMethod
from farshot.methods.registry import create, find
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.randomness import key
from farshot.training.loop import Progress

METHODS = ("linear-probe",)
"""Compared by default. Choosing among methods on frozen features by cross-validation was no better than
always taking linear-probe (docs/choose.md), so only encoders are chosen between."""

DRAWS = 1000
HALVINGS = 2
"""How often the images are divided into two halves, to see what twice as many bring."""

_AT_ONCE = 8
_ROUNDING = 1e-13  # sums of the same numbers in another order differ by less
_SIMPLE = ("zero-shot", "prototypes", "linear-probe")  # the simplest first
_KINDS = ("features", "transductive", "fine-tuned")

Right = Bool[NDArray[np.bool_], "S C"]


@dataclass(frozen=True)
class Candidate:
    """An encoder with a method, measured.

    Attributes:
        model: place of the encoder.
        method: name of the method.
        settings: of the method, where they are not its defaults.
        held_out: cross-validated predictions.
        evaluation: their quality.
        seconds: to cross-validate, per fold, and to encode all images: about the time to adapt once.
        seconds_per_image: of the encoder, in a batch of eight.
        parameters: of the encoder.
        gain: what all images would bring over those of a fold, image by image
            (farshot.choose.extrapolation); None for a fine-tuned method, where it would take as long as four
            more folds, and where a class has fewer than four different pictures.
    """

    model: str
    method: str
    settings: Mapping[str, Any]
    held_out: HeldOut
    evaluation: Evaluation
    seconds: float
    seconds_per_image: float
    parameters: int
    gain: Float[NDArray[np.float64], " S"] | None = None

    @property
    def simplicity(self) -> tuple[int, int, int]:
        """The smaller, the simpler: what is trained, the size of the encoder, the method."""
        kind = _KINDS.index(find(self.method).kind)
        rank = _SIMPLE.index(self.method) if self.method in _SIMPLE else len(_SIMPLE)
        return kind, self.parameters, rank


@dataclass(frozen=True)
class Selection:
    """The candidates and the one that is chosen.

    Attributes:
        candidates: in the order given.
        chosen: index of the winner.
        differences: of each candidate's balanced accuracy to the best one's, with its 95 % interval, image by
            image.
        estimate: of the winner's balanced accuracy when adapted to all images, corrected for the choice, with
            its 95 % interval.
        skipped: what could not be compared, and why.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    differences: tuple[Interval, ...]
    estimate: Interval
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def winner(self) -> Candidate:
        """The candidate that is chosen."""
        return self.candidates[self.chosen]


def choose(
    table: ImageTable,
    encoders: Mapping[str, Callable[[], Encoder]],
    methods: Sequence[str] = METHODS,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Cross-validate every method on every encoder, and choose.

    Args:
        table: labelled images; of one with splits, those of "train" are used.
        encoders: name -> a function that loads it; one is loaded at a time.
        methods: names of methods.
        settings: name of a method -> its settings.
        progress: called with (candidates compared, in all).

    Raises:
        FarshotError: the first reason where no candidate can be compared; DataError: too few images.
    """
    if isinstance(methods, str):
        raise SettingError(f"methods is {methods!r}; give a list of names, such as [{methods!r}].")
    table = table.subset(table.train_rows())
    found: list[Candidate] = []
    skipped: list[tuple[str, str]] = []
    first: FarshotError | None = None
    done = 0
    for name, load in encoders.items():
        try:
            encoder = load()
        except FarshotError as error:
            skipped.append((name, str(error)))
            first, done = first or error, done + len(methods)
            continue
        for method in methods:
            own = dict((settings or {}).get(method, {}))
            if method == "linear-probe" and not encoder.has_text:
                own.setdefault("start", "zero")  # it has no class texts to start from
            try:
                found.append(measure(name, encoder, method, own, table, seed))
            except DataError:
                raise
            except FarshotError as error:
                skipped.append((f"{name} with {method}", str(error)))
                first = first or error
            done += 1
            if progress is not None:
                progress(done, len(encoders) * len(methods))
    if not found:
        raise first or DataError("There is nothing to choose from: name an encoder and a method.")
    return decide(found, units(table, range(len(table))), skipped, seed=seed)


def decide(
    candidates: Sequence[Candidate],
    unit: Int[NDArray[np.int64], " S"],
    skipped: Sequence[tuple[str, str]] = (),
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Selection:
    """Choose among candidates that were measured on the same folds.

    Args:
        unit: images that are not independent have the same number.
        skipped: what could not be compared, and why.
        draws: of the correction for the choice.
    """
    first = candidates[0].held_out
    right = np.stack([one.held_out.logits.argmax(1) == first.labels for one in candidates], axis=1)
    order = [one.simplicity for one in candidates]
    chosen = select(right, first.labels, order, _images_per_unit(unit, first.labels))
    best = int(_means(right, first.labels).argmax())
    folds = len(np.unique(first.fold))
    differences = tuple(
        _difference(right, first.labels, c, best, unit, folds) for c in range(len(candidates))
    )
    gains = [one.gain for one in candidates if one.gain is not None]
    estimate = corrected_estimate(
        *(right, first.labels, unit, order),
        gain=np.mean(gains, axis=0) if gains else None,
        folds=folds,
        draws=draws,
        seed=seed,
    )
    return Selection(tuple(candidates), chosen, differences, estimate, tuple(skipped))


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images.

    Attributes:
        difference: of the second to the first, in balanced accuracy, with its 95 % interval.
        better: whether the second is better by more than one standard error.
    """

    difference: Interval
    better: bool


def compare_two(simple: HeldOut, other: HeldOut) -> Comparison:
    """Compare the cross-validated predictions of two classifiers for the same images, the simpler one first.

    Raises:
        ValueError: they are for other images.
    """
    if simple.labels.tolist() != other.labels.tolist():
        raise ValueError("The predictions are for other images.")
    right = np.stack([one.logits.argmax(1) == one.labels for one in (simple, other)], axis=1)
    per_unit = _images_per_unit(simple.units, simple.labels)
    better = select(right, simple.labels, [(0,), (1,)], per_unit) == 1
    folds = len(np.unique(simple.fold))
    return Comparison(_difference(right, simple.labels, 1, 0, simple.units, folds), better)


def select(
    right: Right,
    labels: Int[NDArray[np.int64], " S"],
    order: Sequence[tuple[int, ...]],
    per_unit: Float[NDArray[np.float64], " N"] | None = None,
) -> int:
    """The simplest candidate within one standard error of the best by balanced accuracy.

    Args:
        right: whether each candidate is right about each image.
        labels: the true classes.
        order: simplicity of each candidate; the smaller, the simpler.
        per_unit: images of each class that are worth an independent one; by default 1.
    """
    per_unit = np.ones(int(labels.max()) + 1) if per_unit is None else per_unit
    means = _means(right, labels)
    best = int((means >= means.max() - _ROUNDING).argmax())
    close = [
        c
        for c in range(right.shape[1])
        if means[best] - means[c] <= _standard_error(right, labels, c, best, per_unit) + _ROUNDING
    ]
    return min(close, key=lambda c: (order[c], -round(float(means[c]), 12), c))


def corrected_estimate(
    right: Right,
    labels: Int[NDArray[np.int64], " S"],
    unit: Int[NDArray[np.int64], " S"],
    order: Sequence[tuple[int, ...]],
    *,
    gain: Float[NDArray[np.float64], " S"] | None = None,
    folds: int = MOST_FOLDS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Balanced accuracy of the chosen candidate, corrected for having been chosen, with its 95 % interval.

    Args:
        unit: images that are not independent have the same number, and are drawn together.
        gain: what all images bring over those of a fold, a mean over candidates; the estimate is for
            classifiers adapted to all images. None: for those of the folds.
        folds: that `right` comes from.
    """
    generator = np.random.default_rng([seed % 2**64, len(labels)])
    raised = right + (np.zeros(len(labels)) if gain is None else gain)[:, None]
    outside: list[float] = []
    per_unit = _images_per_unit(unit, labels)
    for _ in range(draws):
        rows = draw_units(unit, generator)
        left = np.setdiff1d(np.arange(len(labels)), rows)
        if len(np.unique(labels[rows])) > 1 and len(left):
            winner = select(right[rows], labels[rows], order, per_unit)
            outside.append(float(class_weights(labels[left]) @ raised[left, winner]))
    winner = select(right, labels, order, per_unit)
    if not outside:
        return Interval(float(_means(right, labels)[winner]), 0.0, 1.0, math.nan, len(labels))
    own = right[:, winner].astype(np.float64)
    return crossval_interval(float(np.mean(outside)), own, labels, unit, folds, gain)


def measure(
    name: str, encoder: Encoder, method: str, settings: Mapping[str, Any], table: ImageTable, seed: int
) -> Candidate:
    """Cross-validate a method with these settings on an encoder.

    Raises:
        DataError: too few images.
    """
    classifier = FewShotClassifier(encoder, method, settings=settings, seed=seed)
    pixels = torch.zeros((1, _AT_ONCE, encoder.size, encoder.size, 3), dtype=torch.uint8)
    with torch.no_grad():
        start = time.perf_counter()
        encoder.forward_images(pixels)
        per_image = (time.perf_counter() - start) / _AT_ONCE
    made, encoding = create(method, settings), 0.0
    if isinstance(made, FrozenMethod) and made.needs_images:
        # the features of the first method would be there for the others, and only it would seem slow
        image_features(encoder, table, range(len(table)), made.reading)
        encoding = len(table) * per_image
    start = time.perf_counter()
    held_out = classifier.held_out(table)
    seconds = (time.perf_counter() - start) / len(np.unique(held_out.fold)) + encoding
    return Candidate(
        *(name, method, settings, held_out, held_out.evaluation(), seconds, per_image),
        sum(value.numel() for value in encoder.vision.tensors.values()),
        _gain(held_out, encoder, method, settings, table, seed),
    )


def _gain(
    found: HeldOut,
    encoder: Encoder,
    method: str,
    settings: Mapping[str, Any],
    table: ImageTable,
    seed: int,
) -> Float[NDArray[np.float64], " S"] | None:
    folds = len(np.unique(found.fold))
    if find(method).kind == "fine-tuned" or folds < LEAST_FOLDS:
        return None
    half = np.zeros(len(found.labels))
    for number in range(HALVINGS):
        one = FewShotClassifier(encoder, method, settings=settings, seed=key("half", seed, number))
        try:
            predicted = one.held_out(table, folds=2).logits.argmax(1)
        except DataError:  # pictures shared between classes do not divide into two
            return None
        half += (predicted == found.labels) / HALVINGS
    return gain_to_all((found.logits.argmax(1) == found.labels).astype(np.float64), half, folds)


def _means(right: Right, labels: Int[NDArray[np.int64], " S"]) -> Float[NDArray[np.float64], " C"]:
    """Balanced accuracy of every candidate."""
    return class_weights(labels) @ right


def _images_per_unit(
    unit: Int[NDArray[np.int64], " S"], labels: Int[NDArray[np.int64], " S"]
) -> Float[NDArray[np.float64], " N"]:
    """Images of each class that are worth an independent one (farshot.data.independence)."""
    counts = np.bincount(labels)
    return counts / np.maximum(worth(unit, labels, len(counts)), 1)


def _standard_error(
    right: Right,
    labels: Int[NDArray[np.int64], " S"],
    a: int,
    b: int,
    per_unit: Float[NDArray[np.float64], " N"],
) -> float:
    """Of the difference of two balanced accuracies, image by image."""
    apart = right[:, a].astype(np.float64) - right[:, b]
    weights = class_weights(labels)
    means = np.bincount(labels, apart) / np.maximum(np.bincount(labels), 1)
    return float(np.sqrt((per_unit[labels] * weights**2 * (apart - means[labels]) ** 2).sum()))


def _difference(
    right: Right,
    labels: Int[NDArray[np.int64], " S"],
    a: int,
    b: int,
    unit: Int[NDArray[np.int64], " S"],
    folds: int,
) -> Interval:
    """How much better a is than b, with a 95 % interval, which is 0 wide for a itself.

    By class, the images on which only one is right are counted with half an image more on either side, so
    that few images that agree do not seem to prove that all do; of units and folds as in `crossval_interval`.
    """
    if a == b:
        return Interval(0.0, 0.0, 0.0, 0.0, len(labels))
    apart = right[:, a].astype(np.float64) - right[:, b]
    means, variances = [], []
    independent = worth(unit, labels, int(labels.max()) + 1) / dependence(folds)
    for c in np.unique(labels):
        own, n = labels == c, float(independent[c])
        up, down = ((n * (apart[own] == sign).mean() + 0.5) / (n + 1) for sign in (1, -1))
        means.append(apart[own].mean())
        variances.append((up + down - (up - down) ** 2) / (n + 1))
    mean, half = float(np.mean(means)), 1.96 * math.sqrt(np.sum(variances)) / len(means)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), half, len(labels))

"""Labelled images as classifiers see them that were not adapted to them: what can be known of quality without
images to spare.

Shapes: S labelled images, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import scores_of_units, worth
from farshot.errors import DataError
from farshot.evaluation.calibration import Certainty, certain_from, negative_log_likelihood
from farshot.evaluation.intervals import Interval, mean_of_shares
from farshot.evaluation.metrics import Evaluation, Unadapted, evaluate
from farshot.methods.base import Method, softmax
from farshot.methods.zero_shot import ZeroShot
from farshot.model.encoder import Encoder
from farshot.randomness import key, numpy_generator
from farshot.sanitize import short
from farshot.task import Task
from farshot.training.loop import Progress
from farshot.training.tracking import track

MOST_FOLDS = 5
_SPREAD = 1.0  # of the logarithm of a temperature before any image is seen; see `fit_temperature`


@dataclass(frozen=True)
class HeldOut:
    """Cross-validated scores of the labelled images.

    Attributes:
        classes: the N classes.
        labels: the true class of every image, (S,).
        logits: from a classifier that has not seen the image, (S, N).
        fold: the fold that left each image out, (S,).
        zero_shot: the class that the base model predicts by the class names alone, (S,); None for the method
            zero-shot itself, for an encoder without a text tower, and where it was not kept.
        unit: equal for images that are not independent, such as copies (farshot.data.independence), (S,);
            None where it was not kept.
    """

    classes: tuple[Hashable, ...]
    labels: Int[NDArray[np.int64], " S"]
    logits: Float[NDArray[np.float32], "S N"]
    fold: Int[NDArray[np.int64], " S"]
    zero_shot: Int[NDArray[np.int64], " S"] | None = None
    unit: Int[NDArray[np.int64], " S"] | None = None

    @property
    def units(self) -> Int[NDArray[np.int64], " S"]:
        """`unit`, or another number for every image."""
        return np.arange(len(self.labels)) if self.unit is None else self.unit

    @property
    def probabilities(self) -> Float[NDArray[np.float32], "S N"]:
        """Of every class, at temperature 1."""
        return softmax(self.logits)

    @property
    def calibrated(self) -> Float[NDArray[np.float32], "S N"]:
        """Probabilities at the temperature fitted to the other folds, so that no image takes part in the
        calibration that it is measured with."""
        out = self.logits.copy()
        for f in np.unique(self.fold):
            others = self.fold != f
            out[~others] /= np.float32(fit_temperature(self.logits[others], self.labels[others]))
        return softmax(out)

    def evaluation(self, *, calibrated: bool = False) -> Evaluation:
        """How good these predictions are. The intervals are those of predictions by folds that share images.

        Args:
            calibrated: measure `calibrated` instead of `probabilities`.
        """
        shares = self.calibrated if calibrated else self.probabilities
        folds = len(np.unique(self.fold))
        found = evaluate(self.labels, shares, self.classes, self.units, dependence(folds))
        right = (shares.argmax(1) == self.labels).astype(np.float64)
        mean = found.balanced_accuracy.mean
        balanced = crossval_interval(mean, right, self.labels, self.units, folds)
        found = replace(found, calibrated=calibrated, balanced_accuracy=balanced)
        if self.zero_shot is None:
            return found
        versus = Unadapted.of(self.labels, shares.argmax(1), self.zero_shot, self.units, dependence(folds))
        return replace(found, zero_shot=versus)

    def temperature(self) -> float:
        """The temperature fitted to all images."""
        return fit_temperature(self.logits, self.labels)

    def certainty(self, wanted: float) -> Certainty:
        """From which calibrated probability on a prediction is right often enough to be given."""
        found = self.calibrated
        return certain_from(found.max(1), found.argmax(1) == self.labels, wanted, self.units)

    @property
    def references(self) -> Float[NDArray[np.float32], " units"]:
        """The calibrated probability of the true class, ascending, as many as units: what a new image's is
        compared with."""
        return scores_of_units(self.calibrated[np.arange(len(self.labels)), self.labels], self.units)


def dependence(folds: int) -> float:
    """By how much the variance of a mean over cross-validated predictions is larger than over independent
    ones, since the folds share images (Nadeau and Bengio, 2003)."""
    return 1 + folds / max(folds - 1, 1)


def crossval_interval(
    mean: float,
    right: Float[NDArray[np.float64], " S"],
    labels: Int[NDArray[np.int64], " S"],
    unit: Int[NDArray[np.int64], " S"],
    folds: int,
    gain: Float[NDArray[np.float64], " S"] | None = None,
) -> Interval:
    """A cross-validated balanced accuracy with its 95 % interval.

    That of `mean_of_shares`: of the recalls, each from the number of units of its class divided by
    `dependence` and one more, and of the gain.

    Args:
        mean: the balanced accuracy, corrected where it needs to be.
        right: whether each image is classified correctly.
        unit: images that are not independent have the same number.
        gain: what `mean` was raised by, image by image.
    """
    factor, recalls, variances = dependence(folds), [], []
    independent = worth(unit, labels, int(labels.max()) + 1)
    for c in np.unique(labels):
        own, n = labels == c, float(independent[c])
        recall = (right[own].mean() * n / factor + 0.5) / (n / factor + 1)
        variance = recall * (1 - recall) / (n / factor + 1)
        if gain is not None and n > 1:
            variance += gain[own].var() / (n - 1)
        recalls.append(recall)
        variances.append(variance)
    mean = min(1.0, max(0.0, mean))
    low, high = mean_of_shares(mean, recalls, variances)
    return Interval(mean, low, high, math.nan, len(labels))


def fit_temperature(logits: Float[NDArray[np.float32], "S N"], labels: Int[NDArray[np.int64], " S"]) -> float:
    """The temperature of least negative log-likelihood (Guo et al., 2017), held near 1 by a normal prior on
    its logarithm with a standard deviation of 1.

    Without a prior, few images that are all classified correctly drive the temperature to 0, and images
    classified no better than by chance drive it to infinity, where all probabilities are 1/N. The prior
    counts as much as a few images: with many of them it has no effect. The standard deviation is that of the
    least error on new images (docs/trust.md).
    """
    from scipy.optimize import minimize_scalar  # slow to import, and predicting does not need it

    def loss(log_t: float) -> float:
        likelihood = negative_log_likelihood(softmax(logits / np.float32(np.exp(log_t))), labels)
        return len(labels) * likelihood + (log_t / _SPREAD) ** 2 / 2

    limit = float(np.log(1000))
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def hold_out(
    method: Method,
    encoder: Encoder,
    task: Task,
    classes: tuple[Hashable, ...],
    *,
    folds: int | None = None,
    seed: int = 0,
    micro_batch: int | None = None,
    progress: Progress | None = None,
) -> HeldOut:
    """Leaves every support image of a task out once; all folds are tasks of one batch.

    Copies of a picture are left out together. Settings that the method derives from the number of images are
    those of the whole task in every fold, so that the scores have the scale of the final model's.

    Args:
        folds: by default as many as the smallest class has different pictures, at most 5.

    Raises:
        SettingError: a method that needs queries: it has those of a fold, but not the final model.
        DataError: a class with one picture, or more folds than it has.
    """
    method.check_queries()
    unit = task.units
    sizes = [len(np.unique(unit[task.labels == c])) for c in range(len(task.class_names))]
    folds = min(*sizes, MOST_FOLDS) if folds is None else folds
    if not 2 <= folds <= min(sizes):
        small = int(np.argmin(sizes))
        images = int((task.labels == small).sum())
        same = "copies" if task.table.groups is None else "copies or belong to the same groups"
        different = "" if images == sizes[small] else f" different ones among {images}, the rest are {same}"
        raise DataError(
            f"An estimate leaves images out, and the class {short(task.class_names[small])} has "
            f"{sizes[small]}{different}: label at least two of every class, and ask for no more "
            "folds than its images."
        )
    fold = _folds(task, unit, folds, seed)
    tasks = [
        Task(
            task.table,
            task.class_names,
            task.support[fold != f],
            task.labels[fold != f],
            task.support[fold == f],
            task.template,
            task.descriptions,
            key("fold", seed, f),
        )
        for f in range(folds)
    ]
    method = method.for_task(encoder, task)
    with track(None):  # the losses of folds are not those of the model
        adapted = method.adapt(encoder, tasks, micro_batch=micro_batch, progress=progress)
    logits = np.zeros((len(task.support), len(task.class_names)), dtype=np.float32)
    for f, one in enumerate(adapted):
        logits[fold == f] = one.logits(task.table, tasks[f].query)
    unadapted = (
        None
        if isinstance(method, ZeroShot)
        else zero_shot_classes(encoder, task, task.support, adapted[0].reading)
    )
    return HeldOut(classes, task.labels, logits, fold, unadapted, unit)


def zero_shot_classes(
    encoder: Encoder, task: Task, rows: Int[NDArray[np.int64], " B"], reading: str
) -> Int[NDArray[np.int64], " B"] | None:
    """The class that an encoder predicts for rows of a task's table by its prompts alone; None without a text
    tower.

    Args:
        reading: how the images are read: as for the model that this is compared with.
    """
    if not encoder.has_text:
        return None
    (adapted,) = ZeroShot().adapt(encoder, [task])
    adapted.reading = reading
    return adapted.logits(task.table, rows).argmax(1)


def _folds(
    task: Task, unit: Int[NDArray[np.int64], " S"], folds: int, seed: int
) -> Int[NDArray[np.int64], " S"]:
    """The fold that leaves each support image out: one for all images of a unit; every class is spread
    evenly.

    Raises:
        DataError: all of a class fell into one fold, as its units are shared with other classes.
    """
    chosen: dict[int, int] = {}  # unit -> fold
    classes = range(len(task.class_names))
    members = [np.array(list(dict.fromkeys(unit[task.labels == c].tolist()))) for c in classes]
    for c in sorted(classes, key=lambda c: len(members[c])):  # the smallest leave the least choice
        order = numpy_generator("folds", seed, c).permutation(members[c]).tolist()
        before = np.array([chosen[u] for u in order if u in chosen], dtype=np.int64)
        filled = np.bincount(before, minlength=folds)
        for one in order:
            if one not in chosen:
                chosen[one] = int(filled.argmin())
                filled[chosen[one]] += 1
        if (filled > 0).sum() < 2:
            raise DataError(
                f"All images of the class {short(task.class_names[c])} are copies of images of other classes "
                "in one fold, so it cannot be left out; keep each picture under one class."
            )
    return np.array([chosen[u] for u in unit.tolist()], dtype=np.int64)

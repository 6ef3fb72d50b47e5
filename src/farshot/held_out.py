"""Labelled images as classifiers see them that were not adapted to them: what can be known of quality without
images to spare.

Shapes: S labelled images, N classes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from farshot.errors import DataError
from farshot.evaluation import Evaluation, evaluate
from farshot.methods.base import Method, softmax
from farshot.model.encoder import Encoder
from farshot.randomness import key, numpy_generator
from farshot.stats import Certainty, certain_from, negative_log_likelihood
from farshot.task import Task
from farshot.training.loop import Progress

MOST_FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """Cross-validated scores of the labelled images.

    Attributes:
        classes: the N classes.
        labels: the true class of every image, (S,).
        logits: from a classifier that has not seen the image, (S, N).
    """

    classes: tuple[Hashable, ...]
    labels: Int[NDArray[np.int64], " S"]
    logits: Float[NDArray[np.float32], "S N"]

    @property
    def probabilities(self) -> Float[NDArray[np.float32], "S N"]:
        """Of every class, at temperature 1."""
        return softmax(self.logits)

    def evaluation(self) -> Evaluation:
        """How good these predictions are."""
        return evaluate(self.labels, self.probabilities, self.classes)

    def temperature(self) -> float:
        """The temperature of least negative log-likelihood (Guo et al., 2017), between 1/1000 and 1000."""

        def loss(log_t: float) -> float:
            return negative_log_likelihood(softmax(self.logits / np.float32(np.exp(log_t))), self.labels)

        from scipy.optimize import minimize_scalar  # slow to import, and predicting does not need it

        limit = float(np.log(1000))
        return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))

    def certainty(self, wanted: float) -> Certainty:
        """From which probability on a prediction is right often enough to be given."""
        found = self.probabilities
        return certain_from(found.max(1), found.argmax(1) == self.labels, wanted)


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

    Args:
        folds: by default as many as the smallest class has images, at most 5.

    Raises:
        DataError: a class with one image, or more folds than it has.
    """
    folds = min(task.shots, MOST_FOLDS) if folds is None else folds
    if not 2 <= folds <= task.shots:
        small = task.class_names[int(np.bincount(task.labels).argmin())]
        raise DataError(
            f"An estimate leaves images out, and the class {small!r} has {task.shots}: "
            "label at least two of every class, and ask for no more folds than its images."
        )
    fold = _folds(task, folds, seed)
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
    adapted = method.adapt(encoder, tasks, micro_batch=micro_batch, progress=progress)
    logits = np.zeros((len(task.support), len(task.class_names)), dtype=np.float32)
    for f, one in enumerate(adapted):
        logits[fold == f] = one.logits(task.table, tasks[f].query)
    return HeldOut(classes, task.labels, logits)


def _folds(task: Task, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold that leaves each support image out; every class is spread evenly."""
    out = np.zeros(len(task.support), dtype=np.int64)
    for c in range(len(task.class_names)):
        members = np.flatnonzero(task.labels == c)
        out[numpy_generator("folds", seed, c).permutation(members)] = np.arange(len(members)) % folds
    return out

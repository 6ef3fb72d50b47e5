"""How long training and its cross-validation would take, from a few timed steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.picture import Setup
from farshot.app.workspace.run import classifier_of
from farshot.app.workspace.state import Workspace
from farshot.evaluation.crossval import MOST_FOLDS
from farshot.training.forecast import Forecast, TooLong

_ALIKE = 1.25  # times more or fewer pictures for which a measured time is scaled, and not measured again


@dataclass(frozen=True)
class Timed:
    """A projected time, and what it was measured with.

    Attributes:
        choice: model, method and settings.
        counts: labelled pictures of every class.
        seconds: to adapt and to cross-validate.
    """

    choice: Setup
    counts: tuple[int, ...]
    seconds: float

    def seconds_for(self, choice: Setup, counts: tuple[int, ...]) -> float | None:
        """The time for these pictures, in proportion to their number; None where they differ too much."""
        here, there = sum(self.counts), sum(counts)
        choice = replace(choice, wanted=self.choice.wanted)  # takes no time
        same = (
            self.choice == choice
            and len(self.counts) == len(counts)
            and _folds(self.counts) == _folds(counts)
        )
        if not same or not here / _ALIKE <= there <= here * _ALIKE:
            return None
        return self.seconds * there / here


def counts_of(workspace: Workspace) -> tuple[int, ...]:
    """Labelled pictures of every class that has some."""
    return tuple(sorted(count for count in workspace.counts.values() if count))


def time_of(workspace: Workspace, encoders: Encoders, choice: Setup, report: Report) -> Timed:
    """Time a few steps of training and project all of it; nothing is kept.

    Raises:
        FarshotError: the pictures are too few to train with, or the model cannot be loaded.
    """
    support, counts = workspace.support(), counts_of(workspace)
    with encoders.turn(report):
        classifier = classifier_of(workspace, encoders, choice, support)
        begun = time.perf_counter()
        # without letting others compute between the few steps, which would count as theirs
        classifier.set_params(progress=Forecast(partial(report, "timing"), seconds=0))
        try:
            classifier.fit(support)
            seconds = time.perf_counter() - begun
        except TooLong as error:
            seconds = error.seconds
    # F folds each adapt to all but one part in F: together F - 1 times as many pictures
    return Timed(choice, counts, seconds * max(_folds(counts), 1))


def _folds(counts: tuple[int, ...]) -> int:
    """Folds of the cross-validation; fewer than 2 where there is none."""
    return min(*counts, MOST_FOLDS)

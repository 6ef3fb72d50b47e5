"""limo: clip-lora that also learns from the unlabelled queries. Baklouti et al., Language-Aware Information
Maximization for Transductive Few-Shot CLIP, TMLR 2026 (LIMO).

    loss = CE(labelled) + 1 * mean H(p) + 0.1 * mean KL(p0 || p) + 10 * KL(uniform || mean p) / N

p are the probabilities of the unlabelled images of a step, p0 those of the untouched encoder for the same
crops: every query should be sure, near what the names alone say, and the classes equally frequent, as those
of a benchmark's queries are; where they are not, the last term misleads. The method is transductive: it
trains on the images that it is asked about.

The authors' program was not at hand. Its 500 steps per shot are known at second hand; batches are those of a
port that runs with its weights (ccoliu/FeatureSR), which takes 500 steps at 5 shots: the labelled images and
24 queries drawn afresh in each step.

    farshot bench --pools mini-crops --model mini --methods clip-lora limo --store results.db
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.methods.clip_lora import ClipLoRA
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.task import Task
from farshot.training.loop import Objective
from farshot.training.recipe import Recipe
from farshot.training.unlabelled import InformationMaximization, WithQueries


@register
@dataclass(frozen=True)
class LIMO(ClipLoRA):
    """Settings of limo: those of clip-lora, and

    Attributes:
        unlabelled: queries in a step.
        sure: weight of the entropy of their probabilities.
        stay: weight of their distance from the untouched encoder's.
        even: weight of the distance of their mean from equal classes.
    """

    name = "limo"
    kind = "transductive"
    needs_queries = True
    reference = "LIMO, Baklouti et al. 2026 (arXiv 2509.00305)"
    doc = "clip-lora that trains on the unlabelled queries, too"
    revision = 1

    unlabelled: int = 24
    sure: float = 1.0
    stay: float = 0.1
    even: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "unlabelled")
        self.check(0, "sure", "stay", "even")

    def images(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> WithQueries:
        """Support images and some queries.

        Raises:
            SettingError: a task has no queries.
        """
        self.check_queries(known=all(len(task.query) for task in tasks))
        return WithQueries(tasks, encoder.size, recipe, self.unlabelled)

    @property
    def further_images(self) -> int:
        """The queries."""
        return self.unlabelled

    def objective(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> Objective:
        """The cross-entropy and three terms of the queries."""
        weights = (self.sure, self.stay, self.even)
        return InformationMaximization(encoder, tasks, recipe, self.unlabelled, weights)

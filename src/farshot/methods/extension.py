"""Methods that add a part to another one: all that the base method decides is passed on in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from farshot.arrays import NDArray
from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.model.encoder import Encoder
from farshot.model.tower import TextFeatures
from farshot.task import Task
from farshot.training.batches import StepSource
from farshot.training.loop import Objective, Progress, Stepper
from farshot.training.recipe import Recipe


@dataclass(frozen=True)
class Extension(FinetunedMethod):
    """A method with a base method, whose kind and revision it has: its numbers change with the base's. It
    needs queries where the base does.

    Attributes:
        base: decides all that the method does not override.
    """

    base: FinetunedMethod

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kind", "revision", "needs_queries"):
            object.__setattr__(self, name, getattr(self.base, name))

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The base method's, as all below."""
        return self.base.recipe(classes, shots)

    def recipe_for(self, task: Task) -> Recipe:
        """Of the base method."""
        return self.base.recipe_for(task)

    def for_task(self, encoder: Encoder, task: Task) -> FinetunedMethod:
        """With what the base method derives."""
        return replace(self, base=self.base.for_task(encoder, task))

    def worded(self, task: Task) -> Task:
        """As the base method words it."""
        return self.base.worded(task)

    def helpers(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Of the base method."""
        return self.base.helpers(encoder, tasks)

    def images(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> StepSource | None:
        """Of the base method."""
        return self.base.images(encoder, tasks, recipe)

    @property
    def further_images(self) -> int:
        """Of the base method."""
        return self.base.further_images

    def objective(self, encoder: Encoder, tasks: Sequence[Task], recipe: Recipe) -> Objective | None:
        """Of the base method."""
        return self.base.objective(encoder, tasks, recipe)

    def stepper(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> Stepper | None:
        """Of the base method."""
        return self.base.stepper(encoder, tasks, parts)

    def penalty(self, tasks: Sequence[Task], parts: Parts) -> Callable[[], Float[Tensor, " T"]] | None:
        """Of the base method."""
        return self.base.penalty(tasks, parts)

    def finish(self, parts: Parts) -> None:
        """As the base method does."""
        self.base.finish(parts)

    def later_steps(self, classes: int, shots: int) -> int:
        """Of the base method."""
        return self.base.later_steps(classes, shots)

    def later_parameters(self, encoder: Encoder, classes: int) -> int:
        """Of the base method."""
        return self.base.later_parameters(encoder, classes)

    @property
    def classes_are_texts(self) -> bool:
        """Of the base method."""
        return self.base.classes_are_texts

    def last_stage(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        parts: Parts,
        texts: TextFeatures,
        recipe: Recipe,
        progress: Progress | None,
    ) -> tuple[TextFeatures, Float[NDArray[np.float64], "steps T"]]:
        """Of the base method."""
        return self.base.last_stage(encoder, tasks, parts, texts, recipe, progress)

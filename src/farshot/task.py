"""A task: which classes, and which labelled images of a table, to adapt to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from farshot.arrays import NDArray
from farshot.data.independence import units
from farshot.data.names import is_text
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.sanitize import short

DEFAULT_TEMPLATE = "a photo of a {}."


@dataclass(frozen=True, eq=False)
class Task:
    """N classes and the rows of a table that show them.

    Attributes:
        table: the images.
        class_names: the N names as they are in prompts.
        support: rows of the table with a label, (S,).
        labels: the class 0..N-1 of each support row, (S,).
        query: rows to be classified, (Q,); empty where there are none yet.
        template: the prompt; `{}` is where the class name goes.
        descriptions: class name -> words that replace it in the prompt.
        key: identifies this task in every random draw, so that a task's result does not depend on its
            companions.
        independent: every support image counts as independent of the others, as in tasks of a benchmark,
            which hold no copies.
    """

    table: ImageTable
    class_names: tuple[str, ...]
    support: NDArray[np.int64]
    labels: NDArray[np.int64]
    query: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    template: str = DEFAULT_TEMPLATE
    descriptions: dict[str, str] = field(default_factory=dict)
    key: int = 0
    independent: bool = False

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1:
            raise DataError(
                f"The prompt template {self.template!r} needs {{}} exactly once, where the class name goes."
            )
        if not is_text(self.template):
            raise DataError(f"The prompt template {short(self.template)} holds bytes that are no characters.")
        if len(self.class_names) < 2:
            raise DataError("A task needs at least two classes; add images of a second class.")
        missing = set(range(len(self.class_names))) - set(self.labels.tolist())
        if len(self.support) and missing:
            names = ", ".join(self.class_names[i] for i in sorted(missing))
            raise DataError(f"No labelled image of: {names}. Add at least one each, or leave the class out.")

    @cached_property
    def shots(self) -> int:
        """K, the size of the smallest class (images)."""
        return int(np.bincount(self.labels, minlength=len(self.class_names)).min()) if len(self.labels) else 0

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """A number for each support image, equal for those that are not independent (see
        farshot.data.independence), (S,)."""
        return np.arange(len(self.support)) if self.independent else units(self.table, self.support)

    @property
    def prompts(self) -> list[str]:
        """One prompt per class."""
        return self.prompts_of(self.template)

    def prompts_of(self, template: str) -> list[str]:
        """One prompt per class from another template."""
        return [template.replace("{}", self.descriptions.get(name, name)) for name in self.class_names]

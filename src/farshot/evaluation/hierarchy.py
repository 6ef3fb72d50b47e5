"""Answers from a hierarchy of classes: the class where the model is certain, else the genus or the family.

Every image has a chain of names: its most probable class, that class's parent, and so on up to "any class".
The probability of a name is the sum over the classes below it. The answer is the first name of the chain
whose probability is above a threshold, which the cross-validated predictions decide as for prediction sets
(split conformal prediction; Vovk, Gammerman and Shafer, 2005): it is the lowest one at which the wanted share
of the labelled images is answered rightly, with the true class or a name above it.

Shapes: S labelled images, B images, N classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import scores_of_units
from farshot.data.names import listed, nfc
from farshot.data.text import read_text
from farshot.errors import DataError
from farshot.evaluation.sets import promised_rank
from farshot.sanitize import short

COLUMNS = ("name", "parent")
_MOST_LEVELS = 100


@dataclass(frozen=True)
class Answer:
    """What is said of an image.

    Attributes:
        name: a class, or what is above it; None for "any class".
        probability: that the image shows one of the classes below this name.
    """

    name: str | None
    probability: float


class Hierarchy:
    """The classes of a model and what they belong to.

    Args:
        classes: of the model, in its order, as text or numbers.
        parents: name -> what it belongs to. Names that lie above no class are not used; a class without a
            parent, or whose parent is None or blank, is directly below "any class".

    Attributes:
        chains: of each class, itself first.

    Raises:
        DataError: a circle, or a class that another class belongs to.
    """

    def __init__(self, classes: Iterable[Any], parents: Mapping[Any, Any]) -> None:
        self.classes = tuple(nfc(str(name)) for name in classes)
        above = {nfc(str(name)): nfc(str(parent)) for name, parent in parents.items() if parent is not None}
        known = {name: parent for name, parent in above.items() if parent.strip()}
        self.chains = [self._chain(name, known) for name in self.classes]
        for name, chain in zip(self.classes, self.chains, strict=True):
            if inside := set(self.classes) & set(chain[1:]):
                raise DataError(
                    f"The hierarchy puts the class {short(name)} below {short(min(inside))}, which is a "
                    "class; put both below a parent that is no class."
                )
        names = [name for chain in self.chains for name in chain]
        self._below = {
            name: np.array([name in chain for chain in self.chains], dtype=bool)
            for name in dict.fromkeys(names)
        }

    @staticmethod
    def _chain(name: str, parents: Mapping[str, str]) -> tuple[str, ...]:
        chain = [name]
        while (parent := parents.get(chain[-1])) is not None:
            if parent in chain:
                circle = " < ".join([*chain, parent])
                raise DataError(f"The hierarchy goes in a circle: {circle}; remove one of these rows.")
            if len(chain) > _MOST_LEVELS:
                raise DataError(f"The hierarchy has over {_MOST_LEVELS} levels above {short(name)}.")
            chain.append(parent)
        return tuple(chain)

    def check_classes(self, classes: Iterable[Any]) -> None:
        """Refuse a hierarchy that was made for other classes, or for these in another order.

        Args:
            classes: of the model, in its order.

        Raises:
            DataError: names both.
        """
        known = tuple(nfc(str(name)) for name in classes)
        if self.classes != known:
            raise DataError(
                f"The hierarchy is of the classes {listed(self.classes)}, and the model has "
                f"{listed(known)}, in this order: make it with Hierarchy(classifier.classes_, parents)."
            )

    def threshold(
        self,
        probabilities: Float[NDArray[np.float32], "S N"],
        labels: Int[NDArray[np.int64], " S"],
        share: float,
        unit: Int[NDArray[np.int64], " S"] | None = None,
    ) -> float:
        """The probability above which a name is an answer.

        Args:
            probabilities: cross-validated and calibrated.
            labels: the true classes.
            share: of the images whose answer should be right.
            unit: equal for images that are not independent, such as copies; all are by default.

        Raises:
            SettingError: a share that so few labelled images cannot promise.
        """
        highest = [
            max((p for name, p in self._steps(row) if not self._below[name][label]), default=0.0)
            for row, label in zip(probabilities, labels, strict=True)
        ]
        scores = scores_of_units(-np.array(highest), np.arange(len(labels)) if unit is None else unit)
        return float(-scores[len(scores) - promised_rank(len(scores), share, "Answers that are right")])

    def answers(self, probabilities: Float[NDArray[np.float32], "B N"], threshold: float) -> list[Answer]:
        """The first name of each image's chain whose probability is above the threshold."""
        found = []
        for row in probabilities:
            steps = (Answer(name, p) for name, p in self._steps(row) if p > threshold)
            found.append(next(steps, Answer(None, 1.0)))
        return found

    def is_right(self, answer: Answer, label: int) -> bool:
        """Whether an answer is the true class, given by its index, or above it."""
        return answer.name is None or bool(self._below[answer.name][label])

    def _steps(self, probabilities: Float[NDArray[np.float32], " N"]) -> list[tuple[str, float]]:
        """The chain of the most probable class, each name with its probability."""
        chain = self.chains[int(probabilities.argmax())]
        return [(name, float(probabilities[self._below[name]].sum(dtype=np.float64))) for name in chain]


def read_hierarchy(path: Path, classes: Sequence[str]) -> Hierarchy:
    """Read a CSV file with the columns `name` and `parent`.

    Raises:
        DataError: another header, a name with two parents, a class that does not occur, or as `Hierarchy`.
    """
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); write it again.") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if sorted(header[:2]) != sorted(COLUMNS) or len(header) > len(COLUMNS):
        raise DataError(f"{path} needs a first row with the columns {' and '.join(COLUMNS)}.")
    parents: dict[str, str] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(header, (nfc(cell.strip()) for cell in row), strict=False))
        name, parent = cells.get("name", ""), cells.get("parent", "")
        if not name or len(row) > len(header):
            raise DataError(f"{path}, row {number}: write a name and its parent, which may be empty.")
        if parents.get(name, parent) != parent or (name in seen and bool(parent) != (name in parents)):
            raise DataError(f"{path}, row {number}: {short(name)} has two parents; keep one.")
        seen.add(name)
        if parent:
            parents[name] = parent
    missing = [name for name in classes if nfc(name) not in seen]
    if missing:
        raise DataError(
            f"{path} has no row for the class {short(missing[0])}; add one, with its parent or without."
        )
    try:
        return Hierarchy(classes, parents)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error

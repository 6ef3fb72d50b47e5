"""Answers for the labelled pictures by models that had not seen them, kept for the page.

    left_out.json          of the adapted model
    left_out_before.json   of the one before it

Shapes: S labelled pictures, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from farshot.app.texts import Fault
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.state import Workspace
from farshot.check.findings import doubtful_labels
from farshot.choose import compare_two
from farshot.errors import DataError
from farshot.evaluation.calibration import Certainty
from farshot.evaluation.crossval import HeldOut
from farshot.evaluation.intervals import Interval

WANTED = (*(percent / 100 for percent in range(50, 100, 5)), 0.99)
"""Shares of right answers to choose a limit by."""

_NOW, _BEFORE = "left_out.json", "left_out_before.json"
_LEAST_SHARED = 3  # pictures that a comparison takes


@dataclass(frozen=True)
class Doubt:
    """A label that is worth a second look.

    Attributes:
        row: of the picture.
        suggested: index of the class that is more probable.
        ratio: how many times more probable.
        likely: whether the label is likely wrong, not merely doubtful.
    """

    row: int
    suggested: int
    ratio: float
    likely: bool


@dataclass(frozen=True)
class LeftOut:
    """The cross-validated answers of one adapted model.

    Attributes:
        stamp: of the labels and settings.
        model, method: that were adapted.
        classes: the N classes.
        ids: the S pictures.
        labels: index of the class of each, when it was adapted to.
        folds: that left each out.
        probabilities: calibrated, (S, N).
        doubts: labels that are worth a second look, the most doubtful first.
        limits: what each share of WANTED would mean.
        units: equal for pictures that are left out together, such as copies and those of one group.
        renames: how many renamings of classes `classes` follows (`State.names_now`).
    """

    stamp: str
    model: str
    method: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    doubts: tuple[Doubt, ...]
    limits: tuple[Certainty, ...]
    units: tuple[int, ...]
    renames: int = 0

    @classmethod
    def of(
        cls,
        held_out: HeldOut,
        ids: Sequence[str],
        stamp: str,
        model: str,
        method: str,
        units: Sequence[int] | None = None,
    ) -> LeftOut:
        """What a cross-validation found, with the labels that are in doubt.

        Args:
            units: by default no picture is left out together with another one.
        """
        p = held_out.calibrated
        return cls(
            *(stamp, model, method, tuple(map(str, held_out.classes)), tuple(ids)),
            labels=tuple(held_out.labels.tolist()),
            folds=tuple(held_out.fold.tolist()),
            probabilities=tuple(map(tuple, p.tolist())),
            doubts=tuple(
                Doubt(one.row, one.suggested, one.ratio, one.is_likely) for one in doubtful_labels(held_out)
            ),
            limits=tuple(held_out.certainty(wanted) for wanted in WANTED),
            units=tuple(range(len(ids)) if units is None else units),
        )

    @property
    def answers(self) -> list[int]:
        """Index of the most probable class of each picture."""
        return [max(range(len(p)), key=p.__getitem__) for p in self.probabilities]

    def cell(self, true: int, answered: int) -> list[int]:
        """Rows of a true class with a certain answer, the surest answer first."""
        rows = zip(self.labels, self.answers, strict=True)
        found = [row for row, one in enumerate(rows) if one == (true, answered)]
        return sorted(found, key=lambda row: -self.probabilities[row][answered])


@dataclass(frozen=True)
class Compared:
    """Two adapted models on the same labelled pictures.

    Attributes:
        before, now: what they are, in words.
        difference: of the second to the first in balanced accuracy, with its 95 % interval.
        pictures: that both were measured on.
        same_folds: whether both had learned from the same pictures in every fold.
    """

    before: str
    now: str
    difference: Interval
    pictures: int
    same_folds: bool


def keep(workspace: Workspace, found: LeftOut) -> None:
    """Keep the answers, and those of another model as the ones before."""
    last = read(workspace)
    if last is not None and last.stamp != found.stamp:
        write_json(workspace.folder / _BEFORE, asdict(last))
    write_json(workspace.folder / _NOW, asdict(found))


def read(workspace: Workspace, stamp: str | None = None) -> LeftOut | None:
    """The answers that are kept, with the present names of the classes; None where there are none.

    Args:
        stamp: of the adapted model; those of another are none.
    """
    found = _read(workspace, _NOW)
    return None if found is None or stamp not in (None, found.stamp) else found


def compare(workspace: Workspace) -> Compared | None:
    """The last two adapted models, on the pictures whose label both knew; None where there are not enough."""
    before, now = _read(workspace, _BEFORE), read(workspace)
    if before is None or now is None:
        return None
    known = {
        (id, before.classes[label]): row
        for row, (id, label) in enumerate(zip(before.ids, before.labels, strict=True))
    }
    keys = [(id, now.classes[label]) for id, label in zip(now.ids, now.labels, strict=True)]
    rows = [row for row, key in enumerate(keys) if key in known]
    if len(rows) < _LEAST_SHARED:
        return None
    names = sorted({*now.classes, *before.classes})
    first = _held_out(before, [known[keys[row]] for row in rows], names)
    second = _held_out(now, rows, names)
    all_shared = len(rows) == len(now.ids) == len(before.ids)
    same = all_shared and set(before.classes) == set(now.classes) and bool((first.fold == second.fold).all())
    return Compared(_named(before), _named(now), compare_two(first, second).difference, len(rows), same)


def _named(found: LeftOut) -> str:
    return f"{found.method}, {Path(found.model).name}, {len(found.ids)} pictures"


def _held_out(found: LeftOut, rows: Sequence[int], names: Sequence[str]) -> HeldOut:
    """These rows, with classes numbered by name."""
    place = [names.index(name) for name in found.classes]
    p = np.array([found.probabilities[row] for row in rows], dtype=np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(p @ np.eye(len(names), dtype=np.float32)[place])
    labels = np.array([place[found.labels[row]] for row in rows], dtype=np.int64)
    fold, unit = (np.array([of[row] for row in rows], dtype=np.int64) for of in (found.folds, found.units))
    return HeldOut(tuple(names), labels, logits, fold, unit=unit)


def _read(workspace: Workspace, file: str) -> LeftOut | None:
    place, state = workspace.folder / file, workspace.state
    if not place.is_file():
        return None
    try:
        found = _of(read_json(place, "disk.damaged_train"))
        return replace(
            found, classes=state.names_now(found.classes, found.renames), renames=len(state.renamed)
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise Fault("disk.damaged_train", place=place, why=str(error)) from error


def _of(found: dict[str, Any]) -> LeftOut:
    lists = ("classes", "ids", "labels", "folds")
    values: dict[str, Any] = {
        **found,
        **{name: tuple(found[name]) for name in lists},
        "units": tuple(found.get("units", found["folds"])),  # earlier versions kept the folds alone
        "probabilities": tuple(map(tuple, found["probabilities"])),
        "doubts": tuple(Doubt(**one) for one in found["doubts"]),
        "limits": tuple(
            Certainty(*one[:2], *(Interval(*interval) for interval in one[2:])) for one in found["limits"]
        ),
    }
    made = LeftOut(**values)
    if not len(made.ids) == len(made.labels) == len(made.folds) == len(made.probabilities):
        raise TypeError("its lists differ in length")
    return made

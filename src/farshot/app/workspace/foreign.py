"""Pictures that show none of the classes, to measure how well a model marks them as such.

    foreign/         the pictures, by content
    open_set.json    what was measured last

They are no part of the board, of training, of predictions or of an exported project.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from farshot.app.texts import Fault, Text
from farshot.app.workspace import left_out
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.intake import UNFINISHED, Refused, Upload, take_in
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.run import UNLIKE, Adaptation, adapted_model, last_run
from farshot.app.workspace.state import Workspace
from farshot.data.table import ImageTable
from farshot.evaluation.familiarity import Strangers, left_out_folds
from farshot.evaluation.familiarity import measure as compare
from farshot.evaluation.intervals import Interval

MOST = 200
"""Pictures that are kept; enough for an interval of a few points."""

NEEDED = round(1 / UNLIKE) - 1
"""Labelled pictures that a picture must be compared with to be marked at all."""

_FOLDER, _FILE = "foreign", "open_set.json"


@dataclass(frozen=True)
class OpenSet:
    """What a test with foreign pictures found.

    Attributes:
        stamp: of the adapted model, with the time that its training took.
        pictures: ids of the foreign pictures.
        found: how they compare with the labelled ones that were left out.
    """

    stamp: str
    pictures: tuple[str, ...]
    found: Strangers


def take(workspace: Workspace, uploads: Sequence[Upload]) -> tuple[int, list[Refused]]:
    """Take foreign pictures in, checked as all uploads are; returns how many are new, and what was refused.
    A picture of the board is none."""
    place = workspace.folder / _FOLDER
    limits = replace(workspace.limits, images=min(MOST, workspace.limits.images))
    known = frozenset(file.stem for file in files(workspace))
    taken, refused = take_in(uploads, place, limits, known, "upload.box_full")
    own = [one for one in taken if one.id in workspace.state.pictures]
    for one in own:
        one.path.unlink(missing_ok=True)
        refused.append(Refused(one.name, Text("foreign.own")))
    return len(taken) - len(own), refused


def files(workspace: Workspace) -> list[Path]:
    """The foreign pictures, without those that came to the board later: a model may be trained on them."""
    return [file for file in _kept(workspace) if file.stem not in workspace.state.pictures]


def on_board(workspace: Workspace) -> int:
    """How many pictures `files` leaves out."""
    return len(_kept(workspace)) - len(files(workspace))


def _kept(workspace: Workspace) -> list[Path]:
    place = workspace.folder / _FOLDER
    if not place.is_dir():
        return []
    return sorted(file for file in place.iterdir() if not file.name.startswith(UNFINISHED))


def forget(workspace: Workspace) -> None:
    """Remove the foreign pictures; what was measured with them stays."""
    shutil.rmtree(workspace.folder / _FOLDER, ignore_errors=True)


def measure(workspace: Workspace, encoders: Encoders, report: Report) -> OpenSet:
    """Compare the foreign pictures with labelled ones that were left out, and keep the result.

    Raises:
        DataError: no model, no foreign picture, or too few labelled pictures.
    """
    run = last_run(workspace)
    if run is None:
        raise Fault("act.train_first_foreign")
    places = files(workspace)
    if not places:
        raise Fault("foreign.add_first")
    units = check_enough(workspace, run)
    with encoders.turn(report) as report:
        report(Text("job.loading"), 0, 0)
        classifier = adapted_model(workspace, run, encoders)
        unit = np.array(units, dtype=np.int64)
        own = classifier.require_familiarity().left_out(unit)
        classifier.set_params(progress=partial(report, Text("job.comparing")))
        ids = {row: file.stem for row, file in enumerate(places)}
        strange = classifier.familiarity(ImageTable(tuple(places), None, (), (), _ids=ids))
    compared = compare(own, np.asarray(strange), UNLIKE, unit)  # a foreign picture is kept once
    found = OpenSet(stamp_of(run), tuple(file.stem for file in places), compared)
    write_json(workspace.folder / _FILE, asdict(found))
    return found


def check_enough(workspace: Workspace, run: Adaptation) -> tuple[int, ...]:
    """The labelled pictures' units, each of which is left out as a whole (`LeftOut.units`).

    Raises:
        DataError: too few pictures are left to compare with.
    """
    checked = left_out.read(workspace, run.stamp)
    if checked is None:
        raise Fault("foreign.needs_check")
    units = checked.units
    fold = left_out_folds(np.array(units, dtype=np.int64))
    left = len(units) - int(np.bincount(fold).max())
    if left < NEEDED:
        raise Fault("foreign.needs_more", needed=NEEDED + 1, labelled=len(units), left=left)
    return units


def stamp_of(run: Adaptation) -> str:
    """Changes with the adapted model."""
    return f"{run.stamp} {run.seconds}"


def read(workspace: Workspace) -> OpenSet | None:
    """What was measured last; None where nothing was."""
    place = workspace.folder / _FILE
    if not place.is_file():
        return None
    told: dict[str, Any] = read_json(place)
    try:
        found = told["found"]
        if isinstance(found["auroc"], float):  # of a version that gave it no interval: to be measured again
            return None
        strangers = Strangers(
            Interval(*found["auroc"]),
            Interval(*found["flagged"]),
            Interval(*found["lost"]),
            float(found["level"]),
        )
        return OpenSet(told["stamp"], tuple(told["pictures"]), strangers)
    except (KeyError, TypeError, ValueError) as error:
        raise Fault("disk.damaged_remove", place=place, why=str(error)) from error

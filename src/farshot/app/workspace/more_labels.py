"""Whether more labels would help: the learning curve of the labelled pictures, kept for the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from farshot.app.texts import Fault, Text
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.run import last_run, settings_of
from farshot.app.workspace.state import Workspace
from farshot.choose.curve import LearningCurve, learning_curve
from farshot.evaluation.intervals import Interval
from farshot.methods import available, create
from farshot.methods.catalogue import FAST

_FILE = "more_labels.json"


@dataclass(frozen=True)
class MoreLabels:
    """A measured curve.

    Attributes:
        stamp: of the labels and the adapted model's settings when it was measured.
        method: that was adapted again and again; the fast one instead of one that is fine-tuned.
        curve: what was measured.
        model: whose encoder was used; empty in files of versions that did not say.
    """

    stamp: str
    method: str
    curve: LearningCurve
    model: str = ""

    @property
    def measured(self) -> str:
        """Method and model, in words."""
        return ", ".join(filter(None, (self.method, Path(self.model).name)))


def measure(workspace: Workspace, encoders: Encoders, report: Report) -> MoreLabels:
    """Measure the curve with the adapted model's encoder, and keep it.

    Raises:
        DataError: no adapted model, or a class with fewer than four different pictures.
    """
    run = last_run(workspace)
    if run is None:
        raise Fault("act.train_first_more")
    choice, support = run.choice, workspace.support()
    stamp = workspace.stamp(choice)
    method = choice.method if available(choice.method)[choice.method].kind == "features" else FAST
    settings = settings_of(choice) if method == choice.method else {}
    with encoders.turn(report) as report:
        report(Text("job.loading"), 0, 0)
        encoder = encoders.get(choice.model)
        curve = learning_curve(
            create(method, settings),
            encoder,
            support,
            progress=partial(report, Text("job.fewer_labels")),
        )
    found = MoreLabels(stamp, method, curve, choice.model)
    write_json(workspace.folder / _FILE, asdict(found))
    return found


def read(workspace: Workspace) -> MoreLabels | None:
    """What was measured last; None where nothing was."""
    place = workspace.folder / _FILE
    if not place.is_file():
        return None
    found = read_json(place)
    try:
        curve = found["curve"]
        return MoreLabels(
            found["stamp"],
            found["method"],
            LearningCurve(
                tuple(curve["sizes"]),
                tuple(Interval(*one) for one in curve["accuracy"]),
                curve["more"],
                None if curve["gain"] is None else Interval(*curve["gain"]),
                curve["gain_from"],
            ),
            str(found.get("model", "")),
        )
    except (KeyError, TypeError) as error:
        raise Fault("disk.damaged_remove", place=place, why=str(error)) from error

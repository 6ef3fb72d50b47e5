"""Adapt a model to a workspace's labels, predict the other pictures, and estimate the quality.

Shapes: N classes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from farshot.app.texts import Fault, Text
from farshot.app.workspace import copies, left_out
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.left_out import LeftOut
from farshot.app.workspace.picture import Setup
from farshot.app.workspace.state import Workspace
from farshot.classifier import FewShotClassifier, load
from farshot.data.independence import units
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.calibration import Certainty, certain_in_words, tempered
from farshot.evaluation.intervals import Interval
from farshot.explain import Explanation, explain_images, subject
from farshot.methods import available

UNLIKE = 0.05
"""Pictures with at most this p-value are called unlike all labelled ones; it takes 19 labelled ones."""


@dataclass(frozen=True)
class Adaptation:
    """What is known of an adapted model.

    Attributes:
        stamp: of the labels and settings it was made from.
        choice: model and method.
        classes: the N classes, in the order of its probabilities.
        pictures: how many it was adapted to.
        seconds: that adapting took.
        estimate: cross-validated quality (Evaluation.to_dict); None while it is not known.
        why_not: why there is no estimate, in one sentence.
        certainty: from which probability on an answer is given; None without an estimate.
        calibrated: whether probabilities say how often they are right.
        predictions: picture -> probability of each class.
        p_values: picture -> how often one like the labelled pictures is as unlike them.
        groups: number of groups (patients, plants) whose pictures were left out together; 0 where none are
            known.
        renames: how many renamings of classes `classes` follows (`State.names_now`).
    """

    stamp: str
    choice: Setup
    classes: tuple[str, ...]
    pictures: int
    seconds: float
    estimate: dict[str, Any] | None = None
    why_not: str | None = None
    certainty: Certainty | None = None
    calibrated: bool = False
    predictions: dict[str, list[float]] = field(default_factory=dict)
    p_values: dict[str, float] = field(default_factory=dict)
    groups: int = 0
    renames: int = 0

    def answer(self, id: str) -> Answer | None:
        """The prediction for a picture; None if there is none yet."""
        if id not in self.predictions:
            return None
        pairs = zip(self.classes, self.predictions[id], strict=True)
        ranked = tuple(sorted(pairs, key=lambda pair: -pair[1]))
        sure = None if self.certainty is None else ranked[0][1] >= self.certainty.threshold
        unlike = self.p_values.get(id, 1.0) <= UNLIKE and self.pictures >= 1 / UNLIKE - 1
        return Answer(ranked, sure, calibrated=self.calibrated, unlike=unlike)


@dataclass(frozen=True)
class Answer:
    """A model's prediction for one picture.

    Attributes:
        ranked: (class, probability), the most probable first.
        sure: whether it should decide; None where that is not known.
        calibrated: whether the probabilities may be shown as percentages.
        unlike: whether the picture is unlike all labelled ones.
    """

    ranked: tuple[tuple[str, float], ...]
    sure: bool | None
    calibrated: bool = False
    unlike: bool = False

    def certain(self, place: int = 0) -> str:
        """How certain the class at this place is: a percentage, or a score where it is not calibrated."""
        return certain_in_words(self.ranked[place][1], self.calibrated, digits=0)

    @property
    def name(self) -> str:
        """The most probable class."""
        return self.ranked[0][0]

    @property
    def probability(self) -> float:
        """Of that class."""
        return self.ranked[0][1]


def adapt(workspace: Workspace, encoders: Encoders, report: Report) -> Adaptation:
    """Adapts to the labelled pictures, predicts the others, then cross-validates.

    Each is kept as soon as it is there: stopped during the cross-validation, there is a model without an
    estimate.

    Raises:
        FarshotError: one sentence on what is missing.
    """
    stamp, choice = workspace.stamp(), workspace.choice
    renames, support = len(workspace.state.renamed), workspace.support()
    with encoders.turn(report) as report:
        report(Text("job.loading"), 0, 0)
        classifier = classifier_of(workspace, encoders, choice, support)
        start = time.perf_counter()
        classifier.set_params(progress=partial(report, Text("job.training")))
        classifier.fit(support)
        seconds = time.perf_counter() - start
        classifier.set_params(progress=None)
        classifier.save(workspace.adapted)
        names = tuple(map(str, classifier.classes_))
        apart = len(set(support.groups or ()))
        run = Adaptation(stamp, choice, names, len(support), seconds, groups=apart, renames=renames)
        _keep(workspace, run)
        run = _predict(workspace, run, classifier, report)
        try:
            classifier.set_params(progress=partial(report, Text("job.checking")))
            held_out = classifier.held_out(support)
        except DataError as error:  # a class with one picture
            run = replace(run, why_not=str(error))
        else:
            wanted = workspace.choice.wanted  # it may have been moved meanwhile
            classifier.keep_held_out(held_out, wanted).save(workspace.adapted)
            probabilities = {
                id: tempered(np.asarray(p), classifier.temperature_).tolist()
                for id, p in run.predictions.items()
            }
            run = replace(
                run,
                estimate=classifier.estimate_,
                certainty=held_out.certainty(wanted),
                predictions=probabilities,
                calibrated=classifier.calibrated_,
            )
            _keep(workspace, run)
            report(Text("job.doubts"), 0, 0)
            together = units(support, range(len(support))).tolist()
            answers = LeftOut.of(held_out, support.ids, stamp, choice.model, choice.method, together)
            left_out.keep(workspace, replace(answers, renames=renames))
        _keep(workspace, run)
        copies.keep(workspace, support, report)
    return run


def classifier_of(
    workspace: Workspace, encoders: Encoders, choice: Setup, support: ImageTable
) -> FewShotClassifier:
    """A classifier that is not adapted yet; the caller has its turn to compute."""
    return FewShotClassifier(
        encoders.get(choice.model),
        choice.method,
        settings=settings_of(choice),
        descriptions={c: words for c, words in workspace.descriptions().items() if c in support.classes},
    )


def predict(workspace: Workspace, encoders: Encoders, report: Report) -> Adaptation:
    """Predict unlabelled pictures that have no prediction yet.

    Raises:
        DataError: there is no adapted model yet.
    """
    with encoders.turn(report) as report:
        run = last_run(workspace)
        if run is None:
            raise Fault("act.train_first_predict")
        if all(picture.id in run.predictions for picture in workspace.unlabelled):
            return run
        report(Text("job.loading"), 0, 0)
        return _predict(workspace, run, adapted_model(workspace, run, encoders), report)


def set_limit(workspace: Workspace, encoders: Encoders, wanted: float, report: Report) -> None:
    """Give an adapted model another limit, in the app and in the model's folder.

    Args:
        wanted: share of the given answers that should be right; later models get their limit by it, too.
    """
    workspace.choose(replace(workspace.choice, wanted=wanted))
    with encoders.turn(report) as report:
        run = last_run(workspace)
        if run is None or run.certainty is None or run.certainty.wanted == wanted:
            return
        report(Text("job.limit"), 0, 0)
        classifier = adapted_model(workspace, run, encoders)
        if classifier.held_out_ is None:
            return
        classifier.keep_held_out(classifier.held_out_, wanted).save(workspace.adapted)
        _keep(workspace, replace(run, certainty=classifier.held_out_.certainty(wanted)))


def explain(workspace: Workspace, encoders: Encoders, id: str) -> Explanation:
    """What the adapted model looked at in one picture."""
    with encoders.turn():
        run = last_run(workspace)
        if run is None:
            raise Fault("act.train_first_explain")
        classifier = adapted_model(workspace, run, encoders)
        seen = subject(classifier.adapted_, classifier.encoder_, classifier.parameters_.template)
        table = workspace.table([workspace.picture(id)])
        (found,) = explain_images(seen, table, temperature=classifier.temperature_)
        return replace(found, class_names=run.classes)


def adapted_model(workspace: Workspace, run: Adaptation, encoders: Encoders) -> FewShotClassifier:
    """The adapted model of a workspace; the caller has its turn to compute."""
    return load(workspace.adapted, model=encoders.get(run.choice.model))


def last_run(workspace: Workspace) -> Adaptation | None:
    """What is known of the adapted model, with the present names of its classes; None where there is none."""
    place, predictions = workspace.folder / "run.json", workspace.folder / "predictions.json"
    written = _version(place)
    if written is None or not workspace.adapted.is_dir():
        return None
    run, state = _read_run(place, predictions, written, _version(predictions)), workspace.state
    if run.renames == len(state.renamed):
        return run
    return replace(run, classes=state.names_now(run.classes, run.renames), renames=len(state.renamed))


@lru_cache(maxsize=4)  # the page asks several times for every label; thousands take long to read
def _read_run(
    place: Path, predictions: Path, _written: tuple[int, ...], predicted: tuple[int, ...] | None
) -> Adaptation:
    """Read both files; of the same versions only once."""
    try:
        known = read_json(place, "disk.damaged_train")
        return _run_of(known, read_json(predictions, "disk.damaged_train") if predicted is not None else {})
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise Fault("disk.damaged_train", place=place, why=str(error)) from error


def _version(path: Path) -> tuple[int, ...] | None:
    """Another value for every file that replaced it; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _run_of(found: dict[str, Any], predictions: dict[str, Any]) -> Adaptation:
    certainty = found.pop("certainty")
    return Adaptation(
        **{**found, "choice": Setup(**found["choice"]), "classes": tuple(found["classes"])},
        certainty=None
        if certainty is None
        else Certainty(*certainty[:2], *(Interval(*i) for i in certainty[2:])),
        predictions=predictions,
    )


def settings_of(choice: Setup) -> dict[str, Any]:
    """Settings of the method; quick leaves out the views, where it has them."""
    known = available(choice.method)[choice.method]().settings()
    return {"views": "none"} if choice.quick and "views" in known else {}


def _predict(
    workspace: Workspace, run: Adaptation, classifier: FewShotClassifier, report: Report
) -> Adaptation:
    asked = [picture for picture in workspace.unlabelled if picture.id not in run.predictions]
    if asked:
        classifier.set_params(progress=partial(report, Text("job.predicting")))
        table = workspace.table(asked)
        found = classifier.predict_proba(table)
        new = {picture.id: list(map(float, p)) for picture, p in zip(asked, found, strict=True)}
        p_values = dict(run.p_values)
        if classifier.familiarity_ is not None:
            classifier.set_params(progress=partial(report, Text("job.comparing")))
            p_values |= {
                picture.id: float(p) for picture, p in zip(asked, classifier.familiarity(table), strict=True)
            }
        classifier.set_params(progress=None)
        run = replace(run, predictions={**run.predictions, **new}, p_values=p_values)
    _keep(workspace, run)
    return run


def _keep(workspace: Workspace, run: Adaptation) -> None:
    """Write the predictions first: a run without predictions predicts again, while those of another run
    would mislead."""
    write_json(workspace.folder / "predictions.json", run.predictions)
    about = {name: value for name, value in run.__dict__.items() if name != "predictions"}
    write_json(workspace.folder / "run.json", {**about, "choice": asdict(run.choice)})

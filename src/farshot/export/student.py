"""`farshot export --student`: a small network that answers as an adapted model does, as ONNX, with how often
it agrees on pictures that it was not trained on.

It knows nothing of the labelled pictures, so p-values, prediction sets and the limit of sure answers are left
out. Its probabilities are scores, unless a temperature is fitted on labelled pictures that neither it nor the
teacher was trained on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Int

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier, Images
from farshot.data.given import image_table
from farshot.data.independence import are_too_alike, units_of_copies
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError
from farshot.evaluation.crossval import fit_temperature
from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import compare_shares, share_interval
from farshot.evaluation.unseen import shows_seen
from farshot.export.about import check_exact, check_place, describe, describe_reading, interface, write_about
from farshot.export.check import TOLERANCE, Predict
from farshot.export.distillation import Distillation, answers, make_views, split, train
from farshot.export.onnx_file import (
    FILE,
    OPSET,
    copy_program,
    needed_packages,
    runtime,
    write_onnx,
)
from farshot.export.predictor import Predictor, predictor
from farshot.export.student_net import Student
from farshot.images.likeness import thumbnails
from farshot.images.preprocess import at_size
from farshot.storage.atomic import whole_folder
from farshot.training.loop import Progress

ENOUGH = 1000
"""Pictures below which a warning is given: with 720 photographs of 20 classes a student still loses eight
points of accuracy (docs/export.md, "A student")."""

_LABELLED = 20  # pictures from which on a temperature is fitted
_TIMED, _WARM = 15, 3  # pictures one by one, in both files
_CHUNK = 64  # pictures that are decoded at once
_MOST_NAMED = 5


def export_student(
    classifier: FewShotClassifier,
    images: Images,
    out: str | Path,
    how: Distillation | None = None,
    *,
    labelled: Images | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a student on pictures without labels and write it as an ONNX export.

    Args:
        classifier: the teacher, on the CPU in float32.
        images: to learn from; a fifth of them is kept to measure the agreement.
        out: folder to write.
        labelled: a labelled table, on which the accuracy of both is measured and the student's temperature is
            fitted; pictures that one of them was trained on are left out.
        progress: called with (done, in all), pictures that the teacher answers and steps of training.

    Returns:
        What export.json holds; `student` has what was measured, and `warnings`.

    Raises:
        SettingError: a classifier on another device or in another precision.
        DataError: a missing package, too few pictures, or a place that is taken or cannot be written.
        ModelError: a method whose predictions are no function of one picture.
        UnreadableImage: the first that cannot be read.
    """
    how, out = how or Distillation(), Path(out)
    needed_packages()
    check_exact(classifier)
    check_place(out)
    table = image_table(images).with_options(classifier.read_options_)
    teacher = predictor(classifier)
    rows, held_out = split(classifier, table, how.seed)
    side = how.side(classifier.encoder_.size)
    report = progress or (lambda done, total: None)
    total = len(rows) + how.steps
    with whole_folder(out, check_place) as staging:
        scratch = staging / "views"
        views = make_views(
            classifier, teacher, table.subset(rows), how, scratch, lambda done, _: report(done, total)
        )
        encoder, classes = classifier.encoder_, [str(label) for label in classifier.classes_]
        student = Student(how.size, side, len(classes), encoder.preprocessing, how.seed)
        train(student, views, how, lambda done, _: report(len(rows) + done, total))
        seen = views.plain(how.views)
        del views
        scratch.unlink()
        found: dict[str, Any] = {"size": how.size, "weights": student.weights}
        found |= _agreement(classifier, teacher, student, table.subset(held_out), side)
        found |= {"trained_on": len(rows), "settings": dataclasses.asdict(how) | {"pixels": side}}
        if labelled is not None:
            found["labelled"] = _on_labels(
                classifier, teacher, student, image_table(labelled), table.subset(rows), side
            )
        found["warnings"] = _warnings(len(table), seen, classes)
        about = _about(classifier, student, side) | {"student": found}
        write_onnx(student, side, staging / FILE, "The student", about)
        about["checked"] = _check(student, staging / FILE, classifier, table.subset(held_out[:16]), side)
        # after the file, which says what is known of the student before
        found["speed"] = _speed(teacher, encoder.size, staging / FILE, side, staging / "teacher", about)
        found["bytes"] = (staging / FILE).stat().st_size
        about["sha256"] = hashlib.sha256((staging / FILE).read_bytes()).hexdigest()
        copy_program(staging)
        return write_about(staging, about)


def _about(classifier: FewShotClassifier, student: Student, side: int) -> dict[str, Any]:
    """The facts about the file; the teacher's estimate and limit do not hold for it."""
    known = describe(classifier, "onnx") | interface(classifier, FILE, side)
    reading = at_size(classifier.adapted_.reading, classifier.encoder_.size, side)
    return known | {
        "opset": OPSET,
        "temperature": student.temperature,
        "calibrated": student.temperature != 1,
        "estimate": None,
        "limit": None,
        "images": describe_reading(reading, side) | classifier.read_options_.to_dict(),
        "left_out": ["p-values", "none of these", "prediction sets", "limit of sure answers"],
    }


def _both(
    classifier: FewShotClassifier, teacher: Predictor, student: Student, table: ImageTable, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Log-probabilities of both for a table's pictures, each at its size, (B, N)."""
    reading, theirs = classifier.adapted_.reading, classifier.encoder_.size
    table = table.with_options(classifier.read_options_)
    found = []
    for start in range(0, len(table), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(table)))
        large = np.asarray(table.pixels(rows, reading, theirs))
        small = np.asarray(table.pixels(rows, at_size(reading, theirs, side), side))
        found.append((answers(teacher, large), answers(student, small)))
    taught, learned = zip(*found, strict=True)
    return np.concatenate(taught), np.concatenate(learned)


def _agreement(
    classifier: FewShotClassifier, teacher: Predictor, student: Student, table: ImageTable, side: int
) -> dict[str, Any]:
    """How often both give one class, and how often that is by chance: if they gave their classes as often as
    they do, but independently of each other; and if the student always gave the teacher's most frequent."""
    ours, theirs = (found.argmax(1) for found in _both(classifier, teacher, student, table, side))
    shares = [np.bincount(one, minlength=len(classifier.classes_)) / len(table) for one in (ours, theirs)]
    return {
        "agreement": _interval(
            share_interval(ours == theirs, units_of_copies(table.contents(), table.groups))
        ),
        "chance": round(float(shares[0] @ shares[1]), 4),
        "most_frequent": round(float(shares[0].max()), 4),
    }


def _on_labels(
    classifier: FewShotClassifier,
    teacher: Predictor,
    student: Student,
    labelled: ImageTable,
    trained: ImageTable,
    side: int,
) -> dict[str, Any]:
    """Accuracy of both on labelled pictures that neither was trained on; fits the student's temperature where
    they are enough.

    Raises:
        DataError: fewer than three such pictures.
    """
    rows, labels = classifier.unseen(labelled)
    labelled = labelled.with_options(classifier.read_options_)
    every = range(len(trained))
    small = None if are_too_alike(trained, every) else thumbnails(list(trained.images), trained.options)
    new = ~shows_seen(labelled.subset(rows), set(trained.contents()), set(trained.groups or ()), small)
    rows, labels = rows[new], labels[new]
    if len(rows) < 3:
        raise DataError(
            "Accuracy needs at least three labelled pictures that neither the model nor the student was "
            "trained on; add some to the labelled images, or leave them out of the student's."
        )
    table = labelled.subset(rows)
    taught, learned = _both(classifier, teacher, student, table, side)
    unit = units_of_copies(table.contents(), table.groups)
    ours, theirs, difference = compare_shares(learned.argmax(1) == labels, taught.argmax(1) == labels, unit)
    if len(rows) >= _LABELLED:
        student.temperature = fit_temperature(learned, labels)
    return {
        "images": len(rows),
        "teacher": _interval(theirs),
        "student": _interval(ours),
        "difference": {name: round(getattr(difference, name), 4) for name in ("mean", "low", "high")},
    }


def _warnings(pictures: int, seen: Int[NDArray[np.int64], " I"], classes: list[str]) -> list[str]:
    """Sentences on what the student can hardly have learned."""
    found = []
    if pictures < ENOUGH:
        found.append(
            f"{pictures} pictures are few for a student: with fewer than {ENOUGH:,} it often answers "
            "otherwise than its teacher (docs/export.md); add pictures, which need no labels."
        )
    missing = [name for c, name in enumerate(classes) if c not in set(seen.tolist())]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        found.append(
            f"The teacher gave no picture that the student learned from the class "
            f"{', '.join(missing[:_MOST_NAMED])}{more}, so the student hardly knows it; add such pictures."
        )
    return found


def _check(
    student: Student, file: Path, classifier: FewShotClassifier, table: ImageTable, side: int
) -> dict[str, Any]:
    """Compare the file with the student in PyTorch, on pictures of the user's.

    Raises:
        ModelError: a probability differs by more than TOLERANCE.
    """
    reading = at_size(classifier.adapted_.reading, classifier.encoder_.size, side)
    pixels = np.asarray(table.pixels(range(len(table)), reading, side))
    difference = float(np.abs(np.exp(answers(student, pixels)) - runtime(file)(pixels)).max())
    if not difference <= TOLERANCE:  # so that NaN is refused as well
        raise ModelError(
            f"The ONNX file gives probabilities that differ from the student's by up to {difference:.1e}, so "
            "it is not written; please report it with the versions of your packages."
        )
    return {"images": len(table), "largest_difference": difference, "precision": "float32"}


def _speed(
    teacher: Predictor, size: int, file: Path, side: int, scratch: Path, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Milliseconds for a picture that is decoded already, the median of single ones in turn: the ONNX file of
    the student against that of the teacher, each on one thread, or the teacher in PyTorch where it cannot be
    written as one."""
    try:
        write_onnx(teacher, size, scratch, about["method"], about)
        theirs, written, by = runtime(scratch, threads=1), scratch.stat().st_size, "ONNX Runtime"
    except ModelError:
        theirs, by = _in_torch(teacher), "PyTorch"
        written = sum(tensor.nbytes for tensor in teacher.state_dict().values())
    scratch.unlink(missing_ok=True)
    ours = runtime(file, threads=1)
    taken: dict[str, list[float]] = {"teacher_ms": [], "student_ms": []}
    for number in range(_WARM + _TIMED):
        for name, run, width in (("teacher_ms", theirs, size), ("student_ms", ours, side)):
            pixels = np.full((1, width, width, 3), number, dtype=np.uint8)
            start = time.perf_counter()
            run(pixels)
            taken[name].append(1000 * (time.perf_counter() - start))
    found = {name: round(median(values[_WARM:]), 3) for name, values in taken.items()}
    ratio = round(found["teacher_ms"] / found["student_ms"], 2)
    return {**found, "ratio": ratio, "teacher_in": by, "teacher_bytes": written}


def _in_torch(teacher: Predictor) -> Predict:
    return lambda pixels: answers(teacher, pixels)


def _interval(share: Interval) -> dict[str, Any]:
    return {
        "value": round(share.mean, 4),
        "low": round(share.low, 4),
        "high": round(share.high, 4),
        "images": share.n,
    }

"""What a report of an adapted model shows: its data, how good it is, what it gets wrong, how it was made.

Shapes: B images measured on, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from farshot.arrays import NDArray
from farshot.bench.grid import changed_settings, label
from farshot.classifier import FewShotClassifier
from farshot.data.independence import units_of_copies
from farshot.data.names import nfc
from farshot.data.table import ImageTable, path_of
from farshot.errors import DataError
from farshot.evaluation.calibration import calibration_bins
from farshot.evaluation.crossval import zero_shot_classes
from farshot.evaluation.metrics import Evaluation, Unadapted, evaluate
from farshot.explain.explanation import explain_table
from farshot.explain.figure import panels
from farshot.explain.html import data_uri
from farshot.explain.page import described
from farshot.explain.subject import subject
from farshot.methods import create
from farshot.model.catalogue import toy_note
from farshot.report.commands import adapt_command
from farshot.report.seen import Reading
from farshot.report.summary import ZERO_SHOT, Quality, day, sentences
from farshot.report.svg import Chart, legend, padded
from farshot.storage.paths import base_name
from farshot.task import Task

_BINS = 20  # of the confidence histogram
_THUMBNAIL = 160  # pixels
_MOST_SUPPORT = 60  # pictures of what it was adapted to


_GROUPS = "GROUPS"
"""In place of groups that nobody has named."""


@dataclass(frozen=True)
class Measured:
    """Predictions on labelled images that the model was not adapted to.

    Attributes:
        table: those images; labels: their true classes, (B,).
        probabilities: (B, N).
        support: the images it was adapted to, as far as they are in the data.
        evaluation: how good the predictions are.
        reading: how the model reads pictures.
    """

    table: ImageTable
    labels: Int[NDArray[np.int64], " B"]
    probabilities: Float[NDArray[np.float32], "B N"]
    support: ImageTable
    evaluation: Evaluation
    reading: Reading

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Rows classified wrong, the surest first."""
        rows = np.flatnonzero(self.probabilities.argmax(1) != self.labels)
        return rows[np.argsort(-self.probabilities[rows].max(1), kind="stable")]

    @property
    def right(self) -> NDArray[np.int64]:
        """Rows classified right, the surest first."""
        rows = np.flatnonzero(self.probabilities.argmax(1) == self.labels)
        return rows[np.argsort(-self.probabilities[rows].max(1), kind="stable")]


def model_report(
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    classifier: FewShotClassifier | None = None,
    table: ImageTable | None = None,
    *,
    data: str = "DATA",
    groups: str | None = None,
    images: int = 6,
) -> dict[str, Any]:
    """Everything that the template `model.html` shows.

    Args:
        about, tensors: the saved folder (farshot.storage.model_folder.read_folder).
        classifier, table: the loaded model and labelled images, where it shall be measured.
        data, groups: what the images and their groups are called on the command line.
        images: mistakes to show, and images to show token maps of.

    Raises:
        DataError: no label is known to the model, or nothing is left to measure on.
    """
    method = create(about["method"], about["settings"])
    changed = changed_settings(method)
    found = measure(classifier, table) if classifier is not None and table is not None else None
    shots, drawn = _how_drawn(about, table)
    groups, grouped = _how_grouped(about, table, groups)
    estimated = Quality.estimated(about)
    quality = estimated if found is None else Quality.measured(found.evaluation)
    return {
        "title": "Report of an adapted model",
        "about": about,
        "summary": sentences(about, label(method), quality),
        "adapted_on": day(about["adapted_on"]) if about.get("adapted_on") else "",
        "quality": quality,
        "estimated": estimated,
        "base": base_name(about["base_model"]),
        "toy": toy_note(about["base_model"]),
        "method": label(method),
        "method_doc": method.doc,
        "classes": _classes(about, found),
        "loss": _loss_chart(about["losses"]),
        "strengths": _strength_chart(tensors),
        "found": None if found is None else _quality(about, found, images),
        "explained": [] if found is None or classifier is None else _token_maps(classifier, found, images),
        "origin": "" if classifier is None else subject(classifier.adapted_, classifier.encoder_).origin,
        "command": adapt_command(about, changed, shots, data, groups),
        "drawn": " ".join(filter(None, (drawn, grouped, _where_base_lies(about)))),
        "data": data,
    }


def measure(classifier: FewShotClassifier, table: ImageTable) -> Measured:
    """Predicts all images of a table but those that the model was adapted to."""
    table = table.with_options(classifier.read_options_)
    rows, labels = classifier.unseen(table)
    probabilities = classifier.predict_proba(table.subset(rows))
    groups = None if table.groups is None else [table.groups[row] for row in rows]
    unit = units_of_copies(table.contents(rows), groups)
    found = evaluate(labels, probabilities, [str(label) for label in classifier.classes_], unit)
    unadapted = _unadapted(classifier, table, rows)
    if unadapted is not None:
        found = replace(found, zero_shot=Unadapted.of(labels, probabilities.argmax(1), unadapted, unit))
    used = set(classifier.support_ids_)
    support = table.subset(np.flatnonzero(table.among(used)))
    reading = Reading(classifier.adapted_.reading, classifier.encoder_.size)
    return Measured(table.subset(rows), labels, probabilities, support, found, reading)


def _unadapted(
    classifier: FewShotClassifier, table: ImageTable, rows: Int[NDArray[np.int64], " B"]
) -> Int[NDArray[np.int64], " B"] | None:
    """The classes that the base model predicts by the prompts alone; None where it cannot, or where that is
    what the classifier does."""
    fitted = classifier.parameters_
    if fitted.method == ZERO_SHOT:
        return None
    none = np.zeros(0, dtype=np.int64)
    names = classifier.adapted_.class_names
    task = Task(table, names, none, none, template=fitted.template, descriptions=dict(fitted.descriptions))
    return zero_shot_classes(classifier.encoder_, task, rows, classifier.adapted_.reading)


def _how_drawn(about: Mapping[str, Any], table: ImageTable | None) -> tuple[int | None, str]:
    """Images per class that the model's seed draws from this data, if they are those it was adapted to."""
    if table is None:
        return (
            None,
            "Name the images it was adapted to in place of DATA; their content is listed in farshot.json.",
        )
    table = table.subset(table.train_rows())
    used = set(about["support_ids"])
    known = table.among(used)
    shown = {content for content, seen in zip(table.contents(), known, strict=True) if seen}
    if known.all() and len(shown) == len(used):
        of = "" if table.splits is None else " of the split train"
        return None, f"It was adapted to all of these images{of}."
    counts = [len(pictures) for pictures in _support_pictures(about, table)]
    if len(set(counts)) == 1 and counts[0]:
        try:
            rows, _ = table.draw(counts[0], about["seed"])
        except DataError:  # too few pictures that are independent: these are another draw
            rows = np.zeros(0, dtype=np.int64)
        drawn = table.subset(rows)
        if drawn.among(used).all() and len(set(drawn.contents())) == len(used):
            how = f"Checked: this draw of {counts[0]} per class gives the very images it was adapted to."
            return counts[0], how
    there = len(shown)
    return None, (
        f"{there} of the {len(used)} images it was adapted to are among these; put those it was adapted to "
        "in a separate folder to repeat it."
    )


def _how_grouped(
    about: Mapping[str, Any], table: ImageTable | None, groups: str | None
) -> tuple[str | None, str]:
    """What --groups of the command takes, and what to do about it, in a sentence."""
    if not about.get("support_groups"):
        return None, ""
    if groups is not None or (table is not None and table.groups is not None):
        return groups, ""
    return _GROUPS, (
        f"It was adapted with groups, such as of one patient: in place of {_GROUPS} name the column or the "
        "regular expression that gives them, or leave --groups out where the images have a column group; "
        "without groups the accuracy to expect is another."
    )


def _where_base_lies(about: Mapping[str, Any]) -> str:
    """What to put in place of the name of a base model that is a folder or file, in a sentence."""
    name = base_name(about["base_model"])
    if name == about["base_model"]:
        return ""
    return f"In place of {name} name where the base model lies; farshot.json has its content’s hash."


def _support_pictures(about: Mapping[str, Any], table: ImageTable) -> list[set[str]]:
    """The different pictures of each class that it was adapted to."""
    found: list[set[str]] = [set() for _ in table.classes]
    assert table.labels is not None
    known = table.among(set(about["support_ids"]))
    for content, code, seen in zip(table.contents(), table.labels.tolist(), known, strict=True):
        if seen:
            found[code].add(content)
    return found


def _classes(about: Mapping[str, Any], found: Measured | None) -> list[dict[str, Any]]:
    """One row per class: what it is called, and how many images were used for what."""
    rows = []
    for i, (key, name) in enumerate(zip(about["classes"], about["class_names"], strict=True)):
        row: dict[str, Any] = {"index": i, "label": str(key), "name": name}
        row["description"] = about["descriptions"].get(name, "")
        if found is not None:
            codes = about.get("support_labels")  # models of earlier versions do not say
            row["support"] = codes.count(i) if codes else _count(found.support, nfc(str(key)))
            row["images"] = int((found.labels == i).sum())
        rows.append(row)
    return rows


def _count(table: ImageTable, name: str) -> int:
    if table.labels is None or name not in table.classes:
        return 0
    return int((table.labels == table.classes.index(name)).sum())


def _quality(about: Mapping[str, Any], found: Measured, images: int) -> dict[str, Any]:
    """Numbers and pictures of how good the model is."""
    names = about["class_names"]
    evaluation, confusion = found.evaluation, found.evaluation.confusion
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return {
        "images": len(found.labels),
        "evaluation": evaluation,
        "confusion": confusion.tolist(),
        "share": share.tolist(),
        "histogram": _confidence_chart(found),
        "calibration": _calibration_chart(found),
        "mistakes": [_picture(found, int(row), names) for row in found.wrong[:images]],
        "wrong": len(found.wrong),
        "support": [
            {
                "source": _thumbnail(found.support.image(row), found.reading),
                "name": _class_of(found.support, row, about),
            }
            for row in range(min(len(found.support), _MOST_SUPPORT))
        ],
        "support_images": len(found.support),
        "reading": found.reading.in_words,
    }


def _class_of(table: ImageTable, row: int, about: Mapping[str, Any]) -> str:
    """What a picture is called; the label itself where these images have one that the model does not know."""
    assert table.labels is not None
    label = nfc(table.classes[int(table.labels[row])])
    names = {nfc(str(key)): name for key, name in zip(about["classes"], about["class_names"], strict=True)}
    return str(names.get(label, label))


def _picture(found: Measured, row: int, names: Sequence[str]) -> dict[str, Any]:
    p, picture = found.probabilities[row], found.table.image(row)
    seen = found.reading.seen(picture)
    return {
        "source": _thumbnail(picture, found.reading, 2 * _THUMBNAIL),
        "seen": None if seen is None else data_uri(seen),
        "file": Path(path_of(found.table.images[row])).name,
        "true": names[int(found.labels[row])],
        "predicted": names[int(p.argmax())],
        "confidence": float(p.max()),
        "true_probability": float(p[found.labels[row]]),
    }


def _thumbnail(picture: Image.Image, reading: Reading, side: int = _THUMBNAIL) -> str:
    picture.thumbnail((side, side))
    return data_uri(reading.framed(picture))


def _token_maps(classifier: FewShotClassifier, found: Measured, images: int) -> list[dict[str, Any]]:
    """Explanations of the surest mistakes and the surest right answers, half and half."""
    wrong = found.wrong[: images // 2]
    rows = np.concatenate([wrong, found.right[: images - len(wrong)]])
    if not len(rows):
        return []
    shown = explain_table(classifier, found.table.subset(rows))
    return [
        described(one, panels(one))
        | {
            "number": number,
            "true": one.class_names[int(found.labels[row])],
            "right": one.predicted == found.labels[row],
        }
        for number, (row, one) in enumerate(zip(rows, shown, strict=True), 1)
    ]


def _confidence_chart(found: Measured) -> Markup:
    """Right and wrong predictions side by side, by confidence."""
    confidence = found.probabilities.max(1)
    right = found.probabilities.argmax(1) == found.labels
    edges = np.linspace(0, 1, _BINS + 1)
    counts = [np.histogram(confidence[mask], edges)[0] for mask in (right, ~right)]
    top = max(1, *(int(count.max()) for count in counts))
    chart = Chart((0, 100), (0, 1.08 * top), "confidence %", "images", height=230)
    half = 100 / _BINS / 2
    for bin_ in range(_BINS):
        for side, count in enumerate(counts):
            left = 100 * edges[bin_] + side * half
            if count[bin_]:
                chart.bar((left, left + half), (0, float(count[bin_])), (0, 3)[side], hollow=side == 1)
    told = f"{int(right.sum())} right, mean confidence {_mean(confidence[right])}; "
    told += f"{int((~right).sum())} wrong, mean confidence {_mean(confidence[~right])}"
    return chart.render("How sure it is, where it is right and where it is wrong", told)


def _mean(values: NDArray[np.float32]) -> str:
    return f"{100 * float(values.mean()):.1f} %" if len(values) else "-"


def _calibration_chart(found: Measured) -> Markup:
    chart = Chart((0, 100), (0, 100), "confidence %", "share right %", height=300)
    chart.line([0, 100], [0, 100], plain=True)
    bins = calibration_bins(found.probabilities, found.labels)
    chart.line([100 * b.confidence for b in bins], [100 * b.accuracy for b in bins])
    for b in bins:
        told = f"{b.images} images of confidence {100 * b.confidence:.1f} %: right {100 * b.accuracy:.1f} %"
        chart.point(100 * b.confidence, 100 * b.accuracy, title=told)
    told = f"calibration error {100 * found.evaluation.calibration_error:.1f} points"
    return chart.render("How often it is right, by how sure it is", told)


def _loss_chart(losses: Sequence[float]) -> Markup | None:
    """Loss of each training step; None where nothing was trained by steps."""
    if len(losses) < 2:
        return None
    steps = np.arange(1, len(losses) + 1)
    chart = Chart((0, len(losses)), padded(losses, around=0), "step", "loss, nats", height=220)
    chart.line(steps.tolist(), list(losses))
    return chart.render("Loss of each training step", f"from {losses[0]:.3f} to {losses[-1]:.3f} nats")


def _strength_chart(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Learned pull and push by block; None without alignment."""
    if "alignment.pull" not in tensors:
        return None
    pull, push = (tensors[f"alignment.{name}"][0].double().tolist() for name in ("pull", "push"))
    blocks = list(range(len(pull)))
    chart = Chart(
        (-0.5, len(pull) - 0.5), padded([*pull, *push], around=0), "vision block, from 0", "strength"
    )
    chart.line([-0.5, len(pull) - 0.5], [0, 0], plain=True)
    for i, values in enumerate((pull, push)):
        chart.line(blocks, values, i)
        for block, value in zip(blocks, values, strict=True):
            chart.point(block, value, i, title=f"block {block}: {value:+.4f}")
    rows = [{"block": b, "pull": pull[b], "push": push[b]} for b in blocks]
    turned = sum(value < 0 for value in (*pull, *push))
    told = f"pull {min(pull):+.3f} to {max(pull):+.3f}, push {min(push):+.3f} to {max(push):+.3f}"
    return {
        "svg": chart.render("Learned pull and push", told),
        "legend": legend(["pull of head tokens", "push of tail tokens"]),
        "rows": rows,
        "turned": turned,
    }

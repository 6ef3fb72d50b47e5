"""`farshot predict`: the class of each image by an adapted model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console, streams
from farshot.cli.options import BaseModel, Device, Saved, SkipUnreadable
from farshot.cli.tables import note_on, readable
from farshot.errors import SettingError
from farshot.sanitize import path_cell, visible

if TYPE_CHECKING:
    import numpy as np

    from farshot.arrays import NDArray
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable


def predict(
    folder: Saved,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image, all probabilities.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per image.")] = False,
    reject: Annotated[
        float | None,
        typer.Option(
            help="Give no class to images that are unlike all labelled ones: 0.05 also loses about 5 % of "
            "the images that are like them. In CSV and JSON their class is empty.",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Add the classes of each image that hold the true one with this probability: 0.9."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Choose between these classes alone, where the others are known to be out of the question. "
            "Repeatable."
        ),
    ] = None,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Predict the classes of images.

    Each line has the image, its class, how certain it is (a percentage if the model is calibrated, else a
    score), and p: how often an image like the labelled ones is as unlike them as this one.
    """
    from farshot.classifier import load
    from farshot.data.names import nfc
    from farshot.data.readers import unlabelled

    if as_csv and as_json:
        raise SettingError("Choose one of --csv and --json.")
    if only and coverage is not None:
        raise SettingError(
            "--coverage was measured with all classes, so it promises nothing for some; leave out --only."
        )
    table = unlabelled(images)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    table = readable(table, skip_unreadable, classifier)
    if reject is not None and classifier.familiarity_ is not None:
        classifier.familiarity_.check_level(reject)
    threshold = None if coverage is None else classifier.set_threshold(coverage)
    with console.progress_of(classifier, "predicting"):
        probabilities = classifier.predict_proba(table, only or None)
    p_values = None
    if classifier.familiarity_ is not None or reject is not None:
        with console.progress_of(classifier, "comparing with the labelled images"):
            p_values = classifier.familiarity(table)
    note = note_on(classifier, len(table))
    classes = list(dict.fromkeys(map(nfc, only))) if only else [str(c) for c in classifier.classes_]
    rows = _rows(classifier, classes, table, probabilities, p_values, reject, threshold)
    if as_json:
        console.print_json([{**row, **({"note": note} if note else {})} for row in rows])
    elif as_csv:
        console.print_csv(_csv(rows, classes))
    else:  # rich would make spaces of tabs
        streams.write_data("".join(_line(row) for row in rows))


NONE = "none of these"
"""Printed in place of a class that is rejected."""


def _rows(
    classifier: FewShotClassifier,
    classes: list[str],
    table: ImageTable,
    probabilities: NDArray[np.float32],
    p_values: NDArray[np.float64] | None,
    reject: float | None,
    threshold: float | None,
) -> list[dict[str, Any]]:
    """What is known of each image, as it is written in JSON."""
    from farshot.evaluation.sets import prediction_sets

    sets = None if threshold is None else prediction_sets(probabilities, threshold)
    rows = []
    for i, (path, p) in enumerate(zip(table.images, probabilities, strict=True)):
        row: dict[str, Any] = {
            "image": str(path),
            "class": classes[int(p.argmax())],
            "probabilities": dict(zip(classes, map(float, p), strict=True)),
            # the temperature was fitted with all classes
            "calibrated": classifier.calibrated_ and len(classes) == len(classifier.classes_),
        }
        if p_values is not None:
            row["p_value"] = float(p_values[i])
        if sets is not None:
            row["set"] = [classes[c] for c in (-p).argsort(kind="stable") if sets[i, c]]
        if p_values is not None and reject is not None:
            row["rejected"] = bool(p_values[i] <= reject)
            if row["rejected"]:
                row |= {"class": None} | ({"set": []} if sets is not None else {})
        rows.append(row)
    return rows


def _csv(rows: list[dict[str, Any]], classes: list[str]) -> Iterator[list[Any]]:
    """A header and a row per image; a set is one cell, its classes separated by "|"."""
    more = [name for name in ("p_value", "rejected", "set") if rows and name in rows[0]]
    yield ["image", "class", *classes, *more]
    for row in rows:
        values = [f"{value:.6f}" for value in row["probabilities"].values()]
        cells = {"p_value": lambda v: f"{v:.4f}", "rejected": lambda v: str(v).lower(), "set": "|".join}
        yield [path_cell(row["image"]), row["class"], *values, *(cells[name](row[name]) for name in more)]


def _line(row: dict[str, Any]) -> str:
    """One line of text."""
    from farshot.evaluation.calibration import certain_in_words

    best = max(row["probabilities"].values())
    certain = certain_in_words(best, row["calibrated"])
    words = [row["image"], *((NONE, "-") if row["class"] is None else (row["class"], certain))]
    if "p_value" in row:
        words.append(f"p {row['p_value']:.3f}")
    if "set" in row:
        words.append("{" + ", ".join(row["set"]) + "}")
    return "\t".join(map(visible, words)) + "\n"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)

"""`farshot predict`: the class of each image by an adapted model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farshot.cli import console
from farshot.cli.options import BaseModel, Device, Saved, SkipUnreadable
from farshot.cli.predictions import CsvFile, Rows, columns, printed
from farshot.cli.tables import note_on, print_left_out
from farshot.errors import DataError, SettingError

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier
    from farshot.classifier.stream import Part
    from farshot.data.table import ImageTable


def predict(
    folder: Saved,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image, all probabilities.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per image.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the comma-separated rows to this file as they come. The same command goes on where "
            "an interrupted one stopped."
        ),
    ] = None,
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
    score), and p: how often an image like the labelled ones is as unlike them as this one. A model of the app
    says "not sure" below its limit. Lines are printed as they come. Images that cannot be read are listed at
    the end.
    """
    from farshot.classifier import load
    from farshot.data.names import nfc
    from farshot.data.readers import unlabelled
    from farshot.data.table import unreadable

    if sum((as_csv, as_json, out is not None)) > 1:
        raise SettingError("Choose one of --csv, --json and --out.")
    if only and coverage is not None:
        raise SettingError(
            "--coverage was measured with all classes, so it promises nothing for some; leave out --only."
        )
    table = unlabelled(images)
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    if reject is not None:
        classifier.require_familiarity().check_level(reject)
    threshold = None if coverage is None else classifier.set_threshold(coverage)
    classes = list(dict.fromkeys(map(nfc, only))) if only else [str(c) for c in classifier.classes_]
    if only:
        classifier.columns_of(only)
    asked = _Asked(classifier, classes, reject, threshold)
    where: Rows
    if out is None:
        where = printed("json" if as_json else "csv" if as_csv else "text", asked.header())
    else:
        options = {"reject": reject, "coverage": coverage, "classes": classes}
        where = CsvFile(out, asked.header(), classifier, options)
        table = where.left(table)
    with where:
        faults = _write(asked, table, where, skip_unreadable)
        if faults and not skip_unreadable:
            raise unreadable(faults, len(table))
        if faults and len(faults) == len(table):
            raise DataError(f"None of the {len(table)} images can be read: {faults[0]}")
    print_left_out(len(faults))


def _write(asked: _Asked, table: ImageTable, where: Rows, skip_unreadable: bool) -> list[str]:
    """Predict and write part by part; returns what is wrong with images that cannot be read."""
    from farshot.classifier.stream import predict_parts
    from farshot.data.table import unreadable

    classifier, faults = asked.classifier, list[str]()
    with console.progress_of(classifier, "predicting"):
        for part in predict_parts(classifier, table, p_values=classifier.familiarity_ is not None):
            faults += part.faults.values()
            if classifier.method_.kind == "transductive" and part.faults and not skip_unreadable:
                raise unreadable(faults, len(table))  # without them the others might get other classes
            note = note_on(classifier, len(part.rows)) if len(part.rows) else ""
            where.write(asked.rows(table, part, note))
    return faults


class _Asked:
    """What is asked of every image."""

    def __init__(
        self,
        classifier: FewShotClassifier,
        classes: list[str],
        reject: float | None,
        threshold: float | None,
    ) -> None:
        self.classifier, self.classes = classifier, classes
        self.reject, self.threshold = reject, threshold
        self.some = len(classes) < len(classifier.classes_)
        self.limit = None if self.some else classifier.limit_  # it was found with all classes

    def header(self) -> list[str]:
        """The columns of the comma-separated values."""
        known = self.classifier.familiarity_ is not None
        more = [self.limit is not None, known, self.reject is not None, self.threshold is not None]
        return columns(self.classes, *more)

    def rows(self, table: ImageTable, part: Part, note: str) -> Iterator[dict[str, Any]]:
        """What is known of each image of a part, as it is written in JSON."""
        from farshot.evaluation.sets import prediction_sets

        classes = self.classes
        probabilities = self.classifier.probabilities(part.logits, classes if self.some else None)
        sets = None if self.threshold is None else prediction_sets(probabilities, self.threshold)
        for i, (number, p) in enumerate(zip(part.rows.tolist(), probabilities, strict=True)):
            row: dict[str, Any] = {
                "image": str(table.images[number]),
                "class": classes[int(p.argmax())],
                "probabilities": dict(zip(classes, map(float, p), strict=True)),
                # the temperature was fitted with all classes
                "calibrated": self.classifier.calibrated_ and not self.some,
            }
            if self.limit is not None:
                row["sure"] = self.limit.sure(float(p.max()))
            if part.p_values is not None:
                row["p_value"] = float(part.p_values[i])
            if sets is not None:
                row["set"] = [classes[c] for c in (-p).argsort(kind="stable") if sets[i, c]]
            if part.p_values is not None and self.reject is not None:
                row["rejected"] = bool(part.p_values[i] <= self.reject)
                if row["rejected"]:
                    row |= {"class": None} | ({"set": []} if sets is not None else {})
            yield row | ({"note": note} if note else {})


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)

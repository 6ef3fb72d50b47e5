"""`farshot predict`: the class of each image by an adapted model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console, streams
from farshot.cli.options import BaseModel, Device, Saved, SkipUnreadable
from farshot.cli.tables import note_on, readable
from farshot.errors import SettingError


def predict(
    folder: Saved,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated, one row per image, all probabilities.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per image.")] = False,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Predict the classes of images."""
    from farshot.classifier import load
    from farshot.data.readers import unlabelled

    if as_csv and as_json:
        raise SettingError("Choose one of --csv and --json.")
    table = unlabelled(images)
    with console.progress("loading the model"):
        classifier = load(folder, model=model, device=device)
    table = readable(table, skip_unreadable, classifier)
    with console.progress_of(classifier, "predicting"):
        probabilities = classifier.predict_proba(table)
    note = note_on(classifier, len(table))
    classes = [str(c) for c in classifier.classes_]
    rows = [
        (str(path), classes[int(p.argmax())], p) for path, p in zip(table.images, probabilities, strict=True)
    ]
    if as_json:
        console.print_json(
            [
                {
                    "image": path,
                    "class": name,
                    "probabilities": dict(zip(classes, map(float, p), strict=True)),
                    **({"note": note} if note else {}),
                }
                for path, name, p in rows
            ]
        )
    elif as_csv:
        values = ([path, name, *(f"{value:.6f}" for value in p)] for path, name, p in rows)
        console.print_csv([["image", "class", *classes], *values])
    else:  # rich would make spaces of tabs
        streams.write_data("".join(f"{path}\t{name}\t{100 * p.max():.1f} %\n" for path, name, p in rows))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(predict)

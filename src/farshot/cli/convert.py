"""`farshot convert`: labels from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console
from farshot.cli.options import Download, use_downloads


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Anything that `adapt` reads, a CSV of predictions, or labels of COCO, CVAT, Datumaro, "
            "FiftyOne or Label Studio."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The new file or folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="csv, coco, cvat, datumaro, fiftyone (a folder, or labels.json), label-studio, imagefolder."
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="The folder that relative paths of SOURCE count from; by default that of the file."
        ),
    ] = None,
    relative_to: Annotated[
        Path | None,
        typer.Option(help="The folder that paths in OUT count from; by default that of OUT."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Only labels that a person, or a model, gave: person, model.")
    ] = None,
    several: Annotated[
        str | None,
        typer.Option(help="Of an image with several labels take the first, or skip the image: first, skip."),
    ] = None,
    download: Download = False,
) -> None:
    """Write labels in the format of another tool.

    Images stay where they are, except with --to imagefolder, which copies them into a folder per class. OUT
    must not be there yet.
    """
    from farshot.export.labels import IMAGEFOLDER, Choice, convert_labels

    use_downloads(download)
    choice = Choice(images, relative_to, by, several)
    rows = convert_labels(
        source, out, to, choice, lambda note: console.err.print(f"Note: {note}.", markup=False)
    )
    labelled = [row for row in rows if row.label is not None]
    classes = len({row.label for row in labelled})
    by_model = sum(row.by == "model" for row in labelled)
    if to == IMAGEFOLDER and by_model:
        console.err.print(
            f"Note: {by_model} of these labels were given by a model, which folders cannot say: they are "
            "read as those of people. --by person leaves them out.",
            markup=False,
        )
    console.out.print(
        f"{out}: {len(labelled)} labels of {classes} {'class' if classes == 1 else 'classes'} on "
        f"{len({row.image for row in rows})} images.",
        markup=False,
    )


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(convert)

"""The commands that show what a model did: thin, no logic. A function's docstring is its command's help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farshot import console
from farshot.cli_bench import ManyValues

Saved = Annotated[Path, typer.Argument(help="The folder of an adapted model.")]
BaseModel = Annotated[
    str | None, typer.Option("--model", help="Where the base model lies, if no longer where it was.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
]


def explain(
    folder: Saved,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for figures, page and numbers.")],
    blocks: Annotated[
        list[int] | None,
        typer.Option(
            "--blocks",
            help="Vision blocks, from 0, to show head and tail tokens for; by default those of strongest "
            "pull and push, and the last.",
        ),
    ] = None,
    model: BaseModel = None,
    device: Device = "auto",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Show what the model looked at in images: a figure each, and one page with all."""
    from farshot.bench.grid import label
    from farshot.classifier import load
    from farshot.data.readers import unlabelled
    from farshot.explain import explain_images, subject
    from farshot.explain.page import About, check_place, write_explanations

    check_place(out)
    table = unlabelled(images).check_readable(skip_unreadable)
    classifier = load(folder, model=model, device=device)
    seen = subject(classifier.adapted_, classifier.encoder_, classifier.template)
    about = About(
        str(classifier.model), label(classifier.method_), seen.class_names, classifier.temperature_ != 1
    )
    with console.progress("explaining") as progress:
        found = explain_images(
            seen, table, blocks=blocks or None, temperature=classifier.temperature_, progress=progress
        )
        count = write_explanations(out, found, about, seen.origin)
    console.out.print(f"{count} images: {out / 'index.html'}", markup=False)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(cls=ManyValues)(explain)

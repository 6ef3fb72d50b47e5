"""`farshot encoders`: which encoders can be adapted, and how each is named."""

from __future__ import annotations

from typing import Annotated

import typer

from farshot.cli import console


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("encoders")(encoders)


def encoders(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a list.")] = False,
) -> None:
    """List encoders of the field that can be adapted, as --model takes them."""
    from farshot.model.catalogue import ENCODERS

    if as_json:
        console.print_json([entry._asdict() for entry in ENCODERS])
        return
    for entry in ENCODERS:
        images_only = "" if entry.text else "; images alone, for prototypes or linear-probe with start=zero"
        console.out.print(entry.model, markup=False, soft_wrap=True)
        console.out.print(f"    {entry.format}{images_only}", markup=False, highlight=False)
    console.out.print(
        "Others of these formats work too, as do folders and files: see docs/encoders.md.", markup=False
    )

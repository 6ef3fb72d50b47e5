"""`farshot methods`: what can be adapted with, from a list that needs no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from farshot.cli import console
from farshot.errors import SettingError


def methods(
    pattern: Annotated[str, typer.Argument(help="A name or a pattern such as *lora*.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the methods, with what they train and their settings."""
    from farshot.methods.catalogue import REFERENCE, catalogue

    found = catalogue(pattern)
    if not found:
        raise SettingError(f"No method matches {pattern!r}; `farshot methods` lists all.")
    if as_json:
        console.print_json(found)
        return
    for name, facts in found.items():
        console.print_method(name, facts)
    console.out.print(
        f"Trained parameters are those for {REFERENCE}. Another value of a setting: --set name=value, once "
        "for each.",
        markup=False,
    )


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(methods)

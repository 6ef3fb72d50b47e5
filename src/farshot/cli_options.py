"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Saved = Annotated[Path, typer.Argument(help="The folder of an adapted model, or hf:OWNER/NAME.")]
BaseModel = Annotated[
    str | None, typer.Option("--model", help="Where the base model lies, if no longer where it was.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
]
Level = Annotated[
    int | None,
    typer.Option(
        "--level",
        help="Of a folder: how many folders deep the class folders lie, if that is not clear; 1 is directly "
        "in it.",
        min=1,
    ),
]

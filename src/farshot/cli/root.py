"""The `farshot` command: its subcommands, one file each, and what holds for all of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import (
    adapt,
    bench,
    check,
    choose,
    console,
    convert,
    curve,
    encoders,
    evaluate,
    explain,
    export,
    label_studio,
    methods,
    pick,
    predict,
    reproduce,
    serve,
    store,
)
from farshot.cli import (
    app as browser_app,
)
from farshot.errors import FarshotError
from farshot.storage.paths import default_cache
from farshot.workers.processors import prepare_threads

app = typer.Typer(
    cls=console.Commands,
    help="Adapt image-text encoders to new images from a handful of labelled pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        from farshot import __version__

        console.out.print(f"farshot {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = None,
) -> None:
    pass


def demo(
    out: Annotated[Path, typer.Option(help="Folder for images and the adapted model.")] = Path("demo"),
    tasks: Annotated[int, typer.Option(help="Tasks per method.", min=3)] = 40,
) -> None:
    """Run the main commands on images that come with the package."""
    from farshot.cli.demo import run_demo

    run_demo(out, tasks)


for _command in (check, choose, adapt, predict, evaluate, methods):
    _command.register(app)
app.command()(demo)
for _command in (
    convert,
    curve,
    bench,
    store,
    reproduce,
    encoders,
    explain,
    export,
    pick,
    browser_app,
    serve,
    label_studio,
):
    _command.register(app)


def main() -> None:
    """Entry point of the `farshot` command."""
    with contextlib.suppress(FarshotError, RuntimeError):  # no home folder
        # Matplotlib writes a list of fonts, by default to another folder of the user
        os.environ.setdefault("MPLCONFIGDIR", str(default_cache() / "matplotlib"))
    prepare_threads()
    console.run(app)

"""`farshot app`: start the browser app. A function's docstring is its command's help."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.options import Device
from farshot.cli.running import until_stopped
from farshot.errors import DataError

if TYPE_CHECKING:
    from farshot.app.server import Served


def app(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A base model to offer: hub name or checkpoint folder. Repeatable; the first leads."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder of projects, which stay; without it pictures go when the app ends."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this computer's need a password.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="0 takes the first free one from 7860 on.", min=0, max=65535)] = 0,
    share: Annotated[
        bool, typer.Option("--share", help="Make it reachable from the internet through Gradio's relay.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    precision: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    device: Device = "auto",
) -> None:
    """Label pictures, adapt, review and download the model in a browser, without writing code."""
    from farshot.app.opening import Options, opening

    options = Options(tuple(model or ()), keep, host, port, share, device, precision, browser)
    with ExitStack() as running:
        with console.progress("starting"):
            if find_spec("gradio") is None:
                raise _missing("gradio")
            opened = running.enter_context(opening(options))
            try:
                from farshot.app.server import serving
            except ImportError as error:
                if not (error.name or "").startswith(("gradio", "starlette")):
                    raise
                raise _missing(error.name) from error
            from farshot.model.device import check_machine

            check_machine(device, precision)
            served = running.enter_context(serving(options, opened))
        _tell(served, keep, share, options.loopback)
        until_stopped()


def _missing(name: str | None) -> DataError:
    return DataError(f"The app needs an extra ({name} is missing): pip install 'farshot[app]'.")


_GOES = "Pictures and models are removed when it ends; --keep FOLDER keeps them as projects"


def _tell(served: Served, keep: Path | None, share: bool, loopback: bool) -> None:
    from farshot.app.server import USER

    console.out.print(f"farshot is at {served.url}", markup=False)
    if share:
        console.err.print(
            f"Anybody on the internet who has the password reaches it at {served.shared}, and what you show "
            "it passes through a relay of others. Do not share pictures that are not yours to show.",
            markup=False,
            style="red",
        )
    elif not loopback:
        console.err.print(
            "Other computers can reach it, and what is sent is not encrypted: use it in a network that you "
            "trust.",
            markup=False,
            style="red",
        )
    if served.password:
        console.out.print(f"Name: {USER}  Password: {served.password}", markup=False)
    if keep and loopback and not share:
        console.out.print(
            "The address opens your projects in every browser of this computer. Other users do not know it.",
            markup=False,
        )
    kept = f"Projects are kept in {served.folder}" if keep else _GOES
    console.out.print(f"{kept}. Ctrl-C ends it.", markup=False)


def register(cli: typer.Typer) -> None:
    """Adds the command to the command line."""
    cli.command(name="app")(app)

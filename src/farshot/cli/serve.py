"""`farshot serve`: adapted models over HTTP. A function's docstring is its command's help."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console
from farshot.cli.options import BaseModel, Device
from farshot.cli.running import needs_serve_extra, until_stopped, warn_of_network


def serve(
    folders: Annotated[
        list[str],
        typer.Argument(
            help="Folders of adapted models, or hf:OWNER/NAME; NAME=FOLDER gives one another name than "
            "its folder's."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this computer's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key that every request must bring; or set FARSHOT_API_KEY."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Most images computed at once; 1 computes each alone.", min=1, max=1024)
    ] = 32,
    batch_wait: Annotated[
        float, typer.Option(help="Milliseconds that an image waits for others.", min=0, max=10_000)
    ] = 2.0,
    queue: Annotated[
        int, typer.Option(help="Most images, of all requests, that wait or are worked on.", min=1)
    ] = 256,
    files: Annotated[int, typer.Option(help="Most images of a request.", min=1)] = 64,
    reload_every: Annotated[
        float,
        typer.Option(help="Seconds between looks at the folders for a replaced model; 0 never looks.", min=0),
    ] = 2.0,
    model: BaseModel = None,
    device: Device = "auto",
) -> None:
    """Serve the predictions of adapted models over HTTP.

    POST images to /predict, as files or as base64 in JSON; the page /docs of the service says how.
    """
    with ExitStack() as running:
        with console.progress("loading"):
            with needs_serve_extra("service"):
                from farshot.serve.options import Batching, Limits, Options, read_key
                from farshot.serve.server import serving
            options = Options(
                folders,
                host,
                port,
                read_key(api_key_file),
                model,
                device,
                reload_every,
                Batching(batch_size, batch_wait / 1000),
                Limits(files=files, queue=queue),
            )
            served = running.enter_context(serving(options, _tell))
        names = ", ".join(served.models.served)
        console.out.print(f"{names}: {served.url}/docs says how to ask. Ctrl-C ends it.", markup=False)
        if not options.loopback:
            warn_of_network()
        until_stopped(served.is_alive)


def _tell(sentence: str) -> None:
    console.err.print(sentence, markup=False)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(serve)

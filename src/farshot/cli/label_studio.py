"""`farshot label-studio`: the ML backend of Label Studio. A function's docstring is its command's help."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from farshot.cli import console
from farshot.cli.options import Device, read_settings
from farshot.cli.running import needs_serve_extra, until_stopped, warn_of_network


def label_studio(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of the adapted model: one that exists, or an empty or new one until there are "
            "labels. It is replaced at every adaptation."
        ),
    ],
    label_studio: Annotated[
        str,
        typer.Option(
            "--label-studio",
            metavar="URL",
            help="Where Label Studio is; pictures are fetched from there alone, with the token in "
            "LABEL_STUDIO_API_KEY.",
        ),
    ] = "http://localhost:8080",
    project: Annotated[
        int | None, typer.Option(help="Number of the project; by default the first that connects.", min=1)
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Name of the Choices, where the project has several.")
    ] = None,
    labels: Annotated[
        int, typer.Option(help="So many new or changed labels start an adaptation.", min=1)
    ] = 10,
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub name, checkpoint folder, or mini; by default that of the adapted model, or "
            "openai/clip-vit-base-patch16."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="One of `farshot methods`; by default that of the adapted model, or linear-probe, which "
            "takes seconds."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method: name=value. Repeatable.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this computer's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 9090,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key that every request must bring; or set FARSHOT_API_KEY."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Predict labels in Label Studio, and learn from those that people give there.

    Connect it in the project's Settings > Model. It adapts again in the background when enough new labels
    came.
    """
    with ExitStack() as running:
        with console.progress("loading"):
            with needs_serve_extra("backend"):
                from farshot.label_studio.instance import TOKEN_VARIABLE
                from farshot.label_studio.options import Options
                from farshot.label_studio.server import serving
                from farshot.serve.options import read_key
            token = os.environ.get(TOKEN_VARIABLE, "").strip() or None
            options = Options(
                folder,
                label_studio,
                token,
                project,
                control,
                model,
                method,
                read_settings(settings or []),
                labels,
                device,
                host,
                port,
                read_key(api_key_file),
            )
            served = running.enter_context(serving(options, _tell))
        console.out.print(
            f"{served.url} is the model's address for Label Studio (Settings > Model). Ctrl-C ends it.",
            markup=False,
        )
        if token is None:
            console.err.print(
                f"{TOKEN_VARIABLE} is not set, so it neither learns nor fetches pictures; it predicts those "
                "within tasks (data URLs).",
                markup=False,
                style="red",
            )
        if not options.loopback:
            warn_of_network()
        until_stopped(served.is_alive)


def _tell(sentence: str) -> None:
    console.err.print(sentence, markup=False)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("label-studio")(label_studio)

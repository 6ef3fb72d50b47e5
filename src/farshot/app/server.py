"""Start the app: on the loopback address by default, without telemetry or other requests."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before Gradio is imported: it looks for newer versions and counts its uses otherwise
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# before huggingface_hub is imported: transfers by Xet cannot be stopped, nor taken up where they broke off
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import gradio as gr
import uvicorn
from gradio import http_server
from starlette.middleware import Middleware

from farshot.app.elements import STATIC
from farshot.app.guard import Guard
from farshot.app.models import models
from farshot.app.opening import Opened, Options, opening
from farshot.app.pages import Page
from farshot.app.projects import Projects
from farshot.app.routes import routes
from farshot.app.sessions import Sessions, last_model
from farshot.app.start import start_routes
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.picture import Setup
from farshot.errors import DataError
from farshot.methods.catalogue import FAST, THOROUGH
from farshot.web.address import LOOPBACK, url_of

_FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
USER = "farshot"
_MOST_WAITING = 500  # events; more are refused


@dataclass(frozen=True)
class Served:
    """A running app.

    Attributes:
        url: where this computer finds it; for projects with the secret that opens them.
        shared: where everybody finds it; None where it is not shared.
        password: of USER, where one is asked for.
        folder: where pictures lie.
    """

    url: str
    shared: str | None
    password: str | None
    folder: Path


@contextmanager
def serving(options: Options, opened: Opened | None = None, limits: Limits | None = None) -> Iterator[Served]:
    """Run the app while the context lasts.

    Args:
        opened: its folder and port; by default they are taken now.

    Raises:
        FarshotError: the port is taken, the folder cannot be written, or the relay is out of reach.
    """
    with ExitStack() as closing:
        opened = opened or closing.enter_context(opening(options))
        folder, keep = opened.folder, options.keep is not None
        encoders, offered = Encoders(options.device, options.precision), models(options.models)
        names = [one.name for one in offered if one.here]
        last = last_model(folder) if keep and not options.models else None
        setup = _first_setup(last if last in names else offered[0].name, encoders)
        sessions = Sessions(folder, limits, setup, keep=keep)
        closing.callback(sessions.close)
        open_to_others = options.open_to_others
        password = secrets.token_urlsafe(12) if open_to_others else None
        # others are not told where things lie on this computer
        saved = "Saved on the computer that runs this app." if open_to_others else f"Saved in {folder}."
        projects = Projects(sessions, [one.name for one in offered]) if keep else None
        # of other people none may fill the disk
        blocks = Page(sessions, encoders, offered, projects, saved, downloads=not open_to_others).build()
        blocks.queue(default_concurrency_limit=None, max_size=_MOST_WAITING)
        guard = Middleware(
            Guard,
            hosts=() if open_to_others else LOOPBACK,
            login=(USER, password) if password else None,
            access=opened.access,
        )
        ours = routes(sessions, encoders, projects)
        if projects is not None:
            ours += start_routes(projects, saved)
        listening = opened.take_over()
        try:
            with _gradio_listens_on(listening):
                _, _, shared = blocks.launch(
                    server_name=options.host,
                    server_port=listening.getsockname()[1],
                    share=options.share,
                    prevent_thread_lock=True,
                    quiet=True,
                    footer_links=[],
                    run_history=False,
                    enable_monitoring=False,
                    ssr_mode=False,
                    pwa=False,
                    mcp_server=False,
                    max_file_size="1kb",  # nothing is uploaded by Gradio's own route, which is closed besides
                    app_kwargs={
                        "middleware": [guard],
                        "routes": ours,
                        "docs_url": None,
                        "redoc_url": None,
                    },
                    theme=_theme(),
                    css_paths=[STATIC / "style.css", STATIC / "check.css"],
                )
        except RuntimeError as error:
            raise DataError(f"The app cannot be shared ({error}); start it without --share.") from error
        if options.share and not shared:
            blocks.close()
            raise DataError("The relay that shares the app is out of reach; start it without --share.")
        try:
            yield Served(opened.url, shared or None, password, folder)
        finally:
            blocks.close(verbose=False)


class _Server(http_server.Server):
    """Gradio's server on a socket that listens already."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self._listening = listening

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is closed."""
        super().run([self._listening])


@contextmanager
def _gradio_listens_on(listening: socket.socket) -> Iterator[None]:
    """Make Gradio's launch serve on this socket: by itself it looks for a free port, which another program
    may take before it listens."""
    host, port = listening.getsockname()[:2]

    def start_server(app: Any, **_: Any) -> tuple[str, int, str, _Server]:
        server = _Server(uvicorn.Config(app, log_level="warning"), listening)
        server.run_in_thread()
        return host, port, f"{url_of(host, port)}/", server

    before = http_server.start_server
    http_server.start_server = start_server
    try:
        yield
    finally:
        http_server.start_server = before


def _first_setup(model: str, encoders: Encoders) -> Setup:
    """What is chosen before anybody chooses: what takes seconds, and with a GPU what takes minutes."""
    if encoders.on_processor:
        return Setup(model, FAST)
    return Setup(model, THOROUGH)


def _theme() -> gr.themes.Base:
    """Gradio's own, with the system's fonts and colours dark enough to be read."""
    theme = gr.themes.Default(
        primary_hue="blue", secondary_hue="blue", font=list(_FONTS), font_mono=["monospace"]
    )
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
    )

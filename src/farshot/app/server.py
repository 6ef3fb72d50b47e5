"""Start the app: on the loopback address by default, without telemetry or other requests."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# before Gradio is imported: it looks for newer versions and counts its uses otherwise
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from starlette.middleware import Middleware

from farshot.app.guard import Guard
from farshot.app.models import models
from farshot.app.pages import STATIC, Page
from farshot.app.routes import routes
from farshot.app.sessions import Sessions, is_session
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.picture import Setup
from farshot.data.files import is_litter
from farshot.errors import DataError
from farshot.storage.atomic import check_writable
from farshot.storage.paths import home
from farshot.web.address import LOOPBACK, bound, is_loopback

PORTS = range(7860, 7880)
_PREFIX = "farshot-app-"  # then the process that the folder belongs to
_FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
USER = "farshot"
_MOST_WAITING = 500  # events; more are refused


@dataclass(frozen=True)
class Options:
    """Options of the app.

    Attributes:
        models: base models to offer in addition to those that are there.
        keep: folder that keeps pictures and models beyond the program's end; without it they are removed.
        host, port: where it listens; port 0 takes the first that is free.
        share: whether Gradio's relay makes it reachable from the internet, behind a password.
        device, precision: as for `farshot adapt`.
        browser: whether to open a browser.
    """

    models: Sequence[str] = ()
    keep: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    share: bool = False
    device: str = "auto"
    precision: str = "float32"
    browser: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach the address."""
        return is_loopback(self.host)


@dataclass(frozen=True)
class Served:
    """A running app.

    Attributes:
        url: where this computer finds it.
        shared: where everybody finds it; None where it is not shared.
        password: of USER, where one is asked for.
        folder: where pictures lie.
    """

    url: str
    shared: str | None
    password: str | None
    folder: Path


@contextmanager
def serving(options: Options, limits: Limits | None = None) -> Iterator[Served]:
    """Run the app while the context lasts.

    Raises:
        FarshotError: the port is taken, the folder cannot be written, or the relay is out of reach.
    """
    with _folder(options.keep) as folder, _gradio_files(), ExitStack() as closing:
        encoders, offered = Encoders(options.device, options.precision), models(options.models)
        setup = _first_setup(offered[0].name, encoders)
        sessions = Sessions(folder, limits, setup, keep=options.keep is not None)
        closing.callback(sessions.close)
        blocks = Page(sessions, encoders, offered).build()
        blocks.queue(default_concurrency_limit=None, max_size=_MOST_WAITING)
        open_to_others = options.share or not options.loopback
        password = secrets.token_urlsafe(12) if open_to_others else None
        guard = Middleware(
            Guard, hosts=() if open_to_others else LOOPBACK, login=(USER, password) if password else None
        )
        with bound(options.host, [options.port] if options.port else PORTS) as free:
            port = free.getsockname()[1]
        try:
            _, url, shared = blocks.launch(
                server_name=options.host,
                server_port=port,
                share=options.share,
                inbrowser=options.browser,
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
                    "routes": routes(sessions, encoders),
                    "docs_url": None,
                    "redoc_url": None,
                },
                theme=_theme(),
                css_paths=[STATIC / "style.css"],
            )
        except RuntimeError as error:
            raise DataError(f"The app cannot be shared ({error}); start it without --share.") from error
        if options.share and not shared:
            blocks.close()
            raise DataError("The relay that shares the app is out of reach; start it without --share.")
        try:
            yield Served(url, shared or None, password, folder)
        finally:
            blocks.close(verbose=False)


def _first_setup(model: str, encoders: Encoders) -> Setup:
    """What is chosen before anybody chooses: what takes seconds, and with a GPU what takes minutes."""
    if encoders.on_processor:
        return Setup(model, quick=True)
    return Setup(model, "atha")


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


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The given folder, or one that is removed at the end."""
    _sweep()
    if keep is None:
        prefix = f"{_PREFIX}{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as place:
            yield Path(place)
        return
    keep = home(keep)
    _check_keep(keep)
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that is there keeps its permissions
    except OSError as error:
        raise DataError(f"{keep} cannot be used ({error.strerror}); name another --keep.") from error
    yield keep


@contextmanager
def _gradio_files() -> Iterator[None]:
    """A private place for Gradio's files: its own, in the shared temporary folder, may be another user's."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as place:
        os.environ["GRADIO_TEMP_DIR"] = place
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("GRADIO_TEMP_DIR", None)
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def _sweep() -> None:
    """Delete what apps left in the temporary folder that were killed before they could."""
    for place in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        number = place.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdigit() and _is_ours(place) and not _is_running(int(number)):
            shutil.rmtree(place, ignore_errors=True)


def _is_ours(place: Path) -> bool:
    """Whether it is a folder, no link, of this user."""
    try:
        about = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == getattr(os, "getuid", lambda: about.st_uid)()


def _is_running(process: int) -> bool:
    """Whether there is a process of this number; True where that cannot be known."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _check_keep(keep: Path) -> None:
    """Refuse a folder that holds anything else, which would be hard to tell apart from pictures later."""
    check_writable(keep, "name another --keep")
    for entry in keep.iterdir() if keep.is_dir() else ():
        if not (is_session(entry) or is_litter([entry.name], hidden=True)):
            raise DataError(f"{keep} holds something else ({entry.name}); name a new folder as --keep.")

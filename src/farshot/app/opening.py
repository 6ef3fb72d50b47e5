"""What comes before all that is slow to import: folder, port, and a page that says that the app starts.

What is wrong with a folder or port is said at once, and the browser has something to show while PyTorch and
Gradio are loaded.
"""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from farshot.app.access import Access
from farshot.app.folders import Kept, gradio_files, holds, kept, temporary
from farshot.web.address import bound, is_loopback, url_of

PORTS = range(7860, 7880)
ALIVE = "/farshot/alive"
_PAGE = Path(__file__).parent / "static" / "starting.html"
_LOOK = 0.05  # seconds between two looks at whether the app is ready


@dataclass(frozen=True)
class Options:
    """Options of the app.

    Attributes:
        models: base models to offer in addition to those that are there.
        keep: folder of projects, which stay; without it pictures belong to one browser and go at the end.
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

    @property
    def open_to_others(self) -> bool:
        """Whether other people can reach it."""
        return self.share or not self.loopback


@dataclass(frozen=True)
class Opened:
    """A folder and a port that belong to the app.

    Attributes:
        folder: where pictures lie.
        access: to the projects; None without projects.
        url: where this computer finds it; for projects with the secret that opens them.
        listening: the socket, on which a page says that the app starts until `take_over`.
    """

    folder: Path
    access: Access | None
    url: str
    listening: socket.socket
    _starting: _Starting

    def take_over(self) -> socket.socket:
        """The socket for the app itself: who asks from now on waits until it serves."""
        self._starting.end()
        return self.listening


@contextmanager
def opening(options: Options) -> Iterator[Opened]:
    """Take folder and port, and open the browser.

    Raises:
        FarshotError: the port is taken, or the folder cannot be written or is in use.
    """
    with gradio_files(), ExitStack() as closing:
        place: Kept | None = None if options.keep is None else closing.enter_context(kept(options.keep))
        folder = closing.enter_context(temporary()) if place is None else place.folder
        listening = closing.enter_context(
            bound(options.host, [options.port] if options.port else PORTS, listening=True)
        )
        starting = _Starting(listening)
        closing.callback(starting.end)
        port = listening.getsockname()[1]
        url = opened = f"{url_of(options.host, port)}/"
        access = None if place is None else Access(place.key, lambda id: holds(folder, id))
        if place is not None and access is not None and not options.open_to_others:
            url = access.address(options.host, port)
            place.tell_address(url)
            opened = place.opening(url).as_uri()
        if options.browser:
            webbrowser.open(opened)
        yield Opened(folder, access, url, listening, starting)


class _Starting(ThreadingHTTPServer):
    """Answers on a socket that listens already, until it ends; the socket stays open."""

    daemon_threads, block_on_close = True, False

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.getsockname()[:2], _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        options = {"poll_interval": _LOOK}
        self._thread = threading.Thread(target=self.serve_forever, kwargs=options, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Answer no more requests."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves is no error."""


class _Answer(BaseHTTPRequestHandler):
    """The page for every page of the app. Other requests get no answer, as before the app was started: what
    pages of an earlier start still have to send, they send again."""

    timeout = 5  # seconds

    def do_GET(self) -> None:
        """The page, or that the app is not ready."""
        path = self.path.partition("?")[0]
        if path == ALIVE:
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()
        elif path == "/" or (path.startswith("/p/") and path.endswith("/")):
            page = _PAGE.read_bytes()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(page)))
            self.send_header("cache-control", "no-store")
            self.end_headers()
            self.wfile.write(page)

    def do_POST(self) -> None:
        """No answer."""

    do_HEAD = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing in the terminal."""

"""Images that a table names by URL are fetched once, within bounds, and only where that is asked for."""

from __future__ import annotations

import http.server
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farshot.data import urls
from farshot.data.lookup import source_at
from farshot.data.readers import read_table
from farshot.data.urls import FetchLimits, downloading
from farshot.errors import DataError
from farshot.images.member import Member
from tests.image_bytes import encoded
from tests.input_helpers import PROGRAM, Farshot, picture, refusal, subprocess_environment

LIMITS = FetchLimits(bytes=4000, seconds=0.5, silence=0.3, redirects=2, at_once=4)


class Server(http.server.ThreadingHTTPServer):
    """Serves pictures at /N.png, and what servers do wrong.

    Attributes:
        asked: the paths that were asked for.
        held: answers to /held/N.png wait for it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.held = threading.Event()
        self.elsewhere = ""

    def handle_error(self, *_: object) -> None:
        """The other side has gone."""

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        parts = self.path.split("/")[1:]
        kind, last = parts[0], parts[-1]
        found = re.fullmatch(r"(\d+)\.png", last)
        targets = {
            "moved": "/5.png",
            "loop": "/loop",
            "file": "file:///etc/passwd",
            "ftp": "ftp://example.org/x.png",
            "inside": self.server.elsewhere,
        }
        if kind in targets:
            self.send_response(302)
            self.send_header("Location", targets[kind])
            self.end_headers()
        elif kind == "page":
            self.whole(b"<html>log in</html>", "text/html; charset=utf-8")
        elif kind == "large":
            self.whole(bytes(5000), "image/png")
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            self.dribble(b"x" * 1000, 0)
        elif kind == "slow":
            self.send_response(200)
            self.end_headers()
            self.dribble(b"x", 0.05)
        elif kind == "silent":
            threading.Event().wait(2)
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "3000")
            self.end_headers()
            self.wfile.write(b"x" * 100)
        elif kind == "empty":
            self.whole(b"", "image/png")
        elif found is not None:
            if kind == "held":
                self.server.held.wait(20)
            self.whole(encoded(picture(int(found[1])), "PNG"), "image/png")
        else:
            self.send_error(404)

    def whole(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def dribble(self, piece: bytes, pause: float) -> None:
        try:
            for _ in range(60):
                self.wfile.write(piece)
                threading.Event().wait(pause)
        except OSError:  # the other side has had enough
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server on this computer; the cache is empty."""
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.held.set()
        server.shutdown()
        thread.join()


def table_of(folder: Path, *addresses: str, column: str = "path") -> Path:
    """A table of these URLs, in two classes."""
    path = folder / "urls.csv"
    rows = [f"{address},{'ab'[n % 2]}\n" for n, address in enumerate(addresses)]
    path.write_text(f"{column},label\n{''.join(rows)}")
    return path


def cached() -> list[Path]:
    """Files in the cache."""
    return sorted(path for path in urls.default_cache().rglob("*") if path.is_file())


def fault_of(folder: Path, address: str) -> str:
    """Why the image at an address is not downloaded; nothing of it is left."""
    with downloading(limits=LIMITS):
        table = read_table(table_of(folder, address))
    (image,) = table.images
    assert isinstance(image, Member)
    assert image.fault is not None
    assert cached() == []
    assert table.notes[-1] == f"1 of 1 images of {folder / 'urls.csv'} could not be downloaded"
    with pytest.raises(
        DataError, match=re.escape(f"{address}: not downloaded ({folder / 'urls.csv'}, line 2): ")
    ):
        table.check_readable()
    return image.fault.partition("): ")[2]


@pytest.mark.parametrize("column", ["path", "url"])
def test_images_are_fetched_once_and_are_then_there(server: Server, tmp_path: Path, column: str) -> None:
    names = [f"{server.root}/{n}.png" for n in range(6)]
    path = table_of(tmp_path, *names, column=column)
    with pytest.raises(
        DataError, match=r"line 2: 6 images are URLs that are not in the cache yet; download=True"
    ):
        read_table(path)
    assert server.asked == []
    table = read_table(path, download=True)
    assert sorted(server.asked) == sorted(f"/{n}.png" for n in range(6))
    assert [str(image) for image in table.images] == names
    assert [table.pixels([n], "squash", 20).shape for n in range(2)] == [(1, 20, 20, 3)] * 2
    assert len(cached()) == 6
    again = read_table(path)  # without a network
    assert len(server.asked) == 6
    assert again.check_readable().contents() == table.contents()
    found = source_at(table.images[0].absolute().name)  # as --from looks for it
    assert found == table.images[0]
    assert source_at(f"{server.root}/99.png") is None


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("missing.png", "the server answered 404 Not Found; check the address."),
        ("page", "the server sent text/html, not an image; give the address of the image itself."),
        ("large", "it is over 0.004 MB; scale the image down or give a smaller one."),
        ("endless", "it is over 0.004 MB; scale the image down or give a smaller one."),
        ("slow", "it took longer than 0.5 s; try again later."),
        ("silent", "the server did not answer for 0.3 s; try again later."),
        ("empty", "the server sent nothing; check the address."),
        ("loop", "it redirects more than 2 times; give the last address."),
        ("file", "it redirects to file:, not to http or https."),
        ("ftp", "it redirects to ftp:, not to http or https."),
    ],
)
def test_what_a_server_does_wrong_is_said(server: Server, tmp_path: Path, page: str, says: str) -> None:
    assert fault_of(tmp_path, f"{server.root}/{page}") == says


def test_an_image_that_is_cut_short_is_not_kept(server: Server, tmp_path: Path) -> None:
    assert fault_of(tmp_path, f"{server.root}/cut").endswith("check the address and the connection.")
    assert fault_of(tmp_path, "http://127.0.0.1:9/x.png").endswith("check the address and the connection.")
    assert fault_of(tmp_path, "http://[::1/x.png").endswith("check the address and the connection.")


def test_a_redirect_within_the_named_host_is_followed(server: Server, tmp_path: Path) -> None:
    table = read_table(table_of(tmp_path, f"{server.root}/moved"), download=True)
    assert table.check_readable() is table
    assert server.asked == ["/moved", "/5.png"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "2130706433"],
)
def test_a_redirect_to_this_computer_or_a_private_network_is_refused(
    server: Server, tmp_path: Path, host: str
) -> None:
    with Server() as other:
        server.elsewhere = f"http://{host}:{other.server_port}/1.png"
        says = fault_of(tmp_path, f"{server.root}/inside")
    assert "which is this computer or in a private network" in says
    assert other.asked == []


def test_a_redirect_to_a_public_host_goes_to_the_address_that_was_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.elsewhere = f"http://pictures.example:{server.server_port}/3.png"
    looked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        looked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(urls.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(urls, "is_public", lambda host: True)
    path = table_of(tmp_path, f"{server.root}/inside")
    table = read_table(path, download=True)
    assert table.check_readable() is table
    assert "pictures.example" in looked


def test_the_commands_name_every_image_that_is_missing(
    server: Server, tmp_path: Path, farshot: Farshot
) -> None:
    names = [f"{server.root}/{n}.png" for n in range(6)]
    path = table_of(tmp_path, *names, f"{server.root}/missing.png", f"{server.root}/page")
    command = ("adapt", path, "--model", "mini", "--device", "cpu", "--method", "prototypes", "--no-estimate")
    out = tmp_path / "adapted"
    assert "; --download fetches them." in refusal(farshot(*command, "--out", out))
    told = farshot(*command, "--out", out, "--download")
    assert told.code == 2
    assert "2 of 8 images cannot be read; fix or remove them, or use --skip-unreadable" in told.err
    assert f"/missing.png: not downloaded ({path}, line 8): the server answered 404" in told.err
    assert f"/page: not downloaded ({path}, line 9): the server sent text/html" in told.err
    told = farshot(*command, "--out", out, "--download", "--skip-unreadable")
    assert told.code == 0, told
    assert "to 6 images of 2 classes" in told.out
    assert sorted(server.asked).count("/0.png") == 1
    copied = farshot("convert", table_of(tmp_path, *names), tmp_path / "tree", "--to", "imagefolder")
    assert copied.code == 0, copied
    assert (tmp_path / "tree" / "b" / "5.png").is_file()


def test_a_cache_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="set FARSHOT_CACHE to another folder"):
        read_table(table_of(tmp_path, f"{server.root}/1.png"), download=True)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_was_ended_goes_on(server: Server, tmp_path: Path, end: signal.Signals) -> None:
    names = [f"{server.root}/{n}.png" for n in range(6)] + [
        f"{server.root}/held/{n}.png" for n in range(6, 8)
    ]
    path = table_of(tmp_path, *names)
    command = [*PROGRAM, "convert", str(path), str(tmp_path / "tree"), "--to", "imagefolder", "--download"]
    program = subprocess.Popen(command, env=subprocess_environment(), stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while (len(cached()) < 6 or len(server.asked) < 8) and time.monotonic() < until:
        threading.Event().wait(0.02)
    program.send_signal(end)
    server.held.set() if end == signal.SIGINT else None
    _, said = program.communicate(timeout=30)
    assert program.returncode == (-9 if end == signal.SIGKILL else 130), said
    assert not (tmp_path / "tree").exists()
    server.held.set()
    before = len(server.asked)
    assert before == 8
    done = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(server.asked[before:]) <= {"/held/6.png", "/held/7.png"}
    assert sorted(file.name for file in (tmp_path / "tree").rglob("*.png")) == [f"{n}.png" for n in range(8)]

"""What the app shows and refuses before PyTorch and Gradio are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from farshot.app.opening import ALIVE, Options, opening
from farshot.errors import DataError, SettingError
from tests.input_helpers import Farshot


def test_a_page_says_that_the_app_starts_and_gives_way_to_it() -> None:
    with opening(Options()) as opened:
        page = httpx.get(opened.url)
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert "The app is starting" in page.text and "src=" not in page.text
        url = opened.url.rstrip("/")
        assert httpx.get(url + ALIVE).status_code == 202
        # what pages of an earlier start send gets no answer, so that they send it again
        for ask in (lambda: httpx.post(f"{url}/farshot/act", json={}), lambda: httpx.get(f"{url}/config")):
            with pytest.raises(httpx.RemoteProtocolError):
                ask()
        listening = opened.take_over()
        # who asks now waits for the app, which has the same socket
        assert listening.getsockname()[1] == int(url.rpartition(":")[2])
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(opened.url, timeout=0.2)


def test_the_secret_of_projects_is_in_the_address_and_not_on_the_page(tmp_path: Path) -> None:
    with opening(Options(keep=tmp_path / "kept")) as opened:
        assert opened.access is not None and "?token=" in opened.url
        assert opened.url.partition("=")[2] not in httpx.get(opened.url).text
        in_use = pytest.raises(DataError, match=r"in use by another farshot app at http://127.*token=")
        with in_use, opening(Options(keep=tmp_path / "kept")):
            pass


def test_the_browser_is_opened_before_anything_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("webbrowser.open", lambda url: seen.append(httpx.get(url).status_code))
    with opening(Options(browser=True)):
        assert seen == [200]


def test_a_port_that_is_taken_is_said_at_once() -> None:
    with opening(Options()) as opened:
        port = int(opened.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(SettingError, match="name another --port"), opening(Options(port=port)):
            pass


@pytest.mark.parametrize("wrong", ["port", "keep"])
def test_what_is_refused_needs_neither_pytorch_nor_gradio(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("something else")
    with opening(Options()) as opened:
        given = {"port": opened.url.rstrip("/").rpartition(":")[2], "keep": str(tmp_path)}[wrong]
        code = (
            f"import sys; sys.argv = ['farshot', 'app', '--no-browser', '--{wrong}', {given!r}]\n"
            "from farshot.cli.root import main\n"
            "try: main()\n"
            "finally: print([m for m in ('torch', 'gradio', 'transformers', 'sklearn') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert f"name another --{wrong}" in done.stderr or f"as --{wrong}" in done.stderr


def test_where_gradio_is_missing_nothing_is_opened(
    farshot: Farshot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("farshot.cli.app.find_spec", lambda name: None)
    done = farshot("app", "--no-browser", "--keep", tmp_path / "kept")
    assert done.code == 2 and "pip install 'farshot[app]'" in done.err
    assert not (tmp_path / "kept").exists()

"""The app without a browser: what comes in and goes out, and how it starts.

tests/test_app_browser.py goes the whole way in a real one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import CacheNotFound

from farshot.app import models as app_models
from farshot.app import view
from farshot.app.server import USER, Options, serving
from farshot.app.sessions import COOKIE, Sessions
from farshot.app.workspace.limits import Limits
from farshot.errors import SettingError
from tests import app_clients
from tests.app_clients import HEADER, browser, send, session_of
from tests.hostile import hostile_uploads
from tests.input_helpers import Farshot
from tests.pages import Page as Read
from tests.workspaces import CLASSES, drawn

pytestmark = app_clients.marks


# In and out ----------------------------------------------------------------------------------------------


def test_only_the_page_itself_can_send(sessions: Sessions) -> None:
    assert browser(sessions).post("/farshot/upload", content=b"x").status_code == 403


def test_pictures_come_in_and_small_copies_go_out(sessions: Sessions) -> None:
    client = browser(sessions)
    pictures = drawn(1)
    for number, (label, data) in enumerate(pictures):
        assert send(client, f"{label}/{number}.png", data).status_code == 200
    session = session_of(sessions, client)
    assert session.take(None) == (2, [])
    assert session.workspace.class_names == CLASSES
    for picture, (_, data) in zip(session.workspace.pictures, pictures, strict=True):
        answer = client.get(f"/farshot/thumbnail/{picture.id}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert session.workspace.path(picture).read_bytes() == data
    assert not list(session.incoming.iterdir())


def test_nobody_sees_what_another_browser_brought(sessions: Sessions) -> None:
    ada, eve = browser(sessions), browser(sessions)
    send(ada, "a.png", drawn(1)[0][1])
    mine = session_of(sessions, ada)
    mine.take(None)
    (picture,) = mine.workspace.pictures
    downloads = mine.workspace.folder / "downloads"
    downloads.mkdir()
    eve.get("/farshot/download/model")
    assert eve.cookies[COOKIE] != ada.cookies[COOKIE]
    assert ada.get(f"/farshot/thumbnail/{picture.id}").status_code == 200
    assert eve.get(f"/farshot/thumbnail/{picture.id}").status_code == 404
    assert session_of(sessions, eve).workspace.pictures == ()
    assert ada.cookies[COOKIE] not in str(mine.workspace.folder)


@pytest.mark.parametrize("id", ["..%2F..%2Fstate.json", "state.json", "%00", "a" * 5000])
def test_a_thumbnail_of_nothing_is_nothing(sessions: Sessions, id: str) -> None:
    assert browser(sessions).get(f"/farshot/thumbnail/{id}").status_code == 404


def test_what_is_too_large_is_broken_off_and_told_with_the_next_pictures(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, Limits(archive_bytes=10_000))
    client = browser(sessions)
    assert send(client, "C:\\large\\<b>.zip", b"x" * 10_001).status_code == 413
    session = session_of(sessions, client)
    assert not list(session.incoming.iterdir())
    send(client, "fine.png", drawn(1)[0][1])
    count, (refused,) = session.take(None)
    assert count == 1
    assert refused.name == "<b>.zip"
    assert "make it smaller" in refused.reason
    assert session.take(None) == (0, [])


def test_not_more_waits_than_can_be_looked_at(tmp_path: Path) -> None:
    client = browser(Sessions(tmp_path, Limits(archive_bytes=1000)))
    answers = [send(client, "x", b"x" * 1000).status_code for _ in range(6)]
    assert answers == [200] * 4 + [413] * 2


def test_hostile_uploads_are_refused_each_with_a_sentence_and_the_app_goes_on(
    sessions: Sessions, tmp_path: Path
) -> None:
    (tmp_path / "hostile").mkdir()
    client = browser(sessions)
    refused, sent = 0, 0
    for hostile in hostile_uploads(tmp_path / "hostile"):
        if not hostile.path.is_file() or hostile.path.is_symlink() or hostile.path.stat().st_size > 10**7:
            continue  # what a browser cannot send; what is large is tested where it is cheap
        assert send(client, hostile.name, hostile.path.read_bytes()).status_code == 200
        count, told = session_of(sessions, client).take(None)
        assert count == hostile.taken, hostile.kind
        assert bool(told) == bool(hostile.words), hostile.kind
        assert all(one.reason.endswith(".") and len(one.reason) < 400 for one in told), hostile.kind
        html = view.note("", told)
        assert not re.search(r"<(script|img|svg|iframe)\b", html), hostile.kind
        sent, refused = sent + 1, refused + bool(told)
    assert sent >= 100
    assert refused >= 50
    assert not (tmp_path / "hostile" / "ran").exists()
    assert send(client, "fine.png", drawn(1, start=5000)[0][1]).status_code == 200
    assert session_of(sessions, client).take(None) == (1, [])
    board = view.board(session_of(sessions, client))
    Read(board)
    assert "<script" not in board
    assert "onerror=alert(1)>" not in board.replace("&gt;", "")


# Models and starting -------------------------------------------------------------------------------------


def test_models_are_those_given_those_in_the_cache_and_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    revision = SimpleNamespace(snapshot_path=checkpoint)
    other = SimpleNamespace(snapshot_path=checkpoint.parent)
    repos = [
        SimpleNamespace(repo_id="a/clip", repo_type="model", revisions=[revision]),
        SimpleNamespace(repo_id="a/bert", repo_type="model", revisions=[other]),
        SimpleNamespace(repo_id="a/pictures", repo_type="dataset", revisions=[revision]),
    ]
    monkeypatch.setattr(app_models, "scan_cache_dir", lambda: SimpleNamespace(repos=repos))
    found = app_models.models([str(checkpoint), "b/clip"])
    assert [one.name for one in found] == [str(checkpoint), "b/clip", "a/clip", "mini"]
    assert found[0].title == checkpoint.name  # a page does not tell where things lie
    assert app_models.models(["mini"])[0].name == "mini"

    def nothing() -> None:
        raise CacheNotFound("no cache", cache_dir="x")

    monkeypatch.setattr(app_models, "scan_cache_dir", nothing)
    assert [one.name for one in app_models.models()] == ["mini"]


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(Options()) as running:
        assert running.shared is None
        assert running.password is None
        yield running.url.rstrip("/")


def test_the_page_is_served_on_the_loopback_and_asks_nobody_else(served: str) -> None:
    assert served.startswith("http://127.0.0.1:")
    page = httpx.get(served)
    assert page.status_code == 200
    loads = re.findall(r"""(?:src|href)=["']?(https?:[^"' >]+)""", page.text)
    assert not loads
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert httpx.get(served, headers={"host": "evil.example"}).status_code == 421
    assert httpx.post(f"{served}/gradio_api/upload", files={"files": b"x"}).status_code == 404


def test_pictures_are_removed_when_the_app_ends_unless_they_are_kept(tmp_path: Path) -> None:
    with serving(Options(keep=tmp_path / "kept")) as running:
        assert running.folder == tmp_path / "kept"
        assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    assert (tmp_path / "kept").exists()


def test_other_computers_need_a_password() -> None:
    with serving(Options(host="0.0.0.0")) as running:
        assert running.password is not None
        url = running.url.replace("0.0.0.0", "127.0.0.1").rstrip("/")
        for path in ("", "/config", "/farshot/download/model"):
            assert httpx.get(url + path).status_code == 401
            assert httpx.get(url + path, auth=(USER, "wrong")).status_code == 401
        assert httpx.post(f"{url}/farshot/upload", content=b"x", headers=HEADER).status_code == 401
        assert "Teach CLIP" in httpx.get(url, auth=(USER, running.password)).text


def test_a_port_or_host_that_cannot_be_used_is_one_sentence(served: str) -> None:
    port = int(served.rsplit(":", 1)[1])
    with (
        pytest.raises(SettingError, match=f"Port {port} .* name another --port"),
        serving(Options(port=port)),
    ):
        pass
    with (
        pytest.raises(SettingError, match="no name of this computer"),
        serving(Options(host="no.such.invalid")),
    ):
        pass


def test_without_the_extra_the_command_says_what_to_install(
    farshot: Farshot, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setitem(sys.modules, "farshot.app.server", None)
    real = __import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "farshot.app.server":
            raise ImportError("No module named 'gradio'", name="gradio")
        return real(name, *rest, **more)

    monkeypatch.setattr("builtins.__import__", missing)
    done = farshot("app", "--no-browser")
    assert done.code == 2
    assert "pip install 'farshot[app]'" in done.err

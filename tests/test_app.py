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
from starlette.testclient import TestClient

from farshot.app import models as app_models
from farshot.app import view
from farshot.app.choices import LATER
from farshot.app.server import USER, Options, serving
from farshot.app.sessions import COOKIE, Note, Sessions
from farshot.app.workspace import ClassWords
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.names import shown_name
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


def told(answer: Any) -> tuple[int, int, str]:
    """The answer to an upload: new pictures, those here already, and why it was refused."""
    found = answer.json()
    return found["new"], found["same"], found["refused"]


def test_pictures_come_in_and_small_copies_go_out(sessions: Sessions) -> None:
    client = browser(sessions)
    pictures = drawn(1)
    for number, (label, data) in enumerate(pictures):
        answer = send(client, f"{label}/{number}.png", data)
        assert (answer.status_code, told(answer)) == (200, (1, 0, ""))
    session = session_of(sessions, client)
    assert session.arrived() == (2, ())
    assert session.arrived() == (0, ())
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


def test_what_is_too_large_is_broken_off_and_told_at_once_and_with_the_next_pictures(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, Limits(archive_bytes=10_000))
    client = browser(sessions)
    answer = send(client, "C:\\large\\<b>.zip", b"x" * 10_001)
    assert answer.status_code == 413
    assert "make it smaller" in answer.json()["refused"]
    session = session_of(sessions, client)
    assert not list(session.incoming.iterdir())
    send(client, "fine.png", drawn(1)[0][1])
    count, (refused,) = session.arrived()
    assert count == 1
    assert refused.name == "<b>.zip"
    assert "make it smaller" in refused.reason
    assert session.arrived() == (0, ())


def test_not_more_arrives_at_once_than_can_be_looked_at(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, Limits(archive_bytes=1000))
    client = browser(sessions)
    with session_of(sessions, client).arrival() as other:
        other.size = 3001
        answer = send(client, "x", b"x" * 1000)
        assert answer.status_code == 413
        assert "at once" in answer.json()["refused"]
        other.size = 3000
        assert send(client, "x", b"x" * 1000).status_code == 200


def test_what_was_acknowledged_is_there_after_the_program_was_killed(tmp_path: Path) -> None:
    client = browser(Sessions(tmp_path, keep=True))
    for number, (_, data) in enumerate(drawn(1)):
        assert send(client, f"{number}.png", data).status_code == 200
    again = Sessions(tmp_path, keep=True).get(client.cookies[COOKIE])  # nothing was closed
    assert [picture.name for picture in again.workspace.pictures] == ["0.png", "1.png"]


def test_each_file_is_answered_for_by_itself(sessions: Sessions) -> None:
    client = browser(sessions)
    data = drawn(1)[0][1]
    first, second = send(client, "a.png", data), send(client, "b.png", data)
    assert (told(first), told(second)) == ((1, 0, ""), (0, 1, ""))
    assert 0 < first.json()["version"] < second.json()["version"]
    assert "no image" in send(client, "notes.txt", b"x").json()["refused"]


def test_the_class_of_an_upload_is_that_of_the_page_at_that_moment(sessions: Sessions) -> None:
    client = browser(sessions)
    workspace = session_of(sessions, client).workspace
    workspace.name_classes([ClassWords("a"), ClassWords("b")])
    pictures = [data for _, data in drawn(3)]
    for data, into in zip(pictures, ("a", "b", LATER, "gone"), strict=False):
        params = {"name": "x/1.png", "into": into, "wrapped": "1"}
        client.post("/farshot/upload", params=params, content=data, headers=HEADER)
    assert [picture.label for picture in workspace.pictures] == ["a", "b", None]  # "gone" is refused
    params = {"name": "x/1.png", "into": "", "wrapped": "0"}
    client.post("/farshot/upload", params=params, content=pictures[4], headers=HEADER)
    assert workspace.pictures[3].label == "x"


# What a page has done ------------------------------------------------------------------------------------


def acts(client: TestClient, first: int, *all: dict[str, Any], page: str = "p", **more: Any) -> Any:
    told = {"page": page, "first": first, "acts": list(all)}
    return client.post("/farshot/act", json=told, headers=HEADER | more)


def test_an_action_that_is_sent_again_is_done_once(sessions: Sessions) -> None:
    client = browser(sessions)
    workspace = session_of(sessions, client).workspace
    workspace.name_classes([ClassWords("a"), ClassWords("b")])
    for number, (_, data) in enumerate(drawn(2)):
        send(client, f"{number}.png", data)
    ids = [picture.id for picture in workspace.pictures]
    one, two, three = (
        {"do": "label", "value": value, "ids": [id]}
        for id, value in ((ids[0], "a"), (ids[0], "b"), (ids[1], "a"))
    )
    first = acts(client, 1, one).json()["version"]
    assert acts(client, 1, one, two, three).json()["version"] > first
    assert [picture.label for picture in workspace.pictures] == ["b", "a", None, None]
    undo = {"do": "undo", "value": "", "ids": []}
    acts(client, 4, undo)
    acts(client, 4, undo)  # its answer was lost
    assert [picture.label for picture in workspace.pictures] == ["b", None, None, None]
    acts(client, 1, one, page="another")
    assert workspace.pictures[0].label == "a"


def test_an_action_that_cannot_be_done_is_told_and_the_others_are_done(sessions: Sessions) -> None:
    client = browser(sessions)
    session = session_of(sessions, client)
    session.workspace.name_classes([ClassWords("a"), ClassWords("b")])
    send(client, "1.png", drawn(1)[0][1])
    (picture,) = session.workspace.pictures
    gone = {"do": "label", "value": "a", "ids": ["gone"]}
    acts(client, 1, gone, {"do": "label", "value": "a", "ids": [picture.id]})
    assert session.workspace.picture(picture.id).label == "a"
    assert session.note.fault
    assert "not here any more" in session.note.text


@pytest.mark.parametrize(
    "told",
    ["", "[]", "{", "[" * 99999, "[" * 4900 + "]" * 4900, '{"page": "p", "first": "1", "acts": []}', "7"],
)
def test_what_is_no_action_is_refused(sessions: Sessions, told: str) -> None:
    client = browser(sessions)
    assert client.post("/farshot/act", content=told, headers=HEADER).status_code == 400


def test_only_our_page_acts(sessions: Sessions) -> None:
    client = browser(sessions)
    told = {"page": "p", "first": 1, "acts": [{"do": "remove", "value": "", "ids": []}]}
    assert client.post("/farshot/act", json=told).status_code == 403
    other = HEADER | {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"}
    assert client.post("/farshot/act", json=told, headers=other).status_code == 403
    assert (
        client.post("/farshot/act", json=told, headers=HEADER | {"host": "evil.example"}).status_code == 421
    )
    client.cookies.clear()
    assert client.post("/farshot/act", json=told, headers=HEADER).status_code == 409
    assert client.get("/farshot/alive").status_code == 204


# Hostile -------------------------------------------------------------------------------------------------


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
        count, told = session_of(sessions, client).arrived()
        assert count == hostile.taken, hostile.kind
        assert bool(told) == bool(hostile.words), hostile.kind
        assert all(one.reason.endswith(".") and len(one.reason) < 400 for one in told), hostile.kind
        html = view.note(Note("", told))
        assert not re.search(r"<(script|img|svg|iframe)\b", html), hostile.kind
        sent, refused = sent + 1, refused + bool(told)
    assert sent >= 100
    assert refused >= 50
    assert not (tmp_path / "hostile" / "ran").exists()
    assert send(client, "fine.png", drawn(1, start=5000)[0][1]).status_code == 200
    assert session_of(sessions, client).arrived() == (1, ())
    board = view.board(session_of(sessions, client))
    Read(board)
    names = [row[1] for row in client.get("/farshot/tiles").json()["tiles"]]
    assert all(name == shown_name(name) for name in names)  # as text, which the page does not take for HTML
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
    # with it a page whose connection broke finds the app again
    assert httpx.get(f"{served}/gradio_api/app_id").status_code == 200


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

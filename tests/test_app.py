"""The app without a browser: who is let in, what comes in and goes out.

tests/test_app_browser.py goes the whole way in a real one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub.errors import CacheNotFound
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from farshot.app import models as app_models
from farshot.app import server as app_server
from farshot.app import sessions as app_sessions
from farshot.app import view
from farshot.app.guard import LOOPBACK, Guard, cookie_token
from farshot.app.routes import routes
from farshot.app.server import USER, Options, serving
from farshot.app.sessions import COOKIE, Job, Sessions, Stopped, new_token
from farshot.app.workspace import Setup
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.limits import Limits
from farshot.errors import DataError, SettingError
from tests.hostile import hostile_uploads
from tests.input_helpers import Farshot
from tests.pages import Page as Read
from tests.workspaces import CLASSES, drawn

HEADER = {"x-farshot": "1"}

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of what Gradio leaves behind
    pytest.mark.usefixtures("gradio_leftovers"),
]


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions")


def browser(sessions: Sessions) -> TestClient:
    """A separate browser, behind the guard, without Gradio."""
    page = Route("/", lambda _request: PlainTextResponse("the page"))
    app = Starlette(routes=[page, *routes(sessions)], middleware=[Middleware(Guard)])
    client = TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=True)
    client.get("/")
    return client


def send(client: TestClient, name: str, data: bytes) -> Any:
    query = {"name": name.encode(errors="replace").decode()}  # a browser sends no halves of characters
    return client.post("/farshot/upload", params=query, content=data, headers=HEADER)


def session_of(sessions: Sessions, client: TestClient) -> Any:
    return sessions.get(client.cookies[COOKIE])


# Who is let in -------------------------------------------------------------------------------------------


def test_a_browser_gets_a_cookie_that_pages_cannot_read_and_keeps_it(sessions: Sessions) -> None:
    client = browser(sessions)
    client.cookies.clear()
    first = client.get("/")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "set-cookie" not in client.get("/").headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""])
def test_another_hosts_name_is_refused(sessions: Sessions, host: str) -> None:
    answer = browser(sessions).get("/farshot/download/model", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", [*LOOPBACK, "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_the_loopbacks_names_are_served(sessions: Sessions, host: str) -> None:
    assert browser(sessions).get("/farshot/download/model", headers={"host": host}).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://example.org",
        "/gradio_api/call/x",
        "/monitoring",
        "/farshotx",
    ],
)
def test_what_the_page_does_not_need_is_closed(sessions: Sessions, path: str) -> None:
    client = browser(sessions)
    assert client.get(path).status_code == client.post(path).status_code == 404


def test_every_answer_forbids_requests_to_others(sessions: Sessions) -> None:
    for path in ("/farshot/download/model", "/nothing"):
        headers = browser(sessions).get(path).headers
        if path != "/nothing":
            assert "default-src 'self'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


def test_a_page_may_not_tell_more_than_there_is_to_tell(sessions: Sessions) -> None:
    client = browser(sessions)
    assert client.post("/gradio_api/queue/join", content=b"x" * 1_000_001).status_code == 413
    assert client.post("/gradio_api/queue/join", content=iter([b"x"])).status_code == 411
    assert client.post("/gradio_api/queue/join", content=b"x").status_code == 404  # it passed the guard


OTHER_PAGES = [
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "origin": "http://127.0.0.1:8000"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://localhost:7860"},
    {"origin": "null"},
    {"origin": "https://example.org"},
]


@pytest.mark.parametrize("headers", OTHER_PAGES)
@pytest.mark.parametrize(
    "path", ["/farshot/thumbnail/x", "/farshot/download/model", "/config", "/gradio_api/queue/join"]
)
def test_a_page_of_another_address_reads_and_sends_nothing(
    sessions: Sessions, headers: dict[str, str], path: str
) -> None:
    """Another port of this computer is another page, and cookies do not know ports."""
    client = browser(sessions)
    assert client.get(path, headers=headers).status_code == 403
    assert client.post(path, headers={**headers, **HEADER}, content=b"x").status_code == 403
    assert client.post("/farshot/upload", headers={**headers, **HEADER}, content=b"x").status_code == 403
    assert not list(session_of(sessions, client).workspace.pictures)


def test_our_own_page_and_a_link_to_it_are_served(sessions: Sessions) -> None:
    client = browser(sessions)
    ours = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": "http://127.0.0.1:7860"}
    assert (
        client.post(
            "/farshot/upload", params={"name": "a"}, headers={**ours, **HEADER}, content=b"x"
        ).status_code
        == 200
    )
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/", headers={**link, "sec-fetch-dest": "iframe"}).status_code == 403


def test_gradio_opens_nothing_to_other_pages(sessions: Sessions) -> None:
    def opened(_request: Any) -> Response:
        headers = {
            "Access-Control-Allow-Origin": "http://localhost:1",
            "access-control-allow-credentials": "true",
        }
        return PlainTextResponse("x", headers=headers)

    app = Starlette(routes=[Route("/config", opened)], middleware=[Middleware(Guard)])
    answer = TestClient(app, base_url="http://127.0.0.1:7860").get("/config")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_requests_without_a_cookie_make_no_sessions(sessions: Sessions) -> None:
    client = browser(sessions)
    client.cookies.clear()
    for number in range(50):
        answer = client.get(f"/farshot/thumbnail/{number}")
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers
    assert client.get("/farshot/download/model").status_code == 404
    assert send(client, "a.png", b"x").status_code == 503
    assert not sessions.root.exists() or not list(sessions.root.iterdir())


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43 + "/", "../" * 14 + "a", None])
def test_only_our_cookies_count(cookie: str | None) -> None:
    assert cookie_token(None if cookie is None else f"{COOKIE}={cookie}") is None
    token = new_token()
    assert cookie_token(f"other=1; {COOKIE}={token}") == token


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


# Sessions and jobs ---------------------------------------------------------------------------------------


def test_what_is_forgotten_is_gone(sessions: Sessions) -> None:
    client = browser(sessions)
    send(client, "a.png", drawn(1)[0][1])
    session_of(sessions, client).take(None)
    folder = session_of(sessions, client).workspace.folder
    sessions.forget(client.cookies[COOKIE])
    assert not folder.exists()
    assert session_of(sessions, client).workspace.pictures == ()


def test_idle_browsers_are_not_forgotten_where_pictures_are_kept(tmp_path: Path) -> None:
    sessions, token = Sessions(tmp_path, keep=True), new_token()
    sessions.get(token).workspace.choose(Setup("mini", "clap"))
    sessions.get(token).used -= 25 * 3600
    sessions.get(new_token())
    assert sessions.get(token).workspace.choice == Setup("mini", "clap")


def test_a_folder_that_is_there_keeps_its_permissions_and_pictures_are_private(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    keep.mkdir(mode=0o755)
    with app_server._folder(keep):
        session = Sessions(keep, keep=True).get(new_token())
    assert keep.stat().st_mode & 0o777 == 0o755
    assert session.workspace.folder.stat().st_mode & 0o777 == 0o700


def test_what_killed_apps_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead, alive = (
        tmp_path / f"farshot-app-{ended.stdout.strip()}-x",
        tmp_path / f"farshot-app-{os.getpid()}-x",
    )
    others = [tmp_path / "farshot-app-notes", tmp_path / "farshot-app-x-y", tmp_path / "mine"]
    for folder in (dead, alive, *others):
        folder.mkdir()
        (folder / "picture.png").write_bytes(b"x")
    with app_server._folder(None) as folder:
        assert folder.name.startswith(f"farshot-app-{os.getpid()}-")
        assert not dead.exists()
    assert all((place / "picture.png").exists() for place in (alive, *others))
    assert not folder.exists()


def test_gradio_keeps_its_files_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own, in the shared temporary folder, may belong to somebody else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    (tmp_path / "gradio").write_text("another user's")
    with app_server._gradio_files():
        assert Path(os.environ["GRADIO_TEMP_DIR"]).stat().st_mode & 0o777 == 0o700
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one() -> None:
    encoders, done, order = Encoders("cpu"), threading.Event(), []

    def long(report: Any) -> None:
        with encoders.turn(report) as report:
            for step in range(200):
                report("cross-validating", step, 200)
                order.append("long")
                time.sleep(0.01)

    def short(report: Any) -> None:
        with encoders.turn(report):
            order.append("short")
        done.set()

    first = Job(long)
    while not order:
        time.sleep(0.005)
    Job(short)
    assert done.wait(1.5)
    assert first.running
    assert order.index("short") < 60
    first.stop()
    first.wait(5)
    assert first.stopped
    assert not encoders.busy


def test_a_job_that_waits_can_be_stopped() -> None:
    encoders, free = Encoders("cpu"), threading.Event()

    def blocking(report: Any) -> None:
        with encoders.turn():
            free.wait(10)

    def waiting(report: Any) -> None:
        with encoders.turn(report):
            raise AssertionError("it was stopped before its turn")

    first = Job(blocking)
    while not encoders.busy:
        time.sleep(0.005)
    second = Job(waiting)
    second.stop()
    second.wait(2)
    assert second.stopped
    assert second.error is None
    free.set()
    first.wait(5)
    with encoders.turn():
        assert encoders.busy


def test_idle_browsers_are_forgotten_and_too_many_are_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_sessions, "MOST_SESSIONS", 2)
    first, second, third = new_token(), new_token(), new_token()
    sessions.get(first).workspace.choose(Setup("mini", "clap"))
    sessions.get(second).workspace.choose(Setup("mini", "clap"))
    with pytest.raises(DataError, match="try again later"):
        sessions.get(third)
    sessions.get(first).used -= 25 * 3600
    sessions.get(second)
    assert sessions.get(third).workspace.pictures == ()


def test_a_job_ends_where_it_is_stopped(sessions: Sessions) -> None:
    session = sessions.get(new_token())
    going, ended = threading.Event(), []

    def work(report: Callable[[str, int, int], None]) -> None:
        try:
            while True:
                report("working", 1, 2)
                going.set()
        except Stopped:
            ended.append(True)
            raise

    job = session.start(work)
    assert going.wait(10)
    assert (job.phase, job.done, job.total) == ("working", 1, 2)
    with pytest.raises(DataError, match="One thing after the other"):
        session.start(work)
    job.stop()
    job.wait(10)
    assert (job.running, job.stopped, ended) == (False, True, [True])


def test_what_goes_wrong_in_a_job_is_one_sentence() -> None:
    def fail(_report: object) -> None:
        raise DataError("No.")

    def bug(_report: object) -> None:
        raise KeyError("x")

    for work, words in ((fail, "No."), (bug, "please report it")):
        job = Job(work)
        job.wait(10)
        assert job.error is not None
        assert words in job.error


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
    import sys

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

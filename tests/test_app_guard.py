"""Who is let into the app, and who is not."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from farshot.app import texts
from farshot.app.guard import Guard, cookie_token
from farshot.app.sessions import COOKIE, Sessions, new_token
from farshot.web.address import LOOPBACK
from tests import app_clients
from tests.app_clients import HEADER, browser, send, session_of

pytestmark = app_clients.marks


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


@pytest.mark.parametrize(
    "other", ['theme={"dark":true}', "user=Jos\xe9", "x=a b", "name", 'a="b', "a=b=c", "é=1"]
)
def test_cookies_of_other_programs_take_nothing_from_ours(other: str) -> None:
    token = new_token()
    for header in (
        f"{other}; {COOKIE}={token}; {texts.COOKIE}=de",
        f"{texts.COOKIE}=de;{COOKIE}={token};{other}",
    ):
        assert cookie_token(header) == token
        assert texts.chosen(header, "es") == "de"

"""Browsers of the app's tests, without a page: clients behind the guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from farshot.app.access import Access
from farshot.app.guard import Guard
from farshot.app.projects import Projects
from farshot.app.routes import routes
from farshot.app.sessions import COOKIE, Sessions
from farshot.app.start import start_routes
from farshot.app.translated import Translated
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.limits import Limits

HEADER = {"x-farshot": "1"}

marks = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of what Gradio leaves behind
    pytest.mark.usefixtures("gradio_leftovers"),
]
"""Of every module that tests the app."""


def browser(sessions: Sessions) -> TestClient:
    """A separate browser, behind the guard, without Gradio."""
    page = Route("/", lambda _request: PlainTextResponse("the page"))
    middleware = [Middleware(Translated), Middleware(Guard)]
    app = Starlette(routes=[page, *routes(sessions, Encoders("cpu"))], middleware=middleware)
    client = TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=True)
    client.get("/")
    return client


def send(client: TestClient, name: str, data: bytes) -> Any:
    query = {"name": name.encode(errors="replace").decode()}  # a browser sends no halves of characters
    return client.post("/farshot/upload", params=query, content=data, headers=HEADER)


def session_of(sessions: Sessions, client: TestClient) -> Any:
    return sessions.get(client.cookies[COOKIE])


class Place:
    """An app with projects, without Gradio."""

    def __init__(self, root: Path, limits: Limits | None = None) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.sessions = Sessions(root, limits, keep=True)
        self.projects = Projects(self.sessions, ["mini", "some/clip"])
        self.access = Access(b"k" * 32, self.sessions.has)
        self.secret = self.access.address("127.0.0.1", 7860).partition("/?token=")[2]

    def stranger(self, login: tuple[str, str] | None = None) -> TestClient:
        """A browser without access."""
        page = Route("/", lambda _request: PlainTextResponse("the page of a project"))
        ours = [
            *routes(self.sessions, Encoders("cpu"), self.projects),
            *start_routes(self.projects, "Saved here."),
        ]
        guard = Middleware(Guard, access=self.access, login=login)
        app = Starlette(routes=[page, *ours], middleware=[Middleware(Translated), guard])
        return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)

    def browser(self) -> TestClient:
        """A browser that has opened the printed address."""
        client = self.stranger()
        assert client.get(f"/?token={self.secret}").status_code == 200
        return client


def do(client: TestClient, **told: Any) -> Any:
    return client.post("/farshot/projects", json=told, headers=HEADER)


def bring(client: TestClient, data: bytes, name: str = "x.zip") -> Any:
    return client.post("/farshot/import", params={"name": name}, content=data, headers=HEADER)

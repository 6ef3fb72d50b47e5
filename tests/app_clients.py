"""Browsers of the app's tests, without a page: clients behind the guard."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from farshot.app.guard import Guard
from farshot.app.routes import routes
from farshot.app.sessions import COOKIE, Sessions
from farshot.app.workspace.encoders import Encoders

HEADER = {"x-farshot": "1"}

marks = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of what Gradio leaves behind
    pytest.mark.usefixtures("gradio_leftovers"),
]
"""Of every module that tests the app."""


def browser(sessions: Sessions) -> TestClient:
    """A separate browser, behind the guard, without Gradio."""
    page = Route("/", lambda _request: PlainTextResponse("the page"))
    app = Starlette(routes=[page, *routes(sessions, Encoders("cpu"))], middleware=[Middleware(Guard)])
    client = TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=True)
    client.get("/")
    return client


def send(client: TestClient, name: str, data: bytes) -> Any:
    query = {"name": name.encode(errors="replace").decode()}  # a browser sends no halves of characters
    return client.post("/farshot/upload", params=query, content=data, headers=HEADER)


def session_of(sessions: Sessions, client: TestClient) -> Any:
    return sessions.get(client.cookies[COOKIE])

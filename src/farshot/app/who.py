"""Whose page an event of Gradio comes from."""

from __future__ import annotations

import gradio as gr

from farshot.app.guard import PROJECT, cookie_token
from farshot.app.sessions import Session, Sessions
from farshot.app.texts import speak, text


def session_of(sessions: Sessions, request: gr.Request, *, of_project: bool) -> Session:
    """The session of a browser, or of the project that its page shows.

    Raises:
        DataError: there is no such project, or too many are in use.
        gr.Error: the browser sends no cookies.
    """
    return sessions.project(project_of(request)) if of_project else sessions.get(token_of(request))


def speak_as(request: gr.Request) -> None:
    """From now on, in this thread, texts are in the language of the page."""
    speak(request.headers.get("cookie"), request.headers.get("accept-language"))


def project_of(request: gr.Request) -> str:
    """The id of the project, which the guard has written into the request; empty without one."""
    return str(request.headers.get(PROJECT) or "")


def token_of(request: gr.Request) -> str:
    """The browser's cookie.

    Raises:
        gr.Error: it sends none.
    """
    token = cookie_token(request.headers.get("cookie"))
    if token is None:
        raise gr.Error(text("session.no_cookies"))
    return token

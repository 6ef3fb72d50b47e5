"""Check every request: cookie, host name, path and size.

Pages may load and ask nothing but this server (content security policy). Requests under another host's name
are refused, so that no page on the web can reach a server on the loopback under another name (DNS
rebinding), and so are requests that a page of another address makes, be it on another port of this computer.
Who asks without a cookie for anything but the page gets none, and no session. Projects are shown only to
those who have access (`farshot.app.access`); everything of a project lies below its path, so that two pages
of one browser can show two projects. Of Gradio's paths only those
that the page needs are open: its uploads and files are shared by all who know a path, and ours are not.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection
from secrets import compare_digest
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farshot.app.access import Access
from farshot.app.html import render
from farshot.app.sessions import COOKIE, is_token, new_token
from farshot.app.texts import text
from farshot.web.address import LOOPBACK
from farshot.web.origin import ANSWER_HEADERS, WRONG_HOST, WRONG_PAGE, cookie_of, from_our_page, is_served

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio starts from inline scripts and templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_COOKIE_RULES = "Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
_HEADERS = {"content-security-policy": _POLICY, **ANSWER_HEADERS}
_HIDDEN = {"cache-control": "no-store", **_HEADERS}
_ELSEWHERE = ("cross-site", "same-site")  # a link on another page: browsers withhold our cookie
_AGAIN = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>farshot</title>'
    '<script>location.replace(location.pathname)</script><a href="?">farshot</a></html>'
)
_MOST_BYTES = 1_000_000  # of what a page may tell; pictures have a separate route and other limits
UPLOAD = "/farshot/upload"
IMPORT = "/farshot/import"
START = "/farshot/start"
"""Internal path of the list of projects, which is shown at "/"."""
PROJECT = "x-farshot-project"
"""Header that this guard adds for those behind it: the id of the project."""
_PROJECT = re.compile(r"(/p/([0-9a-f]{32}))(/.*)")
_STARTING = "/gradio_api/startup-events"  # Gradio asks for it itself, once, and it tells nothing
_OPEN = (
    "/farshot/",
    "/assets/",
    "/static/",
    "/gradio_api/queue/",
    "/gradio_api/run/",
    "/gradio_api/heartbeat/",
    _STARTING,
    "/gradio_api/app_id",  # asked for after a broken connection, so that the page loads again
    "/gradio_api/info",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/robots.txt",
)


class Guard:
    """ASGI middleware around the app.

    Args:
        app: what it guards.
        hosts: names, without port, under which the server may be asked; empty for any.
        login: (name, password) that every request must bring; None for nobody's.
        access: to projects; None where every browser has pictures for itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] = LOOPBACK,
        login: tuple[str, str] | None = None,
        access: Access | None = None,
    ) -> None:
        self.app, self.hosts, self.access = app, frozenset(hosts), access
        self._login = None if login is None else base64.b64encode(":".join(login).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or lets through with a cookie and headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        project, path = _split(scope["path"]) if self.access is not None else ("", scope["path"])
        refusal = self._refusal(scope["method"], path, headers)
        cookie = self.access.cookie if self.access is not None else COOKIE
        token, fresh = cookie_token(headers.get("cookie"), cookie), False
        secret = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        came = headers.get("sec-fetch-site")
        if refusal is None and token is None and path == "/" and came in _ELSEWHERE and not secret:
            refusal = HTMLResponse(_AGAIN, headers=_HIDDEN)
        if refusal is None and self.access is not None:
            refusal = self._locked(self.access, project, path, token, secret)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k != PROJECT.encode()]}
        if self.access is None and token is None and path == "/":
            token, fresh = new_token(), True
        if fresh:  # what is behind finds the new cookie where it will find it from now on
            kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope["headers"] = [*kept, (b"cookie", f"{COOKIE}={token}".encode())]
        if project:
            scope["root_path"] = f"/p/{project}"
            scope["headers"] = [
                *map(_below(scope["root_path"]), scope["headers"]),
                (PROJECT.encode(), project.encode()),
            ]
        elif self.access is not None and path == "/":
            scope["path"], scope["raw_path"] = START, START.encode()
        told = {"token": token if self.access is None else None, "project": project}
        scope["state"] = {**scope.get("state", {}), **told}

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name in [name for name in answer if name.lower().startswith("access-control-")]:
                    del answer[name]  # Gradio opens itself to pages on the same computer
                for name, value in _HEADERS.items():
                    answer[name] = value
                if fresh:
                    answer.append("set-cookie", f"{COOKIE}={token}; {_COOKIE_RULES}")
            await send(message)

        await self.app(scope, receive, reply)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """The response to a refused request."""
        if not is_served(headers.get("host", ""), self.hosts):
            return PlainTextResponse(WRONG_HOST, 421)
        if not from_our_page(method, path, headers):
            return PlainTextResponse(WRONG_PAGE, 403)
        if path != "/" and not path.startswith(_OPEN):
            return PlainTextResponse("There is nothing here.", 404)
        if path != _STARTING and not self._may(headers.get("authorization", "")):
            ask = {"www-authenticate": 'Basic realm="farshot", charset="UTF-8"'}
            return PlainTextResponse(text("guard.password"), 401, ask)
        if method not in ("GET", "HEAD") and path not in (UPLOAD, IMPORT):
            size = headers.get("content-length", "")
            if not size.isdigit():
                return PlainTextResponse("Say how much is sent.", 411)
            if int(size) > _MOST_BYTES:
                return PlainTextResponse("This is more than a page has to tell.", 413)
        return None

    def _locked(
        self, access: Access, project: str, path: str, token: str | None, secret: str
    ) -> Response | None:
        """The response to who has no access to the projects, or asks for one that is not there."""
        if path == _STARTING:
            return None
        if path == "/" and not project and access.opens(secret):  # the secret leaves the address bar
            given = f"{access.cookie}={access.new_cookie()}; {_COOKIE_RULES}"
            return HTMLResponse(_AGAIN, headers={"set-cookie": given, **_HIDDEN})
        if not (self._login or access.holds(token)):
            page = render("locked.html", title="farshot")
            return (
                HTMLResponse(page, 401, _HIDDEN)
                if path == "/"
                else PlainTextResponse(text("guard.closed"), 403)
            )
        if not project and path.startswith("/gradio_api/"):
            return PlainTextResponse(text("guard.gone"), 404)
        if project and not access.has(project):
            return (
                RedirectResponse("/", 303, _HIDDEN)
                if path == "/"
                else PlainTextResponse(text("guard.gone"), 404)
            )
        return None

    def _may(self, authorization: str) -> bool:
        """Whether name and password are correct, if they are required."""
        if self._login is None:
            return True
        kind, _, told = authorization.partition(" ")
        return kind.lower() == "basic" and compare_digest(told.strip().encode(), self._login)


def cookie_token(header: str | None, name: str = COOKIE) -> str | None:
    """The session's token in a Cookie header; None where it holds no valid one."""
    found = cookie_of(header, name)
    return found if is_token(found) else None


def _split(path: str) -> tuple[str, str]:
    """The project of a path, "" for none, and the path below it."""
    found = _PROJECT.fullmatch(path)
    return (found[2], found[3]) if found else ("", path)


def _below(root: str) -> Callable[[tuple[bytes, bytes]], tuple[bytes, bytes]]:
    """Add the project's path to the name that a relay tells: Gradio takes it for all of the address."""

    def added(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        name, value = header
        return (name, value.split(b",")[0].strip() + root.encode()) if name == b"x-forwarded-host" else header

    return added

"""Check every request: cookie, host name, path and size.

Pages may load and ask nothing but this server (content security policy). Requests under another host's name
are refused, so that no page on the web can reach a server on the loopback under another name (DNS
rebinding), and so are requests that a page of another address makes, be it on another port of this computer.
Who asks without a cookie for anything but the page gets none, and no session. Of Gradio's paths only those
that the page needs are open: its uploads and files are shared by all who know a path, and ours are not.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from secrets import compare_digest

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farshot.app.sessions import COOKIE, is_token, new_token
from farshot.web.address import LOOPBACK
from farshot.web.origin import ANSWER_HEADERS, WRONG_HOST, WRONG_PAGE, from_our_page, is_served

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
_MOST_BYTES = 1_000_000  # of what a page may tell; pictures have a separate route and other limits
UPLOAD = "/farshot/upload"
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
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] = LOOPBACK, login: tuple[str, str] | None = None
    ) -> None:
        self.app, self.hosts = app, frozenset(hosts)
        self._login = None if login is None else base64.b64encode(":".join(login).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or lets through with a cookie and headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        token, fresh = _token(headers), False
        if token is None and scope["path"] == "/":
            token, fresh = new_token(), True
        scope.setdefault("state", {})["token"] = token
        if fresh:  # what is behind finds the new cookie where it will find it from now on
            kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope["headers"] = [*kept, (b"cookie", f"{COOKIE}={token}".encode())]

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

    def _refusal(self, method: str, path: str, headers: Headers) -> PlainTextResponse | None:
        """The response to a refused request."""
        if not is_served(headers.get("host", ""), self.hosts):
            return PlainTextResponse(WRONG_HOST, 421)
        if not from_our_page(method, path, headers):
            return PlainTextResponse(WRONG_PAGE, 403)
        if path != "/" and not path.startswith(_OPEN):
            return PlainTextResponse("There is nothing here.", 404)
        if path != _STARTING and not self._may(headers.get("authorization", "")):
            ask = {"www-authenticate": 'Basic realm="farshot", charset="UTF-8"'}
            return PlainTextResponse("The password is printed where the app was started.", 401, ask)
        if method not in ("GET", "HEAD") and path != UPLOAD:
            size = headers.get("content-length", "")
            if not size.isdigit():
                return PlainTextResponse("Say how much is sent.", 411)
            if int(size) > _MOST_BYTES:
                return PlainTextResponse("This is more than a page has to tell.", 413)
        return None

    def _may(self, authorization: str) -> bool:
        """Whether name and password are correct, if they are required."""
        if self._login is None:
            return True
        kind, _, told = authorization.partition(" ")
        return kind.lower() == "basic" and compare_digest(told.strip().encode(), self._login)


def cookie_token(header: str | None) -> str | None:
    """The session's token in a Cookie header; None where it holds no valid one."""
    try:
        morsel = SimpleCookie(header or "").get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None and is_token(morsel.value) else None


def _token(headers: Headers) -> str | None:
    return cookie_token(headers.get("cookie"))

"""Check every request before anything of it is read: host name, page, key.

On the loopback only its own names are served, so that no page on the web can reach the service under
another name (DNS rebinding), and no answer allows pages of other addresses to read it (CORS). A key is
compared in constant time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farshot.serve.refusal import Refusal
from farshot.web.origin import ANSWER_HEADERS, WRONG_HOST, WRONG_PAGE, from_our_page, is_served

OPEN = ("/health", "/docs", "/openapi.json")
"""Paths that need no key: they tell nothing of models and pictures."""

_PAGES = ("/", "/docs")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    **ANSWER_HEADERS,
}
_HEADER_BYTES = 32_000
_STRANGERS_BYTES = 1_000_000  # that are drained of a body whose sender may not ask
_DRAIN_SECONDS = 10.0


class Guard:
    """ASGI middleware around the service.

    Args:
        app: what it guards.
        hosts: names, without port, under which the service may be asked; empty for any.
        key: that requests must bring; None where none is needed.
        request_bytes: most of a body that are drained where it is refused.
        answered: called with path and status of every answer, refusals included.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        key: str | None,
        request_bytes: int,
        answered: Callable[[str, int], None] = lambda _path, _status: None,
    ) -> None:
        self.app, self.hosts, self._request_bytes = app, frozenset(hosts), request_bytes
        self._answered = answered
        self._key = None if key is None else _digest(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or lets through; answers get headers."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], scope["path"], headers)
        body = _Body(receive)

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(scope["path"], message["status"])
                await body.drain(self._request_bytes if refusal is None else _STRANGERS_BYTES)
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        scope.setdefault("state", {})["has_key"] = self._has_key(headers)
        await (self.app if refusal is None else refusal.response())(scope, body.receive, reply)

    def _refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        if sum(len(name) + len(value) for name, value in headers.raw) > _HEADER_BYTES:
            return Refusal(431, f"The headers are over {_HEADER_BYTES:,} bytes; send fewer or shorter ones.")
        if not is_served(headers.get("host", ""), self.hosts):
            return Refusal(421, WRONG_HOST)
        if not from_our_page(method, path, headers, _PAGES):
            return Refusal(403, WRONG_PAGE)
        if path not in OPEN and not self._has_key(headers):
            return Refusal(
                401,
                "The request must bring the service's key; send it as `Authorization: Bearer KEY`, "
                "`X-API-Key: KEY`, or the password of HTTP Basic.",
                {"www-authenticate": "Bearer"},
            )
        return None

    def _has_key(self, headers: Headers) -> bool:
        """Whether the request brings the key, if one is needed."""
        if self._key is None:
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        given = [told.strip()] if kind.lower() == "bearer" else []
        if kind.lower() == "basic":  # the key as password of any user
            with contextlib.suppress(ValueError):
                given.append(
                    base64.b64decode(told.strip(), validate=True).decode("latin-1").partition(":")[2]
                )
        given += headers.getlist("x-api-key")
        return any(hmac.compare_digest(_digest(one), self._key) for one in given)


class _Body:
    """The body of a request: how much of it came, and whether that is all."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._bytes, self._ended = receive, 0, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drain(self, most: int) -> None:
        """Take the rest and keep nothing of it: a client that is still sending would not read the response
        before the connection is reset. A body of more bytes, or a slow one, is cut off."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._ended and self._bytes <= most:
                    await self.receive()


def _digest(key: str) -> bytes:
    """Of one length, so that not even the key's length can be measured."""
    return hashlib.sha256(key.encode("latin-1", errors="replace")).digest()

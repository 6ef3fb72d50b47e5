"""Check every request before anything of it is read: host name, page, key.

On the loopback only its own names are served, so that no page on the web can reach the service under another name
(DNS rebinding), and no answer allows pages of other addresses to read it (CORS). A key is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farshot.serve.refusal import Refusal, drain
from farshot.web.origin import ANSWER_HEADERS, WRONG_HOST, WRONG_PAGE, from_our_page, is_served

OPEN = ("/health", "/docs", "/openapi.json")
"""Paths that need no key: they tell nothing of models and pictures."""

_PAGES = ("/", "/docs")
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    **ANSWER_HEADERS,
}
_DRAINED = 1_000_000  # bytes that are taken of a body whose sender may not ask


class Guard:
    """ASGI middleware around the service.

    Args:
        app: what it guards.
        hosts: names, without port, under which the service may be asked; empty for any.
        key: that requests must bring; None where none is needed.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], key: str | None) -> None:
        self.app, self.hosts = app, frozenset(hosts)
        self._key = None if key is None else _digest(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or lets through; answers get headers."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], scope["path"], headers)
        scope.setdefault("state", {})["has_key"] = self._has_key(headers)
        if refusal is None:
            await self.app(scope, receive, reply)
        else:
            await drain(receive, _DRAINED)
            await refusal.response()(scope, receive, reply)

    def _refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        if not is_served(headers.get("host", ""), self.hosts):
            return Refusal(421, WRONG_HOST)
        if not from_our_page(method, path, headers, _PAGES):
            return Refusal(403, WRONG_PAGE)
        if path not in OPEN and not self._has_key(headers):
            return Refusal(
                401,
                "The request must bring the service's key; send it as `Authorization: Bearer KEY` or "
                "`X-API-Key: KEY`.",
                {"www-authenticate": "Bearer"},
            )
        return None

    def _has_key(self, headers: Headers) -> bool:
        """Whether the request brings the key, if one is needed."""
        if self._key is None:
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        given = [told.strip()] if kind.lower() == "bearer" else []
        given += headers.getlist("x-api-key")
        return any([hmac.compare_digest(_digest(one), self._key) for one in given])


def _digest(key: str) -> bytes:
    """Of one length, so that not even the key's length can be measured."""
    return hashlib.sha256(key.encode("latin-1", errors="replace")).digest()

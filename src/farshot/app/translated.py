"""Every request in the language that it asks for, and Gradio's page in it.

Gradio builds a page once, for everybody. It is built with the keys of texts (`farshot.app.texts.marking`),
which become texts here, when it is sent.
"""

from __future__ import annotations

import re
from json import dumps

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farshot.app import texts
from farshot.app.html import script_texts

_PAGE = re.compile(r"(/p/[0-9a-f]{32})?/(config)?")
_MARKED = re.compile(rf"{texts.MARK}([a-z0-9_.]+(?:\|[a-z]+=[0-9]+)*)({texts.END}|{texts.END_OF_HTML})")
_HTML, _HEAD = re.compile(r'<html\s+lang="en"'), "<head>"


class Translated:
    """ASGI middleware around the guard and the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Notes the language, and translates Gradio's page."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            texts.speak(headers.get("cookie"), headers.get("accept-language"))
            if _PAGE.fullmatch(scope["path"]):
                send = _Whole(send)
        await self.app(scope, receive, send)


class _Whole:
    """Sends an answer once all of it is there, translated."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=self._start)
        if texts.MARK.encode() in self._body:
            self._body = translated(self._body.decode()).encode()
            headers["content-length"] = str(len(self._body))
        headers.add_vary_header("accept-language, cookie")
        await self._send(self._start)
        await self._send({**message, "body": self._body})


def translated(page: str) -> str:
    """Gradio's page, or the JSON in it, with texts in place of keys and scripts that have theirs."""
    page = _MARKED.sub(_text, page)
    if _HTML.search(page):
        page = _HTML.sub(f'<html lang="{texts.language()}"', page, count=1)
        page = page.replace(_HEAD, f"{_HEAD}<script>{script_texts()}</script>", 1)
    return page


def _text(found: re.Match[str]) -> str:
    """A text within a JSON string within a script."""
    key, values = texts.marked(found[1])
    said = str(texts.html(key, **values)) if found[2] == texts.END_OF_HTML else texts.text(key, **values)
    return re.sub(
        "[<>&'\u2028\u2029]", lambda one: f"\\u{ord(one[0]):04x}", dumps(said, ensure_ascii=False)[1:-1]
    )

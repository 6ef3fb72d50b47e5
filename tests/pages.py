"""Reading pages as a test does: tags, numbers, and whether anything in them could act; and serving them."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_NO_END = {"meta", "img", "br", "input", "link"}


def is_there(target: Path) -> bool:
    """Whether a link leads to a file; source distributions, known by PKG-INFO, lack the pictures of docs/."""
    return target.exists() or (target.suffix == ".png" and (ROOT / "PKG-INFO").exists())


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: name and attributes of every tag.
        text: everything between tags.
        tables: rows of cells, each the text within it.
        values: the numbers of `data-value`, in order.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self.feed(source)

    @property
    def values(self) -> list[float]:
        return [float(a["data-value"] or "nan") for _, a in self.tags if "data-value" in a]

    def table(self, first_word: str) -> list[list[str]]:
        """The table whose first cell says this."""
        (found,) = [table for table in self.tables if table[0][0] == first_word]
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
            self.tables[-1][-1][-1] = " ".join(self.tables[-1][-1][-1].split())

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data


def assert_inert(source: str) -> Page:
    """No script, no handler, no request; every picture has words; direction marks stay within names."""
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "form", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert re.match(r"#|(index|page-\d{3})\.html", attributes.get("href") or "#")  # within the folder
        assert all("\u202e" not in str(value) for value in attributes.values())
        if tag == "img":
            assert attributes["alt"]
    svgs = sum(tag == "svg" and attributes.get("aria-hidden") != "true" for tag, attributes in page.tags)
    assert source.count("<desc>") == svgs
    assert "url(" not in source
    assert "@import" not in source
    return page


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server for a folder, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()

"""A local substitute for the hub: repositories are folders, transfers can be held and broken off."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

COMMIT = "0" * 39 + "1"
WEIGHTS = "model.safetensors"
CHUNK = 20_000  # bytes between two looks at a transfer


@dataclass
class Hub:
    """What it serves, and what it was asked for.

    Attributes:
        repos: OWNER/NAME -> folder.
        refused: OWNER/NAME -> HTTP status and the hub's code for it.
        gate: transfers of weights stop in the middle until it is set.
        halfway: set once one has come there.
        broken: how many transfers of weights break off in the middle.
        transfers: the Range header, or "", of every transfer of weights.
    """

    repos: dict[str, Path]
    address: str = ""
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    halfway: threading.Event = field(default_factory=threading.Event)
    broken: int = 0
    transfers: list[str] = field(default_factory=list)


@contextmanager
def hub_server(repos: dict[str, Path], cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's client of this process asks it, and stores files in `cache`."""
    hub = Hub(repos)
    hub.gate.set()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        use_endpoint(hub.address, cache, patch)
        try:
            yield hub
        finally:
            hub.gate.set()
            server.shutdown()
            thread.join()


def use_endpoint(address: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HUB_CACHE do where they are set before the client is imported."""
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    patch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        about = parts[0] == "api"
        repo = "/".join(parts[2:4] if about else parts[:2])
        folder = self.hub.repos.get(repo)
        status, code = self.hub.refused.get(repo, (404, "RepoNotFound"))
        gated = code == "GatedRepo" and about  # its list of files is open to all
        if folder is None or (repo in self.hub.refused and not gated):
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": "refused"})
        elif about and "tree" in parts:
            rows = [
                {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": _hash(one)}
                for one in sorted(folder.iterdir())
            ]
            self._send(200, json.dumps(rows).encode(), {"content-type": "application/json"})
        elif about:
            told = {"id": repo, "sha": COMMIT, "siblings": []}
            self._send(200, json.dumps(told).encode(), {"content-type": "application/json"})
        else:
            self._file(folder / parts[-1], with_body=with_body)

    def _file(self, place: Path, *, with_body: bool) -> None:
        if not place.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        data, asked = place.read_bytes(), self.headers.get("range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(len(data) - start))
        if asked:
            self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("etag", f'"{_hash(place)}"')
        self.send_header("x-repo-commit", COMMIT)
        self.end_headers()
        if not with_body:
            return
        if place.name != WEIGHTS:
            self.wfile.write(data[start:])
            return
        self.hub.transfers.append(asked)
        half = (start + len(data)) // 2
        self.wfile.write(data[start:half])
        self.wfile.flush()
        self.hub.halfway.set()
        self.hub.gate.wait(30)
        if self.hub.broken:
            self.hub.broken -= 1
            self.close_connection = True
            return
        try:
            self.wfile.write(data[half:])
        except OSError:  # the client has left
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _hash(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()

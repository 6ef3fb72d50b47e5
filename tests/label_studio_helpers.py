"""A backend for Label Studio in this process, and a small server that answers as Label Studio does."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.testclient import TestClient

from farshot.label_studio.options import Options
from farshot.label_studio.server import assembled
from farshot.label_studio.trainer import Trainer

TOKEN = "0123456789abcdef"
CLASSES = ("cat", "dog", "owl")


def configured(*classes: str, more: str = "") -> str:
    """A labelling configuration with these classes."""
    choices = "".join(f'<Choice value="{name}"/>' for name in classes or CLASSES)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="choice" toName="image">{choices}</Choices>{more}</View>'
    )


def given(label: str, control: str = "choice", **more: Any) -> dict[str, Any]:
    """An annotation with a class."""
    value = {"choices": [label]}
    return {
        "id": 1,
        "result": [{"from_name": control, "to_name": "image", "type": "choices", "value": value}],
        **more,
    }


@dataclass
class FakeLabelStudio:
    """Answers what the backend asks of Label Studio.

    Attributes:
        tasks: of project 5.
        files: bytes of each path; a word is where a redirect leads.
        asked: path and authorization of each request.
        tokens: authorizations that are accepted.
    """

    url: str = ""
    config: str = field(default_factory=configured)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes | str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=lambda: {f"Token {TOKEN}"})
    renewed: int = 0

    def add(self, number: int, picture: bytes, label: str | None = None) -> dict[str, Any]:
        """A task, with a label if one is given."""
        path = f"/data/upload/5/{number}.png"
        self.files[path] = picture
        task = {"id": number, "data": {"image": path}, "annotations": [given(label)] if label else []}
        self.tasks.append(task)
        return task

    def answer(self, method: str, target: str, authorization: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers."""
        self.asked.append((target, authorization))
        parts = urlsplit(target)
        if method == "POST" and parts.path == "/api/token/refresh":
            self.renewed += 1
            self.tokens = {f"Bearer access-{self.renewed}"}
            return 200, json.dumps({"access": f"access-{self.renewed}"}).encode(), {}
        if authorization not in self.tokens:
            return 401, b"{}", {}
        if parts.path == "/api/projects/5":
            return 200, json.dumps({"id": 5, "label_config": self.config}).encode(), {}
        if parts.path == "/api/tasks":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            page, size = int(asked["page"]), int(asked["page_size"])
            found = [task for task in self.tasks if task["annotations"]]
            shown = found[(page - 1) * size : page * size]
            return 200, json.dumps({"tasks": shown, "total": len(found)}).encode(), {}
        found_file = self.files.get(target)
        if isinstance(found_file, str):
            return 302, b"", {"location": found_file}
        return (404, b"", {}) if found_file is None else (200, found_file, {})


@contextmanager
def fake_label_studio() -> Iterator[FakeLabelStudio]:
    """A server of it on the loopback."""
    fake = FakeLabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body, headers = fake.answer(
                self.command, self.path, self.headers.get("authorization") or ""
            )
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Backend:
    """A client of a backend that runs in this process."""

    client: TestClient
    trainer: Trainer
    said: queue.Queue[str]

    def setup(self, config: str | None = None, project: object = "5.1700000000") -> Any:
        """The response to a project that connects."""
        return self.client.post("/setup", json={"project": project, "schema": config or configured()})

    def predict(self, *tasks: dict[str, Any], config: str | None = None) -> Any:
        """The response to tasks."""
        body = {"tasks": tasks, "project": "5.1700000000", "label_config": config or configured()}
        return self.client.post("/predict", json=body)

    def labelled(self, *tasks: int) -> None:
        """Label Studio's webhooks for annotations of these tasks."""
        for task in tasks:
            body = {"action": "ANNOTATION_CREATED", "annotation": {"task": task}, "project": {"id": 5}}
            assert self.client.post("/webhook", json=body).status_code == 201

    def hear(self, words: str) -> str:
        """Waits for a sentence with these words."""
        while words not in (sentence := self.said.get(timeout=60)):
            pass
        return sentence


@contextmanager
def backend(folder: Path, url: str, **options: Any) -> Iterator[Backend]:
    """A backend; by default it takes the tiny checkpoint next to its folder, and adapts to 4 labels."""
    said: queue.Queue[str] = queue.Queue()
    asked = Options(folder, url, **{"token": TOKEN, "labels": 4, "device": "cpu", **options})
    with assembled(asked, said.put) as (app, trainer):
        client = TestClient(app, base_url="http://127.0.0.1:9090", raise_server_exceptions=False)
        yield Backend(client, trainer, said)


def data_url(picture: bytes) -> str:
    """The picture within an address."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"

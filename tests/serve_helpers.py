"""A service in this process or as a program, and what is sent to it."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from farshot import FewShotClassifier
from farshot.serve.models import Models
from farshot.serve.options import Options
from farshot.serve.server import assembled
from tests.image_bytes import encoded
from tests.input_helpers import PROGRAM, picture, subprocess_environment

ADDRESS = "http://127.0.0.1:8000"


@dataclass
class Service:
    """A client of a service that runs in this process.

    Attributes:
        told: what the service said.
    """

    client: TestClient
    models: Models
    told: list[str] = field(default_factory=list)

    def send(self, *files: tuple[str, bytes], path: str = "/predict", **options: str) -> Any:
        """The response to a form with these files."""
        return self.client.post(path, files=[("images", file) for file in files], data=options)

    def send_json(self, *files: tuple[str, bytes], **options: Any) -> Any:
        """The response to the same in JSON."""
        images = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files]
        return self.client.post("/predict", json={"images": images, **options})


@contextmanager
def service(*folders: str | Path, **options: Any) -> Iterator[Service]:
    """A service of these models that does not look at their folders by itself."""
    told = list[str]()
    asked = Options(tuple(map(str, folders)), **{"reload_every": 0, **options})
    with assembled(asked, told.append) as (app, models):
        client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
        yield Service(client, models, told)


def fitted(place: Path, method: str, *, calibrate: bool = False, seed: int = 0) -> FewShotClassifier:
    """A model adapted to the images in `data` with the checkpoint `clip` of a folder."""
    images = sorted((place / "data").rglob("*.png"))
    made = FewShotClassifier(str(place / "clip"), method, calibrate=calibrate, device="cpu", seed=seed)
    return made.fit(images, [image.parent.name for image in images])


def good(number: int = 1) -> tuple[str, bytes]:
    """Name and bytes of a small picture."""
    return f"{number}.png", encoded(picture(number), "PNG")


def files_of(place: Path) -> list[tuple[str, bytes]]:
    """Name and bytes of the labelled images."""
    return [(path.name, path.read_bytes()) for path in sorted((place / "data").rglob("*.png"))]


def refusal(response: Any, status: int) -> str:
    """The sentence of a refused request."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    sentence = response.json()["error"]
    assert sentence.endswith(".") and "\n" not in sentence, sentence
    return str(sentence)


@contextmanager
def program(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and its address; it is killed at the end, if it has not ended."""
    command = [*PROGRAM, "serve", *map(str, arguments), "--port", "0"]
    environment = subprocess_environment(PYTHONUNBUFFERED="1")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.search(r"(http://[^/]+)/docs", line)
            assert found, (line, running.stderr.read() if running.stderr else "")
            yield running, found[1]
        finally:
            running.kill()
            running.wait(30)

"""The ML backend with a real Label Studio, which `FARSHOT_LABEL_STUDIO` names (its executable)."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from farshot.annotations.label_studio import read, write
from farshot.annotations.rows import Labelled
from tests.image_bytes import encoded
from tests.input_helpers import PROGRAM, subprocess_environment
from tests.label_studio_helpers import configured, given

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 200), "grey": (128, 128, 128)}
TOKEN = "0123456789abcdef0123456789abcdef01234567"
VALIDATE = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
config, predictions = json.load(sys.stdin)
interface = LabelInterface(config)
print(json.dumps([interface.validate_prediction(one, return_errors=True) for one in predictions]))
"""


def coloured(name: str, number: int) -> bytes:
    """A noisy picture of a colour."""
    noise = np.random.default_rng(number).normal(0, 40, (48, 48, 3))
    return encoded(Image.fromarray((COLOURS[name] + noise).clip(0, 255).astype(np.uint8)), "PNG")


def until(found: Callable[[], Any], seconds: float) -> Any:
    """What is found, as soon as it is."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return value


@contextmanager
def ended(program: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that is ended at the end."""
    with program:
        try:
            yield program
        finally:
            program.terminate()
            try:
                program.wait(30)
            except subprocess.TimeoutExpired:
                program.kill()


@pytest.fixture(scope="module")
def executable() -> str:
    """Label Studio's."""
    if not (found := os.environ.get("FARSHOT_LABEL_STUDIO")):
        pytest.skip("FARSHOT_LABEL_STUDIO does not name the executable of a Label Studio")
    return found


@pytest.fixture(scope="module")
def studio(executable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Label Studio that keeps everything in a temporary folder and tells nobody anything."""
    folder = tmp_path_factory.mktemp("studio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HOST")
    } | {
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "0",
        "LATEST_VERSION_CHECK": "0",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    command = [executable, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    user = ["--username", "a@example.com", "--password", "word-for-tests", "--user-token", TOKEN]
    with (folder / "log").open("w") as log:
        program = subprocess.Popen([*command, *user], stdout=log, stderr=log, text=True, env=environment)
    headers = {"authorization": f"Token {TOKEN}"}
    with (
        ended(program),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client,
    ):

        def is_up() -> bool:
            assert program.poll() is None, (folder / "log").read_text()
            try:
                return client.get("/health").status_code == 200
            except httpx.HTTPError:
                return False

        until(is_up, 300)
        yield client


@pytest.fixture(scope="module")
def personal_token(studio: httpx.Client) -> str:
    """A personal access token, of which a user has one."""
    return str(studio.post("/api/token/").json()["token"])


@contextmanager
def running_backend(folder: Path, studio: httpx.Client, token: str) -> Iterator[str]:
    """The address of `farshot label-studio`."""
    environment = subprocess_environment(PYTHONUNBUFFERED="1", LABEL_STUDIO_API_KEY=token)
    command = [*PROGRAM, "label-studio", str(folder), "--label-studio", str(studio.base_url)]
    options = ["--model", "mini", "--port", "0"]
    with ended(
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, env=environment)
    ) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found.group()


def project_of(studio: httpx.Client, config: str) -> int:
    """A new project."""
    made = studio.post("/api/projects", json={"title": "colours", "label_config": config})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def tasks_of(studio: httpx.Client, project: int) -> list[dict[str, Any]]:
    """Its tasks, with annotations and predictions."""
    found = studio.get("/api/tasks", params={"project": project, "fields": "all", "page_size": 100})
    return list(found.json()["tasks"])


def test_ten_labels_give_thirty_predictions_in_a_real_label_studio(
    studio: httpx.Client, personal_token: str, executable: str, tmp_path: Path
):
    config = configured(*COLOURS)
    project = project_of(studio, config)
    for name in COLOURS:
        for number in range(10):
            file = (f"{name}-{number}.png", coloured(name, number), "image/png")
            assert studio.post(f"/api/projects/{project}/import", files={"file": file}).status_code == 201
    truth = {
        task["id"]: next(name for name in COLOURS if f"-{name}-" in task["data"]["image"])
        for task in tasks_of(studio, project)
    }
    assert len(truth) == 40
    chosen = [
        *[task for name in COLOURS for task in [task for task in truth if truth[task] == name][:2]],
        *[[task for task in truth if truth[task] == name][2] for name in ("red", "blue")],
    ]
    rest = [task for task in truth if task not in chosen]
    with running_backend(tmp_path / "model", studio, personal_token) as backend:
        connected = studio.post("/api/ml", json={"project": project, "url": backend, "title": "farshot"})
        assert connected.status_code == 201 and connected.json()["state"] == "CO", connected.text
        for task in chosen:
            body = {"result": given(truth[task])["result"]}
            assert studio.post(f"/api/tasks/{task}/annotations", json=body).status_code == 201
        version = until(lambda: httpx.get(f"{backend}/health").json()["model_version"], 120)
        asked = studio.post(
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": False, "included": rest}},
        )
        assert asked.status_code == 200, asked.text
        found = {task["id"]: task["predictions"] for task in tasks_of(studio, project)}
        assert [len(found[task]) for task in rest] == [1] * 30 and not any(found[task] for task in chosen)
        labels = {task: found[task][0]["result"][0]["value"]["choices"][0] for task in rest}
        assert set(labels.values()) <= set(COLOURS)
        assert {found[task][0]["model_version"] for task in rest} == {version}
        right = sum(labels[task] == truth[task] for task in rest)
        print(f"{right} of 30 predictions are right")
        assert right >= 20  # 7.5 by chance
        assert all(0 < found[task][0]["score"] <= 1 for task in rest)
        (connection,) = studio.get("/api/ml", params={"project": project}).json()
        versions = studio.get(f"/api/ml/{connection['id']}/versions").json()
        assert versions == {"versions": [version]} and connection["state"] == "CO"

        answered = httpx.post(
            f"{backend}/predict",
            json={"tasks": tasks_of(studio, project)[:3], "project": str(project), "label_config": config},
        ).json()["results"]
        checked = subprocess.run(
            [str(Path(executable).with_name("python")), "-c", VALIDATE],
            input=json.dumps([config, answered]),
            capture_output=True,
            text=True,
            check=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        assert json.loads(checked.stdout.splitlines()[-1]) == [[], [], []]

    with running_backend(tmp_path / "model", studio, TOKEN) as backend:
        assert httpx.get(f"{backend}/health").json()["model_version"] == version


def test_real_exports_are_read_and_what_is_written_is_imported(studio: httpx.Client, tmp_path: Path):
    rows = [
        Labelled("https://example.com/a.png", "red"),
        Labelled("https://example.com/b.png", "blue", 0.75, "model"),
        Labelled("https://example.com/c.png", "grey", None, "model"),
        Labelled("https://example.com/d.png", None, split="test", group="g1"),
    ]
    write(rows, tmp_path / "tasks.json")
    project = project_of(studio, configured(*COLOURS))
    with (tmp_path / "tasks.json").open("rb") as file:
        sent = studio.post(
            f"/api/projects/{project}/import", files={"file": ("tasks.json", file, "application/json")}
        )
    assert sent.status_code == 201, sent.text
    assert (sent.json()["annotation_count"], sent.json()["prediction_count"]) == (1, 2)
    unlabelled = [rows[0], *(Labelled(row.image, None) for row in rows[1:3]), rows[3]]
    for kind, expected in (("JSON", unlabelled), ("JSON_MIN", rows[:1])):
        exported = studio.get(
            f"/api/projects/{project}/export",
            params={"exportType": kind, "download_all_tasks": str(kind == "JSON").lower()},
        )
        (tmp_path / kind).write_bytes(exported.content)
        assert sorted(read(tmp_path / kind), key=lambda row: row.image) == expected, exported.text
    # only a snapshot has more of predictions than their numbers
    options = {"serialization_options": {"predictions": {"only_id": False}}}
    number = studio.post(f"/api/projects/{project}/exports", json=options).json()["id"]
    at = f"/api/projects/{project}/exports/{number}"
    until(lambda: studio.get(at).json()["status"] == "completed", 60)
    exported = studio.get(f"{at}/download", params={"exportType": "JSON"})
    (tmp_path / "snapshot").write_bytes(exported.content)
    assert sorted(read(tmp_path / "snapshot"), key=lambda row: row.image) == rows, exported.text

"""`farshot serve` as a separate program: signals, a kill, and a model that is replaced under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.serve_helpers import files_of, fitted, program

pytestmark = pytest.mark.slow
QUICK = ("--reload-every", "0.2")


class Load:
    """Clients that ask one after the other until they are stopped."""

    def __init__(self, url: str, file: tuple[str, bytes], clients: int = 4) -> None:
        self.answers: list[tuple[int, str]] = []
        self.broken: list[tuple[str, float]] = []  # the error, and when the request began
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, file)) for _ in range(clients)]

    def _ask(self, url: str, file: tuple[str, bytes]) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(f"{url}/predict", files={"images": file})
                except httpx.HTTPError as error:
                    self.broken.append((type(error).__name__, began))
                    return
                self.answers.append((answer.status_code, answer.json().get("version", "")))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, version: str = "") -> None:
        """Until there are so many answers, of a version if one is named."""
        until = time.monotonic() + 60
        while sum(version in one for _, one in list(self.answers)) < count:
            assert time.monotonic() < until and not self.broken, (self.answers[-3:], self.broken)
            time.sleep(0.02)


def version_of(url: str) -> str:
    return str(httpx.get(f"{url}/models").json()["models"][0]["version"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_every_running_request_answered(
    probe: Path, place: Path, number: signal.Signals, code: int
):
    with program(probe, *QUICK) as (running, url), Load(url, files_of(place)[0]) as load:
        load.wait_for(20)
        signalled = time.monotonic()
        running.send_signal(number)
        assert running.wait(30) == code
    assert {status for status, _ in load.answers} == {200}
    # a client that asks again after the end finds nobody; nobody's answer was cut off
    late = {"ReadError"}  # of a connection that is reset: only where it was asked after the signal
    for error, began in load.broken:
        assert error in {"ConnectError", "RemoteProtocolError"} or (error in late and began > signalled)
    assert running.stderr is not None


def test_a_killed_service_starts_again_and_leaves_nothing(probe: Path, place: Path):
    before = sorted(path.name for path in probe.iterdir())
    with program(probe, *QUICK) as (running, url), Load(url, files_of(place)[0]) as load:
        load.wait_for(20)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait(30) == -signal.SIGKILL
    assert {status for status, _ in load.answers} == {200}
    assert sorted(path.name for path in probe.iterdir()) == before
    with program(probe, *QUICK) as (_, url):
        assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_a_model_that_is_replaced_under_load_fails_no_request(place: Path):
    folder, made = place / "hot", [fitted(place, name) for name in ("linear-probe", "prototypes")]
    made[0].save(folder)
    with program(folder, *QUICK) as (_, url), Load(url, files_of(place)[0]) as load:
        seen = [version_of(url)]
        load.wait_for(10)
        for number in range(1, 6):
            made[number % 2].save(folder)
            until = time.monotonic() + 60
            while (now := version_of(url)) == seen[-1]:
                assert time.monotonic() < until
                time.sleep(0.05)
            seen.append(now)
            load.wait_for(len(load.answers) + 5)
        (folder / "farshot.json").write_text("{")  # in place, as a bad copy would
        until = time.monotonic() + 60
        while httpx.get(f"{url}/health").json()["status"] != "degraded":
            assert time.monotonic() < until
            time.sleep(0.05)
        load.wait_for(len(load.answers) + 5)
    assert {status for status, _ in load.answers} == {200}
    assert not load.broken
    assert len(set(seen)) == 2 and {version for _, version in load.answers} == set(seen)

"""Sessions of browsers and their jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farshot.app import folders
from farshot.app import sessions as app_sessions
from farshot.app.jobs import Job, Stopped
from farshot.app.sessions import COOKIE, Sessions, new_token
from farshot.app.workspace import ClassWords, Setup
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.run import adapt
from farshot.errors import DataError
from tests import app_clients
from tests.app_clients import browser, send, session_of
from tests.workspaces import CLASSES, drawn, uploads

pytestmark = app_clients.marks


def test_what_is_forgotten_is_gone(sessions: Sessions) -> None:
    client = browser(sessions)
    send(client, "a.png", drawn(1)[0][1])
    folder = session_of(sessions, client).workspace.folder
    sessions.forget(client.cookies[COOKIE])
    assert not folder.exists()
    assert session_of(sessions, client).workspace.pictures == ()


def test_idle_browsers_are_not_forgotten_where_pictures_are_kept(tmp_path: Path) -> None:
    sessions, token = Sessions(tmp_path, keep=True), new_token()
    sessions.get(token).workspace.choose(Setup("mini", "clap"))
    sessions.get(token).used -= 25 * 3600
    sessions.get(new_token())
    assert sessions.get(token).workspace.choice == Setup("mini", "clap")


def test_a_folder_that_is_there_keeps_its_permissions_and_pictures_are_private(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    keep.mkdir(mode=0o755)
    with folders.kept(keep):
        session = Sessions(keep, keep=True).get(new_token())
    assert keep.stat().st_mode & 0o777 == 0o755
    assert session.workspace.folder.stat().st_mode & 0o777 == 0o700


def test_what_killed_apps_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead, alive = (
        tmp_path / f"farshot-app-{ended.stdout.strip()}-x",
        tmp_path / f"farshot-app-{os.getpid()}-x",
    )
    others = [tmp_path / "farshot-app-notes", tmp_path / "farshot-app-x-y", tmp_path / "mine"]
    for folder in (dead, alive, *others):
        folder.mkdir()
        (folder / "picture.png").write_bytes(b"x")
    with folders.temporary() as folder:
        assert folder.name.startswith(f"farshot-app-{os.getpid()}-")
        assert not dead.exists()
    assert all((place / "picture.png").exists() for place in (alive, *others))
    assert not folder.exists()


def test_gradio_keeps_its_files_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own, in the shared temporary folder, may belong to somebody else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    (tmp_path / "gradio").write_text("another user's")
    with folders.gradio_files():
        assert Path(os.environ["GRADIO_TEMP_DIR"]).stat().st_mode & 0o777 == 0o700
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one() -> None:
    encoders, done, order = Encoders("cpu"), threading.Event(), []

    def long(report: Any) -> None:
        with encoders.turn(report) as report:
            for step in range(200):
                report("cross-validating", step, 200)
                order.append("long")
                time.sleep(0.01)

    def short(report: Any) -> None:
        with encoders.turn(report):
            order.append("short")
        done.set()

    first = Job(long)
    while not order:
        time.sleep(0.005)
    Job(short)
    assert done.wait(1.5)
    assert first.running
    assert order.index("short") < 60
    first.stop()
    first.wait(5)
    assert first.stopped
    assert not encoders.busy


def test_a_job_that_waits_can_be_stopped() -> None:
    encoders, free = Encoders("cpu"), threading.Event()

    def blocking(report: Any) -> None:
        with encoders.turn():
            free.wait(10)

    def waiting(report: Any) -> None:
        with encoders.turn(report):
            raise AssertionError("it was stopped before its turn")

    first = Job(blocking)
    while not encoders.busy:
        time.sleep(0.005)
    second = Job(waiting)
    second.stop()
    second.wait(2)
    assert second.stopped
    assert second.error is None
    free.set()
    first.wait(5)
    with encoders.turn():
        assert encoders.busy


def test_idle_browsers_are_forgotten_and_too_many_are_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_sessions, "MOST_SESSIONS", 2)
    first, second, third = new_token(), new_token(), new_token()
    sessions.get(first).workspace.choose(Setup("mini", "clap"))
    sessions.get(second).workspace.choose(Setup("mini", "clap"))
    with pytest.raises(DataError, match="try again later"):
        sessions.get(third)
    sessions.get(first).used -= 25 * 3600
    sessions.get(second)
    assert sessions.get(third).workspace.pictures == ()


def test_work_lasts_until_the_app_ends_where_no_room_is_needed(sessions: Sessions) -> None:
    first, second = new_token(), new_token()
    for token in (first, second):
        sessions.get(token).workspace.choose(Setup("mini", "clap"))
    for token in (first, second):
        sessions.get(token).used -= 25 * 3600
    for token in (first, second):  # neither the one that is opened nor the other
        assert sessions.get(token).workspace.choice == Setup("mini", "clap")


def test_a_job_ends_where_it_is_stopped(sessions: Sessions) -> None:
    session = sessions.get(new_token())
    going, ended = threading.Event(), []

    def work(report: Callable[[str, int, int], None]) -> None:
        try:
            while True:
                report("working", 1, 2)
                going.set()
        except Stopped:
            ended.append(True)
            raise

    job = session.start(work)
    assert going.wait(10)
    assert (job.phase, job.done, job.total) == ("working", 1, 2)
    with pytest.raises(DataError, match="One thing after the other"):
        session.start(work)
    job.stop()
    job.wait(10)
    assert (job.running, job.stopped, ended) == (False, True, [True])


def test_what_goes_wrong_in_a_job_is_one_sentence() -> None:
    def fail(_report: object) -> None:
        raise DataError("No.")

    def bug(_report: object) -> None:
        raise KeyError("x")

    for work, words in ((fail, "No."), (bug, "please report it")):
        job = Job(work)
        job.wait(10)
        assert job.error is not None
        assert words in job.error


def test_pictures_may_be_removed_while_a_model_is_trained(
    sessions: Sessions, encoders: Encoders, tmp_path: Path
) -> None:
    session = sessions.get(new_token())
    workspace = session.workspace
    workspace.name_classes([ClassWords(name) for name in CLASSES])
    pictures = drawn(4)
    for (label, _), upload in zip(pictures, uploads(tmp_path / "sent", pictures), strict=True):
        workspace.take([upload], label)
    first, *_, last = workspace.pictures
    workspace.label([last.id], None)
    workspace.choose(Setup("mini", "linear-probe"))

    def work(report: Report) -> None:
        def removing(phase: str, done: int, total: int) -> None:
            if len(workspace.pictures) == 8:
                workspace.remove([first.id, last.id])
            report(phase, done, total)

        adapt(workspace, encoders, removing)

    job = session.start(work)
    job.wait(60)
    assert job.error is None
    assert len(workspace.pictures) == 6
    pictures_now = {file.name for file in (workspace.folder / "pictures").iterdir()}
    assert pictures_now == {picture.file for picture in workspace.pictures}
    workspace.undo()
    assert len(workspace.pictures) == 8
    assert workspace.path(first).is_file()
    workspace.remove([first.id])
    workspace.forget_removed()
    assert not list(workspace.folder.rglob(f"{first.id}.png"))

"""Fast and thorough training in the app, and how a page learns of its jobs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from farshot.app.actions import act
from farshot.app.choices import OTHER, by_way, way_of, ways
from farshot.app.sessions import Session, Sessions
from farshot.app.workspace import Setup
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.limits import Limits
from farshot.errors import DataError
from farshot.methods.catalogue import FAST, THOROUGH
from tests import app_clients

pytestmark = app_clients.marks


def test_a_way_of_training_sets_method_and_settings():
    other = Setup("some/clip", "clap", quick=True, wanted=0.9)
    assert way_of(other) == OTHER
    assert by_way(other, OTHER) == other
    for way in (FAST, THOROUGH):
        made = by_way(other, way)
        assert made == Setup("some/clip", way, quick=False, wanted=0.9)
        assert way_of(made) == way
    assert way_of(Setup(method=THOROUGH, quick=True)) == OTHER
    assert [words for words, _ in ways()] == ["Fast", "Thorough", "As set under Advanced"]
    assert ways(720)[1][0] == "Thorough (about 12 min)"


def test_timing_gives_way_to_what_a_person_asks_for(tmp_path: Path):
    session = Session(tmp_path / "workspace", Limits(), Setup())

    def endless(report: Any) -> Any:
        while True:
            report("timing", 0, 0)

    timed = session.time(endless)
    assert session.time(endless) is timed
    assert not session.busy
    job = session.start(lambda _report: None)
    timed.wait(30)
    job.wait(30)
    assert timed.stopped
    timed = session.time(endless)
    act(session, Encoders("cpu"), {"do": "show", "ids": ["x"]})  # its explanation is computed next
    assert timed.stopped
    assert session.timed is None


def test_a_page_learns_how_far_the_job_is_and_how_it_ended(tmp_path: Path):
    sessions = Sessions(tmp_path)
    browser = app_clients.browser(sessions)
    session = app_clients.session_of(sessions, browser)
    told = lambda: browser.get("/farshot/status").json()["job"]  # noqa: E731
    assert told() == {"running": False, "done": 0, "total": 0, "ended": 0, "how": ""}
    going, finish = threading.Event(), threading.Event()

    def work(report: Any) -> None:
        report("training", 3, 12)
        going.set()
        assert finish.wait(30)

    job = session.start(work)
    assert going.wait(10)
    assert told() == {"running": True, "done": 3, "total": 12, "ended": 0, "how": ""}
    finish.set()
    job.wait(30)
    assert told() == {"running": False, "done": 3, "total": 12, "ended": 1, "how": "done"}

    def fails(_report: Any) -> None:
        raise DataError("no")

    session.start(fails).wait(30)
    assert (told()["ended"], told()["how"]) == (2, "failed")

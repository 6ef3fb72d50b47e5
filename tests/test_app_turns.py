"""Several people train at once: who waits for whom, and for how long."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from farshot.app import actions
from farshot.app.jobs import Job
from farshot.app.sessions import Session, Sessions, new_token
from farshot.app.workspace import ClassWords, Setup
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.run import last_run
from tests import app_clients
from tests.workspaces import CLASSES, drawn, uploads

pytestmark = app_clients.marks

SHOTS, ASKED = 5, 3


def test_short_steps_do_not_each_wait_for_a_step_of_a_long_job() -> None:
    encoders, ended, steps = Encoders("cpu"), [], 0

    def long(report: Any) -> None:
        nonlocal steps
        with encoders.turn(report) as report:
            while True:
                report("training", 0, 0)
                time.sleep(0.1)
                steps += 1

    def short(report: Any) -> None:
        with encoders.turn(report) as report:
            for step in range(20):
                report("predicting", step, 20)
            ended.append(steps)

    first = Job(long)
    while steps == 0:
        time.sleep(0.005)
    begun, others = steps, [Job(short), Job(short)]
    for one in others:
        one.wait(10)
    assert first.running
    assert len(ended) == 2
    assert max(ended) - begun <= 12  # two turns of the long one, each at most half a second and a step
    first.stop()
    first.wait(5)
    assert first.stopped


def test_a_job_of_many_steps_lets_others_have_their_turn() -> None:
    """Each is shorter than a turn."""
    encoders, turns, going = Encoders("cpu"), [], threading.Event()

    def work(name: str, steps: int) -> Any:
        def steady(report: Any) -> None:
            with encoders.turn(report) as report:
                for step in range(steps):
                    going.set()
                    report("predicting", step, steps)
                    turns.append(name)
                    time.sleep(0.01)

        return steady

    first = Job(work("a", 150))
    assert going.wait(5)
    second = Job(work("b", 5))
    second.wait(10)
    assert first.running
    first.wait(10)
    assert turns.count("a") == 150
    assert turns.index("b") < 100


def person(sessions: Sessions, folder: Path, method: str, start: int) -> Session:
    """A browser with labelled pictures of two classes, and some to ask about."""
    session = sessions.get(new_token())
    workspace = session.workspace
    workspace.name_classes([ClassWords(name) for name in CLASSES])
    pictures = drawn(SHOTS + ASKED, start)
    taken, refused = workspace.take(uploads(folder / str(start), pictures))
    assert not refused
    for place, (picture, (label, _)) in enumerate(zip(taken, pictures, strict=True)):
        if place % (SHOTS + ASKED) < SHOTS:
            workspace.label([picture.id], label)
    workspace.choose(Setup("mini", method, quick=True))
    return session


def trained(session: Session, encoders: Encoders) -> tuple[float, float]:
    """Seconds until the predictions are there, and until the cross-validation has ended."""
    begun, first = time.perf_counter(), None
    job = actions.start_adapting(session, encoders)
    while job.running:
        job.wait(0.02)
        run = last_run(session.workspace)
        if first is None and run is not None and len(run.predictions) == 2 * ASKED:
            first = time.perf_counter() - begun
    assert job.error is None
    assert first is not None
    return first, time.perf_counter() - begun


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_waits_for_another_browsers_cross_validation(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    sessions, encoders = Sessions(tmp_path / "sessions"), Encoders("cpu")
    trained(person(sessions, tmp_path, "linear-probe", 0), encoders)  # the model is loaded now
    alone = trained(person(sessions, tmp_path, "linear-probe", 2000), encoders)
    slow = person(sessions, tmp_path, "atha", 4000)
    job = actions.start_adapting(slow, encoders)
    while job.running and job.phase != "checking":
        job.wait(0.1)
    done = job.done
    others = [person(sessions, tmp_path, "linear-probe", 6000 + 2000 * n) for n in range(2)]
    found: list[tuple[float, float]] = []
    threads = [threading.Thread(target=lambda s=s: found.append(trained(s, encoders))) for s in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert job.running
    assert job.phase == "checking"
    told = "; ".join(f"{first:.1f}, {end:.1f}" for first, end in found)
    print(
        f"\nfirst prediction and end, s: alone {alone[0]:.1f}, {alone[1]:.1f}; two during a cross-validation "
        f"of atha {told}; it took {job.done - done} of {job.total} steps meanwhile"
    )
    assert len(found) == 2
    assert max(end for _, end in found) < 20
    assert job.done - done < job.total / 4
    job.stop()
    job.wait(60)
    assert job.stopped
    assert last_run(slow.workspace) is not None

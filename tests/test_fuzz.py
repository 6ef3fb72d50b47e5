"""Inputs of the fuzzers (fuzz/, `make fuzz`) are read or refused as before: those to begin with, and those of
faults that were fixed. The first word of a file's name is what happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz.judge import MOST_GROWTH, judge, judge_apart, smaller
from fuzz.mutate import change_json
from fuzz.targets import ABSENT, TARGETS

from farshot.errors import DataError
from tests.input_helpers import subprocess_environment

CORPUS = Path(__file__).parent / "fuzz-corpus"
FILES = sorted(CORPUS.glob("*/*.bin"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_input_is_read_or_refused_as_before(file: Path) -> None:
    outcome = judge(TARGETS[file.parent.name].run, file.read_bytes())
    if outcome.text.endswith(ABSENT):
        pytest.skip(outcome.text)
    assert outcome.key == file.name.split("-")[0], outcome.text


def test_every_target_has_inputs_that_are_read_and_that_are_refused() -> None:
    kinds = {(file.parent.name, file.name.split("-")[0]) for file in FILES}
    assert kinds == {(name, kind) for name in TARGETS for kind in ("read", "refused")}
    assert sum(file.stat().st_size for file in FILES) < 100_000


def fails(data: bytes) -> None:
    """A target with a fault of each kind."""
    match data[:1]:
        case b"v":
            raise ValueError("a bug")
        case b"r":
            raise DataError("one sentence.")
        case b"n":
            raise DataError("two\nlines.", lines=True)
        case b"m":
            np.ones(MOST_GROWTH + (50 << 20), np.uint8)
        case b"c":
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"", "read"),
        (b"r", "refused"),
        (b"v", "ValueError at test_fuzz.py:fails"),
        (b"n", "no sentence at test_fuzz.py:fails"),
        (b"m", "memory"),
        (b"c", "crash by SIGKILL"),
    ],
)
def test_a_fault_of_any_kind_is_found(data: bytes, key: str) -> None:
    assert judge_apart(fails, data).key == key


def test_what_takes_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.judge.MOST_SECONDS", 0.01)
    assert judge(lambda _: sum(range(10**6)) and None, b"").key == "slow"
    monkeypatch.setattr("fuzz.judge.PATIENCE_S", 0.2)
    assert judge_apart(lambda _: time.sleep(60), b"").key == "hang"


def test_a_finding_is_made_smaller() -> None:
    assert smaller(fails, b"v" + bytes(100), "ValueError at test_fuzz.py:fails", 20.0) == b"v"


def test_json_stays_json_when_it_is_changed() -> None:
    text = b'{"a": [1, {"b": "c"}], "d": null}'
    changed = {change_json(text, seed) for seed in range(200)}
    assert None not in changed
    assert len(changed) > 100
    assert change_json(b"{", 0) is None


@pytest.mark.slow
def test_a_target_is_fuzzed_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "fuzz", "--seconds", "10", "--out", str(tmp_path), "settings"]
    done = subprocess.run(
        command,
        cwd=CORPUS.parent.parent,
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    name, executions, seconds, findings = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert (name, findings) == ("settings", "0")
    assert int(executions.replace(",", "")) > 100
    assert int(seconds) >= 9

"""Computations start as many threads as the process may use, not as the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farshot.workers import processors
from tests.input_helpers import subprocess_environment


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, on a machine of 64 processors."""
    monkeypatch.setattr(processors, "CONTROL_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "", 64),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 64),
        ({"cpu.max": "200000 100000\n"}, "", 2),
        ({"cpu.max": "150000 100000\n"}, "", 2),
        ({"cpu.max": "20000 100000\n"}, "", 1),
        ({"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 3),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "", 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu,cpuacct:/\n", 64),
        (
            {"cpu/x/cpu.cfs_quota_us": "500000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            "3:memory:/y\n1:cpu,cpuacct:/x\n",
            5,
        ),
        ({"cpu.max": "200000\n"}, "", 64),
        ({"cpu.max": "200000 0\n"}, "nonsense", 64),
    ],
)
def test_the_limit_of_a_control_group_counts(
    groups: Path, files: dict[str, str], own: str, expected: int
) -> None:
    for name, text in files.items():
        write(groups / "cgroup" / name, text)
    write(groups / "own", own)
    assert processors.usable() == expected


def test_affinity_counts(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert processors.usable() == 3


def test_the_users_number_of_threads_stays(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(groups / "cgroup" / "cpu.max", "200000 100000\n")
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    processors.prepare_threads()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    processors.prepare_threads()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.delenv("OMP_NUM_THREADS")
    write(groups / "cgroup" / "cpu.max", "max 100000\n")
    processors.prepare_threads()
    assert "OMP_NUM_THREADS" not in os.environ


def test_threads_sleep_soon_unless_the_user_says_how_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("OMP_WAIT_POLICY", "GOMP_CPU_AFFINITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    processors.prepare_threads()
    assert os.environ["GOMP_SPINCOUNT"] == "5"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    processors.prepare_threads()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    processors.prepare_threads()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


@pytest.mark.slow
def test_commands_keep_to_it() -> None:
    """PyTorch in a process that says it has fewer processors than there are."""
    code = (
        "import os; os.cpu_count = lambda: 64; os.sched_getaffinity = lambda _: {0}\n"
        "from farshot.cli import console, root\n"
        "console.run = lambda app: None\n"
        "root.main()\n"
        "import torch; print(torch.get_num_threads(), os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {k: v for k, v in subprocess_environment().items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1000"]

"""How many processors this process may use: fewer than the machine has where a container limits it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")  # names those that this process is in
_THREADS = "OMP_NUM_THREADS"  # of PyTorch's and NumPy's computations
_WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY"}
_SPINS = "1000"  # what GNU OpenMP itself takes where it has more threads than processors; else 300,000


def usable() -> int:
    """Processors that the system lets this process run on, at most what its control group may use."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min([count, *(math.ceil(share) for share in _shares())]))


def prepare_threads() -> None:
    """Have computations start no more threads than `usable`, and let them sleep soon where they wait for each
    other; to be called before PyTorch is imported. What the user has set stays.

    PyTorch starts one per processor of the machine. In a container that may use 2 of 64 the system would stop
    all of them for most of the time. And its threads spin for milliseconds before they sleep: where another
    program needs the processor, each then waits for one that cannot run (docs/performance.md).
    """
    if _THREADS not in os.environ and usable() < (os.cpu_count() or 1):
        os.environ[_THREADS] = str(usable())
    if not _WAITING & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPINS


def _shares() -> Iterator[float]:
    """The limits of the control groups that the process is in, as numbers of processors (Linux)."""
    for folder in _groups():
        try:
            words = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            try:
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                words = [(folder / name).read_text(encoding="ascii").strip() for name in names]
            except (OSError, ValueError):
                continue
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            yield int(words[0]) / int(words[1])  # "max" or -1 is no limit


def _groups() -> Iterator[Path]:
    """Folders of the process's control group and those above it; in a container only the root is shown."""
    yield from (CONTROL_GROUPS, CONTROL_GROUPS / "cpu")
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = CONTROL_GROUPS / "cpu" if controllers else CONTROL_GROUPS
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(1, len(parts) + 1):
            yield base.joinpath(*parts[:depth])

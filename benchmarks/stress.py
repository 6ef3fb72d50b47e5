"""Kills commands, runs two at once, fills the disk, and looks whether anything is lost.

    python -m benchmarks.stress grid --model mini --kills 20
    python -m benchmarks.stress commands
    python -m benchmarks.stress commands --only bench "predict --out" --most 10

`grid` kills a benchmark at random moments, prints one line per trial and fails if any store differs from that
of an undisturbed run. Its trials with a full and a read-only disk mount a separate file system, which needs
root; else they say so. `commands` kills every command that writes at the system calls that change the disk,
runs it again and prints a table (benchmarks/killed.py); it needs strace. The exit code is 1 where anything
was lost, doubled, half-written or left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.killed import Killer, Unusable, kill_everywhere
from benchmarks.writing_commands import COMMANDS
from tests.same_rows import difference

from farshot.bench.store import Store

MAIN = [sys.executable, "-c", "from farshot.cli.root import main; main()"]
METHODS = ["zero-shot", "prompt-lora[steps=5,views=none]", "atha[steps=5,views=none]"]


class Stress:
    """The trials, on one grid of 2 pools x 2 shots x 3 methods."""

    def __init__(self, model: str, tasks: int, folder: Path, seed: int) -> None:
        self.model, self.tasks, self.folder, self.random = model, tasks, folder, random.Random(seed)
        self.whole = folder / "whole.db"
        self.failed = False

    def start(self, store: Path) -> subprocess.Popen[str]:
        """A process that fills a store."""
        command = [*MAIN, "bench", "--pools", "mini-crops", "mini-land", "--shots", "1", "2", "--methods"]
        command += [*METHODS, "--tasks", str(self.tasks), "--queries", "3", "--model", self.model]
        command += ["--device", "cpu", "--tasks-per-batch", "4", "--store", str(store)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def undisturbed(self) -> float:
        """Fills the store that all others are held against; returns its seconds."""
        began = time.monotonic()
        child = self.start(self.whole)
        said = child.communicate()[1]
        if child.returncode:
            raise SystemExit(f"the undisturbed run failed: {said}")
        seconds = time.monotonic() - began
        print(f"undisturbed: {self._rows(self.whole)} tasks in {seconds:.0f} s", flush=True)
        return seconds

    def kills(self, times: int, seconds: float) -> None:
        """Killed at random moments of a run, then once to the end."""
        store = self.folder / "killed.db"
        rows = []
        for _ in range(times):
            child = self.start(store)
            # some before the process has opened the store, most in the middle of its work
            time.sleep(self.random.uniform(0, seconds / 3))
            child.kill()
            child.communicate()
            rows.append(self._rows(store))
        print(f"rows after each kill: {' '.join(map(str, rows))}", flush=True)
        self._finish(store)
        self._verdict(f"{times} x SIGKILL", store)

    def two_at_once(self) -> None:
        """Two processes, one store."""
        store = self.folder / "two.db"
        children = [self.start(store), self.start(store)]
        for child in children:
            said = child.communicate()[1]
            if child.returncode:
                self._fail(f"one of two processes ended with {child.returncode}: {said}")
        self._verdict("two processes", store)

    def full_disk(self) -> None:
        """A disk that is full in the middle, then has room again."""
        with small_disk(self.folder / "disk", "640k") as disk:
            if disk is None:
                print("full disk: not run, mounting takes root", flush=True)
                return
            store = disk / "r.db"
            self._refused("full disk", self.start(store), "cannot grow")
            before = self._rows(store)
            remount(disk, "size=200m")
            self._finish(store)
            self._verdict(f"full disk after {before} rows, then room again", store)

    def read_only(self) -> None:
        """A store that may not be written."""
        with small_disk(self.folder / "shelf", "200m") as disk:
            if disk is None:
                print("read-only store: not run, mounting takes root", flush=True)
                return
            store = disk / "r.db"
            shutil.copy(self.whole, store)
            remount(disk, "ro")
            self._refused("read-only store", self.start(store), "Make it and its folder writable")
            self._verdict("read-only store", store)

    def _finish(self, store: Path) -> None:
        said = (child := self.start(store)).communicate()[1]
        if child.returncode:
            self._fail(f"resuming ended with {child.returncode}: {said}")

    def _refused(self, what: str, child: subprocess.Popen[str], sentence: str) -> None:
        said = child.communicate()[1].strip().splitlines()
        last = said[-1] if said else ""
        print(f"{what}: exit code {child.returncode}, {last!r}", flush=True)
        if child.returncode != 2 or sentence not in last or any("Traceback" in line for line in said):
            self._fail(f"{what}: not one sentence: {said}")

    def _verdict(self, what: str, store: Path) -> None:
        with Store(self.whole, read_only=True) as one, Store(store, read_only=True) as other:
            found = difference(one, other)
        print(f"{what}: {'the same' if found.same else 'DIFFERENT'}: {found}", flush=True)
        self.failed |= not found.same

    def _fail(self, trouble: str) -> None:
        print(f"FAILED: {trouble}", flush=True)
        self.failed = True

    def _rows(self, store: Path) -> int:
        if not store.exists() or not store.stat().st_size:
            return 0
        with Store(store, read_only=True) as found:
            return len(found.query("SELECT run FROM results"))


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path | None]:
    """A separate file system in memory; None where it may not be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    """Changes a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def grid(chosen: argparse.Namespace) -> bool:
    """All trials of a benchmark; whether one failed."""
    with tempfile.TemporaryDirectory() as folder:
        stress = Stress(chosen.model, chosen.tasks, Path(folder), chosen.seed)
        seconds = stress.undisturbed()
        stress.kills(chosen.kills, seconds)
        stress.two_at_once()
        stress.full_disk()
        stress.read_only()
    print("FAILED" if stress.failed else "Nothing was lost and nothing changed.")
    return stress.failed


def commands(chosen: argparse.Namespace) -> bool:
    """Kill every command that writes; whether anything went wrong."""
    if unknown := [name for name in chosen.only or () if name not in COMMANDS]:
        raise SystemExit(f"There is no command {unknown[0]!r}; choose of {', '.join(COMMANDS)}.")
    if shutil.which("strace") is None:
        raise SystemExit("Killing at system calls needs strace.")
    failed = False
    folder = Path(tempfile.mkdtemp()).resolve()  # a TemporaryDirectory would be removed when a fork ends, too
    try:
        killer = Killer(folder)
        killer.prepare(COMMANDS[name] for name in chosen.only or COMMANDS)
        print("| command | calls | kills | signals | lost | doubled | partial | leftovers |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
        for name in chosen.only or COMMANDS:
            began = time.monotonic()
            try:
                row = kill_everywhere(
                    killer, COMMANDS[name], chosen.most, chosen.signals, chosen.each, chosen.share
                )
            except Unusable as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                failed = True
                continue
            counts = " | ".join(str(row.counts[kind]) for kind in ("lost", "doubled", "partial", "leftovers"))
            print(f"| {name} | {row.calls} | {row.kills} | {row.signals} | {counts} |", flush=True)
            seconds = time.monotonic() - began
            print(f"{name}: {seconds:.0f} s, {row.elsewhere} kills elsewhere", file=sys.stderr, flush=True)
            failed |= not row.clean
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return failed


def share_of(text: str) -> tuple[int, int]:
    """A part of the trials: 1/2 and 2/2 are the halves."""
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError(text)
    return part, parts


def main() -> None:
    """Runs all trials of a kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("grid", help="a benchmark killed at random moments")
    one.add_argument("--model", default="mini")
    one.add_argument("--kills", type=int, default=20)
    one.add_argument("--tasks", type=int, default=100, help="per cell; twelve cells")
    one.add_argument("--seed", type=int, default=0, help="of the moments")
    other = kinds.add_parser("commands", help="every command killed at its system calls")
    other.add_argument("--only", nargs="+", metavar="COMMAND")
    other.add_argument("--most", type=int, default=60, help="kills of a command with each state before")
    other.add_argument(
        "--each", type=int, help="kills at calls of one kind, whose places differ in numbers only"
    )
    other.add_argument("--signals", type=int, default=4, help="points for each of SIGTERM, SIGHUP and SIGINT")
    other.add_argument(
        "--share", type=share_of, default=(1, 1), metavar="1/2", help="of all trials, for several processes"
    )
    chosen = parser.parse_args()
    sys.exit((grid if chosen.kind == "grid" else commands)(chosen))


if __name__ == "__main__":
    main()

"""Runs the targets one after the other and prints what each found.

    python -m fuzz --seconds 600                all targets
    python -m fuzz --seconds 60 stores images   some of them

A finding is an exception that is not a FarshotError of one sentence, an input that takes over 5 s of
processor time or 500 MB, a hang or a crash. Each is made smaller and kept in OUT/TARGET/found; the exit code
is 1 then.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz, report, and end with 1 where there are findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"), help="corpus and findings")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.targets if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; choose of {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("fuzzing needs atheris, which exists for Linux on x86-64: pip install 'farshot[fuzz]'")
    print("| target | executions | seconds | findings |\n|---|---|---|---|", flush=True)
    found = [fuzz(name, chosen.seconds, chosen.out / name) for name in chosen.targets or TARGETS]
    sys.exit(int(any(found)))


def fuzz(name: str, seconds: float, work: Path) -> int:
    """Fuzz one target, in as many processes as crashes and hangs make necessary; returns its findings."""
    executions, used = 0, 0.0
    work.mkdir(parents=True, exist_ok=True)
    stats = work / "stats.json"
    while used < seconds - 1:
        stats.unlink(missing_ok=True)
        with (work / "log").open("ab") as log:
            _session(name, "--seconds", str(seconds - used), "--work", str(work), log=log)
        if not stats.exists():
            print(f"{name}: the session did not start; see {work / 'log'}", file=sys.stderr)
            return 1
        facts = json.loads(stats.read_text())
        executions, used = executions + facts["executions"], used + max(1.0, facts["seconds"])
    findings = _collected(name, work)
    print(f"| {name} | {executions:,} | {used:.0f} | {len(findings)} |", flush=True)
    for line in findings:
        print(f"    {line}", flush=True)
    return len(findings)


def _collected(name: str, work: Path) -> list[str]:
    """Make every finding smaller; one line for each."""
    lines = []
    for file in (*sorted((work / "found").glob("*.bin")), *sorted((work / "ended").iterdir())):
        if file.suffix == ".small":
            continue
        done = _session(name, "--smaller", str(file))
        try:
            facts = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            facts = {"key": "crash", "bytes": file.stat().st_size}
        lines.append(f"{file}: {facts['key']} ({facts['bytes']} bytes)")
    return lines


def _session(name: str, *options: str, log: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-m", "fuzz.session", name, *options]
    out = subprocess.PIPE if "--smaller" in options else log
    memory = Path("/dev/shm")  # files that are written thousands of times a minute
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        environment["TMPDIR"] = scratch
        return subprocess.run(command, env=environment, stdout=out, stderr=log, text=True, check=False)


if __name__ == "__main__":
    main()

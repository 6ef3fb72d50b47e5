"""Commands in other processes, and the workers of a Ray cluster, for tests that end them."""

from __future__ import annotations

import os
import subprocess

import psutil

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
MAIN = "from farshot.cli.root import main; main()"


def workers_alive() -> list[psutil.Process]:
    """The processes of Ray's actors of farshot on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ray::Actor" in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=ONE_THREAD, stderr=subprocess.PIPE, text=True)


def kill(driver: subprocess.Popen[str]) -> None:
    driver.kill()
    driver.wait()
    assert driver.stderr is not None
    driver.stderr.close()

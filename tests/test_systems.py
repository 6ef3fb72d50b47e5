"""What other systems and older versions lack is not needed: seen with it taken away, not on those systems."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from tools.mini_clip.train import Recipe, Trainer

from farshot.errors import SettingError
from tests.input_helpers import class_folders

ROOT = Path(__file__).parents[1]

# Modules and names that Windows does not have, and that Python and packages look for while they are imported.
WITHOUT = """
import os, runpy, signal, sys
import numpy, scipy.optimize, scipy.special, sklearn.linear_model, torch, transformers, matplotlib, pandas
import asyncio, huggingface_hub.utils._cache_manager, multiprocessing.pool, subprocess, tempfile
import concurrent.futures.process
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer, PreTrainedTokenizerFast
import gradio, torch.utils.data, torch.nn.attention
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in (
    "fork forkpty getuid geteuid getgid getegid setsid setpgid getpgid killpg pread pwrite sysconf nice "
    "uname sched_getaffinity sched_setaffinity mkfifo chown fchmod fchown lchown statvfs fstatvfs getloadavg "
    "wait3 wait4 posix_fadvise posix_fallocate O_NOFOLLOW O_NONBLOCK O_DIRECTORY O_CLOEXEC initgroups fchdir"
).split():
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE", "alarm"):
    if hasattr(signal, name):
        delattr(signal, name)
"""

# farshot.export.predict is copied into an export and runs there, next to the package `reading`.
EVERY_MODULE = """
import importlib, pkgutil, farshot
for found in pkgutil.walk_packages(farshot.__path__, "farshot."):
    if not found.name.endswith(("__main__", "export.predict")):
        importlib.import_module(found.name)
"""

COMMANDS = """
from farshot.cli.root import main
def farshot(*words):
    sys.argv = ["farshot", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
one = ("--model", "mini", "--device", "cpu")
farshot("adapt", "images", *one, "--method", "linear-probe", "--shots", "2", "--out", "adapted")
farshot("evaluate", "adapted", "images")
farshot("predict", "adapted", "images", "--csv")
farshot("explain", "adapted", "images/cat/0.png", "--out", "explained")
farshot("pick", "images", *one, "--count", "2", "--out", "picked")
farshot("bench", "--pools", "own=images", *one, "--shots", "1", "--ways", "2", "--queries", "1",
        "--tasks", "2", "--methods", "zero-shot", "--store", "results.db")
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [EVERY_MODULE, COMMANDS], ids=["imports", "commands"])
def test_nothing_that_windows_lacks_is_needed(program: str, tmp_path: Path) -> None:
    class_folders(tmp_path / "images", images=4)
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT + program], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_training_without_muon_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(SettingError, match=r"needs torch 2\.9 or later, for torch\.optim\.Muon"):
        Trainer(Recipe(steps=1))


def test_classifiers_name_what_is_tested_and_the_floor_has_muon() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    systems = [line for line in project["classifiers"] if line.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]
    assert "Programming Language :: Python :: 3.11" in project["classifiers"]
    (floor,) = (line.partition(">=")[2] for line in project["dependencies"] if line.startswith("torch>="))
    assert tuple(map(int, floor.split("."))) >= (2, 9)

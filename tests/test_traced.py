"""No command opens a connection or writes outside the places that it was given: the system calls of each are
traced. Slow, since each runs as a separate program under strace."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from farshot.cli.root import app
from farshot.errors import DataError
from farshot.export.web_runtime import runtime_files
from tests.bench_helpers import tiny_checkpoint
from tests.input_helpers import QUICK, adapted_in, class_folders, subprocess_environment

MAIN = "from farshot.cli.root import main; main()"
BENCH = "bench --pools mini-crops --shots 1 --methods zero-shot linear-probe --tasks 3 --queries 3"
COMMANDS: dict[str, str] = {
    "adapt": "adapt {data} --model {clip} --out {out}/m " + " ".join(map(str, QUICK)),
    "adapt-estimate": "adapt {data} --model {clip} --out {out}/m --method linear-probe",
    "predict": "predict {model} {data} --csv --reject 0.2",
    "predict-out": "predict {model} {data} --out {out}/p.csv",
    "evaluate": "evaluate {model} {data} --include-support --out {out}/c.csv",
    "explain": "explain {model} {data} --out {out}/e",
    "report-model": "report {model} --data {more} --out {out}/r.html",
    "export-onnx": "export {model} --format onnx --out {out}/o",
    "export-web": "export {model} --format web --runtime {runtime} --out {out}/o",
    "export-student": "export {model} --student {crowd} --student-steps 1 --out {out}/o",
    "export-torch": "export {model} --format torch --out {out}/o",
    "adapt-tracked": "adapt {data} --model {clip} --out {out}/m --track tensorboard:{out}/runs "
    + " ".join(map(str, QUICK)),
    "adapt-mlflow": "adapt {data} --model {clip} --out {out}/m --track mlflow:{out}/runs "
    + " ".join(map(str, QUICK)),
    "bench-split": "bench --pools p={tree} --protocol split --shots 1 --methods zero-shot --model {clip} "
    "--store {out}/r.db",
    "export-transformers": "export {model} --format transformers --out {out}/o",
    "export-peft": "export {model} --format peft --out {out}/o",
    "check": "check {data} --model {clip} --out {out}/check.html",
    "choose": "choose {data} --models mini --models {clip} --out {out}/m",
    "curve": "curve {data} --model {clip} --out {out}/curve.png",
    "pick": "pick {data}/cat {data}/dog --model {clip} --out {out}/picked --count 2",
    "bench": BENCH + " --model mini --store {out}/r.db",
    "table": "table --store {store}",
    "table-figure": "table --store {store} --figure {out}/table.png",
    "compare": "compare linear-probe zero-shot --store {store}",
    "store-list": "store list {store}",
    "store-export": "store export {store} {out}/rows.jsonl",
    "store-bundle": "store export {store} --bundle {out}/rows.zip",
    "store-merge": "store merge {store} {store} {out}/all.db",
    "verify": "verify {bundle} --model mini --sample 2",
    "reproduce-estimate": "reproduce mini --quick --estimate --calibrate 1 --queries 2 --tasks 3",
    "report-store": "report {store} --out {out}/r.html",
    "data-list": "data list",
    "data-check": "data check p {data}",
    "data-prepare": "data prepare p={data} --model {clip}",
    "convert": "convert {data} {out}/labels.json --to coco",
    "encoders": "encoders",
    "methods": "methods",
    "demo": "demo --out {out}/demo --tasks 3",
}
"""What a person may type; {out} is the place for what is written. `export --format web` without --runtime is
left out: it fetches that."""

WRITES = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", [^)]*O_(?:WRONLY|RDWR|CREAT)[^)]*\) = \d')
MAKES = re.compile(r'(?:mkdir|rename|unlink|symlink)(?:at2?|at)?\([^"]*"([^"]+)"[^)]*\) = 0')
# urllib3, which MLflow imports, makes a socket to see whether there is IPv6, and connects it to nothing
HARMLESS = {("adapt-mlflow", "socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3")}
SOCKETS = re.compile(r"(?:socket\(AF_INET6?|connect\(\d+, \{sa_family=AF_INET6?)[^\n]*")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A checkpoint, labelled images, an adapted model and a store."""
    folder = tmp_path_factory.mktemp("traced")
    tiny_checkpoint(folder / "clip")
    class_folders(folder / "data", images=4)
    class_folders(folder / "more", images=2, start=700)
    class_folders(folder / "crowd", images=10, start=2000)
    for start, split in ((1100, "train"), (1500, "test")):
        class_folders(folder / "tree" / split, images=2, start=start)
    adapted_in(folder)
    command = [sys.executable, "-c", MAIN, *BENCH.split(), "--model", "mini", "--store", str(folder / "r.db")]
    subprocess.run(command, env=subprocess_environment(), check=True, capture_output=True)
    bundled = [*command[:3], "store", "export", str(folder / "r.db"), "--bundle", str(folder / "r.zip")]
    subprocess.run(bundled, env=subprocess_environment(), check=True, capture_output=True)
    (folder / "runtime").mkdir()
    with contextlib.suppress(DataError):  # no registry: the test is skipped
        for name, content in runtime_files().items():
            (folder / "runtime" / name).write_bytes(content)
    yield {
        "runtime": folder / "runtime",
        "bundle": folder / "r.zip",
        "data": folder / "data",
        "more": folder / "more",
        "crowd": folder / "crowd",
        "tree": folder / "tree",
        "clip": folder / "clip",
        "model": folder / "adapted",
        "store": folder / "r.db",
    }


SERVERS = {"app", "serve", "label-studio", "push"}
"""Those that a person starts to open connections; other tests watch these."""


def test_every_command_is_here() -> None:
    known = {
        f"{name} {sub}".strip()
        for name, one in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for sub in getattr(one, "commands", [""])
    }
    assert {
        one for one in known if not any(f"{words} ".startswith(f"{one} ") for words in COMMANDS.values())
    } == SERVERS


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_sent_and_nothing_is_written_elsewhere(
    name: str, places: dict[str, Path], tmp_path: Path
) -> None:
    out, home, cache, scratch = (tmp_path / part for part in ("out", "home", "cache", "tmp"))
    for folder in (out, home, cache, scratch):
        folder.mkdir()
    if name == "export-web" and not any(places["runtime"].iterdir()):
        pytest.skip("needs the npm registry")
    words = COMMANDS[name].format(out=out, **places).split()
    environment = subprocess_environment() | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "FARSHOT_CACHE": str(cache),
        "TMPDIR": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    for spared in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "ORT_DISABLE_TELEMETRY"):
        environment.pop(spared, None)
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,open,openat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,symlink"
    command = ["strace", "-f", "-qq", "-s", "4096", "-e", calls, "-o", str(trace), sys.executable, "-c", MAIN]
    done = subprocess.run(
        [*command, *words], env=environment, cwd=out, capture_output=True, text=True, check=False, timeout=500
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    text = trace.read_text(errors="replace")
    assert [call for call in SOCKETS.findall(text) if (name, call) not in HARMLESS] == []
    # a store is opened for reading by SQLite, whose index of the log lies next to it
    allowed = (out, cache, scratch, "/dev/", "/proc/self/", *(places["store"].parent.glob("r.db-*")))
    written = [path for path in (*WRITES.findall(text), *MAKES.findall(text)) if Path(path).is_absolute()]
    assert [path for path in written if not path.startswith(tuple(map(str, allowed)))] == []
    assert list(home.iterdir()) == []
    assert list(scratch.iterdir()) == []  # no leftovers

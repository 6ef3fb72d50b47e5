"""How reports, exports and comparisons of stores grow with the number of tasks.

    python -m benchmarks.stores --rows 10000 100000 1000000 --folder /var/tmp

Fills a store with made-up results of 13 methods on 5 pools at 1 and 5 shots, 5 classes and 15 queries each,
and prints processor seconds, largest memory and size of `farshot report`, `table`, `compare` and `store
export`, and of comparing two stores row by row.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from farshot.bench.records import Run
from farshot.bench.store import Store
from farshot.bench.tasks import Shape
from farshot.methods.catalogue import catalogue

METHODS, POOLS, SHOTS = 13, ("isic", "eurosat", "cropdiseases", "chestx", "more"), (1, 5)
MAIN = "from farshot.cli.root import main; main()"
SAME = "import runpy, sys; sys.argv[0] = 'same'; runpy.run_module('tests.same_rows', run_name='__main__')"


def fill(path: Path, rows: int, seed: int = 0) -> None:
    """A store of about so many rows."""
    methods = list(catalogue().items())[:METHODS]
    tasks = max(3, rows // (len(methods) * len(POOLS) * len(SHOTS)))
    with Store(path) as store:
        runs = []
        for pool in POOLS:
            for shots in SHOTS:
                shape = Shape(5, shots, 15)
                for name, about in methods:
                    run = Run(
                        method=name,
                        revision=about["revision"],
                        settings=about["settings"],
                        precision="float32",
                        model_fingerprint="0" * 32,
                        pool=pool,
                        pool_fingerprint=f"{pool:0<32}",
                        class_names=tuple(f"class {i}" for i in range(20)),
                        template="a photo of a {}.",
                        shape=shape,
                        label=name,
                        kind=about["kind"],
                        model="made up",
                    )
                    runs.append((store.run_id(run), run))
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5, dtype=np.uint8), 15)
    words = [f'["{"0" * 32}"]', f'["{"1" * 32}"]', f'["{"2" * 32}"]']
    with closing(sqlite3.connect(path)) as file, file:
        for _, run in runs[:: len(methods)]:
            key = (run.pool_fingerprint, run.protocol, 5, run.shape.shots, 15)
            episodes = ((*key, 1000, i, *words, labels.tobytes()) for i in range(tasks))
            file.executemany("INSERT INTO episodes VALUES (?,?,?,?,?,?,?,?,?,?,?)", episodes)
        for number, _ in runs:
            file.executemany(
                "INSERT INTO results VALUES (?,1000,?,?,?,?,NULL,0.1,1000000,16,'cpu','0',1.0)",
                (_result(number, i, labels, generator) for i in range(tasks)),
            )


def _result(
    number: int, index: int, labels: np.ndarray, generator: np.random.Generator
) -> tuple[object, ...]:
    logits = generator.standard_normal((75, 5), dtype=np.float32) + 2 * np.eye(5, dtype=np.float32)[labels]
    raised = np.exp(logits)
    probabilities = (raised / raised.sum(1, keepdims=True)).astype(np.float16)
    predicted = probabilities.argmax(1).astype(np.uint8)
    accuracy = float((predicted == labels).mean())
    return number, index, accuracy, predicted.tobytes(), probabilities.tobytes()


def measured(*words: str) -> tuple[float, float]:
    """Processor seconds and the largest memory in MB of a command."""
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Prints one line per number of rows and command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="for the stores: 1 GB for a million rows")
    parser.add_argument("--skip", nargs="*", default=[], help="commands that are not run")
    chosen = parser.parse_args()
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as place:
            store, page, out = Path(place, "r.db"), Path(place, "r.html"), Path(place, "r.jsonl")
            began = time.monotonic()
            fill(store, rows)
            size = store.stat().st_size / 1e6
            print(f"{rows} rows: {size:.0f} MB, filled in {time.monotonic() - began:.0f} s", flush=True)
            commands = {
                "table": (MAIN, "table", "--store", str(store)),
                "compare": (MAIN, "compare", "atha", "clap", "--store", str(store)),
                "report": (MAIN, "report", str(store), "--out", str(page)),
                "export": (MAIN, "store", "export", str(store), str(out)),
                "same": (SAME, str(store), str(store)),
            }
            for name, (program, *words) in commands.items():
                if name in chosen.skip:
                    continue
                seconds, memory = measured(sys.executable, "-c", program, *words)
                written = {"report": page, "export": out}.get(name)
                size = f", {written.stat().st_size / 1e6:.1f} MB written" if written else ""
                print(f"  {name}: {seconds:.1f} CPU s, {memory:.0f} MB{size}", flush=True)
                out.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

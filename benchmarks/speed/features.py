"""How long 1,000 tasks of each method on frozen features take once features are cached: drawn, fitted,
classified and stored, as `farshot bench` does it.

    python -m benchmarks.speed.features --pool mini-crops --tasks 1000

Seconds on the clock, and of this process's processor time, which a busy machine changes less.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.speed.options import described

from farshot.bench.grid import Grid, parse_method
from farshot.bench.runner import run_grid
from farshot.bench.store import Store
from farshot.data.pools import open_pool
from farshot.methods import available
from farshot.methods.frozen import FrozenMethod
from farshot.model.features import image_features
from farshot.model.find import load_encoder


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pool", default="mini-crops")
    names = sorted(name for name, method in available().items() if issubclass(method, FrozenMethod))
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--tasks", type=int, default=1000)
    given = parser.parse_args()
    encoder, pool = load_encoder(given.model, device=given.device), open_pool(given.pool)
    image_features(encoder, pool.table, range(len(pool.table)))
    print(f"{given.tasks} tasks of {given.pool}, {given.model}, {given.device}\n")
    print("| method | shots | seconds | of the processor |\n|---|---:|---:|---:|")
    for name in given.methods:
        for shots in given.shots:
            grid = Grid([pool], [shots], [parse_method(name)], given.tasks)
            with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "r.db") as store:
                start, spent = time.perf_counter(), time.process_time()
                run_grid(grid, encoder, store)
                seconds, spent = time.perf_counter() - start, time.process_time() - spent
            print(f"| `{name}` | {shots} | {seconds:.1f} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()

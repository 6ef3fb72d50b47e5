"""Command lines that repeat what a report shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from farshot.bench.results import CellResult
from farshot.bench.tasks import FIRST_REPORTING_SEED
from farshot.data.pools import generated_pools
from farshot.data.published import PUBLISHED
from farshot.images.options import ReadOptions
from farshot.methods.registry import find
from farshot.task import DEFAULT_TEMPLATE


def bench_commands(entries: Sequence[CellResult]) -> list[str]:
    """`farshot bench` lines that fill a store with these results: one per seed and set of cells.

    Pools of a user's own images are written NAME=PATH, since a store does not keep where images are.
    """
    cells: dict[tuple[int, int, str], list[tuple[str, int]]] = {}  # (seed, tasks, method) -> (pool, shots)
    for entry in entries:
        for seed in sorted(set(entry.series.seeds.tolist())):
            tasks = int((entry.series.seeds == seed).sum())
            key = (seed, tasks, entry.run.label)
            cells.setdefault(key, []).append((entry.run.pool, entry.run.shape.shots))
    grids: dict[tuple[int, int, tuple[tuple[str, int], ...]], list[str]] = {}
    for (seed, tasks, method), places in cells.items():
        for grid in _products(places):
            grids.setdefault((seed, tasks, grid), []).append(method)
    run = entries[0].run
    return [_bench_command(seed, tasks, grid, methods, run) for (seed, tasks, grid), methods in grids.items()]


def adapt_command(about: Mapping[str, Any], changed: Mapping[str, Any], shots: int | None, data: str) -> str:
    """The `farshot adapt` line that makes this model again.

    Args:
        about: as in farshot.json.
        changed: settings that are not the method's defaults.
        shots: images per class that were drawn; None where all were taken.
    """
    words = ["farshot", "adapt", data, "--out", "adapted", "--model", str(about["base_model"])]
    words += ["--method", about["method"], "--seed", str(about["seed"])]
    if shots is not None:
        words += ["--shots", str(shots)]
    for name, value in changed.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if about["template"] != DEFAULT_TEMPLATE:
        words += ["--template", about["template"]]
    words += ReadOptions.from_dict(about.get("preprocessing", {})).words()
    if about["precision"] != "float32":
        words += ["--precision", about["precision"]]
    if about["temperature"] != 1:
        words.append("--calibrate")
    elif find(about["method"]).kind == "features":
        words.append("--no-calibrate")
    if about["descriptions"]:
        words += ["--descriptions", "descriptions.json"]
    if [str(c).replace("_", " ") for c in about["classes"]] != list(about["class_names"]):
        words += ["--class-names", "names.txt"]
    return shlex.join(words)


def _bench_command(
    seed: int, tasks: int, grid: Sequence[tuple[str, int]], methods: Sequence[str], run: Any
) -> str:
    pools = list(dict.fromkeys(pool for pool, _ in grid))
    shots = sorted({shots for _, shots in grid})
    words = ["farshot", "bench", "--pools"]
    words += [pool if pool in generated_pools() or pool in PUBLISHED else f"{pool}=PATH" for pool in pools]
    words += ["--shots", *map(str, shots), "--methods", *methods, "--tasks", str(tasks)]
    words += ["--seed", str(seed)]
    if seed >= FIRST_REPORTING_SEED:
        words.append("--report")
    words += ["--model", run.model]
    if not run.shape.queries:
        words += ["--protocol", "split"]
    if run.shape.imbalance is not None:
        words += ["--protocol", "imbalanced", "--imbalance", str(run.shape.imbalance)]
    if run.shape.queries and (run.shape.ways, run.shape.queries) != (5, 15):
        words += ["--ways", str(run.shape.ways), "--queries", str(run.shape.queries)]
    if run.template != DEFAULT_TEMPLATE:
        words += ["--template", run.template]
    if run.precision != "float32":
        words += ["--precision", run.precision]
    return shlex.join([*words, "--store", "results.db"])


def _products(places: Sequence[tuple[str, int]]) -> list[tuple[tuple[str, int], ...]]:
    """The cells as full grids of pools by shots: one if they are one, else one per number of shots."""
    pools, shots = {pool for pool, _ in places}, sorted({shots for _, shots in places})
    if len(set(places)) == len(pools) * len(shots):
        return [tuple(sorted(set(places)))]
    return [tuple(sorted(place for place in set(places) if place[1] == k)) for k in shots]

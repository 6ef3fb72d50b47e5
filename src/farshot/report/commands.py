"""Command lines that repeat what a report shows."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from farshot.bench.records import Run
from farshot.bench.results import CellResult, Column, in_order
from farshot.bench.tasks import FIRST_REPORTING_SEED
from farshot.data.pools import generated_pools
from farshot.data.published import PUBLISHED
from farshot.images.options import ReadOptions
from farshot.methods.registry import find
from farshot.storage.paths import base_name
from farshot.task import DEFAULT_TEMPLATE


def bench_commands(entries: Sequence[CellResult]) -> list[str]:
    """`farshot bench` lines that fill a store with these results: one per seed, set of cells and set of class
    descriptions.

    Pools of a user's own images are written NAME=PATH, since a store does not keep where images are.
    """
    files = _description_files(entries)
    # (seed, tasks, method, descriptions) -> (pool, shots)
    cells: dict[tuple[int, int, str, str], list[tuple[str, int]]] = {}
    for entry in entries:
        for seed in sorted(set(entry.series.seeds.tolist())):
            tasks = int((entry.series.seeds == seed).sum())
            key = (seed, tasks, entry.run.label, files.get(entry.column, ""))
            cells.setdefault(key, []).append((entry.run.pool, entry.run.shape.shots))
    grids: dict[tuple[int, int, str, tuple[tuple[str, int], ...]], list[str]] = {}
    for (seed, tasks, method, file), places in cells.items():
        for grid in _products(places):
            grids.setdefault((seed, tasks, file, grid), []).append(method)
    run = entries[0].run
    return [
        _bench_command(seed, tasks, grid, methods, run, file)
        for (seed, tasks, file, grid), methods in grids.items()
    ]


def description_notes(entries: Sequence[CellResult]) -> list[str]:
    """What the files hold that `bench_commands` gives to `--descriptions`, in sentences."""
    notes = []
    for column, file in _description_files(entries).items():
        own = _own_names(column)
        words = {name: word for name, word in zip(own, column.class_names, strict=False) if name != word}
        if own:
            told = json.dumps(words, ensure_ascii=False)
            notes.append(f"{file} holds the words for the classes of {column.pool}: {told}.")
        else:
            notes.append(
                f"{file} maps the classes of {column.pool} to the names that are listed for {column.name} "
                "below; where these are the pool’s own, leave it out."
            )
    return notes


def _description_files(entries: Sequence[CellResult]) -> dict[Column, str]:
    """Names of files of class descriptions, by column; none where a pool has its own names.

    A store does not keep those of images that are not generated here; if it holds several forms of such a
    pool, each has a file.
    """
    columns = in_order(entry.column for entry in entries)
    images = Counter(column.fingerprint for column in columns)
    described = [
        column
        for column in columns
        if (own := _own_names(column)) != column.class_names and (own or images[column.fingerprint] > 1)
    ]
    return {column: f"descriptions{f'-{i}' * (i > 1)}.json" for i, column in enumerate(described, 1)}


def _own_names(column: Column) -> tuple[str, ...]:
    """What prompts call the classes of a generated pool without descriptions; empty for other pools."""
    pool = generated_pools().get(column.pool)
    return tuple(pool.open(None).table.names) if pool is not None else ()


def adapt_command(
    about: Mapping[str, Any],
    changed: Mapping[str, Any],
    shots: int | None,
    data: str,
    groups: str | None = None,
) -> str:
    """The `farshot adapt` line that makes this model again; of a base model's path the last part only.

    Args:
        about: as in farshot.json.
        changed: settings that are not the method's defaults.
        shots: images per class that were drawn; None where all were taken.
        groups: of --groups; None where there are none, or the data says them.
    """
    words = ["farshot", "adapt", data, "--out", "adapted", "--model", base_name(about["base_model"])]
    words += ["--method", about["method"], "--seed", str(about["seed"])]
    if shots is not None:
        words += ["--shots", str(shots)]
    if groups is not None:
        words += ["--groups", groups]
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
    seed: int, tasks: int, grid: Sequence[tuple[str, int]], methods: Sequence[str], run: Run, file: str
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
    if file:
        words += ["--descriptions", file]
    if run.precision != "float32":
        words += ["--precision", run.precision]
    return shlex.join([*words, "--store", "results.db"])


def _products(places: Sequence[tuple[str, int]]) -> list[tuple[tuple[str, int], ...]]:
    """The cells as full grids of pools by shots: one if they are one, else one per number of shots."""
    pools, shots = {pool for pool, _ in places}, sorted({shots for _, shots in places})
    if len(set(places)) == len(pools) * len(shots):
        return [tuple(sorted(set(places)))]
    return [tuple(sorted(place for place in set(places) if place[1] == k)) for k in shots]

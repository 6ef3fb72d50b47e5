"""`farshot reproduce`: a published table from images to report, in one command that may be interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.bench import ManyValues, check_pool_names, read_paths
from farshot.cli.data import finding_words
from farshot.cli.options import (
    Address,
    Cache,
    CpusPerWorker,
    DataRoot,
    Devices,
    Executor,
    GpusPerWorker,
    MicroBatch,
    PoolPaths,
    Precision,
    TasksPerBatch,
    Workers,
)
from farshot.errors import DataError

if TYPE_CHECKING:
    from farshot.bench.calibration import Seconds
    from farshot.bench.render import Block
    from farshot.bench.reproduce import Estimate, Recipe, Stage
    from farshot.data.pool import Pool
    from farshot.model.encoder import Encoder
    from farshot.workers.machines import Machines


def reproduce(
    what: Annotated[str, typer.Argument(help="bscd, or mini: the mini worlds, which need no files.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Stop after the first answer: atha against prompt-lora, 1 shot.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--estimate", "--dry-run", help="Only say how long it will take.")
    ] = False,
    calibrate: Annotated[
        float, typer.Option(help="Seconds of trials from which the time is computed.", min=0)
    ] = 60,
    data_root: DataRoot = None,
    pool_path: PoolPaths = None,
    model: Annotated[
        str | None, typer.Option(help="Hub name, checkpoint folder, or mini; by default the recipe's.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="The SQLite file of the results; by default NAME.db.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of tables, report and bundle; by default NAME-results.")
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(help="Tasks of each cell at most; by default the protocol's.", min=3)
    ] = None,
    queries: Annotated[int, typer.Option(help="Query images per class; the protocol's are 15.", min=1)] = 15,
    shots: Annotated[
        list[int] | None, typer.Option("--shots", help="Of the whole table; by default the recipe's.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--methods", help="Of the whole table; by default the recipe's.")
    ] = None,
    cache: Cache = None,
    tasks_per_batch: TasksPerBatch = None,
    micro_batch: MicroBatch = None,
    precision: Precision = "float32",
    device: Devices = "auto",
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = 1,
) -> None:
    """Check, prepare, run, compare and report a published table; the same command goes on where it was
    stopped."""
    from farshot.bench.render import render
    from farshot.bench.reproduce import deviations, recipe_of, stages
    from farshot.bench.schema import check_place
    from farshot.bench.store import Store
    from farshot.cli.grids import run_on_machines
    from farshot.data.cache import is_looked_over
    from farshot.model.find import load_encoder
    from farshot.report.reproduction import PAGE, check_results_folder, comparisons, write_results
    from farshot.workers.machines import Machines

    recipe = recipe_of(what)
    others = deviations(
        recipe,
        model=model,
        precision=precision,
        tasks=tasks,
        queries=queries,
        methods=methods,
        shots=shots,
    )
    store, out = store or Path(f"{what}.db"), out or Path(f"{what}-results")
    places = read_paths("--pool-path", pool_path)
    if not dry_run:
        check_place(store)
        check_results_folder(out)
    machines = Machines(executor, device, workers, address, gpus_per_worker, cpus_per_worker)
    pools = _check_pools(recipe, data_root, places)
    check_pool_names("--pool-path", places, pools)
    encoder = load_encoder(model or recipe.model, device=machines.driver_device, precision=precision)

    def plan(found: Sequence[Pool]) -> list[Stage]:
        return stages(recipe, found, quick=quick, tasks=tasks, queries=queries, methods=methods, shots=shots)

    at_once = tasks_per_batch, micro_batch
    known = all(is_looked_over(pool, cache) for pool in pools)
    if known:
        pools = _looked_over(pools, cache)
    _tell_time(plan(pools), encoder, machines, store, at_once, known=known, seconds=calibrate)
    if dry_run:
        return
    pools = _looked_over(pools, cache)
    with Store(store) as filled:
        for number, stage in enumerate(chosen := plan(pools)):
            _prepare(stage, encoder)
            run_on_machines(stage.grid, encoder, filled, machines, *at_once)
            pairs = [pair for earlier in chosen[: number + 1] for pair in earlier.comparisons]
            complete = number + 1 == len(chosen) and not quick
            write_results(
                filled,
                out,
                what,
                list(dict.fromkeys(pairs)),
                complete=complete,
                deviations=others,
                published=recipe.published and complete,
            )
            for block in comparisons(filled, stage.comparisons):
                console.print_rendered(render([block], "text"), "text")
            console.out.print(f"{stage.name}: {out / PAGE}", markup=False)


def _check_pools(recipe: Recipe, root: Path | None, places: dict[str, Path]) -> list[Pool]:
    """The pools of a recipe; findings are printed, and all that is missing is named before any is refused.

    Raises:
        DataError: pools that are not there, or are refused.
    """
    from farshot.data.check import check_pool
    from farshot.data.pools import find_pool, open_pool

    found, refused = [], []
    for name in recipe.pools:
        try:
            place = find_pool(name, root=root, paths=places)[1]
            if place is None:
                found.append(open_pool(name))
                continue
            pool, findings = check_pool(name, place, quick=True)
        except DataError as error:
            console.err.print(f"{name}: {error}", markup=False)
            refused.append(name)
            continue
        for finding in findings:
            console.err.print(f"{name}: {finding_words(finding)}", markup=False)
        if pool is None:
            refused.append(name)
        else:
            found.append(pool)
    if refused:
        raise DataError(
            f"{len(refused)} of {len(recipe.pools)} pools cannot be used ({', '.join(refused)}); fix what is "
            "said above and run the same command again."
        )
    return found


def _looked_over(pools: Sequence[Pool], cache: Path | None) -> list[Pool]:
    """The pools with what the cache knows of them; every image that it does not know is read."""
    from farshot.data.cache import cached

    out = []
    for pool in pools:
        with console.progress(f"looking over {pool.name}") as progress:
            out.append(cached(pool, cache, progress))
    return out


def _prepare(stage: Stage, encoder: Encoder) -> None:
    """Decode what the tasks of a stage need and the cache lacks."""
    from farshot.bench.reproduce import images_needed
    from farshot.data.cache import prepare

    stage.grid.check()
    needed = images_needed(stage, encoder)
    for pool in stage.grid.pools:
        for reading, rows in needed[pool.name].items():
            if pool.root is not None:
                with console.progress(f"decoding {pool.name}") as progress:
                    prepare(pool, [reading], encoder.size, progress, rows)


def _tell_time(
    plan: Sequence[Stage],
    encoder: Encoder,
    machines: Machines,
    path: Path,
    at_once: tuple[int | None, int | None],
    *,
    known: bool,
    seconds: float,
) -> None:
    """Print how long it will take, from trials and from what the store has."""
    from farshot.bench.render import render
    from farshot.bench.reproduce import estimate
    from farshot.bench.store import Store
    from farshot.storage.paths import home

    device = machines.devices[0] if machines.devices else "cpu"
    trial = encoder.to(device) if machines.several and machines.devices else encoder
    workers = len(machines.devices) or machines.workers or 1
    with contextlib.ExitStack() as opened:
        filled = opened.enter_context(Store(path, read_only=True)) if home(path).is_file() else None
        with console.progress("trials"):
            found = estimate(plan, trial, filled, at_once, known=known, seconds=seconds, workers=workers)
    if not any(found.parts):
        console.err.print("Nothing is left to compute.", markup=False)
        return
    console.err.print(render([_time_block(found)], "text").rstrip(), markup=False)
    if machines.executor == "ray" and machines.workers is None:
        console.err.print("The time is that of one worker like this machine; others share it.", markup=False)


def _time_block(found: Estimate) -> Block:
    """The time of every stage as a table."""
    from farshot.bench.render import Block, number

    sections = []
    for place, (stage, parts) in enumerate(zip(found.stages, found.parts, strict=True)):
        rows = [
            [
                part.method,
                str(part.shots),
                str(part.left),
                number(part.each.mid),
                _range(part.total * (1 / found.workers)),
                part.source,
            ]
            for part in parts
        ]
        sections.append((f"{stage.name}: {_range(found.stage(place))}", rows))
    notes = []
    if found.images:
        notes.append(f"Reading {found.images} images for the first time: {_range(found.decoding)}.")
    notes.append(f"All that is left: {_range(found.total)}, with {found.workers} worker(s).")
    notes.append(
        "The range covers the trials, and at least 20 % either way; from forward passes alone, a factor of 2."
    )
    header = ["method", "shots", "tasks left", "seconds each", "time", "from"]
    return Block("Time that it will take on this machine", header, sections, notes)


def _range(seconds: Seconds) -> str:
    from farshot.cli.console_bench import in_words

    return f"{in_words(seconds.mid)} ({in_words(seconds.low)} to {in_words(seconds.high)})"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=ManyValues)(reproduce)

"""The commands `farshot store` and `farshot verify`. Each function's docstring is its command's help."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farshot.cli import console
from farshot.cli.bench import ManyValues, read_paths
from farshot.cli.options import DataRoot, Device, Level, PoolPaths
from farshot.errors import DataError, SettingError

if TYPE_CHECKING:
    from farshot.bench.bundle import Bundle
    from farshot.bench.verify import Verified
    from farshot.data.pool import Pool

store_app = typer.Typer(help="Inspect, export and merge stores of results.", no_args_is_help=True)

_LARGEST_SEED = 10**9


@store_app.command("list")
def list_runs(store: Annotated[Path, typer.Argument(help="A store.")]) -> None:
    """List the runs of a store."""
    from farshot.bench.export import runs_block
    from farshot.bench.render import render
    from farshot.bench.store import Store

    with Store(store, read_only=True) as filled:
        console.print_rendered(render([runs_block(filled)], "text"), "text")


@store_app.command("export")
def export_store(
    store: Annotated[Path, typer.Argument(help="A store.")],
    out: Annotated[Path | None, typer.Argument(help="A file that ends in .jsonl, .csv or .parquet.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="jsonl, csv or parquet; by default as the file's name ends."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write a .zip that another person verifies and merges, without local paths."),
    ] = None,
) -> None:
    """Write every task of every run to JSON lines, CSV or Parquet, or to a bundle to share."""
    from farshot.bench.export import export
    from farshot.bench.store import Store

    if (out is None) == (bundle is None):
        raise SettingError("Give one place: a file such as results.csv, or --bundle results.zip.")
    if bundle is not None:
        from farshot.bench.bundle import check_place, write_bundle

        if form is not None:
            raise SettingError("--format is for a file of rows; leave it out with --bundle.")
        if bundle.suffix != ".zip":
            raise SettingError(f"--bundle {bundle} must end in .zip.")
        check_place(bundle)
        with Store(store, read_only=True) as filled:
            count = write_bundle(filled, bundle)
        console.out.print(f"{count} tasks: {bundle}", markup=False)
    elif out is not None:
        with Store(store, read_only=True) as filled:
            count = export(filled, out, form)
        console.out.print(f"{count} tasks: {out}", markup=False)


@store_app.command("merge")
def merge_stores(
    places: Annotated[list[Path], typer.Argument(help="Stores or bundles, one or more, then the new store.")],
) -> None:
    """Merge stores and bundles into a new store; those that contradict each other are refused."""
    from farshot.bench.merge import merge

    if len(places) < 2:
        raise SettingError("Give a store or bundle, or several, then the new store.")
    *sources, out = places
    for one in merge(sources, out):
        for note in one.notes:
            console.err.print(f"Note: {one.source}: {note}.", markup=False)
        known = f", {one.known} already there" if one.known else ""
        console.out.print(f"{one.source}: {one.new} tasks{known}", markup=False)
    console.out.print(str(out), markup=False)


def verify(
    bundle: Annotated[Path, typer.Argument(help="The .zip of `farshot store export --bundle`.")],
    data_root: DataRoot = None,
    pool_path: PoolPaths = None,
    level: Level = None,
    model: Annotated[
        str | None, typer.Option(help="The encoder, to compute a sample again: hub name, folder or mini.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Tasks to compute again.", min=1)] = 20,
    sample_seed: Annotated[
        int | None, typer.Option(help="Of the sample; by default a new one, which is printed.", min=0)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded images; or set FARSHOT_CACHE.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Verify a bundle of results: its rows, its tasks, its pools and model, and a sample computed again."""
    from farshot.bench.bundle import Bundle
    from farshot.bench.verify import verify as verify_bundle

    places = read_paths("--pool-path", pool_path)
    opened = Bundle(bundle)
    pools = _pools_of(opened, data_root, places, level, cache)
    encoder = None
    if model is not None:
        from farshot.model.find import load_encoder

        encoder = load_encoder(model, device=device)
    seed = secrets.randbelow(_LARGEST_SEED) if sample_seed is None else sample_seed
    with console.progress("computing a sample again") as progress:
        found = verify_bundle(opened, pools, encoder, sample=sample, seed=seed, progress=progress)
    _print_verified(found, seed, with_model=encoder is not None)


def _pools_of(
    bundle: Bundle, root: Path | None, places: dict[str, Path], level: int | None, cache: Path | None
) -> list[Pool]:
    """The pools of a bundle that are here."""
    from farshot.data.cache import cached
    from farshot.data.pools import data_root, generated_pools, open_pool
    from farshot.data.published import PUBLISHED

    names = list(dict.fromkeys(run.pool for run in bundle.runs.values()))
    for name in places:
        if name not in map(str.lower, names):
            raise SettingError(f"--pool-path names the pool {name!r}, but the bundle has {', '.join(names)}.")
    found = []
    for name in names:
        key = name.lower()
        if key not in places and key not in generated_pools():
            if key not in PUBLISHED or data_root(root) is None:
                continue
            try:
                pool = open_pool(name, root=root)
            except DataError as error:
                console.err.print(f"Note: {error}", markup=False)
                continue
        else:
            pool = open_pool(name, root=root, paths=places, level=level)
        with console.progress(f"looking over {pool.name}") as progress:
            found.append(cached(pool, cache, progress))
    return found


def _print_verified(found: Verified, seed: int, *, with_model: bool) -> None:
    say = lambda text: console.out.print(text, markup=False)  # noqa: E731
    say(f"Rows: all {found.results} results of {found.runs} runs agree with themselves and occur once.")
    for pool, count in found.drawn.items():
        say(
            f"Tasks: {pool} has the same images here, and the protocol draws the tasks of all {count} "
            "results."
        )
    if found.not_drawn:
        names = ", ".join(found.not_drawn)
        say(f"Not checked: the tasks of {names}, whose images are not here; see --data-root and --pool-path.")
    for note in found.notes:
        say(f"Not checked: {note}.")
    if found.computed:
        say(
            f"Computed again: {found.computed} of {found.eligible} results, drawn with --sample-seed {seed}: "
            f"{found.agreement}."
        )
    elif with_model:
        say("Nothing was computed again: no run has its images, its model and its method here.")
    else:
        say("Nothing was computed again: give --model, and the images.")
    if not found.drawn and not found.computed:
        say("Only the internal checks ran: they find careless changes, not results that were made up whole.")
    say(
        "Times, memory, losses, devices and names of models are as the bundle states them; nothing here can "
        "check them."
    )


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(cls=ManyValues)(verify)

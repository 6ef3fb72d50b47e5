"""The commands of the benchmark. Each function's docstring is its command's help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from farshot.cli import console
from farshot.cli.options import (
    Address,
    Cache,
    CpusPerWorker,
    DataRoot,
    Devices,
    Download,
    Executor,
    GpusPerWorker,
    Level,
    MicroBatch,
    PoolPaths,
    Precision,
    TasksPerBatch,
    Track,
    Workers,
    use_downloads,
    use_trackers,
)
from farshot.errors import SettingError

if TYPE_CHECKING:
    from farshot.bench.imbalance import Imbalance
    from farshot.data.pool import Pool

StorePath = Annotated[Path, typer.Option("--store", help="The SQLite file that holds the results.")]
Format = Annotated[str, typer.Option("--format", help="text, markdown, latex or csv.")]
Metric = Annotated[
    str, typer.Option(help="accuracy, balanced-accuracy (mean recall of the classes) or macro-f1.")
]


class ManyValues(TyperCommand):
    """A command whose repeatable options also take several values after one flag: --shots 1 5."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the flag before every further value, then parses as usual."""
        many = {flag for param in self.params if getattr(param, "multiple", False) for flag in param.opts}
        return super().parse_args(ctx, spread(args, many))


def spread(args: Sequence[str], many: set[str]) -> list[str]:
    """["--shots", "1", "5"] becomes ["--shots", "1", "--shots", "5"]."""
    out: list[str] = []
    flag, values = "", 0
    for arg in args:
        if arg.startswith("--"):
            flag, values = (arg if arg in many else ""), 0
        elif flag:
            out += [flag] * (values > 0)
            values += 1
        out.append(arg)
    return out


def bench(
    pools: Annotated[
        list[str],
        typer.Option("--pools", help="Names from `farshot data list`, or NAME=PATH of your images."),
    ],
    methods: Annotated[
        list[str],
        typer.Option("--methods", help=r"Names, with settings as in atha\[variant=released,views=none]."),
    ],
    store: StorePath,
    shots: Annotated[list[int] | None, typer.Option("--shots", help="Support images per class.")] = None,
    tasks: Annotated[
        int | None, typer.Option(help="Tasks of each cell; by default 800 at 1 shot, else 400.", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the series of tasks: 1 to 99, or from 1000 with --report.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Run the tasks that reported numbers come from.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="Hub name, checkpoint folder, or mini.")
    ] = "openai/clip-vit-base-patch16",
    data_root: DataRoot = None,
    pool_path: PoolPaths = None,
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class-names", help="Words for prompts of your own images: NAME=FILE."),
    ] = None,
    level: Level = None,
    download: Download = False,
    cache: Cache = None,
    keep_features: Annotated[
        bool,
        typer.Option("--keep-features", help="Keep image features in the cache, for the next run."),
    ] = False,
    ways: Annotated[
        list[str] | None,
        typer.Option(
            "--ways",
            help="Classes of a task, by default 5; all for every class of a pool; NAME=N or NAME=all for one "
            "pool.",
        ),
    ] = None,
    queries: Annotated[int | None, typer.Option(help="Query images per class; by default 15.", min=1)] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="episodes: tasks of some classes, drawn from all images. split: all classes, shots from the "
            "owner's training images, all test images as queries (as CoOp and Tip-Adapter report). "
            "imbalanced: as episodes, with support classes of unequal size."
        ),
    ] = "episodes",
    imbalance: Annotated[
        str | None,
        typer.Option(
            help="Class sizes of --protocol imbalanced, whose mean is --shots: dirichlet:1.0 (its "
            "concentration) or long-tail:10 (largest to smallest)."
        ),
    ] = None,
    template: Annotated[
        str, typer.Option(help="The prompt; {} is where the class name goes.")
    ] = "a photo of a {}.",
    descriptions: Annotated[
        Path | None, typer.Option(help="JSON: class name -> words that take its place in the prompt.")
    ] = None,
    tasks_per_batch: TasksPerBatch = None,
    micro_batch: MicroBatch = None,
    precision: Precision = "float32",
    device: Devices = "auto",
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = 1,
    track: Track = None,
) -> None:
    """Run methods on the same tasks and store every result; the same command continues an interrupted run."""
    from farshot.bench.grid import Grid, parse_method
    from farshot.bench.schema import check_place
    from farshot.bench.store import Store
    from farshot.bench.tasks import FIRST_REPORTING_SEED, check_seed
    from farshot.cli.grids import run_on_machines
    from farshot.data.cache import cached
    from farshot.data.names import read_descriptions
    from farshot.data.pools import open_pool, remarks
    from farshot.model.find import load_encoder
    from farshot.workers.machines import Machines

    chosen = check_seed(seed if seed is not None else FIRST_REPORTING_SEED if report else 1, report)
    wanted = [parse_method(spec) for spec in methods]
    check_place(store)
    places, words_of = read_paths("--pool-path", pool_path), read_paths("--class-names", class_names)
    queries, imbalanced = check_protocol(protocol, queries, ways, imbalance)
    default_ways, ways_of = read_ways(ways or [])
    use_downloads(download)
    found = [
        open_pool(name, root=data_root, paths=places, class_names=words_of, level=level) for name in pools
    ]
    check_pool_names("--pool-path", places, found)
    check_pool_names("--class-names", words_of, found)
    check_pool_names("--ways", ways_of, found)
    for pool in found:
        if pool.name.lower() in words_of:
            console.print_names(pool.table, {}, to=console.err)
        for remark in remarks(pool.table, whole_split=not queries):
            console.err.print(f"Note: {pool.name}: {remark}.", markup=False)
    names = [name for pool in found for name in pool.table.names]
    words = read_descriptions(descriptions, names) if descriptions else {}
    for pool in found:
        for note in pool.notes:
            console.err.print(f"Note: {pool.name}: {note}; its numbers are marked.", markup=False)
    machines = Machines(executor, device, workers, address, gpus_per_worker, cpus_per_worker)
    encoder = load_encoder(model, device=machines.driver_device, precision=precision)  # no store without it
    use_trackers(track)
    with Store(store) as filled:
        for i, pool in enumerate(found):
            with console.progress(f"looking over {pool.name}") as progress:
                found[i] = cached(pool, cache, progress, keep_features=keep_features)
        by_name = {pool.name: ways_of[pool.name.lower()] for pool in found if pool.name.lower() in ways_of}
        grid = Grid(
            *(found, shots or ([5] if imbalanced else [1, 5]), wanted, tasks, chosen, default_ways, queries),
            *(template, words, by_name, imbalanced),
        )
        run_on_machines(grid, encoder, filled, machines, tasks_per_batch, micro_batch)


def compare(
    a: Annotated[str, typer.Argument(help="A method as written for `farshot bench`.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    store: StorePath,
    form: Format = "text",
    metric: Metric = "accuracy",
) -> None:
    """Compare two methods task by task: paired difference, intervals, tests, calibration."""
    from farshot.bench.compare import compare as compare_methods
    from farshot.bench.compare import comparison_block
    from farshot.bench.render import check_format, render
    from farshot.bench.store import Store

    check_format(form)
    with Store(store, read_only=True) as filled:
        found = compare_methods(filled, a, b, metric=metric)
    blocks = [comparison_block(group, cells, a, b, metric) for group, cells in found.items()]
    console.print_rendered(render(blocks, form), form)


def table(
    store: StorePath,
    form: Format = "text",
    published: Annotated[
        bool, typer.Option("--published", help="Add other people's published numbers.")
    ] = False,
    metric: Metric = "accuracy",
    figure: Annotated[
        Path | None, typer.Option(help="Draw all methods against the shots, too: a .png or .svg file.")
    ] = None,
) -> None:
    """Print the table of results: methods by pools, one block per number of shots."""
    from farshot.bench.render import check_format, render
    from farshot.bench.results import read_groups
    from farshot.bench.store import Store
    from farshot.bench.table import table_blocks

    check_format(form)
    if figure is not None:
        from farshot.explain.saved import check_figure
        from farshot.report.figure import draw_results
        from farshot.storage.paths import home

        figure = home(figure)
        check_figure(figure, "--figure")
    with Store(store, read_only=True) as filled:
        groups = read_groups(filled, metric)
        blocks = table_blocks(filled, with_published=published, metric=metric, groups=groups)
    if figure is not None:
        draw_results(groups, figure, metric)
    console.print_rendered(render(blocks, form), form)


def read_paths(flag: str, pairs: Sequence[str] | None) -> dict[str, Path]:
    """The NAME=PATH pairs of an option."""
    paths = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise SettingError(f"{flag} takes NAME=PATH, not {pair!r}.")
        if name.lower() in paths:
            raise SettingError(f"{flag} names {name} twice; give one path.")
        paths[name.lower()] = Path(path)
    return paths


def check_protocol(
    protocol: str, queries: int | None, ways: Sequence[str] | None, imbalance: str | None
) -> tuple[int, Imbalance | None]:
    """Query images per class of a protocol, and its imbalance; 0 means all test images of the owner's split.

    Raises:
        SettingError: no such protocol, or options that it has no use for.
    """
    from farshot.bench.imbalance import Imbalance

    if imbalance is not None and protocol != "imbalanced":
        raise SettingError("--imbalance is for --protocol imbalanced; add this, or leave it out.")
    if protocol == "imbalanced":
        if imbalance is None:
            raise SettingError(
                "--protocol imbalanced needs --imbalance, such as dirichlet:1.0 or long-tail:10."
            )
        return 15 if queries is None else queries, Imbalance.parse(imbalance)
    if protocol == "episodes":
        return 15 if queries is None else queries, None
    if protocol != "split":
        raise SettingError(f"There is no protocol {protocol!r}; choose episodes, split or imbalanced.")
    for option, value in (("--queries", queries), ("--ways", ways)):
        if value is not None and value != []:
            raise SettingError(f"--protocol split takes all classes and all test images; leave out {option}.")
    return 0, None


def read_ways(values: Sequence[str]) -> tuple[int, dict[str, int]]:
    """Read the ways of all pools, and of single ones by name in lower case; 0 means all classes."""
    found: dict[str, int] = {}
    for value in values:
        name, equals, number = value.rpartition("=")
        if number != "all" and not (number.isascii() and number.isdigit() and int(number) >= 2):
            raise SettingError(f"--ways takes a number from 2, all, NAME=N or NAME=all, not {value!r}.")
        if (equals and not name) or name.lower() in found:
            raise SettingError(
                f"--ways {value}: give one number for all pools and one for each pool you name."
            )
        found[name.lower()] = 0 if number == "all" else int(number)
    return found.pop("", 5), found


def check_pool_names(flag: str, named: Iterable[str], pools: Sequence[Pool]) -> None:
    """Refuse an option for a pool that is not in the run."""
    names = [pool.name for pool in pools]
    for name in named:
        if name not in map(str.lower, names):
            raise SettingError(f"{flag} names the pool {name!r}, but the pools are {', '.join(names)}.")


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    from farshot.cli.data import data_app
    from farshot.cli.store import store_app

    app.command(cls=ManyValues)(bench)
    app.command()(compare)
    app.command()(table)
    app.add_typer(store_app, name="store")
    app.add_typer(data_app, name="data")

"""Reproductions: which pools, methods, shots and comparisons make a published table, in which order they are
computed, and how long that takes.

The first stage is the paired answer to the question behind a table; the second computes the rest. Both fill
one store with the reporting tasks, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farshot.bench.bundle_rows import shared_name
from farshot.bench.calibration import NOTHING, Part, Rates, Seconds, calibrate, left_of, stored_rates
from farshot.bench.grid import Cell, Grid, parse_method
from farshot.bench.store import Store
from farshot.bench.tasks import FIRST_REPORTING_SEED
from farshot.bench.worker import tasks_of
from farshot.data.pool import Pool
from farshot.errors import SettingError
from farshot.methods.augmented import AugmentedMethod
from farshot.methods.finetuned import FinetunedMethod
from farshot.model.encoder import Encoder
from farshot.training.batches import QUERY_READING, SUPPORT_READING

QUERIES, EXACT = 15, "float32"  # query images per class, and precision, of every recipe


@dataclass(frozen=True)
class Recipe:
    """A table that can be reproduced.

    Attributes:
        title: what it is.
        pools: their names.
        model: the encoder of the published numbers.
        methods, shots: of the whole table.
        first: methods of the first stage, whose comparison is the answer.
        first_shots, first_tasks: of the first stage.
        comparisons: pairs of methods.
        published: whether other people's numbers belong to the table.
    """

    title: str
    pools: tuple[str, ...]
    model: str
    methods: tuple[str, ...]
    shots: tuple[int, ...] = (1, 5)
    first: tuple[str, str] = ("atha", "prompt-lora")
    first_shots: int = 1
    first_tasks: int = 100
    comparisons: tuple[tuple[str, str], ...] = (("atha", "prompt-lora"),)
    published: bool = False


RECIPES = {
    "bscd": Recipe(
        title="BSCD-FSL with CLIP ViT-B/16, 5-way",
        pools=("isic", "eurosat", "cropdiseases", "chestx"),
        model="openai/clip-vit-base-patch16",
        methods=("zero-shot", "prompt-lora", "atha", "atha[variant=released]", "clip-lora"),
        comparisons=(("atha", "prompt-lora"), ("atha[variant=released]", "prompt-lora")),
        published=True,
    ),
    "mini": Recipe(
        title="the mini worlds with the bundled model, 5-way",
        pools=("mini-crops", "mini-land", "mini-skin", "mini-xray"),
        model="mini",
        methods=("zero-shot", "prompt-lora", "atha"),
    ),
}
"""By name. Those of bscd are the methods of benchmarks/paper-table/run.sh."""


def recipe_of(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        SettingError: there is none.
    """
    if name not in RECIPES:
        raise SettingError(f"There is nothing called {name!r} to reproduce; choose of {', '.join(RECIPES)}.")
    return RECIPES[name]


@dataclass(frozen=True)
class Stage:
    """A part of a reproduction.

    Attributes:
        name: in words.
        comparisons: that can be made when it is complete.
    """

    name: str
    grid: Grid
    comparisons: tuple[tuple[str, str], ...]


def stages(
    recipe: Recipe,
    pools: Sequence[Pool],
    *,
    quick: bool = False,
    tasks: int | None = None,
    queries: int = QUERIES,
    methods: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
) -> list[Stage]:
    """The stages in their order.

    Args:
        quick: the first only.
        tasks: of each cell at most; by default those of the protocol.
        methods, shots: of the whole table, in place of the recipe's.
    """
    seed = FIRST_REPORTING_SEED
    first_tasks = min(recipe.first_tasks, tasks or recipe.first_tasks)
    first = [parse_method(spec) for spec in recipe.first]
    chosen = tuple(methods or recipe.methods)
    pairs = tuple(pair for pair in recipe.comparisons if set(pair) <= {*chosen, *recipe.first})
    answer = Grid(pools, [recipe.first_shots], first, first_tasks, seed, queries=queries)
    found = [Stage("the first answer", answer, (recipe.first,))]
    if not quick:
        specs = [parse_method(spec) for spec in chosen]
        whole = Grid(pools, list(shots or recipe.shots), specs, tasks, seed, queries=queries)
        found.append(Stage("the whole table", whole, pairs))
    return found


def deviations(
    recipe: Recipe,
    *,
    model: str | None = None,
    precision: str = EXACT,
    tasks: int | None = None,
    queries: int = QUERIES,
    methods: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
) -> dict[str, str | int | list[str] | list[int]]:
    """What is asked for otherwise than the recipe has it, by name; more methods or shots are no deviation."""
    found: dict[str, str | int | list[str] | list[int]] = {}
    if model not in (None, recipe.model):
        found["model"] = shared_name(str(model))
    if precision != EXACT:
        found["precision"] = precision
    if tasks is not None:
        found["tasks"] = tasks
    if queries != QUERIES:
        found["queries"] = queries
    if methods and not set(methods) >= set(recipe.methods):
        found["methods"] = list(methods)
    if shots and not set(shots) >= set(recipe.shots):
        found["shots"] = list(shots)
    return found


@dataclass(frozen=True)
class Estimate:
    """How long the stages take.

    Attributes:
        stages: in their order.
        parts: of each stage, without what stages before it compute.
        images: that are not decoded yet, at most.
        decoding: of these images.
        workers: that share the tasks.
    """

    stages: tuple[Stage, ...]
    parts: tuple[tuple[Part, ...], ...]
    images: int
    decoding: Seconds
    workers: int

    def stage(self, number: int) -> Seconds:
        """Of a stage alone."""
        total = NOTHING
        for part in self.parts[number]:
            total += part.total * (1 / self.workers)
        return total

    @property
    def total(self) -> Seconds:
        """Of all that is left."""
        total = self.decoding
        for number in range(len(self.stages)):
            total += self.stage(number)
        return total


def estimate(
    plan: Sequence[Stage],
    encoder: Encoder,
    store: Store | None,
    at_once: tuple[int | None, int | None] = (None, None),
    *,
    known: bool,
    seconds: float,
    workers: int,
) -> Estimate:
    """How long the stages take on this machine.

    Args:
        encoder: on the device of a worker.
        store: whose results are not computed again; None where there is none yet.
        at_once: tasks of a batch, and images of a micro-batch; None as memory allows.
        known: whether the pools were looked over before, so that their hashes cost nothing.
        seconds: of the trials.
        workers: that share the tasks.
    """
    lefts: list[list[tuple[Cell, int]]] = []
    rates: dict[tuple[str, int], Seconds] = {}
    for stage in plan:
        if known:
            lefts.append(left_of(stage.grid, encoder, store))
            rates |= stored_rates(store, stage.grid, encoder)
        else:
            lefts.append([(cell, cell.tasks) for cell in stage.grid.cells])
    for number in range(1, len(plan)):
        lefts[number] = _without(lefts[number], lefts[:number])
    widest = plan[-1].grid
    every = [pair for left in lefts for pair in left]
    shots = sorted({cell.shape.shots for cell, _ in every})
    found: Rates = calibrate(replace(widest, shots=shots), every, encoder, seconds, rates, at_once)
    pools = {pool.name: pool for stage in plan for pool in stage.grid.pools if pool.root is not None}
    images = 0 if known else sum(len(pool.table) for pool in pools.values())
    return Estimate(
        tuple(plan),
        tuple(tuple(found.parts(left)) for left in lefts),
        images,
        found.image * (2 * images),  # once to look over, once for the model
        workers,
    )


def _without(
    left: Sequence[tuple[Cell, int]], before: Sequence[Sequence[tuple[Cell, int]]]
) -> list[tuple[Cell, int]]:
    """The tasks that no earlier stage computes; they are the first of the same series."""
    out = []
    for cell, tasks in left:
        computed = sum(
            count
            for stage in before
            for other, count in stage
            if (other.pool.name, other.shape, other.method) == (cell.pool.name, cell.shape, cell.method)
        )
        out.append((cell, max(0, tasks - computed)))
    return out


def images_needed(stage: Stage, encoder: Encoder) -> dict[str, dict[str, list[int]]]:
    """Rows of each pool that a stage reads, by reading: pool -> reading -> rows."""
    out: dict[str, dict[str, set[int]]] = {}
    drawn: dict[tuple[str, int], set[int]] = {}
    for cell in stage.grid.cells:
        key = cell.pool.name, cell.shape.shots
        if key not in drawn:
            tasks = tasks_of(stage.grid, cell, range(cell.tasks))
            drawn[key] = {int(row) for task in tasks for rows in (task.support, task.query) for row in rows}
        for reading in _readings(cell, encoder):
            out.setdefault(cell.pool.name, {}).setdefault(reading, set()).update(drawn[key])
    return {pool: {reading: sorted(rows) for reading, rows in found.items()} for pool, found in out.items()}


def _readings(cell: Cell, encoder: Encoder) -> set[str]:
    """How a method reads the images of its tasks."""
    method, shape = cell.method, cell.shape
    found = {method.support_reading(shape.ways, shape.shots)}
    if isinstance(method, FinetunedMethod):
        found.add(QUERY_READING[method.recipe(shape.ways, shape.shots).views])
    if isinstance(method, AugmentedMethod) and method.augment:
        found.add(SUPPORT_READING["crops"])
    return {encoder.reading(reading) for reading in found}

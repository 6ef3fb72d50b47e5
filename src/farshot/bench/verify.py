"""Verify a bundle of results: rows that agree with themselves, the protocol's tasks, the same pools and
model, and a sample of tasks that is computed again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from farshot.bench.agreement import Agreement, Row, agreement
from farshot.bench.bundle import Bundle
from farshot.bench.bundle_rows import named, shared_name
from farshot.bench.grid import Grid, label, precision_of
from farshot.bench.load import choose_load
from farshot.bench.records import Episode, Result, Run, result_row
from farshot.bench.runner import episode_of
from farshot.bench.worker import run_tasks, tasks_of
from farshot.data.pool import Pool
from farshot.errors import DataError, FarshotError, SettingError
from farshot.methods import Method, create
from farshot.model.encoder import Encoder
from farshot.sanitize import plain

_EXACT = "float32"  # in which docs/benchmark.md states how results agree
Progress = Callable[[int, int], None]


@dataclass
class Verified:
    """What was verified, in words.

    Attributes:
        results, runs: of the bundle; every row agrees with itself.
        drawn: results whose task was drawn again from the protocol, by pool.
        not_drawn: pools of the bundle that are not here.
        computed: results that were computed again.
        eligible: results of which these are a sample.
        agreement: of the two computations.
        notes: what could not be looked at, and why.
    """

    results: int = 0
    runs: int = 0
    drawn: Counter[str] = field(default_factory=Counter)
    not_drawn: list[str] = field(default_factory=list)
    computed: int = 0
    eligible: int = 0
    agreement: Agreement = field(default_factory=Agreement)
    notes: list[str] = field(default_factory=list)


def verify(
    bundle: Bundle,
    pools: Iterable[Pool] = (),
    encoder: Encoder | None = None,
    *,
    sample: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verified:
    """Verify a bundle with what is here.

    Args:
        pools: of the bundle, by its names for them.
        encoder: to compute the sample; None leaves this out.
        sample: results that are computed again, of all runs together.
        seed: of the sample.

    Raises:
        DataError: one sentence on the first row, pool or model that is not what it should be.
    """
    found = Verified(runs=len(bundle.runs))
    found.notes += correct_labels(bundle)
    for run in bundle.runs.values():
        if _method(run) is None:
            found.notes.append(
                f"{run.label} is of another version of farshot, or of a package that is not installed: its "
                "results are not computed again"
            )
    here = _pools_here(bundle, {pool.name.lower(): pool for pool in pools}, found)
    eligible = []
    fitting = _fitting(bundle, here, encoder, found)
    for run, row in _drawn(bundle, here, found):
        found.results += 1
        if run.identity in fitting:
            eligible.append((run.identity, row.key))
    found.eligible = len(eligible)
    if encoder is not None and eligible:
        chosen = set(random.Random(seed).sample(eligible, min(sample, len(eligible))))
        _compute(bundle, here, encoder, chosen, found, progress)
    return found


def correct_labels(bundle: Bundle) -> list[str]:
    """Give the runs of a bundle the labels that their settings have here, where defaults may be others than
    those of its writer.

    Returns:
        What was changed, in words.

    Raises:
        DataError: the kind of a run is not that of its method.
    """
    notes = []
    for identity, run in list(bundle.runs.items()):
        if (method := _method(run)) is None:
            continue
        if run.kind != method.kind:
            raise DataError(
                f"{bundle.path} is refused: a run of {plain(run.method)} is called {plain(run.kind)}, but "
                f"this method is {method.kind}."
            )
        if run.label != (here := label(method)):
            bundle.runs[identity] = replace(run, label=here)
            notes.append(f"the name {plain(run.label)}; its settings are those of {plain(here)} here")
    return list(dict.fromkeys(notes))


def _method(run: Run) -> Method | None:
    """The method of a run; None where this farshot has no such method, or another revision."""
    try:
        method = create(run.method, run.settings)
    except SettingError:
        return None
    fits = method.revision == run.revision and method.settings() == run.settings
    return method if fits else None


def _pools_here(bundle: Bundle, by_name: Mapping[str, Pool], found: Verified) -> dict[str, Pool]:
    """The pool of each run whose images are here, by the run's identity.

    Raises:
        DataError: no version of a pool in the bundle has the images that are here, or it says something else
            of them.
    """
    here: dict[str, Pool] = {}
    others: dict[str, list[Run]] = {}
    for run in bundle.runs.values():
        pool = by_name.get(run.pool.lower())
        if pool is None:
            if run.pool not in found.not_drawn:
                found.not_drawn.append(run.pool)
        elif run.pool_fingerprint == _fingerprint(run, pool):
            _check_pool(bundle, run, pool)
            here[run.identity] = pool
        else:
            others.setdefault(pool.name, []).append(run)
    for runs in others.values():
        run, pool = runs[0], by_name[runs[0].pool.lower()]
        if pool not in here.values():
            raise DataError(
                f"{bundle.path} is refused: its pool {plain(run.pool)} has the hash "
                f"{plain(run.pool_fingerprint[:12])}, and the images here have "
                f"{_fingerprint(run, pool)[:12]}; check the folder with `farshot data check`, "
                "and give --level if its benchmark had one."
            )
        found.notes.append(
            f"{len(runs)} run{'s' * (len(runs) > 1)} on another version of {plain(run.pool)}, whose images "
            "are not those here"
        )
    return here


def _fingerprint(run: Run, pool: Pool) -> str:
    return pool.fingerprint if run.shape.queries else pool.split_fingerprint


def _check_pool(bundle: Bundle, run: Run, pool: Pool) -> None:
    if len(run.class_names) != len(pool.table.names):
        raise DataError(f"{bundle.path} is refused: its pool {plain(run.pool)} has other classes.")
    if pool.notes and not run.notes:  # their words may differ from version to version
        raise DataError(
            f"{bundle.path} is refused: it does not say that its pool {plain(run.pool)} differs from the "
            f"published one, as the same images do here: {plain('; '.join(pool.notes))}."
        )


def _fitting(
    bundle: Bundle, pools: Mapping[str, Pool], encoder: Encoder | None, found: Verified
) -> dict[str, Method]:
    """Methods of the runs that can be computed again, by the run's identity."""
    out: dict[str, Method] = {}
    if encoder is None:
        return out
    prints = {run.model_fingerprint for run in bundle.runs.values()}
    if encoder.fingerprint not in prints:
        theirs = ", ".join(sorted({plain(run.model) for run in bundle.runs.values()}))
        raise DataError(
            f"{bundle.path} is refused: the model {encoder.source} has the hash {encoder.fingerprint[:12]}, "
            f"its results are of {theirs} with {', '.join(sorted(plain(p[:12]) for p in prints))}."
        )
    for run in bundle.runs.values():
        method = _method(run)
        here = shared_name(encoder.source)
        if run.model_fingerprint == encoder.fingerprint and run.model != here:
            found.notes.append(
                f"the model's name {plain(run.model)}; its weights are those of {plain(here)} here"
            )
        if run.model_fingerprint != encoder.fingerprint:
            found.notes.append(f"{plain(run.model)} is another model than --model")
        elif run.precision != _EXACT:
            found.notes.append(f"results in {plain(run.precision)} are not computed again, only {_EXACT}")
        elif method is not None and run.identity in pools:
            out[run.identity] = method
    found.notes = list(dict.fromkeys(found.notes))
    if precision_of(encoder) != _EXACT:
        raise SettingError(f"Results are computed again in {_EXACT}; load the model so.")
    return out


def _drawn(bundle: Bundle, pools: Mapping[str, Pool], found: Verified) -> Iterator[tuple[Run, Row]]:
    """Every row; those of pools that are here are compared with the task that the protocol draws."""
    known: dict[tuple[object, ...], Episode] = {}
    for run, row in bundle.rows():
        pool = pools.get(run.identity)
        if pool is not None:
            key = (run.pool, *run.tasks_of, *row.key)
            if key not in known:
                known[key] = _task(bundle, run, pool, row)
            _compare_tasks(bundle, run, known[key], row.episode)
            found.drawn[run.pool] += 1
        yield run, row


def _task(bundle: Bundle, run: Run, pool: Pool, row: Row) -> Episode:
    grid = _grid(run, pool, create("zero-shot"), row.episode.seed)
    try:
        grid.check()
        (task,) = tasks_of(grid, grid.cells[0], [row.episode.index])
        return episode_of(grid.cells[0], task, *row.key)
    except FarshotError as error:
        raise DataError(
            f"{bundle.path} is refused: {named(run, row.key)} cannot be drawn: {error}"
        ) from error


def _compare_tasks(bundle: Bundle, run: Run, drawn: Episode, stated: Episode) -> None:
    for what in ("classes", "support", "query"):
        if getattr(drawn, what) != getattr(stated, what):
            raise DataError(
                f"{bundle.path} is refused: {named(run, (stated.seed, stated.index))} has other {what} than "
                "the protocol draws."
            )
    if not np.array_equal(drawn.labels, stated.labels):
        raise DataError(
            f"{bundle.path} is refused: {named(run, (stated.seed, stated.index))} has other true classes "
            "than the images have."
        )


def _grid(run: Run, pool: Pool, method: Method, seed: int) -> Grid:
    """The grid of one cell whose tasks are those of a run."""
    shape = run.shape
    words = dict(zip(pool.table.names, run.class_names, strict=True))
    return Grid(
        [pool],
        [shape.shots],
        [method],
        1,
        seed,
        shape.ways,
        shape.queries,
        run.template,
        {name: word for name, word in words.items() if name != word},
        imbalance=shape.imbalance,
    )


def _compute(
    bundle: Bundle,
    pools: Mapping[str, Pool],
    encoder: Encoder,
    chosen: set[tuple[str, tuple[int, int]]],
    found: Verified,
    progress: Progress | None,
) -> None:
    """Compute the chosen results again, and compare.

    Raises:
        DataError: names the task that agrees least, where they do not agree.
    """
    rows = [(run, row) for run, row in bundle.rows() if (run.identity, row.key) in chosen]
    worst: tuple[float, str] = (2.0, "")
    for (_, seed), group in groupby(rows, lambda pair: (pair[0].identity, pair[1].episode.seed)):
        mine = list(group)
        run = mine[0][0]
        method, pool = create(run.method, run.settings), pools[run.identity]
        load = choose_load(method, encoder, run.shape)
        for start in range(0, len(mine), load.tasks):
            part = [row for _, row in mine[start : start + load.tasks]]
            again = _results(run, pool, method, encoder, seed, part, load.micro_batch)
            for row, result in zip(part, again, strict=True):
                other = Row(run.identity, row.episode, result_row(0, seed, result))
                one = agreement(row, other, run.shape.ways)
                found.agreement += one
                found.computed += 1
                if not one.same_task:
                    raise DataError(
                        f"{bundle.path} is refused: computed again, {named(run, row.key)} has other results "
                        f"({one})."
                    )
                worst = min(worst, (one.labels / one.queries, named(run, row.key)))
            if progress:
                progress(found.computed, len(rows))
    if not found.agreement.same:
        raise DataError(
            f"{bundle.path} is refused: computed again, its results are others ({found.agreement}); least "
            f"agrees {worst[1]}."
        )


def _results(
    run: Run,
    pool: Pool,
    method: Method,
    encoder: Encoder,
    seed: int,
    rows: list[Row],
    micro_batch: int | None,
) -> list[Result]:
    grid = _grid(run, pool, method, seed)
    indices = [row.episode.index for row in rows]
    tasks = tasks_of(grid, grid.cells[0], indices)
    return run_tasks(method, encoder, tasks, indices, micro_batch=micro_batch)

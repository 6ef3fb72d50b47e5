"""Tasks as facts: (ways, shots, queries, seed, index) and the class sizes of a pool fix classes and images.

The draw uses nothing but SHA-256 and whole numbers, so it is the same on every machine and in every version,
independent of method, batch and worker. docs/benchmark.md describes it in words, for other languages.

    sample_task(pool, ways=5, shots=1, queries=15, seed=1, index=0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int

from farshot.arrays import NDArray
from farshot.bench.imbalance import Imbalance
from farshot.data.pool import Pool
from farshot.errors import DataError, SettingError
from farshot.randomness import key
from farshot.task import DEFAULT_TEMPLATE, Task

PROTOCOL = 1
"""Version of the draw; raised if tasks ever change, which tests/fixtures/first_tasks.json guards."""

SPLIT_PROTOCOL = 2
"""Version of the draw from the owner's split."""

DEVELOPMENT_SEEDS = range(1, 100)
FIRST_REPORTING_SEED = 1000

_WORD = 1 << 64


@dataclass(frozen=True)
class Shape:
    """The shape of a benchmark's tasks.

    Attributes:
        ways: classes of a task.
        shots: support images per class; their mean where classes are not equal.
        queries: query images per class; 0 for all test images of the owner's split (farshot.bench.split).
        imbalance: of the support set; None where all classes have `shots` images.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    imbalance: Imbalance | None = None

    def __post_init__(self) -> None:
        if self.imbalance is not None and self.shots < 2:
            raise SettingError(
                "At 1 shot every class has exactly one image; imbalanced tasks need --shots of at least 2."
            )
        if self.ways < 2 or self.shots < 1 or self.queries < 0:
            raise SettingError(
                "A task needs at least 2 ways, 1 shot and 1 query, "
                f"not {self.ways}, {self.shots} and {self.queries}."
            )
        if self.ways > 255:
            raise SettingError(f"A task has at most 255 ways, not {self.ways}.")

    @property
    def protocol(self) -> int:
        """Version of the draw."""
        if self.imbalance is not None:
            return self.imbalance.protocol
        return PROTOCOL if self.queries else SPLIT_PROTOCOL

    @property
    def protocol_name(self) -> str:
        """How the command line calls the protocol."""
        return "imbalanced" if self.imbalance is not None else "episodes" if self.queries else "split"

    def __str__(self) -> str:
        queries = f"{self.queries} queries per class" if self.queries else "all test images of the split"
        sizes = f", class sizes {self.imbalance}" if self.imbalance is not None else ""
        return f"{self.ways}-way{sizes}, {queries}"


@dataclass(frozen=True)
class Ranks:
    """A drawn task as ranks.

    Attributes:
        classes: which classes, in the task's order, (ways,).
        support: ranks within each class by sorted name, `shots` of each class, or as many as were drawn.
        query: the same of the query images, disjoint from support, (ways, queries).
    """

    classes: tuple[int, ...]
    support: tuple[tuple[int, ...], ...]
    query: tuple[tuple[int, ...], ...]


def draw_ranks(
    sizes: Sequence[int],
    shape: Shape,
    seed: int,
    index: int,
    copies: Callable[[int, int], int | None] | None = None,
    groups: Callable[[int, int], str] | None = None,
    pictures: Sequence[int] | None = None,
) -> Ranks:
    """Draw classes, then images within each, without replacement.

    A picture occurs once in a task: where a copy of a picture drawn before it comes up, the draw of its class
    goes on to the next image. Tasks without copies are what they would be without this rule.

    Args:
        sizes: number of images of every class of the pool, in the pool's order.
        seed: of the series of tasks.
        index: of the task in the series, from 0.
        copies: (class, rank) -> number of the picture, None for a picture of which there is no copy; by
            default no image is a copy of another.
        groups: (class, rank) -> what the image was taken of; a query of a group that is in the support set is
            replaced in the same way, after all copies were.
        pictures: number of different pictures of every class, by default `sizes`; no class of an imbalanced
            task takes more.

    Raises:
        DataError: too few classes, images or different pictures.
    """
    ways, shots, queries = shape.ways, shape.shots, shape.queries
    if len(sizes) < ways:
        raise DataError(f"A {ways}-way task needs {ways} classes; this pool has {len(sizes)}: use --ways.")
    if shape.imbalance is None and min(sizes) < shots + queries:
        raise DataError(
            f"{shots} shots and {queries} queries need {shots + queries} images of every class; "
            f"the smallest has {min(sizes)}: use fewer --queries, or add images."
        )
    if shape.imbalance is not None:
        _check_room(pictures or sizes, shape)
    words = [shape.protocol, ways, shots, queries, seed, index, *sizes]
    draw = Draw(",".join(map(str, words)))
    classes = draw.sample(len(sizes), ways)
    counts = [shots] * ways
    if shape.imbalance is not None:
        limits = [(pictures or sizes)[c] - queries for c in classes]
        counts = shape.imbalance.sizes(ways * shots, limits, draw.below)
    streams = [draw.numbers(sizes[c]) for c in classes]
    images = [list(islice(stream, count + queries)) for stream, count in zip(streams, counts, strict=True)]
    if copies is not None:
        _replace_copies(classes, images, streams, copies)
    if groups is not None:
        _replace_groups(classes, images, streams, copies, groups, counts)
    return Ranks(
        tuple(classes),
        tuple(tuple(chosen[:count]) for chosen, count in zip(images, counts, strict=True)),
        tuple(tuple(chosen[count:]) for chosen, count in zip(images, counts, strict=True)),
    )


def _check_room(pictures: Sequence[int], shape: Shape) -> None:
    """Refuse classes that are too small for the queries and one support image, or together for the support
    set, whichever of them a task draws."""
    room = sorted(count - shape.queries for count in pictures)
    if room[0] < 1:
        raise DataError(
            f"{shape.queries} queries and a support image need {shape.queries + 1} different images of every "
            f"class; the smallest has {min(pictures)}: use fewer --queries, or add images."
        )
    if sum(room[: shape.ways]) < shape.ways * shape.shots:
        raise DataError(
            f"{shape.shots} shots on average need {shape.ways * shape.shots} support images of {shape.ways} "
            f"classes; next to {shape.queries} queries of each, the {shape.ways} smallest have "
            f"{sum(room[: shape.ways])}: use fewer --shots or --queries, or add images."
        )


def _replace_copies(
    classes: Sequence[int],
    images: Sequence[list[int]],
    streams: Sequence[Iterator[int]],
    copies: Callable[[int, int], int | None],
) -> None:
    """Replace each image whose picture is already in the task by the next image drawn from its class."""
    seen: set[int] = set()
    for c, ranks, stream in zip(classes, images, streams, strict=True):
        for place, first in enumerate(ranks):
            rank = first
            while (picture := copies(c, rank)) is not None and picture in seen:
                following = next(stream, None)
                if following is None:
                    raise DataError(
                        f"Without copies there are too few different pictures of class number {c + 1} for "
                        f"{len(ranks)} images; use fewer --queries, or remove the copies."
                    )
                rank = following
            ranks[place] = rank
            if picture is not None:
                seen.add(picture)


def _replace_groups(
    classes: Sequence[int],
    images: Sequence[list[int]],
    streams: Sequence[Iterator[int]],
    copies: Callable[[int, int], int | None] | None,
    groups: Callable[[int, int], str],
    counts: Sequence[int],
) -> None:
    """Replace each query whose group is in the support set by the next image of its class that is of another
    group and is no copy of an image in the task."""
    drawn = list(zip(classes, images, counts, strict=True))
    adapted_to = {groups(c, rank) for c, ranks, count in drawn for rank in ranks[:count]}
    seen = {copies(c, rank) for c, ranks, _ in drawn for rank in ranks} if copies else set()
    for (c, ranks, count), stream in zip(drawn, streams, strict=True):
        for place in range(count, len(ranks)):
            rank: int | None = ranks[place]
            while rank is not None and groups(c, rank) in adapted_to:
                rank = next(
                    (r for r in stream if copies is None or copies(c, r) is None or copies(c, r) not in seen),
                    None,
                )
            if rank is None:
                raise DataError(
                    f"Class number {c + 1} has too few images of groups that are not in the support set for "
                    f"{len(ranks) - count} queries; use fewer --queries, or leave out the groups."
                )
            ranks[place] = rank
            if copies:
                seen.add(copies(c, rank))


def sample_task(
    pool: Pool,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    seed: int = 1,
    index: int = 0,
    imbalance: Imbalance | None = None,
    template: str = DEFAULT_TEMPLATE,
    descriptions: Mapping[str, str] | None = None,
) -> Task:
    """Draw the task with this number, with its random key.

    Support and query rows are grouped by class, in the task's order of classes; no two show the same picture.

    Raises:
        DataError: too few classes or images in the pool.
        SettingError: no queries; `farshot.bench.split` draws tasks with all test images.
    """
    if not queries:
        raise SettingError("A task needs at least 1 query per class, not 0.")

    def picture(c: int, rank: int) -> int | None:
        return pool.copies.get(int(pool.by_class[c][rank]))

    def group(c: int, rank: int) -> str:
        assert pool.table.groups is not None
        return pool.table.groups[int(pool.by_class[c][rank])]

    shape = Shape(ways, shots, queries, imbalance)
    ranks = draw_ranks(
        pool.sizes,
        shape,
        seed,
        index,
        picture if pool.copies else None,
        group if pool.table.groups is not None else None,
        pool.pictures if imbalance is not None else None,
    )
    imbalanced = () if imbalance is None else (shape.protocol,)

    def rows(chosen: tuple[tuple[int, ...], ...]) -> Int[NDArray[np.int64], " images"]:
        return np.concatenate([pool.by_class[c][list(r)] for c, r in zip(ranks.classes, chosen, strict=True)])

    return Task(
        pool.table,
        tuple(pool.table.names[c] for c in ranks.classes),
        rows(ranks.support),
        np.repeat(np.arange(ways), list(map(len, ranks.support))),
        rows(ranks.query),
        template,
        dict(descriptions or {}),
        key("task", pool.name, *imbalanced, shots, seed, index),
        independent=True,
    )


def query_labels(task: Task) -> Int[NDArray[np.int64], " Q"]:
    """The true class 0..N-1 of each query of a sampled task."""
    table_labels = task.table.labels
    if table_labels is None:
        raise DataError("The images of this task have no labels to compare with.")
    codes = dict(zip(table_labels[task.support].tolist(), task.labels.tolist(), strict=True))
    return np.array([codes[code] for code in table_labels[task.query].tolist()], dtype=np.int64)


def check_seed(seed: int, report: bool) -> int:
    """Refuse development on reporting seeds, and reporting on development seeds."""
    if report and seed < FIRST_REPORTING_SEED:
        raise SettingError(
            f"Reported numbers use seeds from {FIRST_REPORTING_SEED}, not {seed}: "
            "development has seen the others."
        )
    if not report and seed not in DEVELOPMENT_SEEDS:
        raise SettingError(
            f"Seeds for development run from {DEVELOPMENT_SEEDS[0]} to {DEVELOPMENT_SEEDS[-1]}, not {seed}; "
            f"those from {FIRST_REPORTING_SEED} need --report."
        )
    return seed


class Draw:
    """Random integers from SHA-256 in counter mode, eight bytes at a time, big-endian."""

    def __init__(self, words: str) -> None:
        self._words, self._counter, self._left = words, 0, b""

    def sample(self, n: int, k: int) -> list[int]:
        """k different numbers below n, in the order drawn."""
        return list(islice(self.numbers(n), k))

    def numbers(self, n: int) -> Iterator[int]:
        """All numbers below n in random order, each drawn when it is asked for (a Fisher-Yates shuffle)."""
        moved: dict[int, int] = {}
        for i in range(n):
            j = i + self.below(n - i)
            yield moved.get(j, j)
            moved[j] = moved.get(i, i)

    def below(self, n: int) -> int:
        """A uniform number below n; words beyond the last multiple of n are rejected."""
        limit = _WORD - _WORD % n
        while True:
            word = self._next()
            if word < limit:
                return word % n

    def _next(self) -> int:
        if not self._left:
            self._left = hashlib.sha256(f"farshot,{self._words},{self._counter}".encode()).digest()
            self._counter += 1
        word, self._left = self._left[:8], self._left[8:]
        return int.from_bytes(word, "big")

"""The grid: pools x shots x methods; each cell is a run in the store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from farshot.bench.imbalance import Imbalance
from farshot.bench.records import Run
from farshot.bench.split import TASKS as SPLIT_TASKS
from farshot.bench.split import check_split, test_images
from farshot.bench.tasks import Shape, draw_ranks
from farshot.data.pool import Pool
from farshot.errors import DataError, SettingError
from farshot.methods import Method, create
from farshot.methods.values import written
from farshot.model.device import PRECISIONS
from farshot.model.encoder import Encoder
from farshot.sanitize import short
from farshot.task import DEFAULT_TEMPLATE

PROTOCOL_TASKS = {1: 800}
"""Tasks of a cell by shots, where --tasks does not say (docs/benchmark.md)."""
PROTOCOL_TASKS_ELSE = 400

_SPEC = re.compile(r"\s*([^\s\[\]]+)\s*(?:\[(.*)\])?\s*")
_SEPARATOR = re.compile(r",(?=[^,=\[\]]+=|\s*$)")
"""A comma before the next setting; others belong to a value, such as sizes=[1,2]."""


@dataclass(frozen=True)
class Cell:
    """A method on the tasks of a pool.

    Attributes:
        tasks: how many, from index 0.
    """

    pool: Pool
    shape: Shape
    method: Method
    tasks: int

    @property
    def queries(self) -> int:
        """Query images of a task."""
        return self.shape.ways * self.shape.queries or test_images(self.pool)

    def __str__(self) -> str:
        return (
            f"{self.pool.name}, {self.shape.shots} shot{'s' * (self.shape.shots > 1)}, {label(self.method)}"
        )


@dataclass(frozen=True)
class Grid:
    """Cells that share seed and prompts.

    Attributes:
        tasks: of each cell; None takes the protocol's number: 800 at 1 shot, 400 else; 3 of the owner's
            split.
        ways: classes of a task; 0 means all classes of the pool.
        queries: per class; 0 means all test images of the owner's split, with all classes
            (farshot.bench.split).
        ways_of: pool -> ways, for pools that have others.
        descriptions: class name -> words that replace it in the prompt.
        imbalance: of the support sets, whose classes then have `shots` images on average.
    """

    pools: Sequence[Pool]
    shots: Sequence[int]
    methods: Sequence[Method]
    tasks: int | None = None
    seed: int = 1
    ways: int = 5
    queries: int = 15
    template: str = DEFAULT_TEMPLATE
    descriptions: Mapping[str, str] = field(default_factory=dict)
    ways_of: Mapping[str, int] = field(default_factory=dict)
    imbalance: Imbalance | None = None

    def __post_init__(self) -> None:
        for what, values in (("pool", self.pools), ("number of shots", self.shots), ("method", self.methods)):
            if not values:
                raise SettingError(f"The benchmark needs at least one {what}.")
        if self.tasks is not None and self.tasks < 1:
            raise SettingError(f"--tasks must be at least 1, not {self.tasks}.")
        if self.template.count("{}") != 1:
            raise SettingError(f"The template {self.template!r} needs {{}} once, where the class name goes.")

    @property
    def cells(self) -> list[Cell]:
        """All cells, pool by pool, so that each pool's images are read once."""
        return [
            Cell(
                pool, Shape(self._ways(pool), shots, self.queries, self.imbalance), method, self._tasks(shots)
            )
            for pool in self.pools
            for shots in self.shots
            for method in self.methods
        ]

    def check(self) -> None:
        """Refuse pools that are too small for these tasks, before any work.

        Raises:
            DataError: too few classes or images; names the pool.
        """
        for cell in self.cells:
            if cell.shape.ways > len(cell.pool.sizes):
                name, count = cell.pool.name, len(cell.pool.sizes)
                raise DataError(
                    f"The pool {name}: A {cell.shape.ways}-way task needs {cell.shape.ways} classes; this "
                    f"pool has {count}: use --ways {name}={count}, or --ways all."
                )
            try:
                if self.queries:
                    draw_ranks(cell.pool.pictures, cell.shape, self.seed, 0)
                else:
                    check_split(cell.pool, cell.shape.shots)
            except DataError as error:
                raise DataError(f"The pool {cell.pool.name}: {error}") from error

    def run(self, cell: Cell, encoder: Encoder) -> Run:
        """The run that holds a cell's results."""
        names = cell.pool.table.names
        return Run(
            method=cell.method.name,
            revision=cell.method.revision,
            settings=cell.method.settings(),
            precision=precision_of(encoder),
            model_fingerprint=encoder.fingerprint,
            pool=cell.pool.name,
            pool_fingerprint=cell.pool.fingerprint if self.queries else cell.pool.split_fingerprint,
            class_names=tuple(self.descriptions.get(name, name) for name in names),
            template=self.template,
            shape=cell.shape,
            protocol=cell.shape.protocol,
            label=label(cell.method),
            kind=cell.method.kind,
            model=encoder.source,
            notes=cell.pool.notes,
        )

    def _ways(self, pool: Pool) -> int:
        if not self.queries:
            return len(pool.sizes)
        return self.ways_of.get(pool.name, self.ways) or len(pool.sizes)

    def _tasks(self, shots: int) -> int:
        usual = PROTOCOL_TASKS.get(shots, PROTOCOL_TASKS_ELSE) if self.queries else SPLIT_TASKS
        return self.tasks or usual


def parse_method(spec: str) -> Method:
    """Create the method that a text such as "atha" or "atha[variant=released,views=none]" describes.

    Raises:
        SettingError: not of this form, or unknown names or values.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise SettingError(f"A method is written NAME or NAME[setting=value,...], not {short(spec)}.")
    settings: dict[str, str] = {}
    for pair in filter(str.strip, _SEPARATOR.split(match[2] or "")):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name in settings:
            raise SettingError(
                f"In {short(spec)}, {short(pair.strip())} must be setting=value, each setting once."
            )
        settings[name] = value
    return create(match[1], settings)


def label(method: Method) -> str:
    """The shortest spec of a method: its name and the settings that are not its defaults."""
    changed = changed_settings(method)
    if not changed:
        return method.name
    return f"{method.name}[{','.join(f'{name}={written(value)}' for name, value in changed.items())}]"


def changed_settings(method: Method) -> dict[str, Any]:
    """Settings that are not the method's defaults; one that only spells out its default does not count."""
    chosen, default = method.settings(), method.default_settings()
    changed = {name: value for name, value in chosen.items() if value != default[name]}
    return {name: value for name, value in changed.items() if _matters(method, name, changed)}


def _matters(method: Method, name: str, changed: Mapping[str, Any]) -> bool:
    """Whether a setting changes the method when the other changed settings are given."""
    others = {other: value for other, value in changed.items() if other != name}
    try:
        return type(method).from_settings(others).settings() != method.settings()
    except SettingError:  # the others are refused without it
        return True


def precision_of(encoder: Encoder) -> str:
    """The name of the encoder's precision."""
    return next(name for name, dtype in PRECISIONS.items() if dtype == encoder.dtype)

"""Read a store into groups of comparable results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from farshot.arrays import NDArray
from farshot.bench.imbalance import Imbalance
from farshot.bench.records import Run, Series
from farshot.bench.schema import damaged
from farshot.bench.store import Store
from farshot.bench.tasks import FIRST_REPORTING_SEED, Shape
from farshot.errors import SettingError
from farshot.evaluation.calibration import Bin, CalibrationSums
from farshot.evaluation.intervals import Interval, mean_interval
from farshot.evaluation.metrics import macro_f1, mean_recall

Metric = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]
"""(true classes, predicted classes) -> value in [0, 1]."""

ACCURACY = "accuracy"
METRICS: dict[str, Metric] = {
    ACCURACY: lambda true, predicted: float((true == predicted).mean()),
    "balanced-accuracy": mean_recall,
    "macro-f1": macro_f1,
}
"""By name; accuracy itself is read from the store."""

_MOST_NAMES = 3  # of the class names that differ

PAPER_ORDER = ("isic", "eurosat", "cropdiseases", "chestx")
"""The order of pools in the field's tables."""


@dataclass(frozen=True)
class TableKey:
    """What the results of one table share; results of different groups are never in one table.

    Attributes:
        reporting: seeds from 1000, as against seeds for development.
    """

    model_fingerprint: str
    model: str
    precision: str
    template: str
    protocol: int
    ways: int
    queries: int
    reporting: bool

    @property
    def shape(self) -> Shape:
        """The shape of the tasks, at any number of shots."""
        imbalance = Imbalance.of_protocol(self.protocol)
        return Shape(self.ways, 2 if imbalance else 1, self.queries, imbalance)

    @property
    def is_published(self) -> bool:
        """Whether the tasks are those of published numbers: 5 classes, 15 queries of each, equal classes."""
        return self.shape == Shape(5, 1, 15)

    def __str__(self) -> str:
        seeds = "reporting seeds" if self.reporting else "development seeds"
        return (
            f"{self.model} ({self.model_fingerprint[:8]}, {self.precision}), "
            f"{self.shape}, prompt {self.template!r}, {seeds}"
        )

    def place(self, shots: int) -> dict[str, str | int | float | None]:
        """The first columns of a record (farshot.bench.render.Block)."""
        return {
            "model": self.model,
            "fingerprint": self.model_fingerprint,
            "precision": self.precision,
            "template": self.template,
            "seeds": "reporting" if self.reporting else "development",
            "protocol": self.shape.protocol_name,
            "imbalance": str(self.shape.imbalance or ""),
            "ways": self.ways,
            "queries": self.queries,
            "shots": shots,
        }


@dataclass(frozen=True)
class Column:
    """A pool with the same images and class names.

    Attributes:
        name: what to call it; numbered where a store holds the pool in several forms.
    """

    name: str
    pool: str
    fingerprint: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    """Calibration of the probabilities of a run.

    Attributes:
        error: expected calibration error, 15 bins, over all query images.
        nll: mean negative log-likelihood of the true class, nats.
        bins: of the confidence, those that hold any image.
    """

    error: float
    nll: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class CellResult:
    """A method in one column at one number of shots.

    Attributes:
        number: of its run in the store.
        marked: settings are not the defaults, and were not run on development seeds of this pool before.
        scores: the metric of the table for each task, in [0, 1], (tasks,).
    """

    column: Column
    number: int
    series: Series
    marked: bool
    scores: Float[NDArray[np.float64], " tasks"]

    @property
    def run(self) -> Run:
        """The run."""
        return self.series.run

    @property
    def score(self) -> Interval:
        """Mean over tasks with 1.96 sd / sqrt(n), in [0, 1]."""
        return mean_interval(self.scores)


def read_groups(store: Store, metric: str = ACCURACY) -> dict[TableKey, list[CellResult]]:
    """All results of a store, in the order in which their runs began.

    Args:
        metric: one of METRICS.

    Raises:
        SettingError: no such metric.
    """
    check_metric(metric)
    out: dict[TableKey, list[CellResult]] = {}
    runs = store.runs()
    columns = _columns(runs.values())
    everything = {number: store.series(number, of=run) for number, run in runs.items()}
    developed = _Developed(everything.values())
    models: dict[str, str] = {}  # one name for weights that were read from two places
    for number, series in everything.items():
        run = series.run
        model = models.setdefault(run.model_fingerprint, run.model)
        for reporting in (False, True):
            part = series.only((series.seeds >= FIRST_REPORTING_SEED) == reporting)
            if not len(part):
                continue
            group = TableKey(
                run.model_fingerprint,
                model,
                run.precision,
                run.template,
                run.protocol,
                run.shape.ways,
                run.shape.queries,
                reporting,
            )
            marked = reporting and "[" in run.label and not developed.before(part)
            column = columns[run.pool, run.pool_fingerprint, run.class_names]
            scores = part.accuracy if metric == ACCURACY else _scores(store, number, part, METRICS[metric])
            out.setdefault(group, []).append(CellResult(column, number, part, marked, scores))
    return out


def titled(metric: str) -> str:
    """The name of a metric at the start of a sentence."""
    return {"macro-f1": "Macro-F1"}.get(metric, metric.replace("-", " ").capitalize())


def check_metric(metric: str) -> None:
    """Refuse a metric that is not one of METRICS.

    Raises:
        SettingError: it is not.
    """
    if metric not in METRICS:
        raise SettingError(f"There is no metric {metric!r}; choose one of {', '.join(METRICS)}.")


def _scores(store: Store, number: int, part: Series, metric: Metric) -> Float[NDArray[np.float64], " tasks"]:
    """A metric for each task of a run."""
    found = {key: metric(*pair) for key, *pair in store.task_predictions(number)}
    try:
        return np.array([found[key] for key in part.keys], dtype=np.float64)
    except KeyError as error:
        raise damaged(store.path, f"task {error} of run {number} has no true classes") from error


class Calibrations:
    """Calibration of the runs of a store, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[int, int, int], Calibration] = {}

    def of(self, number: int, keys: Sequence[tuple[int, int]]) -> Calibration:
        """Over all query images of these tasks of a run.

        What half precision stores as 0 counts as its smallest number, 6e-8: an image's loss is at most 16.6
        nats.
        """
        asked = number, len(keys), hash(tuple(keys))
        if asked not in self._known:
            sums = CalibrationSums()
            for probabilities, labels in self._store.prediction_parts(number, keys):
                sums.add(np.maximum(probabilities, np.finfo(np.float16).smallest_subnormal), labels)
            self._known[asked] = Calibration(sums.error, sums.nll, tuple(sums.bins))
        return self._known[asked]


def average(intervals: Sequence[Interval]) -> Interval:
    """Mean of independent means; their variances add."""
    mean = float(np.mean([interval.mean for interval in intervals]))
    halves: Float[NDArray[np.float64], " cells"] = np.array([interval.half for interval in intervals])
    half = float(np.sqrt((halves**2).sum()) / len(intervals))
    return Interval(mean, mean - half, mean + half, half, sum(interval.n for interval in intervals))


def in_order(columns: Iterable[Column]) -> list[Column]:
    """The four pools of BSCD-FSL first, in their usual order, then the others in order of appearance."""
    unique = list(dict.fromkeys(columns))
    rank = {name: i for i, name in enumerate(PAPER_ORDER)}
    return sorted(unique, key=lambda column: rank.get(column.pool, len(rank)))


def repeated(columns: Iterable[Column]) -> list[list[Column]]:
    """Columns that are forms of one pool, each list of which counts as one pool only: of the same images, and
    so of the same tasks, or of one name, such as a folder before and after images were added."""
    found: list[list[Column]] = []
    for column in in_order(columns):
        alike = [forms for forms in found if any(_is_one_pool(column, form) for form in forms)]
        found = [forms for forms in found if forms not in alike]
        found.append([*(form for forms in alike for form in forms), column])
    return [forms for forms in found if len(forms) > 1]


def _is_one_pool(one: Column, other: Column) -> bool:
    return one.pool == other.pool or one.fingerprint == other.fingerprint


def likeness(forms: Sequence[Column]) -> str:
    """How columns are forms of one pool, in words."""
    names = " and ".join(column.name for column in forms)
    if len({column.fingerprint for column in forms}) > 1:
        return f"{names} are versions of one pool with different images"
    return f"{names} are the same tasks with other class names ({_different_names(forms)})"


def _different_names(forms: Sequence[Column]) -> str:
    """Class names in which columns of the same images differ, in words."""
    differing = [names for names in zip(*(c.class_names for c in forms), strict=False) if len(set(names)) > 1]
    told = "; ".join(" or ".join(map(repr, dict.fromkeys(names))) for names in differing[:_MOST_NAMES])
    more = len(differing) - _MOST_NAMES
    return f"{told}; and {more} more" if more > 0 else told


def _columns(runs: Iterable[Run]) -> dict[tuple[str, str, tuple[str, ...]], Column]:
    """A column for every version of a pool; the second version of a name is called "name (2)"."""
    out: dict[tuple[str, str, tuple[str, ...]], Column] = {}
    for run in runs:
        form = (run.pool, run.pool_fingerprint, run.class_names)
        if form not in out:
            before = sum(pool == run.pool for pool, _, _ in out)
            out[form] = Column(run.pool if not before else f"{run.pool} ({before + 1})", *form)
    return out


class _Developed:
    """When the settings of each run were first run on development seeds of its pool."""

    def __init__(self, everything: Iterable[Series]) -> None:
        self._first: dict[tuple[str, int, str, str], float] = {}
        for series in everything:
            times = series.created[series.seeds < FIRST_REPORTING_SEED]
            if len(times):
                known = self._first.get(self._key(series.run), np.inf)
                self._first[self._key(series.run)] = min(known, float(times.min()))

    def before(self, part: Series) -> bool:
        """Whether the same settings ran on development seeds of the same pool before they were reported."""
        return self._first.get(self._key(part.run), np.inf) < float(part.created.min())

    @staticmethod
    def _key(run: Run) -> tuple[str, int, str, str]:
        return run.method, run.revision, json.dumps(run.settings, sort_keys=True), run.pool_fingerprint

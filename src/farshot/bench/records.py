"""The records of the store: runs, which define what may be compared, and one result per task."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from farshot.arrays import NDArray
from farshot.bench.imbalance import Imbalance
from farshot.bench.tasks import PROTOCOL, Shape
from farshot.errors import FarshotError
from farshot.methods.catalogue import present_label
from farshot.methods.values import RETIRED, with_added, without_added
from farshot.storage.json_text import parse, parse_object

_WORDS = ("label", "method", "kind", "settings", "precision", "model", "model_fingerprint", "pool")
_TYPES: dict[str, type] = dict.fromkeys(
    (*_WORDS, "pool_fingerprint", "pool_notes", "class_names", "template"), str
) | dict.fromkeys(("revision", "protocol", "ways", "shots", "queries"), int)
"""Columns of the table `runs`."""

_RESULT_TYPES: dict[str, Any] = {
    **dict.fromkeys(("run", "device", "version"), str),
    **dict.fromkeys(("batch", "peak_memory"), int),
    **dict.fromkeys(("accuracy", "seconds", "created"), float),
    "loss": float | None,
}


_SERIES = ("seed", "index", "accuracy", "seconds", "created")
_MOST = 2**31 - 1


class StoreError(FarshotError):
    """A store that cannot be read or written."""


@dataclass(frozen=True)
class Run:
    """One method with its settings on the tasks of one pool; numbers of different runs are never mixed.

    Attributes:
        method, revision, settings: every setting with its value, the method's own defaults filled in.
        precision: of weights and activations.
        model_fingerprint: hash of the model's weights.
        pool, pool_fingerprint: name and content of the pool.
        class_names: the name of each of the pool's classes in prompts.
        template: the prompt.
        shape: ways, shots, queries.
        protocol: version of the draw.
        label: how tables call it: the method and the settings that are not its defaults.
        kind: of the method: features, fine-tuned or transductive.
        model: where the model was read from.
        notes: what is not as the protocol describes the pool.
    """

    method: str
    revision: int
    settings: dict[str, Any]
    precision: str
    model_fingerprint: str
    pool: str
    pool_fingerprint: str
    class_names: tuple[str, ...]
    template: str
    shape: Shape
    protocol: int = PROTOCOL
    label: str = ""
    kind: str = "fine-tuned"
    model: str = ""
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """32 hexadecimal digits of SHA-256 over all that must be equal for numbers to be the same."""
        parts = asdict(self)
        for recorded_only in ("label", "kind", "model", "notes"):
            del parts[recorded_only]
        del parts["shape"]["imbalance"]  # the protocol covers it
        parts["settings"] = without_added(self.method, self.settings)
        words = json.dumps(parts, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(words.encode()).hexdigest()[:32]

    def former_identities(self, fingerprint: str) -> list[str]:
        """The identities that version 0.1 could have given to this run.

        Args:
            fingerprint: of the model, as that version computed it.
        """
        gone = [{}, {"first_block": RETIRED["first_block"]}, RETIRED]
        return [
            replace(self, model_fingerprint=fingerprint, settings=self.settings | settings).identity
            for settings in gone
        ]

    @property
    def shown(self) -> str:
        """Its label, marked where the method is transductive."""
        return marked(self.label, self.kind)

    @property
    def tasks_of(self) -> tuple[Any, ...]:
        """The properties that, with seed and index, determine a task's classes and images."""
        return (
            self.pool_fingerprint,
            self.protocol,
            self.shape.ways,
            self.shape.shots,
            self.shape.queries,
        )


def check_types(row: Mapping[str, Any], kinds: Mapping[str, Any] | None = None) -> None:
    """Check the values of a row of the store; those that `kinds` does not name are not looked at.

    Args:
        kinds: name -> type; by default those of the table `results`.

    Raises:
        ValueError: a value of another type.
    """
    for name, kind in (kinds or _RESULT_TYPES).items():
        if name in row and not isinstance(row[name], kind):
            raise ValueError(f"its {name} is {str(row[name])[:60]!r}")


def run_of(row: Mapping[str, Any]) -> Run:
    """The run that a row of the store's table `runs` describes.

    Raises:
        ValueError: a value that the store does not write.
    """
    check_types(row, _TYPES)
    for name, least in (("revision", 1), ("ways", 1), ("shots", 1), ("queries", 0)):
        if not least <= row[name] <= _MOST:
            raise ValueError(f"its {name} is {row[name]}")
    return Run(
        method=row["method"],
        revision=row["revision"],
        settings=with_added(row["method"], parse_object(row["settings"])),
        precision=row["precision"],
        model_fingerprint=row["model_fingerprint"],
        pool=row["pool"],
        pool_fingerprint=row["pool_fingerprint"],
        class_names=texts(row["class_names"]),
        template=row["template"],
        shape=Shape(row["ways"], row["shots"], row["queries"], Imbalance.of_protocol(row["protocol"])),
        protocol=row["protocol"],
        label=row["label"],
        kind=row["kind"],
        model=row["model"],
        notes=texts(row["pool_notes"]),
    )


def with_present_label(run: Run) -> Run:
    """A stored run with the label that its settings have now; defaults may have been others when it began."""
    return replace(run, label=present_label(run.label, run.method, run.revision, run.settings))


def series_of(run: Run, rows: Sequence[tuple[Any, ...]]) -> Series:
    """The series of rows (seed, index, accuracy, seconds, created).

    Raises:
        ValueError: values that no result has.
    """
    columns = zip(*rows, strict=True) if rows else [()] * 5
    kinds = (np.int64, np.int64, np.float64, np.float64, np.float64)
    found: list[NDArray[Any]] = [
        np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)
    ]
    for name, values, most in zip(_SERIES, found, (_MOST, _MOST, 1.0, _MOST, _MOST * _MOST), strict=True):
        odd = values[~((values >= 0) & (values <= most))]  # NaN is odd, too
        if len(odd):
            raise ValueError(f"{odd[0]} as {name}")
    seeds, indices, accuracy, seconds, created = found
    return Series(run, seeds, indices, accuracy, seconds, created)


def probabilities_of(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Stored probabilities in float32.

    Raises:
        ValueError: they are not between 0 and 1.
    """
    found = halves.astype(np.float32)
    if found.size and not (found.min() >= 0 and found.max() <= 1):  # NaN is neither
        raise ValueError("probabilities that are not between 0 and 1")
    return found


def texts(text: str) -> tuple[str, ...]:
    """A list of words in JSON.

    Raises:
        ValueError: it is none.
    """
    found = parse(text)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{text[:60]!r} is no list of words")
    return tuple(found)


def marked(name: str, kind: str) -> str:
    """The name of a method outside the section of its kind."""
    return f"{name} (transductive)" if kind == "transductive" else name


@dataclass(frozen=True)
class Episode:
    """A drawn task: the names of its classes and images.

    Attributes:
        seed, index: which task.
        classes: in the task's order, as the data calls them.
        support, query: names of the images within the pool, grouped by class.
        labels: true class of each query image.
    """

    seed: int
    index: int
    classes: tuple[str, ...]
    support: tuple[str, ...]
    query: tuple[str, ...]
    labels: UInt8[NDArray[np.uint8], " Q"]


@dataclass(frozen=True)
class Result:
    """The result of a method on one task.

    Attributes:
        index: of the task in its series.
        predictions: most probable class of each query image.
        probabilities: of every class, half precision.
        accuracy: share of query images classified right.
        loss: of the last training step, nats; None where nothing was trained by steps.
        seconds: of its batch, adaptation and prediction, divided by the tasks in it.
        peak_memory: bytes; on a GPU what the batch held at most, on a CPU the process's largest size so far.
        batch: number of tasks adapted together.
        device: where.
    """

    index: int
    predictions: UInt8[NDArray[np.uint8], " Q"]
    probabilities: Float[NDArray[np.float16], "Q N"]
    accuracy: float
    loss: float | None
    seconds: float
    peak_memory: int
    batch: int
    device: str


@dataclass(frozen=True)
class Series:
    """All stored results of a run, in the order of (seed, index).

    Attributes:
        seeds, indices: which task, (tasks,).
        accuracy: in [0, 1], (tasks,).
        seconds: per task, (tasks,).
        created: Unix time of each row, (tasks,).
    """

    run: Run
    seeds: NDArray[np.int64]
    indices: NDArray[np.int64]
    accuracy: Float[NDArray[np.float64], " tasks"]
    seconds: Float[NDArray[np.float64], " tasks"]
    created: Float[NDArray[np.float64], " tasks"]

    def __len__(self) -> int:
        return len(self.accuracy)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """(seed, index) of each row."""
        return list(zip(self.seeds.tolist(), self.indices.tolist(), strict=True))

    def only(self, chosen: Sequence[int] | NDArray[Any]) -> Series:
        """These rows, by position or as a mask."""
        which = np.asarray(chosen)
        which = which if len(which) else np.zeros(0, dtype=np.int64)
        columns = (self.seeds, self.indices, self.accuracy, self.seconds, self.created)
        return Series(self.run, *(column[which] for column in columns))


def episode_words(episode: Episode) -> tuple[str, str, str]:
    """Classes, support and query of a row of the table `episodes`."""
    lists = (episode.classes, episode.support, episode.query)
    classes, support, query = (json.dumps(names, ensure_ascii=False) for names in lists)
    return classes, support, query


def result_row(run: int, seed: int, result: Result) -> dict[str, Any]:
    """A row of the table `results`."""
    return {
        "run": run,
        "seed": seed,
        "idx": result.index,
        "accuracy": result.accuracy,
        "predictions": result.predictions.astype(np.uint8).tobytes(),
        "probabilities": result.probabilities.astype("<f2").tobytes(),
        "loss": result.loss,
        "seconds": result.seconds,
        "peak_memory": result.peak_memory,
        "batch": result.batch,
        "device": result.device,
        "version": version("farshot"),
        "created": time.time(),
    }

"""The rows of a bundle: runs, tasks and results as lines of JSON, and how a store's become such.

What is read is a stranger's: every value is checked before it is used.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from farshot.bench.agreement import Row, check_row
from farshot.bench.records import Episode, Run, run_of, texts
from farshot.bench.schema import damaged
from farshot.bench.store import Store
from farshot.sanitize import plain, short

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w./-]+)?(@[\w=]+)*")
_RUN_COLUMNS = (
    *("label", "method", "revision", "kind", "settings", "precision", "model", "model_fingerprint", "pool"),
    *("pool_fingerprint", "pool_notes", "class_names", "template", "protocol", "ways", "shots", "queries"),
)
_TASK_COLUMNS = ("pool_fingerprint", "protocol", "ways", "shots", "queries", "seed", "index")
_PLAIN_COLUMNS = ("accuracy", "loss", "seconds", "peak_memory", "batch", "device", "version", "created")

_ROWS = """
SELECT r.accuracy, r.loss, r.seconds, r.peak_memory, r.batch, r.device, r.version, r.created, r.predictions,
    r.probabilities, r.seed, r.idx, e.classes, e.support, e.query, e.labels
FROM results r JOIN runs ON runs.id = r.run
JOIN episodes e ON e.pool_fingerprint = runs.pool_fingerprint AND e.protocol = runs.protocol
    AND e.ways = runs.ways AND e.shots = runs.shots AND e.queries = runs.queries
    AND e.seed = r.seed AND e.idx = r.idx
WHERE runs.id = ? ORDER BY r.seed, r.idx
"""


def rows_of_store(store: Store) -> Iterator[tuple[Run, Row]]:
    """Every result of a store with its run and task, checked.

    Raises:
        StoreError: a result that does not agree with itself.
    """
    for number, run in store.runs().items():
        for found in store.stream(_ROWS, (number,)):
            try:
                yield run, _row_of_store(run, found)
            except (TypeError, ValueError) as error:
                raise damaged(store.path, f"{named(run, (found['seed'], found['idx']))}: {error}") from error


def named(run: Run, key: tuple[int, int]) -> str:
    """What sentences call a task of a run."""
    return f"task {key[0]}/{key[1]} of {plain(run.label)} on {plain(run.pool)}, {run.shape.shots}-shot"


def shared_name(model: str) -> str:
    """The name of a model that can be shared: a hub name, or the last part of a local path."""
    paths = (model, model.split("@")[0])
    local = "\\" in model or model.startswith(("~", "/")) or any(map(os.path.exists, paths))
    if not local and _HUB_NAME.fullmatch(model.removeprefix("hf:")):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1] or "model"


def run_line(run: Run) -> dict[str, Any]:
    """A run without local paths."""
    values = {
        "pool_notes": list(run.notes),
        "class_names": list(run.class_names),
        "model": shared_name(run.model),
        "ways": run.shape.ways,
        "shots": run.shape.shots,
        "queries": run.shape.queries,
    }
    plain_values = {name: getattr(run, name) for name in _RUN_COLUMNS if name not in values}
    return {"identity": run.identity} | plain_values | values


def run_of_line(row: dict[str, Any]) -> Run:
    """The run of a line.

    Raises:
        ValueError, FarshotError: it is none, or its identity is not what its values give.
    """
    if row.keys() != {*_RUN_COLUMNS, "identity"}:
        raise ValueError("it does not have the columns of a run")
    settings = row["settings"]
    if not isinstance(settings, dict):
        raise ValueError("its settings are no object")
    _check_words(row)
    columns = row | {
        "settings": json.dumps(settings),
        "pool_notes": json.dumps(row["pool_notes"]),
        "class_names": json.dumps(row["class_names"]),
    }
    run = run_of(columns)
    if run.protocol != run.shape.protocol:
        raise ValueError(f"there is no protocol {run.protocol} of such tasks")
    if run.identity != row["identity"]:
        raise ValueError(f"{run.label} does not have the identity that it states")
    return run


def task_line(run: Run, episode: Episode) -> dict[str, Any]:
    """A task of a run."""
    key = zip(_TASK_COLUMNS, (*run.tasks_of, episode.seed, episode.index), strict=True)
    lists = (episode.classes, episode.support, episode.query, episode.labels.tolist())
    return dict(key) | dict(zip(("classes", "support", "query", "labels"), map(list, lists), strict=True))


def episode_of_line(row: dict[str, Any]) -> tuple[tuple[Any, ...], Episode]:
    """The task of a line, and what determines it.

    Raises:
        ValueError: it is none.
    """
    if row.keys() != {*_TASK_COLUMNS, "classes", "support", "query", "labels"}:
        raise ValueError("it does not have the columns of a task")
    _check_words(row)
    seed, index = key_of(row)
    for name in _TASK_COLUMNS[1:5]:
        _whole(row, name)
    if not isinstance(row["pool_fingerprint"], str):
        raise ValueError("its pool_fingerprint is no text")
    classes, support, query = (texts(json.dumps(row[name])) for name in ("classes", "support", "query"))
    labels = np.frombuffer(_bytes(row["labels"], "labels"), np.uint8)
    episode = Episode(seed, index, classes, support, query, labels)
    return tuple(row[name] for name in _TASK_COLUMNS), episode


def result_line(row: Row) -> dict[str, Any]:
    """A result; its probabilities are half precision in base 64."""
    return {
        "run": row.run,
        "seed": row.episode.seed,
        "index": row.episode.index,
        "predictions": list(row.columns["predictions"]),
        "probabilities": base64.b64encode(row.columns["probabilities"]).decode(),
        **{name: row.columns[name] for name in _PLAIN_COLUMNS},
    }


def row_of_line(row: dict[str, Any], episode: Episode) -> Row:
    """The result of a line, not yet checked against its task.

    Raises:
        ValueError: it is none.
    """
    if row.keys() != {"run", "seed", "index", "predictions", "probabilities", *_PLAIN_COLUMNS}:
        raise ValueError("it does not have the columns of a result")
    _check_words(row)
    try:
        halves = base64.b64decode(row["probabilities"], validate=True)
    except (TypeError, binascii.Error) as error:
        raise ValueError("its probabilities are not in base 64") from error
    if len(halves) % 2:
        raise ValueError("its probabilities end in the middle of a number")
    columns = {name: row[name] for name in _PLAIN_COLUMNS}
    predictions = _bytes(row["predictions"], "predictions")
    return Row(row["run"], episode, columns | {"predictions": predictions, "probabilities": halves})


def _row_of_store(run: Run, found: dict[str, Any]) -> Row:
    classes, support, query = (texts(found[name]) for name in ("classes", "support", "query"))
    labels = np.frombuffer(found["labels"], np.uint8)
    episode = Episode(found["seed"], found["idx"], classes, support, query, labels)
    columns = {name: found[name] for name in (*_PLAIN_COLUMNS, "predictions", "probabilities")}
    row = Row(run.identity, episode, columns)
    check_row(run, row)
    return row


def key_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Seed and index.

    Raises:
        ValueError: they are no whole numbers.
    """
    return _whole(row, "seed"), _whole(row, "index")


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError(f"its {name} is {short(value)}")
    return value


def _bytes(values: object, name: str) -> bytes:
    """A list of numbers below 256."""
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise ValueError(f"its {name} are no list of whole numbers")
    try:
        return bytes(values)
    except ValueError as error:
        raise ValueError(f"its {name} are not classes of a task") from error


def _check_words(row: Mapping[str, Any]) -> None:
    """Refuse text that no file can hold, such as half a character."""
    for name, value in row.items():
        json.dumps(value, ensure_ascii=False).encode()
        if not isinstance(name, str):
            raise ValueError("a column has no name")

"""Every task of every run as JSON lines, CSV or Parquet, and a list of the runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from farshot.bench.records import Run, StoreError, check_types, probabilities_of, texts
from farshot.bench.render import Block, number
from farshot.bench.schema import damaged
from farshot.bench.store import Store
from farshot.bench.tasks import FIRST_REPORTING_SEED
from farshot.errors import DataError, SettingError
from farshot.evaluation.intervals import mean_interval
from farshot.sanitize import cell
from farshot.storage.atomic import check_file, whole_file
from farshot.storage.json_text import parse

_JOINED = """
SELECT runs.identity AS run, runs.label, runs.method, runs.revision, runs.kind, runs.settings, runs.precision,
    runs.model, runs.model_fingerprint, runs.pool, runs.pool_fingerprint, runs.pool_notes, runs.class_names,
    runs.template, runs.protocol, runs.ways, runs.shots, runs.queries, r.seed, r.idx AS "index", r.accuracy,
    r.predictions, r.probabilities, r.loss, r.seconds, r.peak_memory, r.batch, r.device, r.version, r.created,
    e.classes, e.support, e.query, e.labels
FROM results r JOIN runs ON runs.id = r.run
JOIN episodes e ON e.pool_fingerprint = runs.pool_fingerprint AND e.protocol = runs.protocol
    AND e.ways = runs.ways AND e.shots = runs.shots AND e.queries = runs.queries
    AND e.seed = r.seed AND e.idx = r.idx
WHERE runs.id = ? ORDER BY r.seed, r.idx
"""
_LISTS = ("pool_notes", "class_names", "classes", "support", "query")
_OWN_COLUMNS = ("run", "pool_fingerprint", "model_fingerprint", "predictions", "probabilities")
"""What no other program's file is likely to have."""

_LONGEST_LINE = 2**26
_WAY = "choose another place"
_COLUMNS = (
    *("run", "label", "method", "revision", "kind", "settings", "precision", "model", "model_fingerprint"),
    *("pool", "pool_fingerprint", "pool_notes", "class_names", "template", "protocol", "ways", "shots"),
    *("queries", "seed", "index", "accuracy", "loss", "seconds", "peak_memory", "batch", "device", "version"),
    *("created", "classes", "support", "query", "labels", "predictions", "probabilities"),
)
_CHUNK = 500  # rows written at once


FORMATS = ("jsonl", "csv", "parquet")


def export(store: Store, out: Path, form: str | None = None) -> int:
    """Write all results to a file; returns the number of tasks.

    Args:
        form: one of FORMATS; by default as the file's name ends.

    Raises:
        SettingError: there is no such format.
        DataError: a name that says none, pyarrow missing, or a file that cannot be written.
    """
    if form is not None and form not in FORMATS:
        raise SettingError(f"There is no format {form!r}; choose one of {', '.join(FORMATS)}.")
    form = form or out.suffix.removeprefix(".")
    if form not in FORMATS:
        raise DataError(f"{out} must end in .jsonl, .csv or .parquet, or give --format.")
    write = {"jsonl": _write_lines, "csv": _write_csv, "parquet": _write_parquet}[form]
    with whole_file(out, partial(check_place, form=form), _WAY) as staging:
        try:
            return write(store, staging)
        except StoreError as error:
            raise StoreError(str(error).replace(str(staging), str(out))) from error


def check_place(out: Path, form: str | None = None) -> None:
    """Refuse a place that is taken by anything but exported results; called before any work.

    Args:
        form: one of FORMATS; by default as the file's name ends.
    """
    ours = {"jsonl": _is_lines, "csv": _is_csv}.get(form or out.suffix.removeprefix("."), _is_parquet)
    check_file(out, "an export of farshot", ours, _WAY)


def _is_lines(path: Path) -> bool:
    """Whether the first line of a file is one that `export` writes."""
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline(_LONGEST_LINE)
    try:
        row = parse(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.keys() >= set(_OWN_COLUMNS)


def _is_csv(path: Path) -> bool:
    """Whether the header of a file is the one that `export` writes."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(_LONGEST_LINE).strip() == ",".join(_COLUMNS)


def _is_parquet(path: Path) -> bool:
    """Whether a file has the columns that `export` writes."""
    pa, parquet = _pyarrow()
    try:
        return set(parquet.read_schema(path).names) >= set(_OWN_COLUMNS)
    except pa.ArrowException:
        return False


def rows(store: Store, *chosen: int | None) -> Iterator[dict[str, Any]]:
    """One dictionary per task and run, plain values only, each run in the order of (seed, index).

    Args:
        chosen: numbers of runs; by default all.
    """
    for number_, run in store.runs().items():
        if chosen and number_ not in chosen:
            continue
        for row in store.stream(_JOINED, (number_,)):
            try:
                yield _plain(row, run)
            except (TypeError, ValueError) as error:
                raise damaged(
                    store.path, f"task {row['seed']}/{row['index']} of {run.label}: {error}"
                ) from error


def _plain(row: dict[str, Any], run: Run) -> dict[str, Any]:
    """A row of the store with lists in place of JSON and bytes."""
    check_types(row)
    row |= {name: list(texts(row[name])) for name in ("classes", "support", "query")}
    row |= {
        "label": run.label,
        "settings": run.settings,
        "class_names": list(run.class_names),
        "pool_notes": list(run.notes),
    }
    row["labels"], row["predictions"] = list(row["labels"]), list(row["predictions"])
    halves = probabilities_of(np.frombuffer(row["probabilities"], "<f2").reshape(-1, run.shape.ways))
    if not len(halves) == len(row["labels"]) == len(row["predictions"]):
        raise ValueError("labels, predictions and probabilities are of different length")
    return row | {"probabilities": halves.astype(np.float64).tolist()}


def runs_block(store: Store) -> Block:
    """The runs of a store with their tasks, as a table: a line for the development seeds of a run and one for
    its reporting seeds.

    Revision, ways, queries and protocol are there where they differ.
    """
    runs = store.runs()
    facts = {
        "revision": {run.identity: str(run.revision) for run in runs.values()},
        "ways": {run.identity: str(run.shape.ways) for run in runs.values()},
        "queries": {run.identity: str(run.shape.queries) for run in runs.values()},
        "protocol": {run.identity: _protocol(run) for run in runs.values()},
    }
    differing = [name for name, values in facts.items() if len(set(values.values())) > 1]
    header = [
        "run",
        "pool",
        "shots",
        "method",
        *differing,
        "model",
        "precision",
        "seeds",
        "tasks",
        "accuracy",
    ]
    lines = []
    for number_, run in runs.items():
        more = [facts[name][run.identity] for name in differing]
        start = [run.identity[:8], run.pool, str(run.shape.shots), run.shown, *more, run.model, run.precision]
        series = store.series(number_, of=run)
        reported = series.seeds >= FIRST_REPORTING_SEED
        parts = [("development", series.only(~reported)), ("reporting", series.only(reported))]
        filled = [(kind, part) for kind, part in parts if len(part)]
        for kind, part in filled:
            seeds = " ".join(map(str, sorted(set(part.seeds.tolist()))))
            mean = mean_interval(part.accuracy)
            accuracy = f"{number(100 * mean.mean)} +- {number(100 * mean.half)}"
            lines.append([*start, f"{kind} {seeds}", str(len(part)), accuracy])
        if not filled:
            lines.append([*start, "-", "0", "-"])
    notes = ["Accuracy in points, mean over tasks +- 1.96 sd / sqrt(n)."]
    return Block(f"Runs of {store.path}", header, [("", lines)], notes)


def _protocol(run: Run) -> str:
    imbalance = run.shape.imbalance
    return f"{run.shape.protocol_name} {imbalance}" if imbalance else run.shape.protocol_name


def _write_lines(store: Store, path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows(store):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_csv(store: Store, path: Path) -> int:
    """Lists and settings are JSON within their cell; probabilities with the digits of half precision."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows(store):
            row["probabilities"] = [[float(f"{p:.4g}") for p in image] for image in row["probabilities"]]
            writer.writerow(_cell(row[name]) for name in _COLUMNS)
            count += 1
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return cell(value) if isinstance(value, str) else value


def _write_parquet(store: Store, path: Path) -> int:
    pa, parquet = _pyarrow()
    count, source = 0, rows(store)
    writer = None
    schema = _schema(pa)
    try:
        writer = parquet.ParquetWriter(path, schema)
        while chunk := list(islice(source, _CHUNK)):
            for row in chunk:
                row["settings"] = json.dumps(row["settings"], sort_keys=True)  # settings differ by method
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    except pa.ArrowException as error:
        raise StoreError(f"{path} cannot be written ({error}).") from error
    finally:
        if writer is not None:
            writer.close()
    return count


def _pyarrow() -> tuple[Any, Any]:
    """The modules that write Parquet."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError("Writing Parquet needs an extra: pip install 'farshot[parquet]'.") from error
    return pa, parquet


def _schema(pa: Any) -> Any:
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    names = pa.list_(text)
    kinds: dict[str, Any] = dict.fromkeys(
        ("run", "label", "method", "kind", "settings", "precision", "model", "model_fingerprint"), text
    )
    kinds |= dict.fromkeys(("pool", "pool_fingerprint", "template", "device", "version"), text)
    kinds |= dict.fromkeys(("revision", "protocol", "ways", "shots", "queries", "seed", "index"), whole)
    kinds |= dict.fromkeys(("peak_memory", "batch"), whole)
    kinds |= dict.fromkeys(("accuracy", "loss", "seconds", "created"), real)
    kinds |= dict.fromkeys(_LISTS, names)
    kinds |= {"predictions": pa.list_(pa.uint8()), "labels": pa.list_(pa.uint8())}
    kinds |= {"probabilities": pa.list_(pa.list_(pa.float32()))}
    return pa.schema(list(kinds.items()))

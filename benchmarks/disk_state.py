"""What lies in a folder before and after a command was killed, and what is wrong with it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

State = dict[str, Any]
"""Relative path -> content without what differs between two runs, such as times."""

Verdict = list[tuple[str, str]]
"""Pairs of a kind (lost, doubled, partial, leftovers) and a note."""

_TEMPORARY = re.compile(r"\.farshot-[0-9a-f]{8}|-(?:journal|wal|shm)$")
_TABLES = {
    "runs": "identity, label, settings, pool_fingerprint, class_names",
    "episodes": "pool_fingerprint, seed, idx, classes, support, query, labels",
    "results": "(SELECT identity FROM runs WHERE id = run), seed, idx, accuracy, predictions, probabilities",
}
_NOTE = ".unfinished.json"


def listing(folder: Path) -> set[str]:
    """All that lies in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def everything_in(folder: Path) -> frozenset[tuple[str, str]]:
    """Every path and content, temporary files among them; their random names are left out."""
    return frozenset(
        (_TEMPORARY.sub("", str(path.relative_to(folder))), _digest(path)) for path in folder.rglob("*")
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def state_of(out: Path, *, rounded: bool = False) -> State:
    """The content of every file; temporary files are left out.

    Args:
        rounded: numbers may differ in their last digits, so that weights, tables and pages are compared by
            their form alone.
    """
    return {
        name: (form_of(path) if rounded else None) or content_of(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and not _TEMPORARY.search(name := str(path.relative_to(out)))
    }


def content_of(path: Path) -> Any:
    """The rows of a store, the facts of an export without times, a digest of anything else."""
    if path.suffix == ".db":
        return rows_of(path)
    if path.name == "export.json":
        with contextlib.suppress(ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if "speed" in (found.get("student") or {}):
                found["student"]["speed"] = sorted(found["student"]["speed"])
                return found
    return _digest(path)


def form_of(path: Path) -> Any:
    """What is in a file, without its numbers; None for kinds of files that are compared as they are."""
    try:
        match path.suffix:
            case ".safetensors":
                return sorted((name, value.shape) for name, value in load_file(path).items())
            case ".json":
                found = json.loads(path.read_text(encoding="utf-8"))
                return sorted(found) if isinstance(found, dict) else ["list", len(found)]
            case ".csv":
                return [line.partition(",")[0] for line in path.read_text(encoding="utf-8").splitlines()]
            case ".html":
                return ["page", path.read_text(encoding="utf-8").rstrip().endswith("</html>")]
    except (OSError, ValueError, SafetensorError):
        return ["damaged", _digest(path)]
    return None


def rows_of(path: Path) -> Counter[tuple[Any, ...]] | str:
    """The rows of a store that do not depend on the machine; "damaged" where SQLite finds it so."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        try:
            with closing(sqlite3.connect(Path(folder) / path.name)) as file:
                if file.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    return "damaged"
                known = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
                return Counter(
                    (table, *row)
                    for table, columns in _TABLES.items()
                    if table in known
                    for row in file.execute(f"SELECT {columns} FROM {table}")
                )
        except sqlite3.DatabaseError:
            return "damaged"


def after_kill(
    watched: Path,
    before: State,
    after: State,
    grows: tuple[str, ...],
    *,
    killed: bool,
    rounded: bool = False,
) -> Verdict:
    """What is wrong right after a command was stopped.

    Args:
        before, after: the states around a run that is not disturbed.
        grows: outputs that the next run goes on from.
        killed: by SIGKILL, which leaves no time to clean up.
        rounded: see `state_of`.
    """
    out = watched / "out"
    now = state_of(out, rounded=rounded)
    found: Verdict = []
    for unit in sorted({_unit(name) for name in (*before, *after, *now)}):
        old, new, here = (_of(state, unit) for state in (before, after, now))
        if here in (old, new) or (not here and not old):
            continue
        if any(unit == name or unit == f"{name}{_NOTE}" for name in grows):
            found += [(_kind(old), f"{name}: {why}") for name, why in _unfinished(out, here, old, new)]
            continue
        found.append((_kind(old), f"{unit} is neither what was there before nor what is written"))
    if not killed:
        left = [
            name for name in listing(watched) if _TEMPORARY.search(Path(name).name) or name.startswith("tmp/")
        ]
        stores = {f"out/{name}" for name in (*before, *after) if name.endswith(".db")}
        found += [("leftovers", name) for name in left if not any(name.startswith(store) for store in stores)]
    return found


def after_rerun(
    watched: Path, after: State, files: set[str], code: int, said: str, *, rounded: bool = False
) -> Verdict:
    """What is wrong once the same command has run again.

    Args:
        files: the listing after a run that is not disturbed.
        code, said: of the second run, which may refuse to replace what the first completed.
        rounded: see `state_of`.
    """
    now = state_of(watched / "out", rounded=rounded)
    found: Verdict = []
    if code and not (code == 2 and now == after):
        found.append(("lost", f"the next run ended with {code}: {said[-300:]}"))
    for name in sorted(now.keys() | after.keys()):
        if name not in now or (name in after and now[name] != after[name]):
            found.append((_more(now.get(name), after.get(name), watched / "out" / name), name))
    found += [("leftovers", name) for name in sorted(listing(watched) - files)]
    return found


def _unit(name: str) -> str:
    return name.split("/", 1)[0]


def _of(state: State, unit: str) -> State:
    return {name: content for name, content in state.items() if _unit(name) == unit}


def _kind(old: State) -> str:
    return "lost" if old else "partial"


def _unfinished(out: Path, here: State, old: State, new: State) -> Verdict:
    """What the next run could not go on from."""
    found = []
    for name, content in here.items():
        path, wanted = out / name, new.get(name)
        if content in (wanted, old.get(name)):
            continue
        if name.endswith(".db"):
            good = _grown(content, old.get(name), wanted)
        elif name.endswith(_NOTE):
            good = _is_json(path)
        elif name.endswith(".csv"):
            good = path.stat().st_size == 0 or _whole_rows(path)
        else:
            good = False
        if not good:
            found.append((name, "the next run cannot go on from it"))
    found += [(name, "it is gone") for name in old if name not in here]
    return found


def _grown(content: Any, old: Any, wanted: Any) -> bool:
    """Whether the rows are some of those that are wanted, and all of the old ones."""
    if not isinstance(content, Counter):
        return False
    return (old or Counter()) <= content <= wanted


def _whole_rows(path: Path) -> bool:
    """Whether all but perhaps the last row have the header's length."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    return all(len(row) == len(rows[0]) for row in rows[:-1])


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False


def _more(now: Any, wanted: Any, path: Path) -> str:
    """Whether something was written twice, or is lost."""
    if isinstance(now, Counter) and isinstance(wanted, Counter):
        return "doubled" if sum(now.values()) > sum(wanted.values()) else "lost"
    if path.suffix in (".csv", ".jsonl") and path.is_file():
        lines = path.read_bytes().splitlines()
        return "doubled" if len(set(lines)) < len(lines) else "lost"
    return "lost"

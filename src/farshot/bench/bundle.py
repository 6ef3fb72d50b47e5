"""Result bundles: all results of a store in one file that another person can verify and merge.

A zip with four files, each row one line of JSON:

    runs.jsonl      the runs: methods with all settings, fingerprints of models and pools, prompts
    episodes.jsonl  the tasks: names of classes and images within the pool, true classes
    results.jsonl   the results, in the order of runs, seed and index
    bundle.json     format, versions, and SHA-256 of the others

It holds no images and no local paths. A bundle is a stranger's file: it is read with bounds, line by line,
and nothing in it is executed or opened as a database.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from farshot.bench.agreement import Row, check_row
from farshot.bench.bundle_rows import (
    episode_of_line,
    key_of,
    named,
    result_line,
    row_of_line,
    rows_of_store,
    run_line,
    run_of_line,
    task_line,
)
from farshot.bench.records import Episode, Run
from farshot.bench.store import Store
from farshot.errors import DataError, FarshotError
from farshot.images.member import unpack
from farshot.sanitize import plain, short
from farshot.storage.archives import ArchiveLimits, Entry, read_directory
from farshot.storage.atomic import check_file, whole_file
from farshot.storage.json_text import parse_object
from farshot.storage.paths import home, ordinary

T = TypeVar("T")
FORMAT = 1
MAGIC = b"PK\x03\x04"
_ABOUT, _RUNS, _EPISODES, _RESULTS = "bundle.json", "runs.jsonl", "episodes.jsonl", "results.jsonl"
_NAMES = (_RUNS, _EPISODES, _RESULTS, _ABOUT)
_MOST = {_ABOUT: 1 << 20, _RUNS: 1 << 26, _EPISODES: 1 << 29, _RESULTS: 1 << 33}
"""Bytes of each file when unpacked; all but the results are held in memory."""
_LIMITS = ArchiveLimits(max(_MOST.values()), 1 << 32, sum(_MOST.values()), len(_NAMES))
_LONGEST_LINE = 1 << 24
_WAY = "choose another --bundle"
_LIBRARIES = ("numpy", "torch", "safetensors", "tokenizers")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip has no earlier time; with it the same rows make the same bytes


def write_bundle(store: Store, out: Path) -> int:
    """Write all results of a store to a bundle; returns their number.

    Raises:
        StoreError: a damaged store. DataError: a place that is taken or cannot be written.
    """
    with (
        whole_file(out, check_place, _WAY) as staging,
        zipfile.ZipFile(staging, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
    ):
        return _write(store, archive)


def _write(store: Store, archive: zipfile.ZipFile) -> int:
    runs: dict[str, Run] = {}
    tasks: set[tuple[Any, ...]] = set()
    sums, count = {}, 0
    with _Member(archive, _EPISODES) as member:
        for run, row in rows_of_store(store):
            runs[run.identity] = run
            key = (*run.tasks_of, *row.key)
            if key not in tasks:
                tasks.add(key)
                member.write(task_line(run, row.episode))
    if not runs:
        raise DataError(f"{store.path} has no results yet; a bundle of nothing cannot be verified.")
    sums[_EPISODES] = member.sum
    with _Member(archive, _RUNS) as member:
        for run in runs.values():
            member.write(run_line(run))
    sums[_RUNS] = member.sum
    with _Member(archive, _RESULTS) as member:
        for run, row in rows_of_store(store):
            if run.identity in runs and (*run.tasks_of, *row.key) in tasks:  # others came since
                member.write(result_line(row))
                count += 1
    sums[_RESULTS] = member.sum
    with _Member(archive, _ABOUT) as member:
        member.write(
            {
                "format": "farshot bundle",
                "version": FORMAT,
                "runs": len(runs),
                "tasks": len(tasks),
                "results": count,
                "sha256": sums,
                "written_with": {
                    "farshot": version("farshot"),
                    "python": platform.python_version(),
                    "system": f"{platform.system()} {platform.machine()}",
                    **{name: _version(name) for name in _LIBRARIES},
                },
            }
        )
    return count


def check_place(out: Path) -> None:
    """Refuse a place that is taken by anything but a bundle, before any work is done for it."""
    check_file(out, "a result bundle", is_bundle, _WAY)


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a bundle does and has its files."""
    try:
        Bundle(path)
    except FarshotError:
        return False
    return True


class Bundle:
    """A bundle on disk.

    Attributes:
        runs: by identity.
        about: bundle.json.

    Raises:
        DataError: it is no bundle, or is damaged or forged: one sentence that names the row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = home(path)
        self._entries = self._directory()
        self.about = self._about()
        self.runs: dict[str, Run] = {}
        self._tasks: dict[tuple[Any, ...], Episode] | None = None
        for number, row in enumerate(self._lines(_RUNS), 1):
            run = self._told(f"run {number}", run_of_line, row)
            if run.identity in self.runs:
                raise self._refused(f"run {run.identity[:8]} is there twice")
            self.runs[run.identity] = run

    def rows(self) -> Iterator[tuple[Run, Row]]:
        """Every result with its run and task, checked: it agrees with itself, occurs once, has a run and a
        task, and the file has the hash that the bundle states.

        Raises:
            DataError: names the first row that does not.
        """
        tasks, used = self._episodes(), set[tuple[Any, ...]]()
        order = {identity: number for number, identity in enumerate(self.runs)}
        before: tuple[int, int, int] = (-1, -1, -1)
        count = 0
        for count, found in enumerate(self._lines(_RESULTS), 1):
            identity = found.get("run")
            run = self.runs.get(identity) if isinstance(identity, str) else None
            if run is None:
                raise self._refused(f"result {count} is of a run that is not in the bundle")
            key = self._told(f"result {count}", key_of, found)
            place = (order[run.identity], *key)
            if place <= before:
                raise self._refused(f"{named(run, key)} is there twice or out of order")
            before, task = place, (*run.tasks_of, *key)
            if task not in tasks:
                raise self._refused(f"{named(run, key)} is not among the tasks of the bundle")
            row = self._told(named(run, key), row_of_line, found, tasks[task])
            self._told(named(run, key), check_row, run, row)
            used.add(task)
            yield run, row
        idle = next((task for task in tasks if task not in used), None)
        if idle is not None:
            raise self._refused(f"task {idle[-2]}/{idle[-1]} has no result")
        if count != self.about.get("results"):
            raise self._refused(f"it has {count} results, and states {short(self.about.get('results'))}")

    def _episodes(self) -> dict[tuple[Any, ...], Episode]:
        if self._tasks is None:
            found: dict[tuple[Any, ...], Episode] = {}
            for number, row in enumerate(self._lines(_EPISODES), 1):
                key, episode = self._told(f"task line {number}", episode_of_line, row)
                if key in found:
                    raise self._refused(f"task {episode.seed}/{episode.index} is there twice")
                found[key] = episode
            self._tasks = found
        return self._tasks

    def _directory(self) -> dict[str, Entry]:
        try:
            with ordinary(self.path).open("rb") as file:
                if not file.read(len(MAGIC)).startswith(MAGIC):
                    raise DataError(f"{self.path} is no result bundle; `farshot store export` makes one.")
                entries = read_directory(file, self.path.stat().st_size, _LIMITS)
        except FileNotFoundError as error:
            raise DataError(f"There is no bundle {self.path}; check the path.") from error
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        except DataError as error:
            if str(self.path) in str(error):
                raise
            raise DataError(f"{self.path} is no result bundle, or is damaged; fetch it again.") from error
        found = {entry.name: entry for entry in entries}
        odd = [entry for entry in entries if entry.name not in _NAMES or entry.fault]
        odd += [entry for entry in entries if entry.span.size > _MOST.get(entry.name, 0)]
        if odd or len(found) != len(entries) or len(found) != len(_NAMES):
            what = plain(odd[0].name, 60) if odd else "a file twice, or one less"
            raise DataError(f"{self.path} is no result bundle: it holds {what}; fetch it again.")
        return found

    def _about(self) -> dict[str, Any]:
        lines = list(self._lines(_ABOUT))
        about = lines[0] if len(lines) == 1 else {}
        if about.get("format") != "farshot bundle":
            raise DataError(f"{self.path} is no result bundle; `farshot store export` makes one.")
        if about.get("version") != FORMAT:
            raise DataError(
                f"{self.path} is a bundle of format {short(about.get('version'))}, this farshot reads format "
                f"{FORMAT}; update farshot."
            )
        return about

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a file; the last is followed by a comparison of its hash."""
        digest, rest, number = hashlib.sha256(), b"", 0
        try:
            with self.path.open("rb") as file:
                for piece in unpack(file, self._entries[name].span):
                    digest.update(piece)
                    *whole, rest = (rest + piece).split(b"\n")
                    if len(rest) > _LONGEST_LINE:
                        raise self._refused(f"line {number + 1} of {name} is too long")
                    for line in whole:
                        number += 1
                        yield self._told(f"line {number} of {name}", _object, line)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        except DataError as error:
            if str(self.path) in str(error):
                raise
            raise self._refused(f"{name} is not what was packed") from error
        if rest:
            raise self._refused(f"{name} ends in the middle of a row")
        if name != _ABOUT:
            sums = self.about.get("sha256")
            if not isinstance(sums, dict) or sums.get(name) != digest.hexdigest():
                raise self._refused(f"{name} does not have the SHA-256 that the bundle states")

    def _told(self, what: str, make: Callable[..., T], *values: Any) -> T:
        """What `make` returns; its errors name the bundle and the row."""
        try:
            return make(*values)
        except (ValueError, TypeError, KeyError, OverflowError, FarshotError) as error:
            about = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise self._refused(f"{what}: {plain(about).rstrip('.')}") from error

    def _refused(self, what: str) -> DataError:
        return DataError(f"{self.path} is refused: {what}.")


class _Member:
    """A file in a zip that is written line by line, with its SHA-256."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        info = zipfile.ZipInfo(name, _EARLIEST)
        info.compress_type = zipfile.ZIP_DEFLATED
        self._file, self._digest = archive.open(info, "w", force_zip64=name == _RESULTS), hashlib.sha256()

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a line."""
        line = json.dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)

    @property
    def sum(self) -> str:
        """SHA-256 of what is written."""
        return self._digest.hexdigest()


def _object(line: bytes) -> dict[str, Any]:
    return parse_object(line.decode("utf-8"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def open_results(path: Path) -> Store | Bundle:
    """A store for reading, or a bundle, by its first bytes.

    Raises:
        StoreError, DataError: it is neither.
    """
    place = home(path)
    try:
        with ordinary(place).open("rb") as file:
            head = file.read(len(MAGIC))
    except FileNotFoundError as error:
        raise DataError(f"There is no store or bundle {place}; check the path.") from error
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or error}).") from error
    return Bundle(place) if head == MAGIC else Store(place, read_only=True)

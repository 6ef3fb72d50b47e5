"""The store: one SQLite file in WAL mode that several processes may write to, and that survives kill -9.

A batch of tasks is claimed, computed and recorded in one transaction. A claim lapses when its process dies or
stops renewing it, so no task is lost; a result is inserted only where there is none, so no task counts twice.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from farshot.arrays import NDArray
from farshot.bench.owners import is_dead, new_owner
from farshot.bench.records import (
    Episode,
    Result,
    Run,
    Series,
    StoreError,
    episode_words,
    probabilities_of,
    result_row,
    run_of,
    series_of,
    with_present_label,
)
from farshot.bench.schema import (
    check_place,
    damaged,
    open_for_reading,
    open_for_writing,
    speaking,
    transaction,
)
from farshot.storage.paths import home

LEASE_S = 60.0
RENEW_S = 15.0  # how often `Store.renewing` extends the claims of this process
_ROWS_AT_ONCE = 2000

_JOINED = (
    "FROM results r JOIN runs ON runs.id = r.run"
    " JOIN episodes e ON e.pool_fingerprint = runs.pool_fingerprint"
    " AND e.protocol = runs.protocol AND e.ways = runs.ways AND e.shots = runs.shots"
    " AND e.queries = runs.queries AND e.seed = r.seed AND e.idx = r.idx WHERE r.run = ?"
    " ORDER BY r.seed, r.idx"
)
"""The results of a run with their tasks."""


class Store:
    """A store on disk.

    Args:
        path: the file; made if it does not exist, unless for reading only.
        read_only: refuses nothing that does not change the file.

    Raises:
        StoreError: from every method, with one sentence, where the file cannot be read or written.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = home(path)
        if not read_only:
            check_place(self.path)
        self._connection = (open_for_reading if read_only else open_for_writing)(self.path)
        self._place, self._lost = _identity(self.path), False
        self._complete: dict[tuple[int, int], int] = {}  # (run, seed) -> tasks below this all have a result
        self.owner = new_owner()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # Runs --------------------------------------------------------------------------------------------

    def run_id(self, run: Run, former: Sequence[str] = ()) -> int:
        """Return the number of a run in this store; a new run is added.

        Args:
            former: identities that earlier versions gave to the same run; a stored run with one of them gets
                the new identity and is continued.
        """
        values = {
            "identity": run.identity,
            "label": run.label,
            "method": run.method,
            "revision": run.revision,
            "kind": run.kind,
            "settings": json.dumps(run.settings, sort_keys=True),
            "precision": run.precision,
            "model": run.model,
            "model_fingerprint": run.model_fingerprint,
            "pool": run.pool,
            "pool_fingerprint": run.pool_fingerprint,
            "pool_notes": json.dumps(run.notes),
            "class_names": json.dumps(run.class_names, ensure_ascii=False),
            "template": run.template,
            "protocol": run.protocol,
            "ways": run.shape.ways,
            "shots": run.shape.shots,
            "queries": run.shape.queries,
            "created": time.time(),
        }
        with self._change():
            self._take_over(values, former)
            self._insert("runs", values)
            found = self._connection.execute("SELECT id FROM runs WHERE identity = ?", (run.identity,))
            return int(found.fetchone()[0])

    def _take_over(self, values: dict[str, Any], former: Sequence[str]) -> None:
        known = self._connection.execute("SELECT id FROM runs WHERE identity = ?", (values["identity"],))
        for identity in [] if known.fetchone() else former:
            changed = self._connection.execute(
                "UPDATE runs SET identity = ?, settings = ?, model_fingerprint = ? WHERE identity = ?",
                (values["identity"], values["settings"], values["model_fingerprint"], identity),
            )
            if changed.rowcount:
                return

    def runs(self) -> dict[int, Run]:
        """All runs, by number."""
        found = {}
        for row in self.query("SELECT * FROM runs ORDER BY id"):
            try:
                found[int(row["id"])] = with_present_label(run_of(row))
            except (TypeError, ValueError) as error:
                raise damaged(self.path, f"run {row['id']}: {error}") from error
        return found

    # Filling -----------------------------------------------------------------------------------------

    def done(self, run: int, seed: int, tasks: int, first: int = 0) -> set[int]:
        """Which of the tasks from `first` up to `tasks` of a seed have a result."""
        rows = self._rows(
            "SELECT idx FROM results WHERE run = ? AND seed = ? AND idx >= ? AND idx < ?",
            (run, seed, first, tasks),
        )
        return {idx for (idx,) in rows}

    def done_count(self, run: int, seed: int, tasks: int) -> int:
        """How many of the first `tasks` tasks of a seed have a result."""
        first = min(self._complete.get((run, seed), 0), tasks)
        ((count,),) = self._rows(
            "SELECT COUNT(*) FROM results WHERE run = ? AND seed = ? AND idx >= ? AND idx < ?",
            (run, seed, first, tasks),
        )
        return first + int(count)

    def claim(self, run: int, seed: int, tasks: int, batch: int) -> list[int]:
        """Claim the next tasks that are neither done nor claimed; empty if there are none.

        Batches are cut at multiples of `batch`, so that after an interruption a task has the same companions.
        What this process has seen complete is not looked at again.
        """
        with self._change():
            now = time.time()
            self._drop_dead_claims(now)
            first = self._complete.get((run, seed), 0) // batch * batch
            window = batch * max(1, _ROWS_AT_ONCE // batch)
            for low in range(first, tasks, window):
                high = min(low + window, tasks)
                done, taken = self.done(run, seed, high, low), self._claimed(run, seed, low, high)
                for start in range(low, high, batch):
                    block = range(start, min(start + batch, high))
                    if self._complete.get((run, seed), 0) >= start and done.issuperset(block):
                        self._complete[run, seed] = block.stop
                    free = [i for i in block if i not in done and i not in taken]
                    if free:
                        claims = [(run, seed, i, self.owner, now + LEASE_S) for i in free]
                        self._connection.executemany("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", claims)
                        return free
        return []

    def _claimed(self, run: int, seed: int, low: int, high: int) -> set[int]:
        rows = self._connection.execute(
            "SELECT idx FROM claims WHERE run = ? AND seed = ? AND idx >= ? AND idx < ?",
            (run, seed, low, high),
        )
        return {idx for (idx,) in rows}

    def record(self, run: int, seed: int, results: Sequence[Result], episodes: Iterable[Episode]) -> int:
        """Store a batch, all or nothing; returns how many of its tasks were new."""
        return self.add(run, [result_row(run, seed, result) for result in results], episodes)

    def add(self, run: int, rows: Sequence[dict[str, Any]], episodes: Iterable[Episode]) -> int:
        """The same with rows of the table `results`, which may come from another store."""
        row = self._rows(
            "SELECT pool_fingerprint, protocol, ways, shots, queries FROM runs WHERE id = ?", (run,)
        )[0]
        with self._change():
            for episode in episodes:
                self._connection.execute(
                    "INSERT OR IGNORE INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, episode.seed, episode.index, *episode_words(episode), episode.labels.tobytes()),
                )
            before = self._connection.total_changes
            for values in rows:
                self._insert("results", values)
            new = self._connection.total_changes - before
            self._connection.executemany(
                "DELETE FROM claims WHERE run = ? AND seed = ? AND idx = ?",
                [(run, values["seed"], values["idx"]) for values in rows],
            )
        return new

    def release(self) -> None:
        """Release all claims of this process."""
        with self._change():
            self._connection.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))

    @contextlib.contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew this process's claims while it computes, and release them at the end."""
        stop = threading.Event()

        def renew() -> None:
            connection = sqlite3.connect(self.path, timeout=RENEW_S, isolation_level=None)
            with contextlib.closing(connection):
                while not stop.wait(RENEW_S):
                    # a failed renewal costs at most a task computed twice; recording will say what is wrong
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute(
                            "UPDATE claims SET expires = ? WHERE owner = ?",
                            (time.time() + LEASE_S, self.owner),
                        )

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(Exception):  # an error on its way out must not be hidden by this one
                self.release()

    def _drop_dead_claims(self, now: float) -> None:
        """Delete the claims that lapsed or cannot be anybody's; none lasts longer than a lease."""
        self._connection.execute(
            "DELETE FROM claims WHERE typeof(expires) NOT IN ('real', 'integer') OR typeof(owner) != 'text' "
            "OR expires < ?",
            (now,),
        )
        self._connection.execute("UPDATE claims SET expires = ? WHERE expires > ?", (now + LEASE_S,) * 2)
        for (owner,) in self._connection.execute("SELECT DISTINCT owner FROM claims").fetchall():
            if owner != self.owner and is_dead(owner):
                self._connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    # Reading -----------------------------------------------------------------------------------------

    def series(self, run: int, *, of: Run | None = None) -> Series:
        """Accuracy and time of all tasks of a run."""
        rows = self._rows(
            "SELECT seed, idx, accuracy, seconds, created FROM results WHERE run = ? ORDER BY seed, idx",
            (run,),
        )
        try:
            return series_of(of or self.runs()[run], rows)
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(self.path, f"a result of run {run}: {error}") from error

    def predictions(
        self, run: int, keys: Sequence[tuple[int, int]]
    ) -> tuple[Float[NDArray[np.float32], "images N"], UInt8[NDArray[np.uint8], " images"]]:
        """Probabilities and true classes of all query images of these (seed, index), one after the other."""
        parts = list(self.prediction_parts(run, keys))
        probabilities = np.concatenate([np.zeros((0, self._ways(run)), np.float32), *(p for p, _ in parts)])
        return probabilities, np.concatenate([np.zeros(0, np.uint8), *(true for _, true in parts)])

    def prediction_parts(
        self, run: int, keys: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Float[NDArray[np.float32], "images N"], UInt8[NDArray[np.uint8], " images"]]]:
        """The same in parts of many tasks, so that memory does not grow with the number of tasks.

        Raises:
            StoreError: a task whose numbers are not what `record` writes.
        """
        wanted, ways = set(keys), self._ways(run)
        with speaking(self.path):
            cursor = self._connection.execute(
                f"SELECT r.seed, r.idx, r.probabilities, e.labels {_JOINED}", (run,)
            )
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                kept = [row[2:] for row in rows if row[:2] in wanted]
                if kept:
                    yield self._numbers(kept, ways)

    def task_predictions(
        self, run: int
    ) -> Iterator[tuple[tuple[int, int], UInt8[NDArray[np.uint8], " Q"], UInt8[NDArray[np.uint8], " Q"]]]:
        """(seed, index), true and predicted classes of every task of a run, one by one.

        Raises:
            StoreError: a task whose numbers are not what `record` writes.
        """
        ways = self._ways(run)
        with speaking(self.path):
            cursor = self._connection.execute(
                f"SELECT r.seed, r.idx, r.predictions, e.labels {_JOINED}", (run,)
            )
            for seed, index, *blobs in cursor:
                try:
                    predicted, true = (np.frombuffer(blob, np.uint8) for blob in blobs)
                    if len(predicted) != len(true) or not len(true) or max(map(max, blobs)) >= ways:
                        raise ValueError("predictions that do not fit the true classes")
                except (TypeError, ValueError) as error:
                    raise damaged(self.path, f"run {run}, task {index}: {error}") from error
                yield (seed, index), true, predicted

    def _ways(self, run: int) -> int:
        ((ways,),) = self._rows("SELECT ways FROM runs WHERE id = ?", (run,))
        return int(ways)

    def _numbers(
        self, rows: list[tuple[Any, Any]], ways: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        try:
            halves = np.frombuffer(b"".join(p for p, _ in rows), "<f2").reshape(-1, ways)
            labels = np.frombuffer(b"".join(true for _, true in rows), np.uint8)
            probabilities = probabilities_of(halves)
        except (TypeError, ValueError) as error:
            raise damaged(self.path, f"probabilities or labels: {error}") from error
        if len(halves) != len(labels) or (len(labels) and int(labels.max()) >= ways):
            raise damaged(self.path, "labels that do not fit the probabilities")
        return probabilities, labels

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a SELECT as dictionaries."""
        return list(self.stream(statement, values))

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """The same one by one, so that memory does not grow with their number."""
        with speaking(self.path):
            cursor = self._connection.execute(statement, values)
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    # Statements --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with speaking(self.path), transaction(self._connection):
            yield
        if not self._lost and _identity(self.path) != self._place:
            self._lost = True
            raise StoreError(self._rescued())

    def _rescued(self) -> str:
        """What to say where the file was deleted or replaced; what this process still sees is saved."""
        gone = f"The store {self.path} was deleted or replaced while it was used"
        for number in range(1, 100):
            place = self.path.with_name(f"{self.path.name}.rescued-{number}")
            if not place.exists():
                break
        try:
            self._connection.execute("VACUUM INTO ?", (str(place),))
        except sqlite3.Error as error:
            place.unlink(missing_ok=True)
            return f"{gone}; what it held cannot be saved ({error}). Run the same command again."
        return f"{gone}; what it held is saved as {place}. Put it back, or run the same command again."

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with speaking(self.path):
            return self._connection.execute(statement, values).fetchall()

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._connection.execute(
            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", list(values.values())
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino

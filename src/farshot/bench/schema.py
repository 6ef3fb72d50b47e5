"""The store's schema. docs/store.md explains every column.

Raise VERSION with every change; a store of another version is refused, never misread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from farshot.bench.records import StoreError
from farshot.errors import DataError
from farshot.storage.atomic import check_file, check_writable
from farshot.storage.paths import home, quoted

VERSION = 1
_APPLICATION = 0x66617273  # "fars": tells a store from any other SQLite file
_WAIT_S = 60.0  # for another process's transaction; they last milliseconds

_WAY = "choose another --store"

_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, label TEXT NOT NULL, method TEXT NOT NULL,
    revision INTEGER NOT NULL, kind TEXT NOT NULL, settings TEXT NOT NULL, precision TEXT NOT NULL,
    model TEXT NOT NULL, model_fingerprint TEXT NOT NULL, pool TEXT NOT NULL, pool_fingerprint TEXT NOT NULL,
    pool_notes TEXT NOT NULL, class_names TEXT NOT NULL, template TEXT NOT NULL, protocol INTEGER NOT NULL,
    ways INTEGER NOT NULL, shots INTEGER NOT NULL, queries INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE episodes (
    pool_fingerprint TEXT NOT NULL, protocol INTEGER NOT NULL, ways INTEGER NOT NULL, shots INTEGER NOT NULL,
    queries INTEGER NOT NULL, seed INTEGER NOT NULL, idx INTEGER NOT NULL, classes TEXT NOT NULL,
    support TEXT NOT NULL, query TEXT NOT NULL, labels BLOB NOT NULL,
    PRIMARY KEY (pool_fingerprint, protocol, ways, shots, queries, seed, idx)
);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs(id), seed INTEGER NOT NULL, idx INTEGER NOT NULL,
    accuracy REAL NOT NULL, predictions BLOB NOT NULL, probabilities BLOB NOT NULL, loss REAL,
    seconds REAL NOT NULL, peak_memory INTEGER NOT NULL, batch INTEGER NOT NULL, device TEXT NOT NULL,
    version TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (run, seed, idx)
);
CREATE TABLE claims (
    run INTEGER NOT NULL, seed INTEGER NOT NULL, idx INTEGER NOT NULL, owner TEXT NOT NULL,
    expires REAL NOT NULL, PRIMARY KEY (run, seed, idx)
);
"""


def check_place(path: Path) -> None:
    """Refuse a place that holds anything but a store, or where none can be created; changes nothing.

    Raises:
        StoreError: one sentence on what is wrong.
    """
    path, filled = home(path), False
    with contextlib.suppress(OSError, ValueError):  # no such name can be: refused below
        filled = path.is_file() and path.stat().st_size > 0
    if filled:
        with speaking(path), contextlib.closing(_connect_to_read(path)) as connection:
            if _is_taken(connection):
                _check(connection, path)
        if not (os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK | os.X_OK)):
            raise StoreError(_sentence(path, "readonly"))
        return
    try:
        check_file(path, "a farshot store", lambda _: False, _WAY)
        file = path.resolve()
        check_writable(file.parent, _WAY, f"{file.name}-journal")  # SQLite's own file next to it
    except DataError as error:
        raise StoreError(str(error)) from error


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open a store for writing, in autocommit mode; create it if there is none."""
    with speaking(path):
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
        try:
            if _is_taken(connection):
                _check(connection, path)  # before anything is changed: it may be another program's
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")  # what is stored survives a power cut
            with transaction(connection):
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    _create(connection)
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a store for reading only, even in a read-only folder."""
    if not path.is_file():
        raise StoreError(f"There is no store {path}; `farshot bench ... --store {quoted(path)}` makes one.")
    with speaking(path):
        connection = _connect_to_read(path)
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    path = path.resolve()  # SQLite's own files lie next to the file, not next to a link to it
    waiting = path.with_name(f"{path.name}-wal")
    for how in ("mode=ro", "mode=ro&immutable=1"):  # a WAL database in a read-only folder needs the latter
        if "immutable" in how and waiting.is_file() and waiting.stat().st_size:
            raise StoreError(
                f"The newest results of {path} are in {waiting.name}, which SQLite cannot read in a folder "
                "that is read-only; copy both files to a folder of yours, or make this one writable."
            )
        connection = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=_WAIT_S)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            break
        except sqlite3.DatabaseError as error:
            connection.close()
            if "immutable" in how or not isinstance(error, sqlite3.OperationalError):
                raise
    return connection


def _is_taken(connection: sqlite3.Connection) -> bool:
    """Whether a file is already a database, of any program."""
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        return True
    return bool(connection.execute("PRAGMA application_id").fetchone()[0])


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that excludes other writers."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one sentence that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_sentence(path, str(error))) from error


def damaged(path: Path, what: str) -> StoreError:
    """The error where a store holds what farshot does not write."""
    line = " ".join(what.split())[:200]
    return StoreError(
        f"The store {path} is damaged ({line}); restore a copy of it, or choose another --store."
    )


def _sentence(path: Path, trouble: str) -> str:
    safe = "what was stored before is safe"
    if "full" in trouble or "disk I/O" in trouble:
        return f"The store {path} cannot grow: {trouble}; {safe}. Free space and run the same command again."
    if "readonly" in trouble or ("unable to open" in trouble and path.exists()):
        return f"The store {path} is read-only; {safe}. Make it and its folder writable, or choose another."
    if "unable to open" in trouble:
        return f"The store {path} cannot be opened; check that its folder exists and may be written."
    if "not a database" in trouble or "malformed" in trouble:
        return f"{path} is not a farshot store, or is damaged ({trouble}); choose another --store."
    if "locked" in trouble:
        return f"The store {path} was locked for {_WAIT_S:.0f} s by another program; {safe}. Try again later."
    return f"The store {path} failed: {trouble}; {safe}."


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # this one statement does not wait for other processes that make the same store
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise StoreError(f"{path} is a SQLite file, but not a farshot store; choose another --store.")
    if version != VERSION:
        raise StoreError(
            f"The store {path} has schema {version}, this farshot reads schema {VERSION}; "
            "update farshot, or choose another --store."
        )

"""The store keeps what it is given, counts nothing twice, and says in one sentence what stops it."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farshot.bench import store as store_module
from farshot.bench.export import export
from farshot.bench.records import Episode, Result, Run, StoreError
from farshot.bench.store import Store
from farshot.bench.tasks import Shape
from farshot.errors import DataError
from farshot.methods import create
from farshot.methods.values import ADDED

RUN = Run(
    method="zero-shot",
    revision=1,
    settings={"scale": 0.0},
    precision="float32",
    model_fingerprint="model",
    pool="pool",
    pool_fingerprint="images",
    class_names=("a", "b"),
    template="a {}",
    shape=Shape(2, 1, 2),
    label="zero-shot",
    kind="features",
)


def result(index: int, accuracy: float = 0.5) -> Result:
    probabilities = np.array([[0.75, 0.25]] * 4, np.float16)
    predictions = np.zeros(4, np.uint8)
    return Result(index, predictions, probabilities, accuracy, 0.125, 1.5, 1 << 20, 2, "cpu")


def episode(index: int, seed: int = 1) -> Episode:
    labels = np.array([0, 0, 1, 1], np.uint8)
    return Episode(seed, index, ("a", "b"), ("a/0", "b/0"), ("a/1", "a/2", "b/1", "b/2"), labels)


def record(store: Store, run: int, indices: list[int], seed: int = 1) -> int:
    return store.record(run, seed, [result(i) for i in indices], [episode(i, seed) for i in indices])


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(RUN)
        assert record(store, run, [1, 0]) == 2
    with Store(tmp_path / "r.db", read_only=True) as store:
        assert store.runs() == {run: RUN}
        assert store.runs()[run].identity == RUN.identity
        assert store.series(run).keys == [(1, 0), (1, 1)]
        assert store.series(run).accuracy.tolist() == [0.5, 0.5]
        probabilities, labels = store.predictions(run, [(1, 1)])
        assert probabilities.tolist() == [[0.75, 0.25]] * 4
        assert labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("gone", [{}, {"first_block": 0}, {"first_block": 0, "settle": 0.0}])
def test_a_run_of_version_1_is_continued(tmp_path: Path, gone: dict[str, Any]) -> None:
    old = replace(RUN, model_fingerprint="old", settings=RUN.settings | gone)
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(old)
        record(store, run, [0])
        assert store.run_id(RUN, RUN.former_identities("old")) == run
        assert store.runs() == {run: RUN} and store.done(run, 1, 5) == {0}
        assert store.run_id(RUN, RUN.former_identities("old")) == run


@pytest.mark.parametrize("gone", [{"first_block": 8}, {"first_block": 0, "settle": 0.1}])
def test_a_run_with_a_setting_that_is_gone_is_not_continued(tmp_path: Path, gone: dict[str, Any]) -> None:
    old = replace(RUN, model_fingerprint="old", settings=RUN.settings | gone)
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(old)
        assert store.run_id(RUN, RUN.former_identities("old")) != run


def test_a_run_from_before_a_setting_came_is_continued_where_it_does_nothing(tmp_path: Path) -> None:
    new = replace(RUN, method="clap", settings={"scale": 0.0, "augment": 0})
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(replace(new, settings={"scale": 0.0}))
        assert store.run_id(new) == run
        assert store.runs() == {run: new}
        assert store.run_id(replace(new, settings={"scale": 0.0, "augment": 20})) != run
    aligned = replace(RUN, method="atha", settings={"base": "coop"})
    assert replace(aligned, settings={"base": "coop", "class_specific": False}).identity == aligned.identity
    assert replace(aligned, settings={"base": "coop", "class_specific": True}).identity != aligned.identity


def test_added_settings_are_settings_at_their_defaults() -> None:
    for method, added in ADDED.items():
        assert create(method).settings().items() >= added.items()


def test_a_result_is_never_stored_twice_nor_replaced(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as one, Store(tmp_path / "r.db") as other:
        run = one.run_id(RUN)
        assert other.run_id(RUN) == run
        assert one.record(run, 1, [result(0, 0.25)], [episode(0)]) == 1
        assert other.record(run, 1, [result(0, 0.75)], [episode(0)]) == 0
        assert one.series(run).accuracy.tolist() == [0.25]


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 2},
        {"settings": {"scale": 1.0}},
        {"precision": "bf16"},
        {"model_fingerprint": "other"},
        {"pool_fingerprint": "other"},
        {"class_names": ("A", "b")},
        {"template": "the {}"},
        {"shape": Shape(2, 2, 2)},
        {"protocol": 2},
    ],
)
def test_numbers_that_may_not_be_compared_are_other_runs(change: dict) -> None:
    assert replace(RUN, **change).identity != RUN.identity


def test_what_is_only_recorded_does_not_make_another_run() -> None:
    again = replace(RUN, label="again", model="elsewhere", notes=("toy",), kind="features")
    assert again.identity == RUN.identity


@settings(max_examples=25, deadline=None)
@given(
    tasks=st.integers(1, 23),
    batches=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    done=st.sets(st.integers(0, 22)),
)
def test_claims_cover_every_missing_task_once(tmp_path_factory, tasks, batches, done) -> None:
    path = tmp_path_factory.mktemp("claims") / "r.db"
    stores = [Store(path) for _ in batches]
    run = stores[0].run_id(RUN)
    before = sorted(i for i in done if i < tasks)
    record(stores[0], run, before)
    taken: list[int] = []
    going = True
    while going:
        going = False
        for store, batch in zip(stores, batches, strict=True):
            chosen = store.claim(run, 1, tasks, batch)
            going = going or bool(chosen)
            taken += chosen
            assert not chosen or chosen[0] // batch == chosen[-1] // batch
    assert sorted(taken + before) == list(range(tasks))
    for store in stores:
        store.close()


def test_claims_of_the_dead_and_of_the_silent_lapse(tmp_path: Path, monkeypatch) -> None:
    with Store(tmp_path / "r.db") as dead, Store(tmp_path / "r.db") as living:
        run = living.run_id(RUN)
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        dead.owner = f"{living.owner.split(':')[0]}:{ended.pid}:x"
        assert dead.claim(run, 1, 4, 2) == [0, 1]
        assert living.claim(run, 1, 4, 2) == [0, 1]  # the process that had them is gone
        living.owner = f"another machine:{os.getpid()}:y"
        with Store(tmp_path / "r.db") as third:
            third.release()
            assert third.claim(run, 1, 2, 2) == []  # alive on this machine
            now = store_module.time.time()
            monkeypatch.setattr(store_module.time, "time", lambda: now + 2 * store_module.LEASE_S)
            assert third.claim(run, 1, 2, 2) == [0, 1]


@pytest.mark.parametrize(
    ("owner", "expires"),
    [
        ("elsewhere:1:x", 4e9),  # a clock that is decades ahead
        ("nobody", 4e9),
        ("", 4e9),
        ("host:x:y", 4e9),
        (f"{socket.gethostname()}:{10**30}:x", 4e9),
        (f"{socket.gethostname()}:-1:x", 4e9),
        (b"\xff\x00", 4e9),
        (7, 4e9),
        ("elsewhere:1:x", "soon"),
        ("elsewhere:1:x", b"\x00"),
        ("elsewhere:1:x", float("inf")),
    ],
)
def test_a_claim_of_nonsense_blocks_nobody_for_longer_than_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, expires: Any
) -> None:
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(RUN)
        with closing(sqlite3.connect(tmp_path / "r.db")) as other, other:
            other.execute("INSERT INTO claims VALUES (?, 1, 0, ?, ?)", (run, owner, expires))
        store.claim(run, 1, 1, 1)
        now = time.time()
        monkeypatch.setattr(store_module.time, "time", lambda: now + store_module.LEASE_S + 1)
        store.claim(run, 1, 1, 1)
        assert [row["owner"] for row in store.query("SELECT owner FROM claims")] == [store.owner]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_is_deleted_or_replaced_while_it_is_filled_is_saved(
    tmp_path: Path, replaced: bool
) -> None:
    path = tmp_path / "r.db"
    with Store(path) as store:
        run = store.run_id(RUN)
        record(store, run, [0])
        for file in tmp_path.glob("r.db*"):
            file.unlink()
        if replaced:
            Store(path).close()
        with pytest.raises(StoreError, match=r"was deleted or replaced while.*saved as .*r\.db\.rescued-1"):
            record(store, run, [1])
        store.release()
    assert len(list(tmp_path.glob("*.rescued-*"))) == 1
    with Store(tmp_path / "r.db.rescued-1", read_only=True) as saved:
        assert saved.series(run).keys == [(1, 0), (1, 1)]


def test_results_in_a_wal_that_cannot_be_read_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would open the file alone as if that were all."""
    path = tmp_path / "r.db"
    with Store(path) as store:
        record(store, store.run_id(RUN), [0])
        assert (tmp_path / "r.db-wal").stat().st_size
        real = sqlite3.connect

        class Refusing:
            def __init__(self, *_: Any) -> None: ...

            def execute(self, *_: Any) -> Any:
                raise sqlite3.OperationalError("unable to open database file")

            def close(self) -> None: ...

        monkeypatch.setattr(
            sqlite3,
            "connect",
            lambda where, **more: Refusing() if "immutable" not in where else real(where, **more),
        )
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "link.db").symlink_to(path)
        for place in (path, tmp_path / "other" / "link.db"):
            with pytest.raises(StoreError, match=r"newest results of .* are in r\.db-wal"):
                Store(place, read_only=True)


def test_a_process_that_works_keeps_its_claims(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "RENEW_S", 0.01)
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(RUN)
        with store.renewing():
            store.claim(run, 1, 1, 1)
            (before,) = store.query("SELECT expires FROM claims")
            for _ in range(1000):
                (after,) = store.query("SELECT expires FROM claims")
                if after["expires"] > before["expires"]:
                    break
                store_module.threading.Event().wait(0.01)
            assert after["expires"] > before["expires"]
        assert store.query("SELECT * FROM claims") == []


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(RUN)
        record(store, run, [0, 1])
        (pages,) = store.query("PRAGMA page_count")
        store.query(f"PRAGMA max_page_count = {pages['page_count']}")  # SQLite's own "disk is full"
        with pytest.raises(
            StoreError, match=r"is full; what was stored before is safe.*Free space"
        ) as caught:
            record(store, run, list(range(2, 2000)))
        assert "\n" not in str(caught.value)
        assert len(store.series(run)) == 2
        store.query("PRAGMA max_page_count = 1000000")
        assert record(store, run, [2]) == 1


# root may write anywhere, so a child gives up root before it opens the store
_AS_NOBODY = """
import os, sys
from farshot.bench.store import Store
from farshot.errors import FarshotError
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
with Store(sys.argv[1], read_only=True) as store:
    print(len(store.series(1)))
try:
    Store(sys.argv[1]).run_id(None)
except FarshotError as error:
    print(error)
"""


def test_a_read_only_store_can_be_read_and_refuses_writing_in_one_sentence() -> None:
    # not below tmp_path, which pytest keeps closed to other users
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Store(place / "r.db") as store:
            record(store, store.run_id(RUN), [0, 1])
        (place / "r.db").chmod(0o444)
        place.chmod(0o555)
        command = [sys.executable, "-c", _AS_NOBODY, str(place / "r.db")]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        place.chmod(0o755)
    assert told.returncode == 0, told.stderr
    count, sentence = told.stdout.splitlines()
    assert count == "2"
    assert "Make it and its folder writable" in sentence


def test_files_that_are_no_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        Store(tmp_path / "none.db", read_only=True)
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="not a farshot store"):
        Store(tmp_path / "text.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    with pytest.raises(StoreError, match="not a farshot store"):
        Store(tmp_path / "other.db")
    with pytest.raises(StoreError, match="folder exists"):
        Store(tmp_path / "nowhere" / "r.db")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        store.query("SELECT 1")
    changed = sqlite3.connect(tmp_path / "r.db")
    changed.execute("PRAGMA user_version = 99")
    changed.close()
    with pytest.raises(StoreError, match="update farshot"):
        Store(tmp_path / "r.db")


def test_exports_hold_every_task_in_both_formats(tmp_path: Path) -> None:
    from pyarrow import parquet

    with Store(tmp_path / "r.db") as store:
        record(store, store.run_id(RUN), [0, 1, 2])
        record(store, store.run_id(replace(RUN, settings={"scale": 2.0, "word": "x"})), [0])
        assert export(store, tmp_path / "r.jsonl") == 4
        assert export(store, tmp_path / "r.parquet") == 4
        with pytest.raises(DataError, match=r"\.jsonl, \.csv or \.parquet"):
            export(store, tmp_path / "r.xlsx")
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    table = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [line["index"] for line in lines] == [row["index"] for row in table] == [0, 1, 2, 0]
    assert lines[0]["query"] == ["a/1", "a/2", "b/1", "b/2"]
    assert lines[0]["probabilities"] == table[0]["probabilities"] == [[0.75, 0.25]] * 4
    assert lines[3]["settings"] == json.loads(table[3]["settings"]) == {"scale": 2.0, "word": "x"}


def test_a_claim_does_not_look_again_at_what_is_complete(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        run = store.run_id(RUN)
        record(store, run, list(range(12)))
        assert store.claim(run, 1, 20, 4) == [12, 13, 14, 15]
        asked: list[tuple[int, int]] = []
        done = store.done
        store.done = lambda *a: asked.append((a[3], a[2])) or done(*a)  # type: ignore[method-assign]
        assert store.claim(run, 1, 20, 4) == [16, 17, 18, 19]
        assert asked == [(12, 20)]
        assert store.done_count(run, 1, 20) == 12
        assert store.done_count(run, 1, 6) == 6
        assert store.claim(run, 1, 20, 4) == []

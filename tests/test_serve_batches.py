"""Which images are computed together, and what waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshot.errors import SettingError
from farshot.serve.batches import Batcher
from farshot.serve.options import Batching, Limits
from farshot.serve.refusal import Refusal


class Recorder:
    """A computation that notes its batches; the first waits until it may go on, so that others gather."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[Any]) -> list[str]:
        if not self.batches:
            self.batches.append(list(items))
            self.entered.set()
            assert self.go.wait(60)
        else:
            self.batches.append(list(items))
        if "bad" in items:
            raise ValueError("bad")
        return [f"of {item}" for item in items]


@contextmanager
def gathering(size: int = 4, most: int = 100) -> Iterator[tuple[Batcher, Recorder]]:
    """A batcher that is busy until `go` is set."""
    batcher, compute = Batcher(Batching(size, 0), most), Recorder()
    first = batcher.submit(compute, ["first"], "kind")
    assert compute.entered.wait(60)
    try:
        yield batcher, compute
    finally:
        compute.go.set()
        batcher.close()
    assert results(first) == ["of first"]


def results(futures: list[Future[Any]]) -> list[str]:
    return [one for future in futures for one in future.result(60)]


def test_what_waits_is_computed_together_up_to_the_size():
    with gathering(4) as (batcher, compute):
        waiting = [batcher.submit(compute, [number], "kind") for number in range(6)]
        compute.go.set()
        assert [results(one) for one in waiting] == [[f"of {number}"] for number in range(6)]
    assert compute.batches == [["first"], [0, 1, 2, 3], [4, 5]]


def test_a_size_of_one_computes_each_alone():
    with gathering(1) as (batcher, compute):
        waiting = batcher.submit(compute, [1, 2, 3], "kind")
        compute.go.set()
        assert results(waiting) == ["of 1", "of 2", "of 3"]
    assert compute.batches == [["first"], [1], [2], [3]]


def test_other_kinds_wait_for_their_turn_and_what_is_alone_stays_alone():
    with gathering(4) as (batcher, compute):
        asked = [("a", "one"), ("b", "other"), ("c", "one"), ("d", None), ("e", "other"), ("f", None)]
        waiting = [batcher.submit(compute, [item], kind) for item, kind in asked]
        whole = batcher.submit(compute, list(range(9)), None)
        compute.go.set()
        assert [results(one) for one in waiting] == [[f"of {item}"] for item, _ in asked]
        assert len(whole) == 1 and len(results(whole)) == 9
    assert compute.batches[1:] == [["a", "c"], ["b", "e"], ["d"], ["f"], list(range(9))]


def test_what_fails_fails_no_other():
    with gathering(4) as (batcher, compute):
        waiting = [batcher.submit(compute, [item], "kind") for item in ("a", "bad", "c")]
        compute.go.set()
        assert results(waiting[0]) == ["of a"] and results(waiting[2]) == ["of c"]
        with pytest.raises(ValueError, match="bad"):
            results(waiting[1])
        assert results(batcher.submit(compute, ["d"], "kind")) == ["of d"]


def test_the_first_waits_for_others_so_many_seconds():
    compute = Recorder()
    compute.go.set()
    batcher = Batcher(Batching(2, 10), 10)
    one = batcher.submit(compute, ["a"], "kind")
    other = batcher.submit(compute, ["b"], "kind")
    assert results(one) == ["of a"] and results(other) == ["of b"]  # long before ten seconds are over
    batcher.close()
    assert compute.batches == [["a", "b"]]


def test_closing_computes_what_waits_and_takes_nothing_more():
    with gathering(2) as (batcher, compute):
        waiting = batcher.submit(compute, [1, 2, 3], "kind")
        ending = threading.Thread(target=batcher.close)
        ending.start()
        compute.go.set()
        ending.join()
        assert results(waiting) == ["of 1", "of 2", "of 3"]
        with pytest.raises(RuntimeError):
            batcher.submit(compute, [4], "kind")


def test_room_is_bounded_and_given_back():
    batcher = Batcher(Batching(), 3)
    with batcher.room(2):
        with pytest.raises(Refusal) as error, batcher.room(2):
            pass
        assert error.value.status == 429
        with batcher.room(1):
            assert batcher.inside == 3
            with pytest.raises(Refusal):
                batcher.check_room()
        batcher.check_room()
    assert batcher.inside == 0
    batcher.close()


def test_the_time_to_wait_follows_the_speed():
    batcher, slow = Batcher(Batching(), 30), threading.Event()
    results(batcher.submit(lambda items: [slow.wait(0.2) for _ in items], [1], "kind"))
    with batcher.room(30), pytest.raises(Refusal) as error, batcher.room(1):
        pass
    assert 5 <= int(error.value.headers["retry-after"]) <= 60  # 30 images of 0.2 s
    batcher.close()


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["one", "other", None])), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_every_item_gets_its_own_result_and_no_batch_is_too_large(asked: list[Any], size: int):
    batches: list[list[tuple[str | None, int, int]]] = []

    def compute(items: Sequence[Any]) -> list[Any]:
        batches.append(list(items))
        return list(items)

    batcher = Batcher(Batching(size, 0), 1000)
    given_items = [[(kind, number, i) for i in range(count)] for number, (count, kind) in enumerate(asked)]
    waiting = [batcher.submit(compute, items, items[0][0]) for items in given_items]
    assert [results(one) for one in waiting] == given_items
    batcher.close()
    for batch in batches:
        kinds = {kind for kind, _, _ in batch}
        assert len(kinds) == 1
        assert len({number for _, number, _ in batch}) == 1 if None in kinds else len(batch) <= size


@pytest.mark.parametrize("wrong", [{"size": 0}, {"wait": -1}, {"wait": float("nan")}])
def test_batches_that_cannot_be_are_refused(wrong: dict[str, float]):
    with pytest.raises(SettingError):
        Batching(**wrong)


def test_limits_that_cannot_be_are_refused():
    for wrong in ({"files": 0}, {"pixels": -1}, {"files": 300, "queue": 200}):
        with pytest.raises(SettingError):
            Limits(**wrong)

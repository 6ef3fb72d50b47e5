"""One thread that computes: images of several requests together, and a bound on all that wait.

A model computes a batch of images in less time than the images one by one. What waits when the thread is free
becomes the next batch, so batches grow with the load, and a request that is alone waits only for `wait`
seconds.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from farshot.serve.options import Batching
from farshot.serve.refusal import busy

Compute = Callable[[Sequence[Any]], Sequence[Any]]
"""Returns one result per item, in their order."""

_LONGEST_RETRY_S = 60
_FORGETTING = 0.8  # weight of the earlier rates in the mean


@dataclass(eq=False)
class _Piece:
    """Items that are computed in one call, alone or with those of other pieces.

    Attributes:
        with_others: pieces of an equal value may be computed together; None is computed alone.
    """

    compute: Compute
    items: Sequence[Any]
    with_others: Hashable | None
    future: Future[Sequence[Any]] = field(default_factory=Future)


class Batcher:
    """Computes in a thread of its class, in the order in which pieces come.

    Args:
        most: images that may be in the service at once, waiting or not.
        told: called with (items, seconds) of each batch.
    """

    def __init__(
        self,
        batching: Batching,
        most: int,
        told: Callable[[int, float], None] = lambda _items, _seconds: None,
    ) -> None:
        self._batching, self._most, self._told = batching, most, told
        self._waiting: deque[_Piece] = deque()
        self._changed = threading.Condition()
        self._closed, self._inside, self._rate = False, 0, 0.0
        self._thread = threading.Thread(target=self._run, name="farshot-compute", daemon=True)
        self._thread.start()

    @property
    def inside(self) -> int:
        """Images for which there is room taken."""
        return self._inside

    @contextmanager
    def room(self, images: int) -> Iterator[None]:
        """Room for so many images until the context is left.

        Raises:
            Refusal: 429, there is none.
        """
        with self._changed:
            if self._inside + images > self._most:
                raise busy(self._retry_after(), "many images")
            self._inside += images
        try:
            yield
        finally:
            with self._changed:
                self._inside -= images

    def check_room(self) -> None:
        """Refuse, before anything of a request is read, what could not be taken in.

        Raises:
            Refusal: 429.
        """
        with self._changed:
            if self._inside >= self._most:
                raise busy(self._retry_after(), "many images")

    def submit(
        self, compute: Compute, items: Sequence[Any], with_others: Hashable | None
    ) -> list[Future[Sequence[Any]]]:
        """Have items computed: of each result, one future for so many items as fit into a batch.

        Args:
            with_others: of which kind the items are; those of one kind may be computed together, if `compute`
                of each is the same. None computes all of these items in one call, and no others with them.
        """
        size = self._batching.size if with_others is not None else len(items)
        pieces = [
            _Piece(compute, items[start : start + size], with_others) for start in range(0, len(items), size)
        ]
        with self._changed:
            if self._closed:
                raise RuntimeError("the service has ended")
            self._waiting.extend(pieces)
            self._changed.notify()
        return [piece.future for piece in pieces]

    def close(self) -> None:
        """Compute what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _retry_after(self) -> int:
        seconds = math.ceil(self._inside / self._rate) if self._rate else 1
        return max(1, min(seconds, _LONGEST_RETRY_S))

    def _run(self) -> None:
        while batch := self._next():
            begun = time.perf_counter()
            self._compute(batch)
            seconds, items = time.perf_counter() - begun, sum(len(piece.items) for piece in batch)
            rate = items / max(seconds, 1e-6)
            self._rate = _FORGETTING * self._rate + (1 - _FORGETTING) * rate if self._rate else rate
            self._told(items, seconds)

    def _next(self) -> list[_Piece]:
        """The pieces of the next batch; none at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            until = time.perf_counter() + self._batching.wait
            while not self._closed and self._batching.size > 1 and self._waiting[0].with_others is not None:
                left = until - time.perf_counter()
                if left <= 0 or self._fitting()[1] >= self._batching.size:
                    break
                self._changed.wait(left)
            batch, _ = self._fitting()
            for piece in batch:
                self._waiting.remove(piece)
            return batch

    def _fitting(self) -> tuple[list[_Piece], int]:
        """The first piece and those that are computed with it, and how many items they have."""
        first = self._waiting[0]
        found, count = [first], len(first.items)
        if first.with_others is None:
            return found, count
        for piece in list(self._waiting)[1:]:
            if count >= self._batching.size:
                break
            if piece.with_others == first.with_others and count + len(piece.items) <= self._batching.size:
                found.append(piece)
                count += len(piece.items)
        return found, count

    def _compute(self, batch: list[_Piece]) -> None:
        try:
            results = batch[0].compute([item for piece in batch for item in piece.items])
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for piece in batch:  # what is wrong with one fails no other
                self._compute([piece])
            return
        start = 0
        for piece in batch:
            piece.future.set_result(results[start : start + len(piece.items)])
            start += len(piece.items)

"""The matrix products of a piece of work, noted while it runs, then timed alone: what bounds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_COPIES = 4  # of each operand, in turn, so that a cache does not hold what the real work must fetch
_PLAIN = {_ATEN.mm: (0, 1), _ATEN.bmm: (0, 1), _ATEN.addmm: (1, 2), _ATEN.baddbmm: (1, 2)}


@dataclass(frozen=True)
class Product:
    """A matrix product, batched or not, as its operands lie in memory."""

    left: tuple[int, ...]
    left_stride: tuple[int, ...]
    right: tuple[int, ...]
    right_stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def flop(self) -> int:
        """A multiply-add is two."""
        return 2 * _size(self.left) * self.right[-1]


class Notes(TorchDispatchMode):
    """Notes every product that runs inside it; attention as the products it consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        if packet in _PLAIN:
            left, right = (args[i] for i in _PLAIN[packet])
            self._note(left, right)
        elif "attention" in str(packet) and "backward" not in str(packet):
            self._attention(args[0], args[1], back=False)
        elif "attention" in str(packet):
            self._attention(args[1], args[2], back=True)
        return func(*args, **(kwargs or {}))

    def _note(self, left: Tensor, right: Tensor) -> None:
        self.products.append(
            Product(tuple(left.shape), left.stride(), tuple(right.shape), right.stride(), left.dtype)
        )

    def _attention(self, q: Tensor, k: Tensor, back: bool) -> None:
        """Q K^T and P V; on the way back the gradients of V, P, Q and K: twice as many."""
        heads = q.shape[0] * q.shape[1]
        asking, seen, width = q.shape[2], k.shape[2], q.shape[3]
        queries, keys = q.new_empty(heads, asking, width), q.new_empty(heads, seen, width)
        weights = q.new_empty(heads, asking, seen)
        for _ in range(2 if back else 1):
            self._note(queries, keys.mT)
            self._note(weights, keys)


def time_alone(products: Sequence[Product], device: str, repeats: int = 5) -> float:
    """Median seconds of all products one after the other, with nothing in between."""
    operands: dict[Any, list[Tensor]] = {}
    work = []
    for number, product in enumerate(products):
        pair = []
        for side in ("left", "right"):
            shape, stride = getattr(product, side), getattr(product, f"{side}_stride")
            name = (shape, stride, product.dtype)
            if name not in operands:
                operands[name] = [_operand(shape, stride, product.dtype, device) for _ in range(_COPIES)]
            pair.append(operands[name][number % _COPIES])
        work.append(pair)

    def run() -> None:
        for left, right in work:
            torch.matmul(left, right)

    return median_seconds(run, device, repeats)


def median_seconds(run: Callable[[], object], device: str, repeats: int) -> float:
    """Median of some runs, after one that is not counted."""
    seconds = []
    for number in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if number:
            seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def _operand(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    if 0 in stride:  # spread over a dimension: as it lies once it is written out
        return torch.randn(shape, device=device).to(dtype)
    return torch.empty_strided(shape, stride, dtype=dtype, device=device).normal_()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _size(shape: tuple[int, ...]) -> int:
    out = 1
    for length in shape:
        out *= length
    return out

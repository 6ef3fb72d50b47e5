"""Random tensors from explicit keys (farshot.randomness).

Small draws (initial values, adapters) come from an ordinary generator seeded by a key. Dropout masks and
random choices of tokens, drawn for millions of elements in every step, come from a counter-based hash in
integer arithmetic, equal on every device.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from farshot.randomness import key

_GOLDEN = -1640531527  # 0x9E3779B9 as a signed 32-bit number
_MIX_1, _MIX_2 = 0x7FEB352D, -2073254261  # multipliers of the "lowbias32" integer hash (Wellons, 2018)


def torch_generator(*parts: int | str) -> torch.Generator:
    """A generator on the CPU for draws that are then moved to the device, so that devices agree."""
    return torch.Generator().manual_seed(key(*parts))


def row_keys(base: Int[Tensor, "*rows"], *parts: int | Int[Tensor, "*rows"]) -> Int[Tensor, "*rows"]:
    """Mixes further parts into 64-bit keys, elementwise (the finaliser of splitmix64 after each part)."""
    state = base
    for part in parts:
        state = _splitmix(state ^ (_splitmix(torch.as_tensor(part, device=base.device) + 1)))
    return state


def random_bits(rows: Int[Tensor, "*rows"], count: int) -> Int[Tensor, "*rows count"]:
    """32 random bits for each of `count` elements of each row; element i depends on (row key, i) alone.

    So a row that is cut short or padded keeps its first elements: prompt length and companions do not matter.
    """
    low = rows.to(torch.int32).unsqueeze(-1)
    high = (rows >> 32).to(torch.int32).unsqueeze(-1)
    counter = torch.arange(count, dtype=torch.int32, device=rows.device) * _GOLDEN
    bits = counter + low
    bits ^= _shift_right(bits, 16)
    bits *= _MIX_1
    bits ^= high
    bits ^= _shift_right(bits, 15)
    bits *= _MIX_2
    bits ^= _shift_right(bits, 16)
    return bits


def _shift_right(bits: Tensor, n: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask makes the shift a logical one
    return (bits >> n) & ((1 << (32 - n)) - 1)


def _splitmix(state: Tensor) -> Tensor:
    state = state.to(torch.int64) + -7046029254386353131
    state = (state ^ ((state >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    state = (state ^ ((state >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return state ^ ((state >> 31) & 0x1FFFFFFFF)

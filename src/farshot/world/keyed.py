"""Randomness with an address: every number belongs to (world, split, image index, parameter number).

Nothing is drawn from a state, so image 17 is the same made alone, in a batch or on another machine.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt64
from numpy import ndarray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def scramble(counters: UInt64[ndarray, "..."]) -> UInt64[ndarray, "..."]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): integer arithmetic only, the same everywhere."""
    z = counters
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def name_key(name: str) -> np.uint64:
    """A 64-bit FNV-1a hash of a name."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) % 2**64
    return np.uint64(key)


def to_unit(bits: UInt64[ndarray, "..."]) -> Float[ndarray, "..."]:
    """The upper 24 bits as a float32 in [0, 1): exact, so no machine rounds it differently."""
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def uniforms(
    world: str, split: str, indices: Sequence[int] | ndarray, count: int
) -> Float[ndarray, "n count"]:
    """`count` uniform numbers in [0, 1) for each image, float32."""
    with np.errstate(over="ignore"):
        stream = scramble(np.atleast_1d(name_key(f"{world}/{split}")))
        image = scramble(stream ^ scramble(np.asarray(indices, dtype=np.uint64) * GOLDEN + GOLDEN))
        return to_unit(scramble(image[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None] * GOLDEN))

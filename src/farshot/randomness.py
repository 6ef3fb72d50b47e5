"""Random numbers from explicit keys.

Every random number is a function of what it is for: (seed, task, part, step, sample). It does not depend on
how many tasks are computed together, on micro-batches, on the worker or on the device, and there is no global
seed. farshot.parts.keyed draws tensors in the same way.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(*parts: int | str) -> int:
    """A 63-bit number that represents this list of words and numbers."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A counter-based NumPy generator for this purpose."""
    return np.random.Generator(np.random.Philox(key(*parts)))

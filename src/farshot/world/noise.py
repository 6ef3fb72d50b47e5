"""Fixed tileable noise textures, made once per process from hashed integers, sampled anywhere at any scale.

A texture is 512 x 512 float32 and repeats. One lattice cell spans CELL texels, and
`sample(bank, x, y)` takes x and y in cells.
"""

from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from farshot.world.keyed import uniforms

SIZE = 512
CELL = 32
CELLS = SIZE // CELL


@cache
def smooth() -> Float[ndarray, "size size"]:
    """Value noise with one lattice point per cell, smoothly interpolated, spread evenly over [0, 1]."""
    lattice = uniforms("noise", "smooth", range(CELLS), CELLS)
    at = np.arange(SIZE, dtype=np.float32) / CELL
    low = at.astype(np.int64)
    t = at - low
    t = t * t * t * (t * (t * 6 - 15) + 10)
    high = (low + 1) % CELLS
    rows = lattice[low] * (1 - t)[:, None] + lattice[high] * t[:, None]
    field = rows[:, low] * (1 - t)[None] + rows[:, high] * t[None]
    ranks = np.empty(field.size, np.float32)
    ranks[np.argsort(field, axis=None, kind="stable")] = np.linspace(0, 1, field.size, dtype=np.float32)
    return ranks.reshape(field.shape)


@cache
def rough() -> Float[ndarray, "size size"]:
    """Three octaves of the smooth noise, about [0, 1]."""
    base = smooth()
    at = np.arange(SIZE)
    octave = [base[np.ix_((at * k + 37 * k) % SIZE, (at * k + 91 * k) % SIZE)] for k in (1, 2, 4)]
    return (octave[0] * 4 + octave[1] * 2 + octave[2]) / np.float32(7)


@cache
def tiles() -> Float[ndarray, "size size"]:
    """One independent uniform number for each texel."""
    return uniforms("noise", "tiles", range(SIZE), SIZE)


@cache
def _nearest_two() -> tuple[Float[ndarray, "size size"], Float[ndarray, "size size"]]:
    """Distances, in cells, to the nearest and the second nearest of one jittered point per cell."""
    jitter = uniforms("noise", "points", range(CELLS), 2 * CELLS).reshape(CELLS, CELLS, 2) * 0.7 + 0.15
    at = (np.arange(SIZE, dtype=np.float32) + 0.5) / CELL
    row, col = np.meshgrid(at, at, indexing="ij")
    cell_row, cell_col = row.astype(np.int64), col.astype(np.int64)
    distances = []
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            point = jitter[(cell_row + i) % CELLS, (cell_col + j) % CELLS]
            away_row = cell_row + i + point[..., 0] - row
            away_col = cell_col + j + point[..., 1] - col
            distances.append(np.sqrt(away_row * away_row + away_col * away_col))
    nearest = np.sort(np.stack(distances).astype(np.float32), axis=0)
    return nearest[0], nearest[1]


@cache
def points() -> Float[ndarray, "size size"]:
    """Distance to the nearest scattered point, in cells."""
    return _nearest_two()[0]


@cache
def borders() -> Float[ndarray, "size size"]:
    """0 on the borders between the cells of scattered points, growing inwards."""
    near, second = _nearest_two()
    return second - near


def sample(
    bank: Float[ndarray, "size size"], x: Float[ndarray, "..."], y: Float[ndarray, "..."], texels: int = CELL
) -> Float[ndarray, "..."]:
    """The texture at (x, y), in cells of `texels` texels, nearest texel, at most 128 repeats away."""
    shift = SIZE * 128
    column = (x * texels + shift).astype(np.int32) & (SIZE - 1)
    row = (y * texels + shift).astype(np.int32) & (SIZE - 1)
    return np.take(bank, row * SIZE + column)

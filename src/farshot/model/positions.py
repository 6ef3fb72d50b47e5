"""Positions of patches: learned ones on another grid, and rotary tables.

Sources: Su et al., RoFormer (2021); Bolya et al., Perception Encoder (2025); Fang et al., EVA-02 (2023);
Simeoni et al., DINOv3 (2025). Shapes: L patches, d width of a head, D width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.model.config import Rotary


def resize_positions(
    position: Float[Tensor, "P D"], prefix: int, grid: int, *, antialias: bool
) -> Float[Tensor, "Q D"]:
    """Learned positions on a grid of another side, bicubic; the rows of the first `prefix` tokens stay.

    Args:
        antialias: as open_clip and timm do; transformers does not.
    """
    kept, patches = position[:prefix], position[prefix:]
    side = math.isqrt(len(patches))
    if side == grid:
        return position
    planes = patches.float().T.reshape(1, -1, side, side)
    size = (grid, grid)
    resized = F.interpolate(planes, size=size, mode="bicubic", antialias=antialias, align_corners=False)
    return torch.cat([kept, resized.flatten(2)[0].T.to(position.dtype)])


def rotary_tables(rotary: Rotary, grid: int, width: int) -> tuple[Float[Tensor, "L d"], Float[Tensor, "L d"]]:
    """Sine and cosine of every patch, row by row, and channel of a head.

    Args:
        width: d, the width of a head.
    """
    bands = width // 4
    frequencies = rotary.base ** -(torch.arange(bands, dtype=torch.float64) / bands)
    along = torch.arange(grid, dtype=torch.float64)
    if rotary.coordinates == "unit":
        along = ((along + 0.5) / grid * 2 - 1) * 2 * math.pi
    else:
        along = along + rotary.offset
        if rotary.scale is not None:
            along = along / grid * rotary.scale
    row, column = torch.meshgrid(along, along, indexing="ij")
    first, second = (column, row) if rotary.order == "xy" else (row, column)
    angles = torch.cat([x.reshape(-1, 1) * frequencies for x in (first, second)], dim=-1)  # (L, d / 2)
    angles = angles.repeat_interleave(2, dim=-1) if rotary.pairs else angles.repeat(1, 2)
    return angles.sin().float(), angles.cos().float()


def rotate(
    x: Float[Tensor, "B H L d"], sin: Float[Tensor, "L d"], cos: Float[Tensor, "L d"], *, pairs: bool
) -> Float[Tensor, "B H L d"]:
    """Rotates pairs of channels by the angle of their patch: (a, b) -> (a cos - b sin, b cos + a sin)."""
    if pairs:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    else:
        a, b = x.chunk(2, dim=-1)
        turned = torch.cat([-b, a], dim=-1)
    return (x * cos.to(x.dtype)) + (turned * sin.to(x.dtype))

"""Attention of a frozen block: PyTorch's own, and plain products where those are faster.

Shapes: B images or prompts, H heads, A tokens that ask, L tokens that are asked, d width of a head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def attend(
    q: Float[Tensor, "B H A d"],
    k: Float[Tensor, "B H L d"],
    v: Float[Tensor, "B H L d"],
    scale: float,
    causal: bool = False,
) -> Float[Tensor, "B H A d"]:
    """softmax(scale * q k^T) v.

    In half precision on a processor PyTorch's attention takes more than twice the time of this written out,
    at the lengths that CLIP has (docs/performance.md).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not causal:
        return written_out(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def written_out(
    q: Float[Tensor, "B H A d"], k: Float[Tensor, "B H L d"], v: Float[Tensor, "B H L d"], scale: float
) -> Float[Tensor, "B H A d"]:
    """The same as two products and a softmax, whose weights are kept for the way back."""
    return (scale * q @ k.mT).softmax(-1) @ v

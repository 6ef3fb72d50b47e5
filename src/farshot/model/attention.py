"""Attention and activations of a block, in the form that is fastest on the device at hand.

Shapes: B images or prompts, H heads, Q query tokens, L key tokens, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from farshot.model.config import Activation

_QUICK_GELU_SLOPE = 1.702


def attend(
    q: Float[Tensor, "B H Q d"],
    k: Float[Tensor, "B H L d"],
    v: Float[Tensor, "B H L d"],
    scale: float,
    causal: bool = False,
    mask: Bool[Tensor, "B 1 1 L"] | None = None,
) -> Float[Tensor, "B H Q d"]:
    """softmax(scale * q k^T) v.

    In bf16 on a CPU, PyTorch's attention takes more than twice the time of the explicit products at the
    sequence lengths of CLIP (docs/performance.md).

    Args:
        causal: no token sees a later one.
        mask: keys that may be seen.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not causal and mask is None:
        return explicit_attention(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def explicit_attention(
    q: Float[Tensor, "B H Q d"], k: Float[Tensor, "B H L d"], v: Float[Tensor, "B H L d"], scale: float
) -> Float[Tensor, "B H Q d"]:
    """The same as two products and a softmax."""
    return (scale * q @ k.mT).softmax(-1) @ v


def activate(values: Float[Tensor, "*any"], kind: Activation) -> Float[Tensor, "*any"]:
    """An activation by its name."""
    if kind == "quick_gelu":
        return _QuickGELU.apply(values)
    if kind == "silu":
        return F.silu(values)
    return F.gelu(values, approximate="tanh" if kind == "gelu_tanh" else "none")


class _QuickGELU(torch.autograd.Function):
    """x * sigmoid(1.702 x) = silu(1.702 x) / 1.702; only x is kept for the backward pass.

    The hidden layer of a block is its widest tensor, so fewer passes over it save time and memory.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return F.silu(values * _QUICK_GELU_SLOPE, inplace=True).div_(_QUICK_GELU_SLOPE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, values * _QUICK_GELU_SLOPE)

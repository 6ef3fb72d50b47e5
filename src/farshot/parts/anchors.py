"""Anchors: class text embeddings carried back into the space of the visual patches (docs/method.md, "Two
variants").

Both kinds undo, in their own way, what CLIP does to a class token on its way out, E = ln_post(v_cls) @ W.
Shapes: N classes, E joint width, D visual width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def transposed_anchors(
    texts: Float[Tensor, "*#T N E"], projection: Float[Tensor, "D E"]
) -> Float[Tensor, "*#T N D"]:
    """The paper's anchors: layer_norm(t) @ W^T, without a learned affine; t is the final text embedding."""
    return F.layer_norm(texts, texts.shape[-1:], eps=1e-5) @ projection.mT


def inverted_anchors(
    texts: Float[Tensor, "*#T N E"],
    inverse_projection: Float[Tensor, "E D"],
    norm_weight: Float[Tensor, " D"],
    norm_bias: Float[Tensor, " D"],
) -> Float[Tensor, "*#T N D"]:
    """The released anchors: (t' @ pinv(W) - ln_post.bias) / ln_post.weight, t' the text before its last
    block."""
    return (texts @ inverse_projection - norm_bias) / norm_weight


def pseudo_inverse(projection: Float[Tensor, "D E"]) -> Float[Tensor, "E D"]:
    """Moore-Penrose inverse of W; in float64 because W is close to singular in some checkpoints, then cast
    back."""
    return torch.linalg.pinv(projection.double()).to(projection.dtype)

"""Anchors: class text embeddings carried back into the space of the visual patches (docs/method.md, "Two
variants").

Both kinds invert, each in its way, the read-out of a class token, E = ln_post(v_cls) @ W.
Shapes: N classes, E joint width, D visual width.
"""

from __future__ import annotations

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

"""How similar the patches of images are to the classes, sorted: the curve that motivates ATHA.

Source: Adaptive Tail-Head Alignment, ICML 2026 (arXiv 2605.29776). Its left end is where the head tokens
are, its right end the tail. Shapes: B images, L patches, N classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Curve(NamedTuple):
    """Largest similarity of a patch to any class, by its rank within its image.

    Attributes:
        mean: over images, largest first, (L,).
        low, high: 10th and 90th percentile over images, (L,).
        images: how many.
    """

    mean: Float[Tensor, " L"]
    low: Float[Tensor, " L"]
    high: Float[Tensor, " L"]
    images: int


def sorted_similarity(similarity: Float[Tensor, "*B L N"]) -> Float[Tensor, "*B L"]:
    """Of every image, max over classes of its patches' similarities, largest first."""
    return similarity.amax(-1).sort(dim=-1, descending=True).values


def similarity_curve(similarity: Float[Tensor, "B L N"]) -> Curve:
    """The curve of these images.

    Args:
        similarity: patch-class similarity (farshot.parts.alignment.patch_class_similarity).
    """
    ranked = sorted_similarity(similarity.cpu().double())  # not every device has float64
    bounds = torch.quantile(ranked, torch.tensor([0.1, 0.9], dtype=ranked.dtype, device=ranked.device), dim=0)
    return Curve(ranked.mean(0), bounds[0], bounds[1], len(ranked))

"""bd-cspn: class means that the queries rectify. Liu et al., Prototype Rectification for Few-Shot Learning,
ECCV 2020.

The queries are shifted so that their mean is that of the support images. Each gets the class whose mean is
closest in angle; then every class mean is computed again over its support images and the queries that got it,
weighted by

    exp(sharpness * cosine(image, class mean))

and the queries, not shifted, are compared with it. As easyfsl computes it, with its sharpness of 1; the
paper's training of the encoder is left out.

    farshot bench --pools mini-crops --model mini --methods prototypes bd-cspn --store results.db
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.frozen import Fitted, FrozenMethod, State, Support
from farshot.methods.registry import register


@register
@dataclass(frozen=True)
class BDCSPN(FrozenMethod):
    """Settings of bd-cspn, in addition to those of every method on frozen features; templates have no effect.

    Attributes:
        sharpness: of the weights: 0 makes them equal.
    """

    name = "bd-cspn"
    kind = "transductive"
    reference = "Liu et al. 2020 (arXiv 1911.10713)"
    doc = "class means rectified by all queries together; class names are not looked at"

    sharpness: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "sharpness")

    @property
    def needs_text(self) -> bool:
        """No: images are compared with images."""
        return False

    def fit(self, support: Support) -> Fitted:
        """Keep what prediction needs."""
        return Fitted({"support": support.images, "targets": support.targets, "means": support.class_means})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Scale times cosine of these images, which are the queries, and the rectified means."""
        support, means = state["support"], F.normalize(state["means"], dim=-1)
        shifted = images + support.mean(0) - images.mean(0)
        every = torch.cat([support, shifted])
        cosines = F.normalize(every, dim=-1) @ means.mT
        guessed = F.one_hot(cosines[len(support) :].argmax(-1), len(means)).float()
        members = torch.cat([state["targets"], guessed]) > 0
        weights = (self.sharpness * cosines).masked_fill(~members, -math.inf).softmax(0)
        rectified = F.normalize(weights.mT @ every, dim=-1)
        return scale * images @ rectified.mT

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The class means of the support images."""
        return state["means"]

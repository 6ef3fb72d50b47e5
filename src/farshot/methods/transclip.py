"""transclip: all queries of a task classified together. Zanella et al., Boosting Vision-Language Models with
Transduction, NeurIPS 2024.

A Gaussian per class (means of length 1, one diagonal variance for all) is fitted to queries and support
images, with neighbours made alike and the zero-shot prediction y as a brake. In turn, z the class shares of
the queries, w_iq the cosine of image i and query q where q is among the nearest of i, else 0:

    z_q  ~  y_q^brake * exp(log-likelihood_q / 50 + sum over images i of (w_iq + w_qi) z_i / (2 neighbours))
    means, variance  =  weighted by z / Q for queries, by 50 support_weight / S for support images

Values and order of updates as in the authors' TransCLIP_solver, with three differences: it picks the weight
out of 0.002, 0.01, 0.02, 0.2 on validation images, here it is 0.02, the one closest to their geometric mean;
it stacks support before queries in w and queries before support in z, here both have one order; it drops the
nearest query of each support image as if it were the image itself, here none is dropped.

    farshot bench --pools mini-crops --model mini --methods zero-shot transclip --store results.db
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.frozen import Fitted, FrozenMethod, State, Support
from farshot.methods.registry import register

_TEMPER = 50.0
_MOST_ROUNDS = 1000  # they are made for every prediction, also by a model of somebody else
_LEAST_VARIANCE = 1e-8  # a feature in which all images agree


@register
@dataclass(frozen=True)
class TransCLIP(FrozenMethod):
    """Settings of transclip, in addition to those of every method on frozen features.

    Attributes:
        scale: of the zero-shot prediction; the authors take 100 for every checkpoint.
        support_weight: of the support images; called gamma in the paper.
        brake: power of the zero-shot prediction; called lambda in the paper.
        neighbours: of each image among the queries.
        rounds: updates of means and variance.
        inner_rounds: updates of z in each.
    """

    name = "transclip"
    kind = "transductive"
    reference = "Zanella et al. 2024 (arXiv 2406.01837)"
    revision = 2  # the authors' scale
    doc = "all queries together: class Gaussians, neighbours, zero-shot prediction as a brake"

    scale: float = 100.0
    support_weight: float = 0.02
    brake: float = 0.5
    neighbours: int = 3
    rounds: int = 10
    inner_rounds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "support_weight", "brake")
        self.check(1, "neighbours")
        self.check(0, "rounds", high=_MOST_ROUNDS)
        self.check(1, "inner_rounds", high=_MOST_ROUNDS)

    def fit(self, support: Support) -> Fitted:
        """Keep what prediction needs."""
        return Fitted({"texts": support.texts, "support": support.images, "targets": support.targets})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """log z of these images, which are the queries."""
        support, targets = state["support"], state["targets"]
        log_z = (scale * images @ F.normalize(state["texts"], dim=-1).mT).log_softmax(-1)
        prior = self.brake * log_z
        among, below = self.affinities(images, support)
        means = F.normalize(targets.mT @ support, dim=-1)
        variance = torch.full((images.shape[1],), 1 / images.shape[1])
        for turn in range(self.rounds + 1):
            fit = -0.5 * ((images[:, None] - means) ** 2 / variance).sum(-1)  # (B, N)
            for _ in range(self.inner_rounds):
                pulled = (among @ log_z.exp() + below @ targets) / (2 * self.neighbours)
                log_z = (prior + fit / _TEMPER + pulled).log_softmax(-1)
            if turn < self.rounds:
                means, variance = self.gaussians(images, log_z.exp(), support, targets)
        return log_z

    def affinities(
        self, images: Float[Tensor, "B E"], support: Float[Tensor, "S E"]
    ) -> tuple[Float[Tensor, "B B"], Float[Tensor, "B S"]]:
        """w + w^T among the queries, and w from support images to queries."""
        cosines = images @ images.mT
        cosines.fill_diagonal_(-torch.inf)  # an image is not its own neighbour
        own = _nearest(cosines, min(self.neighbours, len(images) - 1))
        return own + own.mT, _nearest(support @ images.mT, min(self.neighbours, len(images))).mT

    def gaussians(
        self,
        images: Float[Tensor, "B E"],
        z: Float[Tensor, "B N"],
        support: Float[Tensor, "S E"],
        targets: Float[Tensor, "S N"],
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, " E"]]:
        """Means and variance that fit best."""
        every = torch.cat([images, support])
        shares = torch.cat([z / len(images), self.support_weight * _TEMPER / len(support) * targets])
        means = F.normalize(shares.mT @ every, dim=-1)
        # sum of share * (x - mean)^2, multiplied out so that no (images, N, E) is held
        spread = (
            (shares.sum(1) @ every**2) - 2 * ((shares.mT @ every) * means).sum(0) + shares.sum(0) @ means**2
        )
        return means, (spread / shares.sum()).clamp(min=_LEAST_VARIANCE)


def _nearest(cosines: Float[Tensor, "rows B"], count: int) -> Float[Tensor, "rows B"]:
    """The largest of each row, zeros elsewhere."""
    kept = torch.zeros_like(cosines)
    best = cosines.topk(count, dim=-1)
    return kept.scatter(-1, best.indices, best.values)

"""tim: class weights with confident predictions for all queries that are spread over the classes. Boudiaf et
al., Transductive Information Maximization For Few-Shot Learning, NeurIPS 2020, their TIM-GD.

The weights start as class means of the support images, and Adam minimises over support S and queries Q

    support_weight * CE(S) - marginal_weight * H(mean over Q of p) + conditional_weight * mean over Q of H(p)
    p  =  softmax of -sharpness / 2 * |image - weight|^2

with their sharpness (temp), weights of the terms (0.1, 1, 0.1), rate and steps. The term
of the mean prediction assumes that the classes are equally frequent among the queries.

    farshot bench --pools mini-crops --model mini --methods prototypes tim --store results.db
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farshot.methods.base import require
from farshot.methods.frozen import Fitted, FrozenMethod, State, Support, train
from farshot.methods.registry import register
from farshot.training.recipe import AdamW, ParameterGroup

_MOST_STEPS = 100_000  # they are taken for every prediction, also by a model of somebody else
_LEAST = 1e-12  # of a probability, in its logarithm


@register
@dataclass(frozen=True)
class TIM(FrozenMethod):
    """Settings of tim, in addition to those of every method on frozen features; scale and templates
    have no effect.

    Attributes:
        sharpness: of the probabilities; the authors' temp.
        support_weight, marginal_weight, conditional_weight: of the cross-entropy of the support images, of
            the entropy of the mean prediction, and of the mean entropy.
        lr: of Adam.
    """

    name = "tim"
    kind = "transductive"
    reference = "Boudiaf et al. 2020 (arXiv 2008.11297)"
    doc = "class weights trained on support images and the entropies of all queries; assumes balanced queries"

    sharpness: float = 15.0
    support_weight: float = 0.1
    marginal_weight: float = 1.0
    conditional_weight: float = 0.1
    lr: float = 1e-4
    steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "support_weight", "marginal_weight", "conditional_weight", "lr")
        self.check(0, "steps", high=_MOST_STEPS)
        require(self.sharpness > 0, f"The setting sharpness of tim must be positive, not {self.sharpness}.")

    @property
    def needs_text(self) -> bool:
        """No: images are compared with images."""
        return False

    def fit(self, support: Support) -> Fitted:
        """Keep what prediction needs."""
        return Fitted({"support": support.images, "targets": support.targets, "means": support.class_means})

    @torch.enable_grad()
    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Logits of these images, which are the queries."""
        weights = nn.Parameter(state["means"].clone())

        def loss():  # type: ignore[no-untyped-def]
            known = self._logits(state["support"], weights).softmax(-1)
            p = self._logits(images, weights).softmax(-1)
            of_support = -(state["targets"] * (known + _LEAST).log()).sum(-1).mean()
            of_queries = self.conditional_weight * _entropy(p).mean() - self.marginal_weight * _entropy(
                p.mean(0)
            )
            return (self.support_weight * of_support + of_queries)[None]

        if self.steps:
            train(loss, [ParameterGroup([weights], AdamW(self.lr, 0.0))], self.steps, cosine_to=None)
        return self._logits(images, weights).detach()

    def _logits(self, images: Float[Tensor, "B E"], weights: Float[Tensor, "N E"]) -> Float[Tensor, "B N"]:
        squares = (images**2).sum(-1)[:, None] + (weights**2).sum(-1)
        return self.sharpness * (images @ weights.mT - squares / 2)

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The class means of the support images."""
        return state["means"]


def _entropy(p: Float[Tensor, "*any N"]) -> Float[Tensor, "*any"]:
    """In nats."""
    return -(p * (p + _LEAST).log()).sum(-1)

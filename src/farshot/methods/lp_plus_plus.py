"""lp++: a linear probe that blends class texts in. Huang et al., LP++: A Surprisingly Strong Linear Probe for
Few-Shot CLIP, CVPR 2024.

    logits(x) = x . (w_j + alpha_j * t_j),   f_i support features, t_j class texts, both of length 1

Steps on the cross-entropy, for w in every step and for alpha in every tenth, with rates and initial values
that follow from the support set: w_j starts at the sum of its class's features, alpha at 250 * mean cosine of
an image and its own text, all alphas alike; the rate of w is 4 S / (largest eigenvalue of F^T F), that of
alpha S / (4 * largest over j of sum_i (f_i . t_j)^2). Values as in the authors' methods/linear_probe_p2.py.
Its momentum of 0.9, which the paper's steps have not, goes with picking the best epoch on validation images;
here the last step counts, and momentum is 0. It also never clears alpha's gradient between its steps, where
here each step takes its own, and has a bias, which the paper has not.

    farshot adapt images/ --model mini --method lp++ --shots 5 --out adapted/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.frozen import Fitted, FrozenMethod, State, Support, mean_cross_entropy
from farshot.methods.registry import register


@register
@dataclass(frozen=True)
class LPPlusPlus(FrozenMethod):
    """Settings of lp++, in addition to those of every method on frozen features; scale has no effect.

    Attributes:
        steps: each on the whole support set (configs/base.yaml).
        momentum: of the steps of w; 0.9 in the authors' program.
        blend_every: alpha moves in every such step.
    """

    name = "lp++"
    reference = "Huang et al. 2024 (arXiv 2404.02285)"
    doc = "linear probe with learned multipliers of the class texts; rates from the data"
    plain = "learns how far to trust names and how far pictures, for each class"

    steps: int = 300
    momentum: float = 0.0
    blend_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps", "blend_every")
        self.check(0, "momentum", high=1)

    @torch.no_grad()
    def fit(self, support: Support) -> Fitted:
        """w and alpha of every task, by the gradients written out."""
        images, targets, count = support.images, support.targets, support.images.shape[1]
        cosines = images @ support.directions.mT  # (T, S, N)
        weights, velocity = targets.mT @ images, torch.zeros(())
        own = (cosines * targets).sum(1) / targets.sum(1)
        blend = (250 * own.mean(1, keepdim=True)).expand_as(own).clone()  # (T, N)
        rate = 4 * count / torch.linalg.matrix_norm(images, ord=2)[:, None, None] ** 2
        blend_rate = count / (4 * cosines.square().sum(1).amax(1, keepdim=True))
        losses = []
        for step in range(1, self.steps + 1):
            logits = images @ weights.mT + blend[:, None] * cosines
            losses.append(mean_cross_entropy(logits, support.labels).double().numpy())
            wrong = (logits.softmax(-1) - targets) / count
            velocity = self.momentum * velocity + wrong.mT @ images
            weights = weights - rate * velocity
            if step % self.blend_every == 0:
                blend = blend - blend_rate * (wrong * cosines).sum(1)
        return Fitted({"texts": support.texts, "weights": weights, "blend": blend}, np.stack(losses))

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """x . (w + alpha * t)."""
        return images @ self.directions(state).mT

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """w and alpha."""
        return {"weights": (classes, width), "blend": (classes,)}

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """w + alpha * t."""
        return state["weights"] + state["blend"][:, None] * F.normalize(state["texts"], dim=-1)

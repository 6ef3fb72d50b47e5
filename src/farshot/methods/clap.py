"""clap: a linear probe held near the zero-shot classifier, class by class. Silva-Rodriguez et al., A Closer
Look at the Few-Shot Adaptation of Large Vision-Language Models, CVPR 2024.

    logits(x) = s * cosine(x, w_j),   loss = cross-entropy + mean over j of lambda_j |w_j - t_j|^2

w_j starts at t_j, the class text as it comes, not normalised. lambda_j is the mean zero-shot probability of
class j on its own support images: what CLIP knows is held, what it does not is let go. No validation images
are needed. With constraint=none it is the paper's ZS-LP.

The paper's rate and lambda are for s = 100. For another s the rate is multiplied by (100 / s)^2 and lambda
divided by it (rate_factor), so that logits move as far: with the rate as it is, an s of 10 trains hardly.

With augment=20, the authors' number (trainers/adapters.py: epochs_aumentation), 20 random crops of each image
take the place of the image, for lambda and for training: as in their program a step takes 256 of the crops at
random, or as many as there are images if those are more. They take that many in several steps of 256.

    farshot adapt images/ --model mini --method clap --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.methods.augmented import AugmentedMethod
from farshot.methods.frozen import (
    Fitted,
    State,
    Support,
    mean_cross_entropy,
    rate_factor,
    train,
)
from farshot.methods.registry import register
from farshot.randomness import numpy_generator
from farshot.training.recipe import SGD, ParameterGroup

BATCH = 256  # crops of a step


@register
@dataclass(frozen=True)
class CLAP(AugmentedMethod):
    """Settings of clap, in addition to those of every method on frozen features.

    Attributes:
        constraint: "l2", or "none".
        steps: each on the whole support set (configs/trainers/SGD_lr1e-1_B256_ep300.yaml: 300 epochs; its
            warm-up of one epoch is left out).
        lr, momentum, weight_decay: of SGD (the same file; momentum is its framework's default); the rate
            falls to 0 along a cosine. Rate and decay are for s = 100.
    """

    name = "clap"
    revision = 2  # rate and lambda follow the scale
    reference = "Silva-Rodriguez et al. 2024 (arXiv 2312.12730)"
    doc = "linear probe from the class texts, held to them as far as they are right"
    plain = "learns one direction per class and keeps it near the class's name: a careful quick choice"

    constraint: Literal["l2", "none"] = "l2"
    steps: int = 300
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps")
        self.check(0, "lr", "weight_decay")
        self.check(0, "momentum", high=1)

    def fit(self, support: Support) -> Fitted:
        """The class vectors of every task."""
        weights = nn.Parameter(support.texts.clone())
        factor = rate_factor(support.scale)
        held = multipliers(support) / factor if self.constraint == "l2" else 0.0
        batches = steps_of(support)

        def loss() -> Float[Tensor, " T"]:
            images, labels = next(batches)
            logits = support.scale * images @ F.normalize(weights, dim=-1).mT
            away = (weights - support.texts).square().sum(-1)  # (T, N)
            return mean_cross_entropy(logits, labels) + (held * away).mean(-1)

        optimiser = SGD(self.lr * factor, self.momentum, self.weight_decay / factor)
        losses = train(loss, [ParameterGroup([weights], optimiser)], self.steps, cosine_to=0.0)
        return Fitted({"weights": weights}, losses)

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """s * cosine of image and class vector."""
        return scale * images @ F.normalize(state["weights"], dim=-1).mT

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """The class vectors."""
        return {"weights": (classes, width)}

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The class vectors."""
        return state["weights"]


def multipliers(support: Support) -> Float[Tensor, "T N"]:
    """lambda: mean zero-shot probability of each class on its own images, or on their crops."""
    targets, copies = support.targets, support.copies
    means = [(copy.zero_shot.softmax(-1) * targets).sum(1) / targets.sum(1) for copy in copies]
    return torch.stack(means).mean(0)


def steps_of(support: Support) -> Iterator[tuple[Float[Tensor, "T B E"], Int[Tensor, "T B"]]]:
    """Features and labels of each step: all images, or as many of their crops as a step takes, drawn by task
    and step."""
    copies = support.copies
    images = torch.cat([copy.images for copy in copies], dim=1)
    labels = support.labels.repeat(1, len(copies))
    crops, most = images.shape[1], max(BATCH, support.images.shape[1])
    for step in count():
        if crops <= most:
            yield images, labels
        else:
            drawn = [numpy_generator("augment step", key, step).permutation(crops) for key in support.keys]
            rows = torch.from_numpy(np.stack(drawn)[:, :most])
            yield images.take_along_dim(rows[..., None], 1), labels.take_along_dim(rows, 1)

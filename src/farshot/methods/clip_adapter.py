"""clip-adapter: a bottleneck on the image feature. Gao et al., CLIP-Adapter: Better Vision-Language Models
with Feature Adapters, IJCV 2024.

    x' = ratio * relu(relu(x A) B) + (1 - ratio) * x,   logits = s * cosine(x', t_j)

A and B are trained; there is no bias, so the length of x does not matter. The authors' rate is for s = 100;
for another s it is multiplied by (100 / s)^2 and weight decay divided by it (rate_factor).

    farshot adapt images/ --model mini --method clip-adapter --shots 5 --out adapted/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.methods.frozen import (
    Fitted,
    FrozenMethod,
    State,
    Support,
    mean_cross_entropy,
    rate_factor,
    train,
)
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.keyed import torch_generator
from farshot.task import Task
from farshot.training.recipe import SGD, ParameterGroup


@register
@dataclass(frozen=True)
class ClipAdapter(FrozenMethod):
    """Settings of clip-adapter, in addition to those of every method on frozen features.

    Attributes:
        ratio: share of the adapted feature; 0.2 in the authors' clip_adapter.py (the paper searches it for
            each data set).
        reduction: E / reduction is the width of the bottleneck (clip_adapter.py).
        steps: each on the whole support set; 0 means CoOp's epochs, which the authors point to: 50 at 1 shot,
            100 up to 4, 200 above.
        lr, momentum, weight_decay: of SGD, as in CoOp's configs; the rate falls to 0 along a cosine.
    """

    name = "clip-adapter"
    revision = 2  # the rate follows the scale
    reference = "Gao et al. 2024 (arXiv 2110.04544)"
    doc = "a trained bottleneck on the image feature, mixed with the feature itself"
    plain = "learns a small correction of what CLIP sees"

    ratio: float = 0.2
    reduction: int = 4
    steps: int = 0
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "ratio", "momentum", high=1)
        self.check(1, "reduction")
        self.check(0, "steps", "lr", "weight_decay")

    def steps_at(self, shots: int) -> int:
        """The setting, or CoOp's epochs."""
        return self.steps or (50 if shots <= 1 else 100 if shots <= 4 else 200)

    def for_task(self, encoder: Encoder, task: Task) -> ClipAdapter:
        """With steps, where these are 0."""
        return replace(self, steps=self.steps_at(task.shots))

    def fit(self, support: Support) -> Fitted:
        """A and B of every task."""
        width = support.images.shape[-1]
        shapes = self.learned(support.texts.shape[1], support.images.shape[1], width)
        adapter = {
            name: nn.Parameter(torch.stack([_initial(key, name, shape) for key in support.keys]))
            for name, shape in shapes.items()
        }

        def loss() -> Float[Tensor, " T"]:
            adapted = self.adapted(support.images, adapter)
            return mean_cross_entropy(support.scale * adapted @ support.directions.mT, support.labels)

        steps = self.steps_at(support.shots)
        factor = rate_factor(support.scale)
        optimiser = SGD(self.lr * factor, self.momentum, self.weight_decay / factor)
        losses = train(loss, [ParameterGroup(list(adapter.values()), optimiser)], steps, cosine_to=0.0)
        return Fitted({"texts": support.texts, **adapter}, losses)

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """s * cosine of the adapted image and the class text."""
        return scale * self.adapted(images, state) @ F.normalize(state["texts"], dim=-1).mT

    def adapted(
        self, images: Float[Tensor, "*T B E"], adapter: Mapping[str, Tensor]
    ) -> Float[Tensor, "*T B E"]:
        """x', of length 1."""
        thin = F.relu(images @ adapter["down"].mT)
        mixed = self.ratio * F.relu(thin @ adapter["up"].mT) + (1 - self.ratio) * images
        return F.normalize(mixed, dim=-1)

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """A and B, each laid out as torch.nn.Linear's weight."""
        thin = max(1, width // self.reduction)
        return {"down": (thin, width), "up": (width, thin)}


def _initial(key: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """As torch.nn.Linear starts: uniform within 1 / sqrt(fan in)."""
    bound = 1 / math.sqrt(shape[-1])
    return torch.empty(shape).uniform_(-bound, bound, generator=torch_generator("clip-adapter", key, name))

"""simpleshot: nearest class mean after centring. Wang et al., SimpleShot: Revisiting Nearest-Neighbor
Classification for Few-Shot Learning, 2019, their CL2N.

A mean is subtracted from all features, which are then brought to length 1; the class whose mean is closest
wins. The authors subtract the mean of the classes that the encoder was trained on, which is not at hand; here
it is that of the support images, each class weighing the same. Without centring (their L2N) it is
`prototypes`, except that they measure distances to means that are not normalised.

    farshot adapt images/ --model mini --method simpleshot --shots 5 --out adapted/
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.frozen import Fitted, FrozenMethod, State, Support
from farshot.methods.registry import register


@register
@dataclass(frozen=True)
class SimpleShot(FrozenMethod):
    """Settings of simpleshot: those of every method on frozen features; templates have no effect."""

    name = "simpleshot"
    reference = "Wang et al. 2019 (arXiv 1911.04623)"
    doc = "nearest class mean of centred features; class names are not looked at"
    plain = (
        "compares with the average picture of each class, without what all pictures share; names do not count"
    )

    @property
    def needs_text(self) -> bool:
        """No: images are compared with images."""
        return False

    def fit(self, support: Support) -> Fitted:
        """The centre, and the means of centred features."""
        centre = support.class_means.mean(1)
        centred = F.normalize(support.images - centre[:, None], dim=-1)
        counts = support.targets.sum(1)[..., None]
        return Fitted({"centre": centre, "means": support.targets.mT @ centred / counts})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Minus half the squared distance to the class means, times scale."""
        centred, means = F.normalize(images - state["centre"], dim=-1), state["means"]
        return scale * (centred @ means.mT - (means**2).sum(-1) / 2 - 0.5)

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The class means."""
        return state["means"]

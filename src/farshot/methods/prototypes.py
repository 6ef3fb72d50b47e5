"""prototypes: nearest class mean. Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, on
frozen features and without their training.

Each class is the mean of its support features; the class whose mean is closest in angle wins. Class names are
not looked at. With one shot it is the nearest neighbour.

    farshot adapt images/ --model mini --method prototypes --shots 5 --out adapted/
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
class Prototypes(FrozenMethod):
    """Settings of prototypes: those of every method on frozen features; templates have no effect."""

    name = "prototypes"
    reference = "Snell et al. 2017 (arXiv 1703.05175)"
    doc = "nearest class mean; class names are not looked at"
    plain = "compares with the average picture of each class; names do not count"

    @property
    def needs_text(self) -> bool:
        """No: images are compared with images."""
        return False

    def fit(self, support: Support) -> Fitted:
        """The class means."""
        return Fitted({"means": support.class_means})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Scale times cosine of image and class mean."""
        return scale * images @ F.normalize(state["means"], dim=-1).mT

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The class means."""
        return state["means"]

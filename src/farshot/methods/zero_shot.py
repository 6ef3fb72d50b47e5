"""zero-shot: CLIP as it is. Radford et al., Learning Transferable Visual Models From Natural Language
Supervision, 2021.

The class whose prompt is closest to the image; the labelled images are not looked at. The floor under every
table. Several templates make a prompt ensemble; class descriptions come with the task (--descriptions).

    farshot adapt images/ --model mini --method zero-shot --set templates=clip --out adapted/
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
class ZeroShot(FrozenMethod):
    """Settings of zero-shot: those of every method on frozen features."""

    name = "zero-shot"
    reference = "Radford et al. 2021 (arXiv 2103.00020)"
    doc = "CLIP as it is: the class whose prompt is closest to the image"
    plain = "goes by the names alone; your pictures are not looked at"
    needs_images = False

    def fit(self, support: Support) -> Fitted:
        """The class texts."""
        return Fitted({"texts": support.texts})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Scale times cosine of image and prompt."""
        return scale * images @ F.normalize(state["texts"], dim=-1).mT

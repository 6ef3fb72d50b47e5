"""ss-text: class means with the class texts as one more example. Silva-Rodriguez et al., Trustworthy Few-Shot
Transfer of Medical VLMs through Split Conformal Prediction, MICCAI 2025 (SS-Text).

    mu_j = s * sum of the support features of class j  +  t_j,    logits = s * cosine(image, mu_j)

It is the minimum of the cross-entropy's linear part with the weights held near the texts, so nothing is
trained: no steps, no draws, no augmentation. s is the checkpoint's logit scale; features and texts have
length 1, one prompt. A text counts 1 against s for each image, so from one image on the texts hardly count.
The authors keep the pull to the texts from falling below 0.001, which matters from 1,000 images on; here it
does not end there.

    farshot adapt images/ --model mini --method ss-text --shots 5 --out adapted/
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
class SSText(FrozenMethod):
    """Settings of ss-text: those of every method on frozen features."""

    name = "ss-text"
    reference = "SS-Text, Silva-Rodriguez et al. 2025 (arXiv 2506.06076)"
    doc = "class means with the class texts added, in closed form"
    plain = "compares with the average picture of each class, to which its name is added"

    def fit(self, support: Support) -> Fitted:
        """mu."""
        return Fitted({"classes": self.classes(support)})

    def classes(self, support: Support) -> Float[Tensor, "T N E"]:
        """mu of every class."""
        return support.scale * support.targets.mT @ support.images + support.directions

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """s * cosine of image and mu."""
        return scale * images @ F.normalize(state["classes"], dim=-1).mT

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """mu."""
        return state["classes"]

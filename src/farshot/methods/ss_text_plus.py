"""ss-text+: ss-text for classes of unequal size, which then repel each other. Silva-Rodriguez et al., 2025
(SS-Text+).

    mu_j = (n_j / S) * s * sum of the support features of class j  +  t_j,     n_j of S images are of class j
    d_j = 2 mu_j - mean of all mu,    mu_j := mu_j - d_j / |d_j|
    logits = s * cosine(image, mu_j)

All d are those of the mu before the change. As in ss-text features and texts have length 1, and nothing is
trained.

    farshot adapt images/ --model mini --method ss-text+ --shots 5 --out adapted/
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.frozen import Support
from farshot.methods.registry import register
from farshot.methods.ss_text import SSText


@register
@dataclass(frozen=True)
class SSTextPlus(SSText):
    """Settings of ss-text+: those of every method on frozen features."""

    name = "ss-text+"
    reference = "SS-Text+, Silva-Rodriguez et al. 2025 (arXiv 2506.17500)"
    doc = "ss-text with larger classes held less, and classes that repel each other"
    plain = "compares with the average picture and name of each class, pushed apart from the others"

    def classes(self, support: Support) -> Float[Tensor, "T N E"]:
        """mu of every class after the repulsion."""
        targets = support.targets
        shares = targets.sum(1) / targets.shape[1]  # (T, N)
        means = shares[..., None] * support.scale * targets.mT @ support.images + support.directions
        return means - F.normalize(2 * means - means.mean(1, keepdim=True), dim=-1)

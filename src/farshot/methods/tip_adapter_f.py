"""tip-adapter-f: tip-adapter with its keys trained. Zhang et al., Tip-Adapter: Training-free Adaption of CLIP
for Few-shot Classification, ECCV 2022.

The support features that tip-adapter keeps as keys become parameters. The authors report the epoch that is
best on the test set and search alpha and beta afterwards; here training ends with the last step, and alpha
and beta are those of tip-adapter's rule, chosen before training and kept.

With augment=10 the keys start as those of tip-adapter, and steps take the 10 crops of each image in turn. The
authors draw fresh crops in every epoch; here the ones of the keys serve again, so that an image is encoded 10
times in all and not 110.

    farshot adapt images/ --model mini --method tip-adapter-f --shots 5 --out adapted/
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

from torch import nn

from farshot.methods.frozen import Fitted, Support, mean_cross_entropy, train
from farshot.methods.registry import register
from farshot.methods.tip_adapter import TipAdapter, cache_logits
from farshot.training.recipe import AdamW, ParameterGroup


@register
@dataclass(frozen=True)
class TipAdapterF(TipAdapter):
    """Settings of tip-adapter-f, in addition to those of tip-adapter.

    Attributes:
        steps: each on the whole support set. The authors' main.py with configs/eurosat.yaml: 100 epochs in
            batches of 256, more than a task here has.
        lr, weight_decay, eps: of AdamW (main.py; weight decay is torch's default); the rate falls to 0 along
            a cosine.
    """

    name = "tip-adapter-f"
    doc = "tip-adapter with its keys trained"
    plain = "compares with your pictures one by one, after tuning how"

    steps: int = 100
    lr: float = 1e-3
    weight_decay: float = 0.01
    eps: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps")
        self.check(0, "lr", "weight_decay", "eps")

    def fit(self, support: Support) -> Fitted:
        """tip-adapter's cache with trained keys."""
        state = super().fit(support).state
        keys = nn.Parameter(state["keys"].clone())
        alpha, beta = (state[name][:, None, None] for name in ("alpha", "beta"))

        copies = cycle(support.copies)

        def loss():  # type: ignore[no-untyped-def]
            seen = next(copies)
            cached = cache_logits(seen.images @ keys.mT, state["values"], beta)
            return mean_cross_entropy(seen.zero_shot + alpha * cached, seen.labels)

        optimiser = AdamW(self.lr, self.weight_decay, self.eps)
        losses = train(loss, [ParameterGroup([keys], optimiser)], self.steps, cosine_to=0.0)
        return Fitted(state | {"keys": keys}, losses)

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """The keys."""
        return {"keys": (images, width)}

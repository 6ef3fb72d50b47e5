"""tip-adapter: zero-shot classification plus a cache of the support images, without training. Zhang et al.,
Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022.

    logits(x) = s * x . t_j + alpha * sum over support images i of class j of exp(-beta (1 - x . f_i))

The authors search alpha and beta on labelled images beyond the support set. Here a rule that sees the support
set alone takes that place: from 2 shots on, the pair of their grid for EuroSAT (every tenth of their betas)
with the least cross-entropy on held-out support images: of K shots, fold k holds the images of each class
whose number is k modulo K, and is scored by the cache of the other folds. Copies, and images of one group,
have one number and count as one shot. At 1 shot nothing can be held out: alpha is 1 and beta 5.5, the values
of the paper's ablation on ImageNet.

With augment=10 the keys are those of the authors' program (utils.py, build_cache_model; augment_epoch of
configs/): f_i is the mean feature of 10 random crops of image i, at length 1. Images that the rule holds out
are scored without crops, as queries are.

    farshot adapt images/ --model mini --method tip-adapter --shots 5 --out adapted/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.augmented import AugmentedMethod
from farshot.methods.frozen import Fitted, State, Support, mean_cross_entropy
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.task import Task

ALPHAS = tuple(0.1 + 9.9 * i / 20 for i in range(20))  # configs/eurosat.yaml: search_scale [12, 10]
BETAS = tuple(0.1 + 11.9 * i / 20 for i in range(20))
AT_ONE_SHOT = (1.0, 5.5)


@register
@dataclass(frozen=True)
class TipAdapter(AugmentedMethod):
    """Settings of tip-adapter, in addition to those of every method on frozen features.

    Attributes:
        alpha: weight of the cache; None: by the rule.
        beta: sharpness of the cache; None: by the rule.
    """

    name = "tip-adapter"
    reference = "Zhang et al. 2022 (arXiv 2207.09519)"
    doc = "zero-shot plus a cache of the support images, nothing trained"
    plain = "compares with your pictures one by one and with the names; nothing is trained"

    least_crop: ClassVar[float] = 0.5  # main.py: RandomResizedCrop(size=224, scale=(0.5, 1))

    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "alpha", "beta")

    def for_task(self, encoder: Encoder, task: Task) -> TipAdapter:
        """With alpha and beta of the task where it has two shots, since its folds have one, and no rule."""
        if not self._asks_rule or max(_folds(task.labels.tolist(), task.units.tolist())) > 1:
            return self
        state = TipAdapter.fit(self, self.support(encoder, [task])).state
        return replace(self, alpha=float(state["alpha"]), beta=float(state["beta"]))

    def fit(self, support: Support) -> Fitted:
        """The cache, and alpha and beta of every task."""
        keys = support.images if support.crops is None else F.normalize(support.crops.mean(1), dim=-1)
        alpha, beta = self.strengths(support, keys)
        cache = {"keys": keys, "values": support.targets}
        return Fitted({"texts": support.texts, **cache, "alpha": alpha, "beta": beta})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """Zero-shot logits plus those of the cache."""
        cached = cache_logits(images @ state["keys"].mT, state["values"], state["beta"])
        return scale * images @ F.normalize(state["texts"], dim=-1).mT + state["alpha"] * cached

    def strengths(
        self, support: Support, keys: Float[Tensor, "T S E"]
    ) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
        """alpha and beta of every task: the settings, or what the rule chooses."""
        alphas = ALPHAS if self.alpha is None else (self.alpha,)
        betas = BETAS if self.beta is None else (self.beta,)
        alone = [c if v is None else v for v, c in zip((self.alpha, self.beta), AT_ONE_SHOT, strict=True)]
        chosen = torch.tensor([alone]).repeat(len(support.keys), 1)
        if support.shots > 1 and self._asks_rule:
            pairs = torch.tensor([(alpha, beta) for beta in betas for alpha in alphas])
            best = pairs[held_out_losses(support, keys, alphas, betas).argmin(1)]
            several = folds(support).amax(1, keepdim=True) > 0
            chosen = torch.where(several, best, chosen)
        return chosen[:, 0].contiguous(), chosen[:, 1].contiguous()

    @property
    def _asks_rule(self) -> bool:
        return self.alpha is None or self.beta is None

    def support(self, encoder: Encoder, tasks: Sequence[Task]) -> Support:
        """With what is not independent, where the rule needs to know."""
        found = super().support(encoder, tasks)
        if found.shots < 2 or not self._asks_rule:
            return found
        return replace(found, units=torch.stack([torch.as_tensor(task.units) for task in tasks]))


def cache_logits(
    affinity: Float[Tensor, "*T B S"], values: Float[Tensor, "*T S N"], beta: Tensor | float
) -> Float[Tensor, "*T B N"]:
    """exp(-beta (1 - affinity)), summed over the support images of each class."""
    return torch.exp(-beta * (1 - affinity)) @ values


def held_out_losses(
    support: Support, keys: Float[Tensor, "T S E"], alphas: tuple[float, ...], betas: tuple[float, ...]
) -> Float[Tensor, "T pairs"]:
    """Cross-entropy of every pair on support images scored by the cache of the other folds; alphas run
    fastest."""
    fold = folds(support)
    others = (fold[:, :, None] != fold[:, None, :]).float()  # (T, image, key)
    affinity, values = support.images @ keys.mT, support.targets
    losses = []
    for beta in betas:
        cached = (torch.exp(-beta * (1 - affinity)) * others) @ values
        losses += [mean_cross_entropy(support.zero_shot + a * cached, support.labels) for a in alphas]
    return torch.stack(losses, dim=1)


def folds(support: Support) -> Int[Tensor, "T S"]:
    """Number of each image's unit within its class, modulo the units of the class that has fewest."""
    labels = support.labels
    units = torch.arange(labels.shape[1]).expand_as(labels) if support.units is None else support.units
    return torch.tensor([_folds(*task) for task in zip(labels.tolist(), units.tolist(), strict=True)])


def _folds(labels: list[int], units: list[int]) -> list[int]:
    count = min(Counter(label for label, _ in set(zip(labels, units, strict=True))).values())
    numbers: dict[int, int] = {}  # a unit in several classes has the number of its first image
    counted: Counter[int] = Counter()
    for label, unit in zip(labels, units, strict=True):
        if unit not in numbers:
            numbers[unit] = counted[label] % count
            counted[label] += 1
    return [numbers[unit] for unit in units]

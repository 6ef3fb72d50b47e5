"""linear-probe: logistic regression on frozen features, Radford et al. 2021, from the zero-shot classifier.

    minimise  C * sum_i CE(x_i W, y_i) + |W - W_0|^2 / 2,   W_0 = s * class texts, or 0 with start=zero

The problem is convex: a start alone would be forgotten, so the penalty too is measured from it. Without
images it is zero-shot; with start=zero it is scikit-learn's LogisticRegression(C=C, fit_intercept=False),
which knows no other centre of its penalty than 0. Solved by L-BFGS in float64. With class_weight=balanced
the images of a class weigh S / (N n_j), as with scikit-learn's class_weight="balanced": each class counts as
much as any other, however many images it has.

    farshot adapt images/ --model mini --method linear-probe --shots 5 --out adapted/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farshot.arrays import NDArray
from farshot.methods.base import require
from farshot.methods.frozen import Fitted, FrozenMethod, State, Support
from farshot.methods.registry import register

_GRADIENT_LEFT = 1e-6


@register
@dataclass(frozen=True)
class LinearProbe(FrozenMethod):
    """Settings of linear-probe, in addition to those of every method on frozen features.

    Attributes:
        start: "zero-shot" or "zero": where the weights start and what they are pulled back to; with "zero",
            scale and templates have no effect.
        C: weight of the images against the penalty. CLIP's README uses 0.316 on features that are not
            normalised, about 10 long in ViT-B/16; on features of length 1 that is 0.316 * 10^2.
        class_weight: "balanced" or "none".
        most_steps: of L-BFGS.
    """

    name = "linear-probe"
    reference = "Radford et al. 2021 (arXiv 2103.00020)"
    doc = "logistic regression, started at and pulled back to the zero-shot classifier"
    plain = "learns one direction per class, starting from its name: a good quick choice"

    start: Literal["zero-shot", "zero"] = "zero-shot"
    C: float = 31.6
    class_weight: Literal["balanced", "none"] = "none"
    most_steps: int = 1000  # as max_iter in CLIP's README

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.C > 0, f"The setting C of {self.name} must be positive, not {self.C}.")
        self.check(1, "most_steps")

    @property
    def needs_text(self) -> bool:
        """Only for its start."""
        return self.start == "zero-shot"

    def fit(self, support: Support) -> Fitted:
        """The weights of every task."""
        starts = (support.scale * support.directions).double().numpy()
        if self.start == "zero":
            starts = np.zeros_like(starts)
        images = support.images.double().numpy()
        found = [
            solve(x, y, start, self.C, self.most_steps, balanced=self.class_weight == "balanced")
            for x, y, start in zip(images, support.labels.numpy(), starts, strict=True)
        ]
        return Fitted({"weights": torch.from_numpy(np.stack(found)).float()})

    def scores(self, images: Float[Tensor, "B E"], state: State, scale: float) -> Float[Tensor, "B N"]:
        """x W."""
        return images @ state["weights"].mT

    def learned(self, classes: int, images: int, width: int) -> dict[str, tuple[int, ...]]:
        """W."""
        return {"weights": (classes, width)}

    def directions(self, state: State) -> Float[Tensor, "N E"]:
        """The weights."""
        return state["weights"]


def solve(
    images: Float[NDArray[np.float64], "S E"],
    labels: Int[NDArray[np.int64], " S"],
    start: Float[NDArray[np.float64], "N E"],
    C: float,
    most_steps: int = 1000,
    *,
    balanced: bool = False,
) -> Float[NDArray[np.float64], "N E"]:
    """Weights of the least penalised loss; the penalty counts from `start`."""
    from scipy.optimize import minimize  # slow to import, and predicting does not need it
    from scipy.special import logsumexp

    targets = np.eye(len(start))[labels]
    sizes = targets.sum(0)[labels]  # of each image's class
    weights = (len(labels) / (len(start) * sizes) if balanced else np.ones(len(labels)))[:, None]

    def value_and_slope(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = flat.reshape(start.shape)
        logits = images @ (start + away).T
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        slope = C * (weights * (np.exp(log_p) - targets)).T @ images + away
        return float(-C * (weights * targets * log_p).sum() + (away**2).sum() / 2), slope.ravel()

    options = {"maxiter": most_steps, "gtol": _GRADIENT_LEFT, "ftol": 0.0}
    best = minimize(value_and_slope, np.zeros(start.size), jac=True, method="L-BFGS-B", options=options)
    return start + best.x.reshape(start.shape)

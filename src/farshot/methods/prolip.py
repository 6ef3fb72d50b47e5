"""prolip: the matrix that projects images into the joint space, held near its start. Fahes et al.,
Fine-Tuning CLIP's Last Visual Projector, 2024 (ProLIP).

    loss = cross-entropy + weight * sum of (W - W_0)^2,    weight = 1 / K

Only W is trained, on 300 views of all support images, each used once. Defaults are those of its authors'
program (astra-vision/ProLIP) without validation images, of which it reports several: the rate 1e-5 with 1 / K
is the pair that its transfer experiments use. Half precision, in which the program computes, leaves many of
these small steps out; here W is float32. Instead of templates for each data set the task's own prompt.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method prolip --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from farshot.errors import SettingError
from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.weights import OwnWeights
from farshot.task import Task
from farshot.training.recipe import AdamW, ParameterGroup, Recipe

_ALL = 1 << 30  # images of a step: the whole support set


@register
@dataclass(frozen=True)
class ProLIP(FinetunedMethod):
    """Settings of prolip.

    Attributes:
        steps: optimiser steps, each on a new view of every support image.
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        weight: of the squared change of W; None for 1 / K.
        lr: of Adam; it falls to 0 along a cosine.
        eps: of Adam.
    """

    name = "prolip"
    kind = "fine-tuned"
    reference = "ProLIP, Fahes et al. 2024 (arXiv 2410.05270)"
    doc = "the image tower's last projection alone, held near its start"
    plain = "adjusts the last step of CLIP's seeing only, and little"

    steps: int = 300
    scale: float = 0.0
    weight: float | None = None
    lr: float = 1e-5
    eps: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps")
        self.check(0, "scale", "weight", "lr", "eps")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """An own projection for each task.

        Raises:
            SettingError: the encoder has no such matrix.
        """
        if encoder.vision.config.projection != "linear":
            raise SettingError(
                f"prolip trains the matrix that projects images into the joint space; {encoder.source} has "
                "none. Choose another method."
            )
        return {"projection": OwnWeights(encoder, len(tasks), ["vision"], matrices=True, layers="projection")}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """Adam, which is AdamW without decay."""
        adam = AdamW(self.lr, weight_decay=0.0, eps=self.eps)
        return [ParameterGroup(list(parts["projection"].parameters()), adam)]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """A new view of every image in each step, a cosine."""
        return Recipe(
            steps=self.steps, scale=self.scale, views="crops", batch=_ALL, least_crop=0.5, cosine_to=0.0
        )

    def weight_at(self, shots: int) -> float:
        """The setting, or 1 / K."""
        return 1 / max(1, shots) if self.weight is None else self.weight

    def for_task(self, encoder: Encoder, task: Task) -> ProLIP:
        """With the weight, where it is None."""
        return replace(self, weight=self.weight_at(task.shots))

    def penalty(self, tasks: Sequence[Task], parts: Parts) -> Callable[[], Float[Tensor, " T"]]:
        """weight * sum of (W - W_0)^2 of every task."""
        weight = self.weight_at(tasks[0].shots)
        start = [parameter.detach().clone() for parameter in parts["projection"].parameters()]

        def away() -> Float[Tensor, " T"]:
            moved = zip(parts["projection"].parameters(), start, strict=True)
            squares = [(now - before).square().flatten(1).sum(1) for now, before in moved]
            return weight * torch.stack(squares).sum(0)

        return away

"""What a run need not compute again: images that nothing touches, blocks before the first that learns, tasks
whose loss has settled.

Shapes: T tasks, B images of a step, P tokens of an image, D width, E joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from farshot.errors import FarshotError
from farshot.model.encoder import DualEncoder, Part
from farshot.recipe import Group, Recipe
from farshot.support import StepImages

SETTLE_STEPS = 10
"""A loss is the mean of so many steps when it is asked whether it still falls."""


class Embedded:
    """Embeddings of a step's images where no part touches them: the same images pass once."""

    def __init__(self, encoder: DualEncoder, micro_batch: int | None) -> None:
        self.encoder, self.micro_batch = encoder, micro_batch
        self._batch: StepImages | None = None
        self._values: Tensor | None = None

    @torch.no_grad()
    def of(self, batch: StepImages) -> Float[Tensor, "T B E"]:
        """Embeddings, not normalised."""
        if self._values is None or batch is not self._batch:
            parts = batch.parts(self.micro_batch)
            self._values = torch.cat([self.encoder.encode_images(part.pixels) for part in parts], dim=1)
            self._batch = batch
        return self._values


class Prefix:
    """Tokens before the first block at which anything acts, computed once per task, image and view."""

    def __init__(self, encoder: DualEncoder, recipe: Recipe, parts: Sequence[Part]) -> None:
        self.encoder, self.recipe = encoder, recipe
        self._known: dict[tuple[int, int], Tensor] = {}
        self._last: tuple[StepImages, StepImages] | None = None
        early = {"embedding", "pre_norm", *map(str, range(recipe.first_block))}
        for place in (place for part in parts for place in part.places()):
            tower, _, rest = place.partition(".")
            if tower == "vision" and rest.partition(".")[0] in early:
                raise FarshotError(
                    f"Something acts at {place}, before the first block, {recipe.first_block}."
                )
        if recipe.views == "crops":
            raise FarshotError(
                "With a fresh crop in each step no block can be computed ahead: use other views."
            )

    @torch.no_grad()
    def of(self, batch: StepImages) -> StepImages:
        """The batch with its tokens."""
        if self._last is None or self._last[0] is not batch:
            self._last = batch, replace(batch, tokens=self._tokens(batch))
        return self._last[1]

    def _tokens(self, batch: StepImages) -> Float[Tensor, "T B P D"]:
        tasks, columns = batch.samples.shape
        names = [[(t, int(batch.samples[t, b])) for b in range(columns)] for t in range(tasks)]
        wanted: dict[tuple[int, int], tuple[int, int]] = {}
        for t, row in enumerate(names):
            for b, name in enumerate(row):
                wanted.setdefault(name, (t, b))  # the first: padding, behind the images, calls itself image 0
        missing = [(name, place) for name, place in wanted.items() if name not in self._known]
        size = self.recipe.micro_batch or max(1, len(missing))
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            pixels = torch.stack([batch.pixels[place] for _, place in part])
            found = self.encoder.image_tokens(pixels[None], until=self.recipe.first_block)[0]
            self._known.update({name: tokens for (name, _), tokens in zip(part, found, strict=True)})
        return torch.stack([torch.stack([self._known[name] for name in row]) for row in names])


class Stopped:
    """Tasks whose loss has settled: what they had learned by then is what they keep."""

    def __init__(self, groups: Sequence[Group], settle: float, tasks: int) -> None:
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.settle = settle
        self._kept: dict[int, tuple[int, list[Tensor]]] = {}
        self._tasks = tasks

    def all(self, losses: Float[NDArray[np.float64], "steps T"], step: int) -> bool:
        """Notes which tasks have settled at this step; whether all have."""
        if not self.settle or step + 1 < 2 * SETTLE_STEPS:
            return False
        before = losses[step + 1 - 2 * SETTLE_STEPS : step + 1 - SETTLE_STEPS].mean(0)
        now = losses[step + 1 - SETTLE_STEPS : step + 1].mean(0)
        for t in np.flatnonzero(now > (1 - self.settle) * before).tolist():
            if t not in self._kept:
                self._kept[t] = step, [parameter[t].detach().clone() for parameter in self.parameters]
        return len(self._kept) == self._tasks

    @torch.no_grad()
    def restored(
        self, losses: Float[NDArray[np.float64], "steps T"]
    ) -> Float[NDArray[np.float64], "steps T"]:
        """Gives settled tasks what they had; their later losses are NaN."""
        for t, (step, values) in self._kept.items():
            losses[step + 1 :, t] = np.nan
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter[t] = value
        return losses

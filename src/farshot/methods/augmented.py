"""Random crops of support images, for methods on frozen features that average them or train on them.

Crops are cut as for fine-tuned methods (farshot.training.batches): from the original picture, halved as long
as it is twice the model's size, resized bicubically and flipped half of the time. A crop is drawn by the
task's key, the image's content and its number, so it does not depend on companions or order. No other task
has the same crops, so their features are not kept: each is encoded where the method is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from farshot.images.views import crop_and_flip
from farshot.methods.base import Adapted, row_batches
from farshot.methods.frozen import FrozenMethod, Support
from farshot.model.encoder import Encoder
from farshot.model.features import images_at_once
from farshot.randomness import numpy_generator
from farshot.task import Task
from farshot.training.batches import SUPPORT_READING
from farshot.training.loop import Progress

_MOST_CROPS = 1000
MOST_BYTES = 256 << 20
"""Of features of crops that are fitted together."""


@dataclass(frozen=True)
class AugmentedMethod(FrozenMethod):
    """A method on frozen features that can look at random crops of its support images.

    Attributes:
        augment: crops of each support image; 0 for each image as it is.

    Class attributes:
        least_crop: smallest share of a picture's area that a crop shows.
    """

    least_crop: ClassVar[float] = 0.08

    augment: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "augment", high=_MOST_CROPS)

    def adapt(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        micro_batch: int | None = None,
        progress: Progress | None = None,
    ) -> list[Adapted]:
        """As without crops, of so many tasks at once as their crops leave room for."""
        if not self.augment:
            return super().adapt(encoder, tasks, micro_batch=micro_batch, progress=progress)
        images = max((len(task.support) for task in tasks), default=0)
        each = MOST_BYTES // (4 * max(1, images) * self.augment * encoder.embed_dim) or 1
        out: list[Adapted] = []
        for start in range(0, len(tasks), each):
            out += super().adapt(encoder, tasks[start : start + each], micro_batch=micro_batch)
            if progress:
                progress(len(out), len(tasks))
        return out

    def support(self, encoder: Encoder, tasks: Sequence[Task]) -> Support:
        """With the features of crops."""
        plain = super().support(encoder, tasks)
        if not self.augment:
            return plain
        found = [crop_features(encoder, task, self.augment, self.least_crop) for task in tasks]
        return replace(plain, crops=torch.stack(found))


@torch.no_grad()
def crop_features(encoder: Encoder, task: Task, count: int, least: float) -> Float[Tensor, "A S E"]:
    """Embeddings of random crops of a task's support images, not normalised, float32 on the CPU.

    Args:
        count: A, crops of each image.
        least: smallest share of a picture's area that a crop shows.
    """
    at_once, found = images_at_once(encoder), []
    for part in row_batches(len(task.support), at_once):
        rows = [int(row) for row in task.support[part]]
        pixels = task.table.pixels(rows, SUPPORT_READING["crops"], encoder.size)
        numbers = [(image, copy) for image in range(len(rows)) for copy in range(count)]
        for some in row_batches(len(numbers), at_once):
            crops = [
                crop_and_flip(
                    pixels[image],
                    encoder.size,
                    numpy_generator("augment", task.key, task.table.id(rows[image]), copy),
                    least,
                )
                for image, copy in numbers[some]
            ]
            found.append(encoder.forward_images(torch.from_numpy(np.stack(crops))[None])[0].float().cpu())
    return torch.cat(found).view(-1, count, encoder.embed_dim).transpose(0, 1)

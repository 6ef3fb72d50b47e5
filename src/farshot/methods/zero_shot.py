"""zero-shot: CLIP as it is. Radford et al., Learning Transferable Visual Models From Natural Language
Supervision, 2021.

The class whose prompt is closest to the image; the labelled images are not looked at. The floor under every
table.

    farshot adapt images/ --model mini --method zero-shot --out adapted/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from farshot.data.table import ImageTable
from farshot.finetune import Progress
from farshot.images.preprocess import READINGS
from farshot.methods.base import Adapted, Method, register, require, row_batches
from farshot.model.encoder import DualEncoder
from farshot.task import Task


class ZeroShotAdapted(Adapted):
    """Class texts, and nothing else."""

    def __init__(
        self,
        encoder: DualEncoder,
        class_names: Sequence[str],
        texts: Float[Tensor, "N E"],
        scale: float,
        reading: str,
    ) -> None:
        self.encoder, self.class_names, self.texts = encoder, tuple(class_names), texts
        self.scale, self.reading = scale, reading
        self.losses = np.zeros(0)

    def logits(
        self,
        table: ImageTable,
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        progress: Progress | None = None,
        batch: int = 64,
    ) -> Float[NDArray[np.float32], "rows N"]:
        """Scale times cosine of image and prompt."""
        chosen = np.arange(len(table)) if rows is None else np.asarray(rows)
        out = np.zeros((len(chosen), len(self.class_names)), dtype=np.float32)
        texts = F.normalize(self.texts, dim=-1)
        for part in row_batches(len(chosen), batch):
            out[part] = (
                self.scale * self.encoder.features(table, chosen[part], self.reading) @ texts.mT
            ).numpy()
            if progress:
                progress(part.stop, len(chosen))
        return out

    def class_directions(self) -> Float[Tensor, "N E"]:
        """The class texts."""
        return self.texts

    def tensors(self) -> dict[str, Tensor]:
        """The class texts."""
        return {"texts": self.texts}


@register
@dataclass(frozen=True)
class ZeroShot(Method):
    """Settings of zero-shot.

    Attributes:
        scale: of the logits; 0 takes the checkpoint's own, as it was trained.
        reading: how images are read, "squash" or "centre".
    """

    name = "zero-shot"
    kind = "features"
    reference = "Radford et al. 2021"
    doc = "CLIP as it is: the class whose prompt is closest to the image"

    scale: float = 0.0
    reading: str = "squash"  # as the queries of the fine-tuned methods

    def __post_init__(self) -> None:
        require(self.scale >= 0, f"The setting scale of zero-shot must not be negative, not {self.scale}.")
        readings = ("squash", "centre")
        assert set(readings) <= set(READINGS)
        require(
            self.reading in readings,
            f"The setting reading of zero-shot is one of {readings}, not {self.reading!r}.",
        )

    @torch.no_grad()
    def adapt(
        self,
        encoder: DualEncoder,
        tasks: Sequence[Task],
        *,
        micro_batch: int | None = None,
        progress: Progress | None = None,
    ) -> list[Adapted]:
        """Embeds the prompts of every task."""
        scale = self.scale or float(encoder.clip.logit_scale.exp())
        out: list[Adapted] = []
        for task in tasks:
            texts = encoder.encode_texts(encoder.prompts([task.prompts])).final[0].cpu()
            out.append(ZeroShotAdapted(encoder, task.class_names, texts, scale, self.reading))
            if progress:
                progress(len(out), len(tasks))
        return out

    def restore(self, encoder: DualEncoder, task: Task, tensors: Mapping[str, Tensor]) -> Adapted:
        """The same texts."""
        scale = self.scale or float(encoder.clip.logit_scale.exp())
        return ZeroShotAdapted(encoder, task.class_names, tensors["texts"], scale, self.reading)

"""Head and tail ratios from the similarity curve of a task's support images, for each block.

Shapes: L patches, N classes, E joint width.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from farshot.model.encoder import Encoder
from farshot.model.tower import Hook, Pass
from farshot.parts.alignment import class_anchors, patch_class_similarity, split_patches
from farshot.parts.similarity import sorted_similarity
from farshot.task import Task

_IMAGES_AT_ONCE = 64


@torch.no_grad()
def support_ratios(encoder: Encoder, task: Task, reading: str, kind: str) -> Float[Tensor, "depth 2"]:
    """Head and tail share before each block of the frozen encoder, over the support images of one task.

    Args:
        reading: how the images are read (farshot.images.preprocess).
        kind: of the anchors, "paper" or "released".
    """
    texts = encoder.forward_texts(encoder.prompts([task.prompts]))
    probe = _Probe(encoder, class_anchors(encoder, kind, texts))
    for start in range(0, len(task.support), _IMAGES_AT_ONCE):
        rows = task.support[start : start + _IMAGES_AT_ONCE]
        pixels = torch.from_numpy(task.table.pixels(rows, reading, encoder.size))
        encoder.forward_images(pixels[None], Pass([probe]))
    return torch.stack(curve_ratios(probe.sums.cpu()), dim=-1)


class _Probe:
    """Sum the curves of all images; the sum bends where the mean does."""

    def __init__(self, encoder: Encoder, anchors: Float[Tensor, "1 N D"]) -> None:
        self.encoder, self.anchors = encoder, anchors
        shape = (encoder.vision_depth, encoder.vision.config.patches)
        self.sums = torch.zeros(shape, device=encoder.device)

    def places(self) -> dict[str, Hook]:
        return {f"vision.{block}.input": partial(self._add, block) for block in range(len(self.sums))}

    def _add(self, block: int, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        _, patches, _ = split_patches(self.encoder, tokens)
        curves = sorted_similarity(patch_class_similarity(patches, self.anchors))
        self.sums[block] += curves[0].sum(0)
        return tokens


def curve_ratios(curve: Float[Tensor, "*any L"]) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
    """Shares of head and tail tokens that a sorted curve suggests: what comes before its first bend and
    behind its last.

    A bend is where the curve is furthest from the straight line between its ends: below it in the first half,
    above it in the second; where a half has none, the share is 0.
    """
    ranks = curve.shape[-1]
    along = torch.linspace(0, 1, ranks, dtype=curve.dtype, device=curve.device)
    line = curve[..., :1] + (curve[..., -1:] - curve[..., :1]) * along
    above, half = curve - line, ranks // 2
    head, tail = (-above[..., :half]).argmax(-1), above.flip(-1)[..., :half].argmax(-1)
    return head.double() / ranks, tail.double() / ranks

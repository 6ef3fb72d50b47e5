"""tir: token re-weighting of attention sinks (arXiv 2605.25799).

The base recipe of prompt-lora. Before the 9th and the 11th of 12 vision blocks each class marks the patches
that resemble most its text as it is before the last text block; a patch that one class marks is doubled, one
that all mark is zeroed, one that none marks stays. It runs at prediction too. For other numbers of classes
than five the weights in between are ours: 1 - 2 (c - (N + 1) / 2) / (N - 1) for a patch that c of N classes
mark.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method tir --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.methods.finetuned import Parts
from farshot.methods.prompt_lora import PromptLoRA
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.reweighting import TokenReweighting
from farshot.task import Task

_BLOCKS, _DEPTH = (8, 10), 12  # counted from 0, of so many; other depths in proportion


@register
@dataclass(frozen=True)
class TIR(PromptLoRA):
    """Settings of tir: those of prompt-lora, and

    Attributes:
        marked: share of an image's patches that each class marks.
    """

    name = "tir"
    reference = "token re-weighting (arXiv 2605.25799)"
    doc = "prompt-lora with patches doubled where one class claims them, dimmed where many do"
    revision = 2  # patches are marked with the texts before the last block, as the authors do
    plain = "trains as prompt-lora does, and makes parts count more that resemble one class only"

    marked: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0, "marked", high=1)

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The base recipe's parts and the re-weighting."""
        blocks = [block * encoder.vision_depth // _DEPTH for block in _BLOCKS]
        reweighting = TokenReweighting(encoder, blocks, self.marked)
        return super().parts(encoder, tasks) | {"reweighting": reweighting}

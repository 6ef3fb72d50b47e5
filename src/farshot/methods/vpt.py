"""vpt: learned tokens in the vision tower. Jia et al., Visual Prompt Tuning, ECCV 2022 (VPT-deep).

n learned tokens stand behind the patches, with values of their own before each block; the prompt is fixed.
Jia et al. chose number and rates for each data set. Defaults are those of the version for CLIP in the program
of MaPLe (muzairkhattak/multimodal-prompt-learning: trainers/vpt.py, configs/trainers/VPT/
vit_b16_c2_ep5_batch4_4.yaml): 8 tokens before each of 12 blocks, 5 epochs of batches of 4.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method vpt --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.methods.base import register, require
from farshot.methods.finetuned import Parts
from farshot.methods.prompting import PromptMethod
from farshot.model.encoder import DualEncoder
from farshot.model.prompt import VisualPrompts
from farshot.task import Task


@register
@dataclass(frozen=True)
class VPT(PromptMethod):
    """Settings of vpt, beside those of every method that learns prompts.

    Attributes:
        tokens: n, learned tokens.
        depth: blocks with values of their own, at most the tower's.
    """

    name = "vpt"
    kind = "fine-tuned"
    reference = "Jia et al. 2022 (arXiv 2203.12119)"
    doc = "learned tokens beside the patches, anew before each vision block"

    batch: int = 4
    lr: float = 2.5e-3
    tokens: int = 8
    depth: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("tokens", "depth"):
            value = getattr(self, setting)
            require(value >= 1, f"The setting {setting} of {self.name} must be at least 1, not {value}.")

    def parts(self, encoder: DualEncoder, tasks: Sequence[Task]) -> Parts:
        """The tokens."""
        keys = [task.key for task in tasks]
        return {"prompts": VisualPrompts(encoder, keys, count=self.tokens, depth=self.depth)}

    def epochs(self, shots: int) -> int:
        """Five, whatever the shots."""
        return 5

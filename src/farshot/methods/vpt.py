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

from farshot.methods.finetuned import Parts
from farshot.methods.prompting import DeepPromptMethod
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import VisualPrompts
from farshot.task import Task


@register
@dataclass(frozen=True)
class VPT(DeepPromptMethod):
    """Settings of vpt: those of every method with tokens before each block."""

    name = "vpt"
    kind = "fine-tuned"
    reference = "Jia et al. 2022 (arXiv 2203.12119)"
    doc = "learned tokens beside the patches, anew before each vision block"
    plain = "learns extra tokens that tell CLIP how to look at your pictures"

    lr: float = 2.5e-3

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The tokens."""
        keys = [task.key for task in tasks]
        return {"prompts": VisualPrompts(encoder, keys, count=self.tokens, depth=self.depth)}

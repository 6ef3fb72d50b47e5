"""maple: linked prompts in both towers. Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023.

The first n words of the prompt are learned, and before each of the next text blocks their tokens are replaced
by learned ones; a linear layer per block turns them into tokens of the vision tower. Defaults are those of
its authors' program (muzairkhattak/multimodal-prompt-learning: trainers/maple.py, configs/trainers/MaPLe/
vit_b16_c2_ep5_batch4_2ctx.yaml), which trains in float16; here in the model's precision.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method maple --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.methods.finetuned import Parts
from farshot.methods.prompting import DeepPromptMethod
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.prompt import LinkedPrompts, PromptContext
from farshot.task import Task


@register
@dataclass(frozen=True)
class MaPLe(DeepPromptMethod):
    """Settings of maple: those of every method with tokens before each block.

    Tokens start from the first words of the prompt; the depth is at most the shallower tower's.
    """

    name = "maple"
    kind = "fine-tuned"
    reference = "Khattak et al. 2023 (arXiv 2210.03117)"
    doc = "learned tokens in both towers, those of the images a linear map of those of the text"
    plain = "learns words and picture tokens that belong together"

    lr: float = 3.5e-3
    tokens: int = 2
    depth: int = 9

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The tokens of both towers and the layers that link them."""
        context = PromptContext(encoder, [task.template for task in tasks], self.tokens)
        return {"prompts": LinkedPrompts(encoder, context, [task.key for task in tasks], self.depth)}

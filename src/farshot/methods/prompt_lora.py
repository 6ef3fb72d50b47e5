"""prompt-lora: LoRA on both towers and a learnable prompt context; ATHA's base recipe without ATHA, its fair
baseline.

docs/method.md, "What both are trained with": 100 steps on the whole support set, five fixed views per image,
logit scale 4 from 5 shots and 2 below, constant rates.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method prompt-lora --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.lora import LoRA
from farshot.parts.prompt import PromptContext
from farshot.task import Task
from farshot.training.recipe import SGD, AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class PromptLoRA(FinetunedMethod):
    """Settings of prompt-lora.

    Attributes:
        steps: optimiser steps, each on the whole support set (at most 16 images per class).
        scale: of the logits; 0 means 4 from 5 shots on, else 2.
        views: "five" fixed ones per image, "turn": one of these in each step, or "none".
        rank, lora_alpha, lora_dropout, lora_lr, lora_weight_decay: of LoRA, trained with AdamW.
        context_lr, context_momentum, context_weight_decay: of the prompt context, trained with SGD.
    """

    name = "prompt-lora"
    kind = "fine-tuned"
    reference = "base recipe of ATHA (arXiv 2605.29776)"
    doc = "LoRA on both towers and a learnable prompt context: the fair baseline of atha"
    plain = "adjusts CLIP a little and learns words that fit your pictures: the plain version of atha"

    steps: int = 100
    scale: float = 0.0
    views: Literal["five", "turn", "none"] = "five"
    rank: int = 16
    lora_alpha: float = 8.0
    lora_dropout: float = 0.25
    lora_lr: float = 2e-4
    lora_weight_decay: float = 0.01
    context_lr: float = 2e-3
    context_momentum: float = 0.9
    context_weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "steps", "rank")
        self.check(0, "lora_alpha")
        self.check(0, "lora_dropout", under=1)
        self.check(0, "scale", "lora_lr", "lora_weight_decay", "context_lr", "context_weight_decay")
        self.check(0, "context_momentum", high=1)

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """LoRA on both towers, and the context."""
        lora = LoRA(
            encoder,
            [task.key for task in tasks],
            rank=self.rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
        )
        return {"lora": lora, "context": PromptContext(encoder, [task.template for task in tasks])}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW for LoRA, SGD for the context."""
        return [
            ParameterGroup(list(parts["lora"].parameters()), AdamW(self.lora_lr, self.lora_weight_decay)),
            ParameterGroup(
                list(parts["context"].parameters()),
                SGD(self.context_lr, self.context_momentum, self.context_weight_decay),
            ),
        ]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The whole support set in every step, constant rates."""
        return Recipe(
            steps=self.steps,
            scale=self.scale or (4.0 if shots >= 5 else 2.0),
            views=self.views,
        )

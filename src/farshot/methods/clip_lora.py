"""clip-lora: Zanella and Ben Ayed, Low-Rank Few-Shot Adaptation of Vision-Language Models, CVPR workshops
2024.

LoRA of rank 2 on q, k, v of both towers, the prompt fixed, as its authors publish it: 500 steps per shot (at
most 16 shots counted) on 32 images each, a fresh random resized crop and flip every time, cosine schedule,
logit scale 100.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method clip-lora --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from farshot.methods.base import Kind, require
from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.lora import TOWERS, LoRA, Position
from farshot.sanitize import short
from farshot.task import Task
from farshot.training.recipe import AdamW, ParameterGroup, Recipe


@register
@dataclass(frozen=True)
class ClipLoRA(FinetunedMethod):
    """Settings of clip-lora.

    Attributes:
        steps: optimiser steps; 0 means 500 per shot, at most 16 shots counted.
        scale: of the logits.
        views: "crops", a fresh one at each step; or "five" fixed ones, or "none".
        batch: images of a step.
        rank, lora_alpha, lora_dropout: of LoRA; its scale is lora_alpha / sqrt(rank).
        encoder: the towers with LoRA.
        position: the blocks with LoRA (`parts.lora.Position`).
        params: the projections with LoRA: letters of qkvo, o being the one behind the attention.
        lr, lr_end, weight_decay: of AdamW, falling along a cosine.
    """

    name = "clip-lora"
    kind: ClassVar[Kind] = "fine-tuned"
    reference = "Zanella and Ben Ayed 2024 (arXiv 2405.18541)"
    doc = "LoRA of rank 2 on both towers, fixed prompt, fresh crops at every step"
    revision = 2  # crops of the original image, the checkpoint's own reading
    plain = "adjusts CLIP a little, with a fresh cut-out of each picture in every step"

    steps: int = 0
    scale: float = 100.0
    views: Literal["five", "turn", "none", "crops"] = "crops"
    batch: int = 32
    rank: int = 2
    lora_alpha: float = 1.0
    lora_dropout: float = 0.25
    encoder: Literal["both", "vision", "text"] = "both"
    position: Position = "all"
    params: str = "qkv"
    lr: float = 2e-4
    lr_end: float = 1e-6
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "rank", "batch")
        self.check(0, "lora_alpha")
        self.check(0, "lora_dropout", under=1)
        self.check(0, "steps", "scale", "lr_end", "weight_decay")
        require(
            0 < len(self.params) == len(set(self.params)) and set(self.params) <= set("qkvo"),
            f"The setting params of {self.name} takes letters of qkvo, each once, not {short(self.params)}.",
        )
        require(self.lr >= self.lr_end, f"The setting lr of {self.name} must not be below its lr_end.")

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """LoRA, by default on both towers."""
        lora = LoRA(
            encoder,
            [task.key for task in tasks],
            rank=self.rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            towers=TOWERS if self.encoder == "both" else (self.encoder,),
            projections=["out" if letter == "o" else letter for letter in self.params],
            position=self.position,
        )
        return {"lora": lora}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """AdamW."""
        return [ParameterGroup(list(parts["lora"].parameters()), AdamW(self.lr, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """Fresh crops and a cosine."""
        steps = self.steps or 500 * min(max(shots, 1), 16)
        return Recipe(
            steps=steps,
            scale=self.scale,
            views=self.views,
            batch=self.batch,
            batch_total=self.batch,
            passes="keep",
            cosine_to=self.lr_end,
        )

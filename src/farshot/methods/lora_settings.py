"""What methods with a LoRA share, beside the loop: the check of its settings, and the LoRA they describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from farshot.methods.base import Method
from farshot.model.encoder import Encoder, TowerName
from farshot.parts.lora import TOWERS, LoRA
from farshot.task import Task


@runtime_checkable
class LoRASettings(Protocol):
    """A method whose settings describe a LoRA."""

    @property
    def rank(self) -> int:
        """r, of its thin matrices."""

    @property
    def lora_alpha(self) -> float:
        """Its scale is lora_alpha / sqrt(rank)."""

    @property
    def lora_dropout(self) -> float:
        """Share of its input zeroed in training."""


def build_lora(
    settings: LoRASettings,
    encoder: Encoder,
    tasks: Sequence[Task],
    *,
    towers: Sequence[TowerName] = TOWERS,
) -> LoRA:
    """The LoRA of T tasks with its initial values."""
    return LoRA(
        encoder,
        [task.key for task in tasks],
        rank=settings.rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        towers=towers,
    )


def check_lora(method: Method) -> None:
    """Refuses settings of a LoRA outside their range."""
    method.check(1, "rank")
    method.check(0, "lora_alpha")
    method.check(0, "lora_dropout", under=1)

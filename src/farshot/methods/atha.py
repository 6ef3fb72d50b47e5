"""atha: Adaptive Tail-Head Alignment for source-free cross-domain few-shot learning, ICML 2026 (arXiv
2605.29776).

Before every vision block, the patches that resemble a class most (head) are pulled towards its text and those
that resemble none (tail) are pushed away, with learnable strengths; everything else is the base recipe of
prompt-lora. The operator is part of the model: it runs on every image at prediction too. Two variants
(docs/method.md): what the paper says, and what the released code computes once its accidents are mended.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method atha --set variant=released --shots 5
    --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from farshot.errors import SettingError
from farshot.finetune import SGD, AdamW, Group
from farshot.methods.base import register, require
from farshot.methods.finetuned import Parts
from farshot.methods.prompt_lora import PromptLoRA
from farshot.model.alignment import HeadTailAlignment, check_ratios
from farshot.model.encoder import DualEncoder
from farshot.task import Task

VARIANTS: dict[str, dict[str, Any]] = {
    # docs/method.md, "Two variants"; pull_block counts from 0 in a tower of 12. The paper does not say how
    # its strengths learn.
    "paper": {"rho": 0.1, "gamma": 0.1, "pull": 0.8, "pull_block": 7, "push": 0.01, "strength_lr": 2e-4},
    "released": {"rho": 0.3, "gamma": 0.2, "pull": 0.8, "pull_block": 6, "push": 0.0, "strength_lr": 1e-3},
}
ALIGN = ("both", "push", "pull", "uniform", "random")
_REFERENCE_DEPTH = 12


@register
@dataclass(frozen=True)
class ATHA(PromptLoRA):
    """Settings of atha: those of prompt-lora, and the alignment's. None means the variant's own value.

    Attributes:
        variant: "paper" or "released": anchors, shares, initial strengths and how they learn.
        align: "both"; "push" (pull fixed at 0) or "pull" (push fixed at 0) alone; "uniform" (every patch
            pulled to its nearest class, no push); "random" (head and tail drawn at random).
        rho, gamma: share of head and of tail tokens.
        pull, push: initial strengths; pull acts first before one block, push before all.
        pull_block: that block, counted from 0, of a tower of 12; other depths in proportion.
        strength_lr, strength_momentum, strength_weight_decay: how the strengths learn: in "paper" by AdamW,
            which has no momentum setting, in "released" by SGD.
        fixed: strengths keep their initial values.
        block: alignment stands before this block alone, counted from 0 in the model's own depth; its pull
            starts there.
    """

    name = "atha"
    reference = "ATHA, ICML 2026 (arXiv 2605.29776)"
    doc = "prompt-lora plus alignment: head patches pulled to a class, tail patches pushed from it"

    variant: str = "paper"
    align: str = "both"
    rho: float | None = None
    gamma: float | None = None
    pull: float | None = None
    push: float | None = None
    pull_block: int | None = None
    strength_lr: float | None = None
    strength_momentum: float = 0.9
    strength_weight_decay: float | None = None
    fixed: bool = False
    block: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.variant in VARIANTS,
            f"The setting variant of atha is one of {tuple(VARIANTS)}, not {self.variant!r}.",
        )
        require(self.align in ALIGN, f"The setting align of atha is one of {ALIGN}, not {self.align!r}.")
        check_ratios(self._value("rho"), self._value("gamma"))
        low, high = 0, _REFERENCE_DEPTH - 1
        require(
            low <= self._value("pull_block") <= high,
            f"The setting pull_block of atha lies in {low} to {high}.",
        )
        rates = (self._value("strength_lr"), self.strength_momentum, self.strength_weight_decay or 0.0)
        require(
            min(rates) >= 0,
            "Learning rate, momentum and weight decay of atha's strengths must not be negative.",
        )

    def parts(self, encoder: DualEncoder, tasks: Sequence[Task]) -> Parts:
        """The base recipe's parts and the alignment."""
        depth = encoder.vision_depth
        if self.block is not None and not 0 <= self.block < depth:
            raise SettingError(
                f"The setting block of atha is {self.block}, but {encoder.source} has blocks 0 to "
                f"{depth - 1}."
            )
        first = self._value("pull_block") * depth // _REFERENCE_DEPTH if self.block is None else self.block
        pull = [0.0] * depth
        pull[first] = 0.0 if self.align == "push" else self._value("pull")
        push = [0.0 if self.align in ("pull", "uniform") else self._value("push")] * depth
        uniform = self.align == "uniform"
        alignment = HeadTailAlignment(
            encoder,
            [task.key for task in tasks],
            anchors=self.variant,
            pull=pull,
            push=push,
            head_ratio=1.0 if uniform else self._value("rho"),
            tail_ratio=0.0 if uniform else self._value("gamma"),
            random=self.align == "random",
            blocks=None if self.block is None else [self.block],
        )
        return super().parts(encoder, tasks) | {"alignment": alignment}

    def groups(self, parts: Parts) -> list[Group]:
        """The base recipe's groups and the strengths that learn."""
        alignment = parts["alignment"]
        assert isinstance(alignment, HeadTailAlignment)
        learned = [] if self.align == "push" else [alignment.pull]
        learned += [] if self.align in ("pull", "uniform") else [alignment.push]
        for strength in (alignment.pull, alignment.push):
            strength.requires_grad_(not self.fixed and any(strength is other for other in learned))
        if self.fixed:
            return super().groups(parts)
        lr = self._value("strength_lr")
        if self.variant == "paper":
            return [*super().groups(parts), Group(learned, AdamW(lr, self.strength_weight_decay or 0.0))]
        decay = 5e-4 if self.strength_weight_decay is None else self.strength_weight_decay
        return [*super().groups(parts), Group(learned, SGD(lr, self.strength_momentum, decay))]

    def settings(self) -> dict[str, Any]:
        """Every setting, the variant's own values filled in."""
        chosen = asdict(self)
        filled = VARIANTS[self.variant] | {"strength_weight_decay": 0.0 if self.variant == "paper" else 5e-4}
        return {name: filled.get(name) if value is None else value for name, value in chosen.items()}

    def _value(self, name: str) -> Any:
        """A setting, or the variant's own value where it is None."""
        value = getattr(self, name)
        return VARIANTS[self.variant][name] if value is None else value

"""The settings of atha: two variants, the ablations, and what goes beyond the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from farshot.methods.base import require
from farshot.methods.finetuned import FinetunedMethod
from farshot.methods.prompt_lora import PromptLoRA
from farshot.methods.registry import create
from farshot.parts.alignment import check_ratios

VARIANTS: dict[str, dict[str, Any]] = {
    # docs/method.md, "Two variants"; pull_block counts from 0 in a tower of 12. The paper does not say how
    # its strengths learn.
    "paper": {"rho": 0.1, "gamma": 0.1, "pull": 0.8, "pull_block": 7, "push": 0.01, "strength_lr": 2e-4},
    "released": {"rho": 0.3, "gamma": 0.2, "pull": 0.8, "pull_block": 6, "push": 0.0, "strength_lr": 1e-3},
}
ALIGN = ("both", "push", "pull", "uniform", "random")
RATIOS = ("fixed", "curve")
ANCHOR_TEXTS = ("learned", "descriptions")
BASES = ("prompt-lora", "clip-lora", "coop", "maple", "vpt", "bitfit", "full")
REFERENCE_DEPTH = 12


@dataclass(frozen=True)
class ATHASettings(PromptLoRA):
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
        ratios: "fixed" at rho and gamma; or "curve": per task and block, from the bends of the similarity
            curve of the support images before training. Beyond the paper, as are the next three.
        signed: strengths may change their sign; where not, what falls below 0 is set to 0 after each step.
        anchor_texts: "learned" with the prompt; or "descriptions": the anchors are those of the described
            classes in the frozen model, while images are compared with the plain class names.
        base: the method that alignment joins, with that method's own parts, optimiser and, where `scale` is
            0, its scale; steps and views are those given here.
    """

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
    ratios: str = "fixed"
    signed: bool = True
    anchor_texts: str = "learned"
    base: str = "prompt-lora"

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting, choices in (
            ("variant", tuple(VARIANTS)),
            ("align", ALIGN),
            ("ratios", RATIOS),
            ("anchor_texts", ANCHOR_TEXTS),
            ("base", BASES),
        ):
            self.check_choice(setting, choices)
        self.check(0, "rho", "gamma", "strength_momentum", high=1)
        check_ratios(self.value("rho"), self.value("gamma"))
        self.check(0, "pull_block", high=REFERENCE_DEPTH - 1)
        self.check(0, "strength_lr", "strength_weight_decay", "block")
        require(
            self.ratios == "fixed" or self.align in ("both", "push", "pull"),
            f"The setting ratios=curve of atha has no meaning with align={self.align}.",
        )
        self._check_base()

    def _check_base(self) -> None:
        changed = [
            field.name
            for field in fields(PromptLoRA)
            if field.name not in ("steps", "scale", "views") and getattr(self, field.name) != field.default
        ]
        require(
            self.base == "prompt-lora" or not changed,
            f"The settings {', '.join(changed)} of atha belong to base=prompt-lora, not {self.base}.",
        )
        self.joined()

    def joined(self) -> FinetunedMethod:
        """The method that alignment joins."""
        if self.base == "prompt-lora":
            return PromptLoRA(**{field.name: getattr(self, field.name) for field in fields(PromptLoRA)})
        scale = {"scale": self.scale} if self.scale else {}
        method = create(self.base, {"steps": self.steps, "views": self.views} | scale)
        assert isinstance(method, FinetunedMethod)
        return method

    def settings(self) -> dict[str, Any]:
        """Every setting, the variant's own values filled in."""
        chosen = asdict(self)
        filled = VARIANTS[self.variant] | {"strength_weight_decay": 0.0 if self.variant == "paper" else 5e-4}
        return {name: filled.get(name) if value is None else value for name, value in chosen.items()}

    def value(self, name: str) -> Any:
        """A setting, or the variant's own value where it is None."""
        chosen = getattr(self, name)
        return VARIANTS[self.variant][name] if chosen is None else chosen

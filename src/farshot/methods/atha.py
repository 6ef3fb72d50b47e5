"""atha: Adaptive Tail-Head Alignment for source-free cross-domain few-shot learning, ICML 2026 (arXiv
2605.29776).

Before every vision block, the patches that resemble a class most (head) are pulled towards its text and those
that resemble none (tail) are pushed away, with learnable strengths. Everything else is the base method, by
default prompt-lora, ATHA's own recipe: its parts, optimisers, steps and views. The operator
(farshot.parts.alignment) is part of the model and acts on every image at prediction too. docs/method.md
describes the two variants: what the paper says, and what the released code computes once it is fixed.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method atha --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch

from farshot.errors import SettingError
from farshot.methods.base import Kind, require
from farshot.methods.extension import Extension
from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.methods.prompt_lora import PromptLoRA
from farshot.methods.registry import find, register
from farshot.methods.values import read_settings
from farshot.model.encoder import Encoder
from farshot.parts.alignment import HeadTailAlignment, check_ratios
from farshot.parts.ratios import support_ratios
from farshot.sanitize import short
from farshot.task import Task
from farshot.training.batches import QUERY_READING
from farshot.training.recipe import SGD, AdamW, ParameterGroup

VARIANTS: dict[str, dict[str, Any]] = {
    # docs/method.md, "Two variants"; pull_block counts from 0 in a tower of 12 blocks. The paper does not say
    # how its strengths are trained.
    "paper": {
        "rho": 0.1,
        "gamma": 0.1,
        "pull": 0.8,
        "pull_block": 7,
        "push": 0.01,
        "strength_lr": 2e-4,
        "strength_weight_decay": 0.0,
    },
    "released": {
        "rho": 0.3,
        "gamma": 0.2,
        "pull": 0.8,
        "pull_block": 6,
        "push": 0.0,
        "strength_lr": 1e-3,
        "strength_weight_decay": 5e-4,
    },
}
BASES = ("prompt-lora", "clip-lora", "limo", "vtt", "coop", "maple", "vpt", "bitfit", "full")
_DEPTH = 12  # that pull_block refers to; in other towers it is scaled in proportion


@register
@dataclass(frozen=True)
class ATHA(Extension):
    """Settings of atha; those of the base method are given in the same way. None means the variant's value.

    Attributes:
        base: the method that alignment is added to, in Python an object such as ClipLoRA(rank=4), as text one
            of BASES.
        variant: "paper" or "released": anchors, ratios, initial strengths and how these are trained.
        align: "both"; "push" or "pull" alone, the other fixed at 0; "uniform" (every patch is pulled to its
            nearest class, no push); or "random" (head and tail are drawn at random).
        rho, gamma: share of head and of tail tokens.
        pull, push: initial strengths; pull starts at 0 except before one block, push acts before all.
        pull_block: that block, counted from 0 in a tower of 12; scaled in proportion for other depths.
        strength_lr, strength_momentum, strength_weight_decay: training of the strengths, by AdamW in "paper"
            (without momentum) and by SGD in "released".
        fixed: the strengths keep their initial values.
        block: align before this block only, counted from 0 in the model's own depth.
        ratios: "fixed" at rho and gamma; or "curve": per task and block, at the bends of the similarity curve
            of the support images before training. This and the next two are not in the paper.
        signed: strengths may become negative; otherwise they are clamped at 0 after each step.
        anchor_texts: "learned" with the prompt; or "descriptions": anchors are those of the described classes
            in the frozen model, while images are compared with the plain class names.
    """

    name = "atha"
    kind: ClassVar[Kind] = "fine-tuned"
    reference = "ATHA, ICML 2026 (arXiv 2605.29776)"
    doc = "prompt-lora plus alignment: head patches pulled to a class, tail patches pushed from it"
    plain = "learns from your pictures, and within each moves the parts that look like a class closer to it"

    base: FinetunedMethod = field(default_factory=PromptLoRA)
    variant: Literal["paper", "released"] = "paper"
    align: Literal["both", "push", "pull", "uniform", "random"] = "both"
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
    ratios: Literal["fixed", "curve"] = "fixed"
    signed: bool = True
    anchor_texts: Literal["learned", "descriptions"] = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.base.name in BASES,
            f"The setting base of atha must be one of {', '.join(BASES)}, not {short(self.base.name)}.",
        )
        self.check(0, "rho", "gamma", "strength_momentum", high=1)
        check_ratios(self.value("rho"), self.value("gamma"))
        self.check(0, "pull_block", high=_DEPTH - 1)
        self.check(0, "strength_lr", "strength_weight_decay", "block")
        require(
            self.ratios == "fixed" or self.align in ("both", "push", "pull"),
            f"The setting ratios=curve of atha has no meaning with align={self.align}.",
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ATHA:
        """Settings that are not atha's own are those of the base method."""
        own = {setting.name for setting in fields(cls)} - {"base"}
        name = settings.get("base", "prompt-lora")
        require(
            name in BASES, f"The setting base of atha must be one of {', '.join(BASES)}, not {short(name)}."
        )
        known = {setting.name for setting in fields(find(name))}
        for other in settings:
            require(
                other in own | known | {"base"},
                f"The method atha with base={name} has no setting {short(other)}; its settings are: base, "
                f"{', '.join(sorted(own))}, and those of {name}: {', '.join(sorted(known))}.",
            )
        base = find(name).from_settings({key: settings[key] for key in settings if key in known})
        assert isinstance(base, FinetunedMethod)  # as all of BASES are
        return cls(base, **read_settings(cls, {key: settings[key] for key in settings if key in own}))

    @classmethod
    def stored_settings(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Version 0.1 stored all settings of prompt-lora and used three of them with any base."""
        if settings.get("base", "prompt-lora") == "prompt-lora" or "lora_lr" not in settings:
            return dict(settings)
        unused = {setting.name for setting in fields(PromptLoRA)} - {"steps", "views"}
        kept = {key: value for key, value in settings.items() if key not in unused}
        return kept | ({"scale": settings["scale"]} if settings.get("scale") else {})

    def settings(self) -> dict[str, Any]:
        """All settings, those of the base method included, with the variant's values filled in."""
        own = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        filled = {key: self.value(key) if value is None else value for key, value in own.items()}
        return self.base.settings() | filled | {"base": self.base.name}

    def default_settings(self) -> dict[str, Any]:
        """Of atha with the same base method, except that the default base is prompt-lora."""
        return type(self)(type(self.base)()).settings() | {"base": PromptLoRA.name}

    def value(self, name: str) -> Any:
        """A setting, or the variant's own value where it is None."""
        chosen = getattr(self, name)
        return VARIANTS[self.variant].get(name) if chosen is None else chosen

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The base method's parts and the alignment."""
        depth = encoder.vision_depth
        if self.block is not None and self.block >= depth:
            raise SettingError(
                f"The setting block of atha is {self.block}, but {encoder.source} has blocks 0 to "
                f"{depth - 1}."
            )
        first = self.value("pull_block") * depth // _DEPTH if self.block is None else self.block
        pull = [0.0] * depth
        pull[first] = 0.0 if self.align == "push" else self.value("pull")
        push = [0.0 if self.align in ("pull", "uniform") else self.value("push")] * depth
        uniform, measured = self.align == "uniform", self.ratios == "curve"
        alignment = HeadTailAlignment(
            encoder,
            [task.key for task in tasks],
            anchors=self.variant,
            pull=pull,
            push=push,
            head_ratio=None if measured else 1.0 if uniform else self.value("rho"),
            tail_ratio=None if measured else 0.0 if uniform else self.value("gamma"),
            described=len(tasks[0].class_names) if self.anchor_texts == "descriptions" else None,
            random=self.align == "random",
            blocks=None if self.block is None else [first],
        )
        return self.base.parts(encoder, tasks) | {"alignment": alignment}

    def groups(self, parts: Parts) -> list[ParameterGroup]:
        """The base method's groups, and the strengths that are trained."""
        alignment = parts["alignment"]
        assert isinstance(alignment, HeadTailAlignment)
        learned = [] if self.align == "push" else [alignment.pull]
        learned += [] if self.align in ("pull", "uniform") else [alignment.push]
        for strength in (alignment.pull, alignment.push):
            strength.requires_grad_(not self.fixed and any(strength is other for other in learned))
        base = self.base.groups({name: part for name, part in parts.items() if part is not alignment})
        if self.fixed:
            return base
        lr, decay = self.value("strength_lr"), self.value("strength_weight_decay")
        optimiser = AdamW(lr, decay) if self.variant == "paper" else SGD(lr, self.strength_momentum, decay)
        return [*base, ParameterGroup(learned, optimiser, at_least=None if self.signed else 0.0)]

    @torch.no_grad()
    def start(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> None:
        """Measure ratios and embed descriptions before training."""
        alignment = parts["alignment"]
        assert isinstance(alignment, HeadTailAlignment)
        if alignment.ratios is not None:
            views = self.recipe_for(tasks[0]).views
            reading = encoder.reading(QUERY_READING[views])
            found = [support_ratios(encoder, task, reading, self.variant) for task in tasks]
            alignment.ratios.copy_(torch.stack(found))
        if alignment.texts is not None:
            for task in tasks:
                missing = [name for name in task.class_names if name not in task.descriptions]
                require(
                    not missing,
                    "anchor_texts=descriptions needs a description of every class (--descriptions FILE); "
                    f"there is none of {', '.join(missing)}.",
                )
            texts = encoder.forward_texts(encoder.prompts([task.prompts for task in tasks]))
            alignment.texts.copy_(torch.stack([texts.final, texts.tap], dim=1))

    def worded(self, task: Task) -> Task:
        """The base method's prompt; with anchors from descriptions, of the plain class names."""
        if self.anchor_texts == "descriptions":
            task = replace(task, descriptions={})
        return super().worded(task)

"""atha: Adaptive Tail-Head Alignment for source-free cross-domain few-shot learning, ICML 2026 (arXiv
2605.29776).

Before every vision block, the patches that resemble a class most (head) are pulled towards its text and those
that resemble none (tail) are pushed away, with learnable strengths; everything else is the base recipe of
prompt-lora, or of another method it joins. The operator is part of the model: it runs on every image at
prediction too. Two variants (docs/method.md): what the paper says, and what the released code computes once
its accidents are mended. Settings stand in atha_settings.py.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method atha --set variant=released --shots 5
    --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from farshot.errors import SettingError
from farshot.methods.atha_settings import REFERENCE_DEPTH, ATHASettings
from farshot.methods.base import require
from farshot.methods.finetuned import Parts
from farshot.methods.registry import register
from farshot.model.encoder import Encoder
from farshot.parts.alignment import HeadTailAlignment
from farshot.parts.ratios import support_ratios
from farshot.task import Task
from farshot.training.batches import QUERY_READING
from farshot.training.loop import Objective
from farshot.training.recipe import SGD, AdamW, Group, Recipe


@register
@dataclass(frozen=True)
class ATHA(ATHASettings):
    """Alignment on top of the method it joins."""

    name = "atha"
    reference = "ATHA, ICML 2026 (arXiv 2605.29776)"
    doc = "prompt-lora plus alignment: head patches pulled to a class, tail patches pushed from it"
    plain = "learns from your pictures, and within each moves the parts that look like a class closer to it"

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """The joined method's parts and the alignment."""
        depth = encoder.vision_depth
        if self.block is not None and not 0 <= self.block < depth:
            raise SettingError(
                f"The setting block of atha is {self.block}, but {encoder.source} has blocks 0 to "
                f"{depth - 1}."
            )
        first = self.value("pull_block") * depth // REFERENCE_DEPTH if self.block is None else self.block
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
        return self.joined().parts(encoder, tasks) | {"alignment": alignment}

    @torch.no_grad()
    def start(self, encoder: Encoder, tasks: Sequence[Task], parts: Parts) -> None:
        """Ratios and texts that are measured before training."""
        alignment = parts["alignment"]
        assert isinstance(alignment, HeadTailAlignment)
        if alignment.ratios is not None:
            reading = QUERY_READING[self.views]
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

    def groups(self, parts: Parts) -> list[Group]:
        """The joined method's groups and the strengths that learn."""
        alignment = parts["alignment"]
        assert isinstance(alignment, HeadTailAlignment)
        learned = [] if self.align == "push" else [alignment.pull]
        learned += [] if self.align in ("pull", "uniform") else [alignment.push]
        for strength in (alignment.pull, alignment.push):
            strength.requires_grad_(not self.fixed and any(strength is other for other in learned))
        joined = self.joined().groups({name: part for name, part in parts.items() if part is not alignment})
        if self.fixed:
            return joined
        lr, at_least = self.value("strength_lr"), None if self.signed else 0.0
        if self.variant == "paper":
            return [*joined, Group(learned, AdamW(lr, self.strength_weight_decay or 0.0), at_least)]
        decay = 5e-4 if self.strength_weight_decay is None else self.strength_weight_decay
        return [*joined, Group(learned, SGD(lr, self.strength_momentum, decay), at_least)]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """The joined method's."""
        return self.joined().recipe(classes, shots)

    def worded(self, task: Task) -> Task:
        """The joined method's prompt; with anchors from descriptions, of the plain class names."""
        if self.anchor_texts == "descriptions":
            task = replace(task, descriptions={})
        return self.joined().worded(task)

    def finish(self, parts: Parts) -> None:
        """As the joined method does."""
        self.joined().finish(parts)

    def objective(self, tasks: Sequence[Task], recipe: Recipe) -> Objective | None:
        """The joined method's."""
        return self.joined().objective(tasks, recipe)

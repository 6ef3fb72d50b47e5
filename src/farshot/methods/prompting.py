"""What methods that learn prompts share, beside the loop: the recipe of CoOp's family of programs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from farshot.methods.finetuned import FinetunedMethod, Parts
from farshot.training.batches import VIEWS
from farshot.training.recipe import SGD, Group, Recipe


@dataclass(frozen=True)
class PromptMethod(FinetunedMethod):
    """Settings of every method that learns prompts with SGD.

    Attributes:
        steps: optimiser steps; 0 means the authors' number of epochs.
        scale: of the logits; CLIP's own is 100.
        views: "crops", a fresh one at each step; or "five" fixed ones, or "none".
        batch: images of a step.
        lr, momentum, weight_decay: of SGD; the rate falls to 0 along a cosine.
        warm_epochs: first passes over the support set, which have a rate of 1e-5.
    """

    steps: int = 0
    scale: float = 100.0
    views: str = "crops"
    batch: int = 32
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_epochs: int = 1

    def __post_init__(self) -> None:
        self.check(0, "steps", "scale", "warm_epochs", "lr", "weight_decay")
        self.check(0, "momentum", high=1)
        self.check(1, "batch")
        self.check_choice("views", VIEWS)

    @abstractmethod
    def epochs(self, shots: int) -> int:
        """The authors' number of passes over the support set."""

    def groups(self, parts: Parts) -> list[Group]:
        """SGD for all."""
        parameters = [parameter for part in parts.values() for parameter in part.parameters()]
        return [Group(parameters, SGD(self.lr, self.momentum, self.weight_decay))]

    def recipe(self, classes: int, shots: int) -> Recipe:
        """Epochs of batches, a warm start and a cosine."""
        epoch = -(-classes * max(shots, 1) // self.batch)  # steps in which all images come once
        steps = self.steps or self.epochs(shots) * epoch
        return Recipe(
            steps=steps,
            scale=self.scale,
            views=self.views,
            batch_total=self.batch,
            cosine_to=0.0,
            warm_steps=self.warm_epochs * epoch,
        )


@dataclass(frozen=True)
class DeepPromptMethod(PromptMethod):
    """Settings of methods whose tokens are learned anew before each block, beside those above.

    Attributes:
        tokens: n, learned tokens.
        depth: blocks with tokens of their own, at most the tower's.
    """

    batch: int = 4
    tokens: int = 8
    depth: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(1, "tokens", "depth")

    def epochs(self, shots: int) -> int:
        """Five, whatever the shots, as in MaPLe's program."""
        return 5

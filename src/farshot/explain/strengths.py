"""The learned strengths: pull and push of every block, with their sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from farshot.arrays import NDArray
from farshot.errors import SettingError
from farshot.explain.style import chart, line_styles
from farshot.explain.subject import Subject


@dataclass(frozen=True)
class Strengths:
    """Learned strengths of an alignment.

    Attributes:
        blocks: vision blocks that it acts before, from 0.
        pull: of head tokens towards the class they resemble most; negative pushes them away.
        push: of tail tokens from the class they resemble least; negative pulls them towards it.
    """

    blocks: tuple[int, ...]
    pull: Float[NDArray[np.float64], " blocks"]
    push: Float[NDArray[np.float64], " blocks"]

    def turned(self) -> list[str]:
        """Describe which strengths are negative and so do the opposite of their name."""
        named = (("pull", self.pull, "pushes"), ("push", self.push, "pulls"))
        return [
            f"{name} before block {block} is {value:+.3f}: it {does}"
            for name, values, does in named
            for block, value in zip(self.blocks, values, strict=True)
            if value < 0
        ]


def learned_strengths(subject: Subject) -> Strengths:
    """Pull and push before each block.

    Raises:
        SettingError: the method has no head-tail alignment.
    """
    alignment = subject.alignment
    if alignment is None:
        raise SettingError(
            "Only methods with head-tail alignment have pull and push strengths; this has none."
        )
    pull, push = (
        np.asarray(values.detach().double().cpu())[0, alignment.blocks]
        for values in (alignment.pull, alignment.push)
    )
    return Strengths(tuple(alignment.blocks), pull, push)


def draw_strengths(strengths: Mapping[str, Strengths]) -> Figure:
    """Draw pull and push by block, one line per model; negative values do the opposite of their name."""
    figure, axes = chart("Learned strengths", "vision block, from 0", "strength", columns=2, shared=False)
    for one, name in zip(axes, ("pull", "push"), strict=True):
        one.set_title(name, fontsize=10)
        one.axhline(0, color="black", linewidth=0.8)
        for style, (model, found) in zip(line_styles(len(strengths)), strengths.items(), strict=True):
            one.plot(found.blocks, getattr(found, name), label=model, markersize=4, **style)  # type: ignore[arg-type]
    axes[0].legend(frameon=False)
    return figure

"""How widely the class token looks: the entropy of its attention, block by block.

Shapes: B images, L patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import SettingError
from farshot.explain.lens import Ask, views
from farshot.explain.style import chart, line_styles
from farshot.explain.subject import Subject
from farshot.training.loop import Progress


def attention_entropy(attention: Float[Tensor, "*any L"]) -> Float[Tensor, "*any"]:
    """-sum p log p over the last dimension, nats: 0 where one token gets all, log(L) where all get the same.

    Args:
        attention: weights that sum to 1; 0 log 0 counts as 0.
    """
    return torch.special.entr(attention.double()).sum(-1)


def class_token_entropy(
    subject: Subject,
    table: ImageTable,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    progress: Progress | None = None,
) -> Float[NDArray[np.float64], "depth heads"]:
    """Entropy of the class token's attention over itself and all patches, nats, mean over images.

    Raises:
        SettingError: the encoder has no class token.
    """
    if not subject.encoder.vision.config.class_token:
        raise SettingError(f"{subject.encoder.source} has no class token whose attention could be measured.")
    ask = Ask(attention=tuple(range(subject.encoder.vision_depth)))
    found = []
    for view in views(subject, table, ask, rows=rows, progress=progress):
        found.append(torch.stack([attention_entropy(view.attention[b]) for b in ask.attention], dim=1))
    return torch.cat(found).mean(0).numpy()


def draw_class_token_entropy(entropies: Mapping[str, Float[NDArray[np.float64], "depth heads"]]) -> Figure:
    """One line for each model: mean over heads, by block; dots are single heads."""
    figure, (axes,) = chart("Attention of the class token", "vision block, from 0", "entropy (nats)")
    for style, (name, values) in zip(line_styles(len(entropies)), entropies.items(), strict=True):
        blocks = np.arange(len(values))
        axes.plot(blocks, values.mean(1), label=name, markersize=4, **style)  # type: ignore[arg-type]
        axes.plot(blocks, values, ".", color=style["color"], alpha=0.35, markersize=3)
    axes.legend(frameon=False)
    return figure

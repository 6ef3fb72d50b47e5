"""Compare head and tail tokens with the truth: which patches show the class, known in the mini worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from PIL import ImageDraw

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.explain.figure import SIDE, Panel
from farshot.explain.lens import Ask, check_blocks, views
from farshot.explain.style import chart, line_styles
from farshot.explain.subject import Subject
from farshot.parts.alignment import choose_tokens, class_anchors, patch_class_similarity
from farshot.training.loop import Progress
from farshot.world import class_names, generate
from farshot.world.truth import TokenTruth, token_truth


def token_agreement(
    subject: Subject,
    world: str,
    indices: Sequence[int] | NDArray[np.int64],
    blocks: Sequence[int] | None = None,
    *,
    head_ratio: float = 0.1,
    tail_ratio: float = 0.1,
    progress: Progress | None = None,
) -> dict[int, TokenTruth]:
    """How many head tokens lie on the class and how many tail tokens on background, by block.

    A model with alignment is asked for the tokens that it moves; of another, those are taken that the paper's
    operator would choose with these ratios and the model's own texts.

    Args:
        world: a mini world.
        indices: test images of it; only those whose class the model knows count.
        blocks: from 0; all where None.
    """
    encoder, alignment = subject.encoder, subject.alignment
    wanted = range(encoder.vision_depth) if blocks is None else check_blocks(blocks, encoder)
    if alignment is not None:
        wanted = [block for block in wanted if block in alignment.blocks]
    images = generate(world, "test", indices)
    names = class_names(world)
    known = [i for i, label in enumerate(images.labels) if names[label] in subject.class_names]
    if not known:
        raise DataError(f"None of these images of {world} shows a class that the model knows.")
    table = ImageTable(tuple(images.pixels[i] for i in known), None, (), ())
    ask = Ask(choices=tuple(wanted)) if alignment is not None else Ask(tokens=tuple(wanted))
    texts = subject.texts if subject.texts is not None else subject.texts_of(subject.class_names)
    vectors = class_anchors(encoder, "paper", texts).cpu()[0]
    picked: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {block: [] for block in wanted}
    for view in views(subject, table, ask, progress=progress):
        for block in wanted:
            if alignment is not None:
                choice = view.choices[block]
            else:
                similarity = patch_class_similarity(view.tokens[block], vectors)
                choice = choose_tokens(similarity, head_ratio, tail_ratio)
            picked[block].append((choice.head, choice.tail))
    truth = images.truth[known]
    out = {}
    for block, found in picked.items():
        heads, tails = zip(*found, strict=True)
        out[block] = token_truth(_indices(heads), _indices(tails), truth)
    return out


def draw_token_agreement(agreement: Mapping[str, Mapping[int, TokenTruth]]) -> Figure:
    """Head tokens on the class and tail tokens on background by block; dotted: what blind choice reaches."""
    figure, axes = chart("Head and tail against the truth", "vision block, from 0", "share (%)", columns=2)
    kinds = (
        ("head on class", "head_on_class", "class_share"),
        ("tail on background", "tail_on_background", "background_share"),
    )
    for one, (title, name, blind) in zip(axes, kinds, strict=True):
        one.set_title(title, fontsize=10)
        for style, (model, found) in zip(line_styles(len(agreement)), agreement.items(), strict=True):
            values = [100 * getattr(truth, name) for truth in found.values()]
            one.plot(list(found), values, label=model, markersize=4, **style)  # type: ignore[arg-type]
        first = next(iter(next(iter(agreement.values())).values()))
        one.axhline(100 * getattr(first, blind), color="black", linestyle=":", label="blind choice")
    axes[0].legend(frameon=False)
    return figure


def outline_truth(drawn: Panel, truth: Int[NDArray[np.integer[Any]], "G G"]) -> Panel:
    """Outline the patches that show the class on a panel (-1 elsewhere), to check tokens by eye."""
    picture = drawn.picture.copy()
    draw = ImageDraw.Draw(picture)
    on, step = np.pad(truth >= 0, 1), SIDE / len(truth)
    for row, column in np.argwhere(on != np.roll(on, 1, axis=0)).tolist():
        x, y = (column - 1) * step, (row - 1) * step
        draw.line((x, y, x + step, y), fill="white", width=5)
        draw.line((x, y, x + step, y), fill="black", width=2)
    for row, column in np.argwhere(on != np.roll(on, 1, axis=1)).tolist():
        x, y = (column - 1) * step, (row - 1) * step
        draw.line((x, y, x, y + step), fill="white", width=5)
        draw.line((x, y, x, y + step), fill="black", width=2)
    return replace(drawn, picture=picture, alt=f"{drawn.alt}; a line marks the patches that show the class")


def _indices(masks: Sequence[torch.Tensor]) -> NDArray[np.int64]:
    """Boolean (B, L), equally many in each row, as indices (B, H)."""
    mask = torch.cat(list(masks))
    return mask.nonzero()[:, 1].view(len(mask), -1).numpy()

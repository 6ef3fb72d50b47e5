"""Sorted patch-class similarity of images of several domains in several states of a model.

The paper's first argument: on target images the curve lies lower and flatter than on source images. Shapes:
L patches, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from farshot.explain.lens import Ask, check_blocks, views
from farshot.explain.style import chart, line_styles
from farshot.explain.subject import Domain, Subject
from farshot.parts.alignment import class_anchors, patch_class_similarity
from farshot.parts.similarity import Curve, similarity_curve
from farshot.training.loop import Progress


def similarity_curves(
    subjects: Mapping[str, Subject],
    domains: Sequence[Domain],
    block: int,
    *,
    anchors: str = "paper",
    progress: Progress | None = None,
) -> dict[tuple[str, str], Curve]:
    """The curve of every state and domain, by (state, domain).

    Args:
        subjects: state -> model, for example before, after plain fine-tuning, push only, ATHA.
        domains: the images; parts and anchors see the texts of their classes under the model's text tower.
        block: tokens are read before this vision block, before the operator there moves them.
        anchors: "paper" or "released", one kind for all states, so that the curves compare.
    """
    out = {}
    for state, model in subjects.items():
        check_blocks([block], model.encoder)
        for domain in domains:
            texts = model.texts_of(domain.class_names, domain.template)
            vectors = class_anchors(model.encoder, anchors, texts).cpu()[0]
            found = [
                patch_class_similarity(view.tokens[block], vectors)
                for view in views(model, domain.table, Ask(tokens=(block,)), texts=texts, progress=progress)
            ]
            out[state, domain.name] = similarity_curve(torch.cat(found))
    return out


def draw_similarity_curves(curves: Mapping[tuple[str, str], Curve]) -> Figure:
    """One chart for each domain, one line for each state; shades: 10th to 90th percentile."""
    domains = list(dict.fromkeys(domain for _, domain in curves))
    states = list(dict.fromkeys(state for state, _ in curves))
    figure, axes = chart(
        "Patch-class similarity by rank", "patch, most similar first (%)", "cosine", columns=len(domains)
    )
    for one, domain in zip(axes, domains, strict=True):
        one.set_title(domain, fontsize=10)
        for style, state in zip(line_styles(len(states)), states, strict=True):
            if (state, domain) not in curves:
                continue
            curve = curves[state, domain]
            across = 100 * (torch.arange(len(curve.mean)) + 0.5) / len(curve.mean)
            every = max(1, len(curve.mean) // 8)
            one.plot(across, curve.mean, label=state, markevery=every, markersize=4, **style)  # type: ignore[arg-type]
            one.fill_between(across, curve.low, curve.high, color=style["color"], alpha=0.12, linewidth=0)
    axes[0].legend(frameon=False)
    return figure

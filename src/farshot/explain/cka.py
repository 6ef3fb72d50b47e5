"""Linear centred kernel alignment: the similarity of two sets of features, independent of rotation and scale.

Source: Kornblith et al., Similarity of Neural Network Representations Revisited, 2019, linear kernel.
Shapes: n images, D and E widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from farshot.arrays import NDArray
from farshot.explain.lens import Ask, views
from farshot.explain.style import chart, colour
from farshot.explain.subject import Domain, Subject
from farshot.training.loop import Progress

Features = Float[NDArray[np.floating[Any]], "n E"]


def linear_cka(
    x: Float[NDArray[np.floating[Any]], "n D"], y: Float[NDArray[np.floating[Any]], "m E"]
) -> float:
    """CKA of two descriptions of the same n things: 1 for equal up to rotation and scale, 0 for unrelated.

    |X^T Y|^2 / (|X^T X| |Y^T Y|) with Frobenius norms, columns centred; NaN where one of them is constant.

    Raises:
        ValueError: not as many rows in both.
    """
    if len(x) != len(y):
        raise ValueError(f"CKA compares descriptions of the same things: {len(x)} and {len(y)} rows differ.")
    x, y = (np.asarray(f, dtype=np.float64) - np.mean(f, axis=0, dtype=np.float64) for f in (x, y))
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / own) if own else float("nan")


def domain_cka(
    source: Float[NDArray[np.floating[Any]], "n E"], target: Float[NDArray[np.floating[Any]], "m F"]
) -> float:
    """CKA between features of different images, which have no partner in the other domain.

    The things compared are the E channels, described by their values on the source images and by their values
    on the target images: numbers of images may differ, and their order plays no part. 1: the channels relate
    to each other in both domains alike. Each image is centred over its channels; domains keep their means.
    """
    if source.shape[1] != target.shape[1]:
        raise ValueError(f"Both domains need the same channels, not {source.shape[1]} and {target.shape[1]}.")
    return linear_cka(source.T, target.T)


def domain_similarity(
    subjects: Mapping[str, Subject], source: Domain, target: Domain, *, progress: Progress | None = None
) -> dict[str, float]:
    """`domain_cka` between image embeddings of two domains, in each state of a model.

    Args:
        subjects: state -> model, for example before, after plain fine-tuning, push only, ATHA.
    """
    return {
        name: domain_cka(embed(model, source, progress=progress), embed(model, target, progress=progress))
        for name, model in subjects.items()
    }


def state_similarity(
    subjects: Mapping[str, Subject], domain: Domain, *, reference: str, progress: Progress | None = None
) -> dict[str, float]:
    """`linear_cka` between embeddings of the same images in a reference state and in every other state."""
    first = embed(subjects[reference], domain, progress=progress)
    return {
        name: linear_cka(first, embed(model, domain, progress=progress))
        for name, model in subjects.items()
        if name != reference
    }


def draw_similarities(similarities: Mapping[str, float], title: str = "Linear CKA of domains") -> Figure:
    """One bar for each state, with its number."""
    figure, (axes,) = chart(title, "linear CKA", "")
    names = list(similarities)[::-1]
    values = [similarities[name] for name in names]
    bars = axes.barh(names, values, color=colour(0), height=0.6)
    axes.bar_label(bars, labels=[f"{value:.3f}" for value in values], padding=3)
    axes.set_xlim(0, 1.12)
    return figure


def embed(model: Subject, domain: Domain, *, progress: Progress | None = None) -> Features:
    """Embeddings of a domain's images, of unit length, (n, E).

    Parts that look at class texts see those of the domain's own classes.
    """
    texts = model.texts_of(domain.class_names, domain.template) if model.parts else None
    found = [view.embedded for view in views(model, domain.table, Ask(), texts=texts, progress=progress)]
    features = np.concatenate([part.numpy() for part in found])
    return features / np.linalg.norm(features, axis=1, keepdims=True)

"""Rules for choosing images to label: functions from candidates to rows, most useful first.

All look at frozen CLIP features of length 1 and stay deterministic: where two images are worth the same, the
first comes first, and only `random` looks at the seed. Shapes: B candidates, S images labelled already, E
joint width, N classes. `count` never exceeds B, and no two candidates are copies of each other (`distinct`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from farshot.arrays import NDArray
from farshot.randomness import numpy_generator

_NEIGHBOURS = 20  # Hacohen et al. 2022, 3.2.2
_COPY = 0.1  # of the median distance between images: JPEGs of one picture lie far below, its neighbours above

Features = Float[NDArray[np.float32], "B E"]
Rows = Int[NDArray[np.int64], " count"]


@dataclass(frozen=True)
class Candidates:
    """The input of a rule.

    Attributes:
        features: of the images to choose from, of length 1, (B, E).
        labelled: of those that have a label already, (S, E).
        probabilities: of the adapted model, (B, N); None before there is one.
        seed: of random draws.
    """

    features: Float[NDArray[np.float32], "B E"]
    labelled: Float[NDArray[np.float32], "S E"]
    probabilities: Float[NDArray[np.float32], "B N"] | None = None
    seed: int = 0


Rule = Callable[[Candidates, int], Rows]


def random(seen: Candidates, count: int) -> Rows:
    """Random images, the baseline of the other rules."""
    return numpy_generator("pick", seen.seed).permutation(len(seen.features))[:count]


def spread(seen: Candidates, count: int) -> Rows:
    """Always the image farthest from all chosen and labelled ones; the first is the most central.

    Greedy k-centre: Sener and Savarese 2018 (arXiv 1708.00489). Finds the odd images of a folder.
    """
    return _farthest(seen, count, np.ones(len(seen.features), dtype=np.float32))


def cover(seen: Candidates, count: int) -> Rows:
    """Always the image that most brings all images nearer to a chosen or labelled one.

    Greedy facility location on the cosine, at least 1 - 1/e of the best choice of as many images: Nemhauser,
    Wolsey and Fisher 1978; for choosing what to label: Wei, Iyer and Bilmes 2015 (ICML).
    """
    alike = seen.features @ seen.features.T  # (B, B)
    # an image near nothing chosen counts as near as the two most different ones
    best = np.concatenate([seen.features @ seen.labelled.T, alike.min(1)[:, None]], axis=1).max(1)
    if not len(seen.labelled):
        best[:] = alike.min()
    taken = np.zeros(len(alike), dtype=bool)
    chosen = []
    for _ in range(count):
        gains = np.maximum(alike - best[:, None], 0).sum(0)
        chosen.append(_best(gains, taken))
        best = np.maximum(best, alike[:, chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def typical(seen: Candidates, count: int) -> Rows:
    """The most typical image of each group of images that look alike, largest groups first.

    TypiClust: Hacohen, Dekel and Weinshall 2022 (arXiv 2202.02794). k-means makes as many groups as there are
    labelled and wanted images; groups with a labelled image are passed over; typical is what has the least
    mean distance to its 20 nearest neighbours in the group. Unlike theirs, k-means starts from the images of
    `cover`, so that nothing is drawn; and a group gives one image.
    """
    everything = np.concatenate([seen.features, seen.labelled])
    groups = _groups(everything, count + len(seen.labelled))
    own, labelled = groups[: len(seen.features)], groups[len(seen.features) :]
    sizes = np.bincount(own, minlength=groups.max() + 1)
    sizes[labelled] = 0
    order = [group for group in np.argsort(-sizes, kind="stable") if sizes[group]][:count]
    chosen = [_most_typical(seen.features, np.flatnonzero(own == group)) for group in order]
    return _filled(seen, chosen, count)


def uncertain(seen: Candidates, count: int) -> Rows:
    """The images whose two most probable classes lie closest together.

    Margin sampling: Scheffer, Decomain and Wrobel 2001.
    """
    return np.argsort(margins(seen), kind="stable")[:count].astype(np.int64)


def uncertain_spread(seen: Candidates, count: int) -> Rows:
    """Uncertain and different: always the image of largest (1 - margin) times its distance to the nearest
    chosen or labelled one."""
    return _farthest(seen, count, 1 - margins(seen))


def gradients(seen: Candidates, count: int) -> Rows:
    """Always the image whose gradient lies farthest from those chosen.

    BADGE: Ash et al. 2020 (arXiv 1906.03671): the gradient of the loss by the last layer, the predicted class
    taken for the truth, is long where the model is uncertain and points elsewhere for other images. Unlike
    theirs, which draws by k-means++, the farthest is taken; the first is the longest.
    """
    assert seen.probabilities is not None
    guess = np.eye(seen.probabilities.shape[1], dtype=np.float32)[seen.probabilities.argmax(1)]
    error = seen.probabilities - guess  # (B, N); a gradient is its outer product with the feature
    near = (error**2).sum(1)  # squared distance to a gradient of zero, which is that of a labelled image
    length, taken = near, np.zeros(len(near), dtype=bool)
    chosen = []
    for _ in range(count):
        one = _best(near, taken)
        chosen.append(one)
        dot = (error @ error[one]) * (seen.features @ seen.features[one])
        near = np.minimum(near, length + length[one] - 2 * dot)
    return np.array(chosen, dtype=np.int64)


FIRST: dict[str, Rule] = {"random": random, "typical": typical, "cover": cover, "spread": spread}
"""Rules for the first choice, by name."""

NEXT: dict[str, Rule] = {
    "random": random,
    "uncertain": uncertain,
    "uncertain-spread": uncertain_spread,
    "gradients": gradients,
    "typical": typical,
    "cover": cover,
}
"""Rules that may look at an adapted model too."""


def margins(seen: Candidates) -> Float[NDArray[np.float32], " B"]:
    """How far the most probable class is above the second, 0 to 1."""
    assert seen.probabilities is not None
    ranked = np.sort(seen.probabilities, axis=1)
    return ranked[:, -1] - ranked[:, -2]


def distinct(features: Features, labelled: Float[NDArray[np.float32], "S E"]) -> Bool[NDArray, " B"]:
    """Images that are no near copy of a labelled image or of an earlier one.

    Near is a tenth of the median distance between the images at hand, since images of a far domain may all
    lie close together in CLIP's space.
    """
    squared = 2 - 2 * features @ features.T
    # square roots keep their order, so the median distance is the root of this median
    limit = _COPY**2 * np.median(squared)
    kept = ((2 - 2 * features @ labelled.T) > limit).all(1)
    for row in range(len(features)):
        if kept[row]:
            kept[row + 1 :] &= squared[row, row + 1 :] > limit
    return kept


def _farthest(seen: Candidates, count: int, weights: Float[NDArray[np.float32], " B"]) -> Rows:
    """Greedily the largest weight times distance to the nearest chosen or labelled image."""
    if len(seen.labelled):
        near = _distances(seen.features, seen.labelled).min(1)
    else:  # the most central comes first: as if all others were as far as it is typical
        near = seen.features @ seen.features.mean(0) + 1
    taken = np.zeros(len(near), dtype=bool)
    chosen: list[int] = []
    for _ in range(count):
        one = _best(weights * near, taken)
        away = _distances(seen.features, seen.features[[one]])[:, 0]
        near = np.minimum(near, away) if chosen or len(seen.labelled) else away
        chosen.append(one)
    return np.array(chosen, dtype=np.int64)


def _best(values: NDArray[np.floating], taken: Bool[NDArray, " B"]) -> int:
    """The first of the largest values that is not taken yet; marks it as taken."""
    one = int(np.where(taken, -np.inf, values).argmax())
    taken[one] = True
    return one


def _distances(
    a: Float[NDArray[np.float32], "B E"], b: Float[NDArray[np.float32], "S E"]
) -> Float[NDArray[np.float32], "B S"]:
    """Euclidean distances of vectors of length 1."""
    return np.sqrt(np.maximum(2 - 2 * a @ b.T, 0))


def _groups(features: Features, count: int) -> Int[NDArray[np.int64], " B"]:
    """The k-means group of each image; every image its own where there are no more than groups."""
    if count >= len(features):
        return np.arange(len(features))
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.exceptions import ConvergenceWarning

    start = cover(Candidates(features, features[:0]), count)
    with warnings.catch_warnings():  # copies among labelled images leave groups empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, init=features[start], n_init=1).fit(features)
    return found.labels_.astype(np.int64)


def _most_typical(features: Features, members: Int[NDArray[np.int64], " group"]) -> int:
    """The member with the least mean distance to its nearest neighbours within the group."""
    neighbours = min(_NEIGHBOURS, len(members) - 1)
    near = np.sort(_distances(features[members], features[members]), axis=1)[:, 1 : neighbours + 1]
    return int(members[near.sum(1).argmin()])


def _filled(seen: Candidates, chosen: list[int], count: int) -> Rows:
    """The chosen rows, and as many more by `cover` as are missing."""
    missing = count - len(chosen)
    if missing:
        rest = np.setdiff1d(np.arange(len(seen.features)), chosen)
        known = np.concatenate([seen.labelled, seen.features[chosen]])
        chosen = chosen + rest[cover(Candidates(seen.features[rest], known), missing)].tolist()
    return np.array(chosen, dtype=np.int64)

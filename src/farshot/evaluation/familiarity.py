"""Whether an image is like the labelled ones at all: a conformal p-value from frozen features and appearance.

A classifier chooses one of its classes for every image, and images of something else often get its highest
probabilities. How similar an image is to the labelled ones says more: compared with the same number for each
labelled image and the other ones, it gives a p-value (Vovk, Gammerman and Shafer, 2005; Laxhammar and
Falkman, 2011). For images that come from where the labelled ones come from, it is at most e in at most a
share e of all cases.

Two things count: the similarity of the features to those of the nearest labelled images (Sun et al., 2022),
and the Mahalanobis distance (Lee et al., 2018) of the appearance (farshot.model.appearance) from that of all.

It asks whether an image is unlike anything labelled. A new class of the same kind of images is not unlike
them, and is not found in this way. Shapes: S labelled images, B images, E joint width, A numbers of the
appearance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.data.independence import scores_of_units, worth
from farshot.errors import SettingError
from farshot.evaluation.intervals import Interval, roc_area
from farshot.evaluation.metrics import share_interval
from farshot.model.appearance import TOLERANCE

NEAREST = 3
"""Labelled images whose mean similarity counts; one, or distances by covariance, were not better on nine
sets (docs/trust.md)."""

MOST_FOLDS = 20
"""Of `Familiarity.left_out`: the images that are left are then nearly as many as all."""

APPEARANCE = 1.5
"""How much the appearance counts where the features count 1; chosen on nine sets (docs/trust.md)."""

_ROWS_AT_ONCE = 4096
_LEAST_SPREAD = 0.1  # of distances, where all labelled images look alike

Features = Float[NDArray[np.float32], "B E"]
Appearance = Float[NDArray[np.float32], "B A"]


@dataclass(frozen=True)
class _Moments:
    """Count, sum and products of the numbers of some images, from which those of a few can be subtracted."""

    count: int
    total: Float[NDArray[np.float64], " A"]
    products: Float[NDArray[np.float64], "A A"]

    @classmethod
    def of(cls, numbers: Appearance) -> _Moments:
        """Of these images."""
        exact = numbers.astype(np.float64)
        return cls(len(exact), exact.sum(0), exact.T @ exact)

    def without(self, some: _Moments) -> _Moments:
        """Of the other images."""
        return _Moments(self.count - some.count, self.total - some.total, self.products - some.products)

    def spread(self) -> tuple[Float[NDArray[np.float64], " A"], Float[NDArray[np.float64], "A A"]]:
        """Mean, and the matrix that makes differences from it independent and of variance 1, the tolerance
        added."""
        mean = self.total / self.count
        covariance = (self.products - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)
        factor = np.linalg.cholesky(covariance + np.diag(np.square(TOLERANCE)))
        return mean, np.linalg.inv(factor).T


@dataclass(frozen=True)
class Look:
    """The appearance of the labelled images.

    Attributes:
        numbers: of each, (S, A).
        distance: of each from the other ones, (S,).
    """

    numbers: Float[NDArray[np.float32], "S A"]
    distance: Float[NDArray[np.float32], " S"]

    @classmethod
    def of(cls, numbers: Float[NDArray[np.float32], "S A"], unit: Int[NDArray[np.int64], " S"]) -> Look:
        """Measure the distance of each labelled image from those of other units."""
        found, every = np.zeros(len(numbers), dtype=np.float32), _Moments.of(numbers)
        for one in np.unique(unit):
            own = unit == one
            if not own.all():
                others = every.without(_Moments.of(numbers[own]))
                found[own] = _distance(numbers[own], *others.spread())
        return cls(numbers, found)

    @cached_property
    def spread(self) -> tuple[Float[NDArray[np.float64], " A"], Float[NDArray[np.float64], "A A"]]:
        """As `_Moments.spread`."""
        return _Moments.of(self.numbers).spread()

    def distances(self, numbers: Appearance) -> Float[NDArray[np.float32], " B"]:
        """Of other images from all labelled ones."""
        return _distance(numbers, *self.spread)


@dataclass(frozen=True)
class Familiarity:
    """The labelled images as the frozen encoder sees them.

    Attributes:
        features: of length 1, (S, E).
        similarity: of each labelled image to its nearest other ones, (S,).
        look: their appearance; None in models saved by versions that did not keep it, where the similarity
            alone counts.
        unit: equal for images that are not independent, such as copies, (S,); None where it was not kept.
    """

    features: Float[NDArray[np.float32], "S E"]
    similarity: Float[NDArray[np.float32], " S"]
    look: Look | None = None
    unit: Int[NDArray[np.int64], " S"] | None = None

    @classmethod
    def of(
        cls,
        features: Float[NDArray[np.float32], "S E"],
        unit: Int[NDArray[np.int64], " S"],
        appearance: Float[NDArray[np.float32], "S A"] | None = None,
    ) -> Familiarity:
        """Compare the labelled images with each other.

        Args:
            unit: equal for images that are not independent, such as copies: an image is not compared with
                those of its unit.
            appearance: of the same images.
        """
        found = [
            _mean_of_nearest(np.where(unit[rows, None] == unit[None], -np.inf, features[rows] @ features.T))
            for rows in _chunks(len(features))
        ]
        look = None if appearance is None else Look.of(appearance, unit)
        return cls(features, np.concatenate(found), look, unit)

    @cached_property
    def weight(self) -> float:
        """Of a distance in appearance: among the labelled images it then varies by APPEARANCE times as much
        as the similarity."""
        if self.look is None:
            return 0.0
        return float(APPEARANCE * self.similarity.std() / max(self.look.distance.std(), _LEAST_SPREAD))

    @property
    def labelled(self) -> Float[NDArray[np.float32], " S"]:
        """The score of each labelled image among the other ones."""
        if self.look is None:
            return self.similarity
        return self.similarity - np.float32(self.weight) * self.look.distance

    @property
    def references(self) -> Float[NDArray[np.float32], " units"]:
        """`labelled`, ascending, as many as units: what a new image's score is compared with."""
        unit = np.arange(len(self.labelled)) if self.unit is None else self.unit
        return scores_of_units(self.labelled, unit)

    def scores(
        self, features: Features, appearance: Appearance | None = None
    ) -> Float[NDArray[np.float32], " B"]:
        """How similar images are to the labelled ones: to the nearest by features, less the weighted distance
        in appearance.

        Args:
            appearance: of the same images; not needed without `look`.
        """
        found = self.nearest(features)
        if self.look is None:
            return found
        assert appearance is not None
        return found - np.float32(self.weight) * self.look.distances(appearance)

    def p_values(
        self, features: Features, appearance: Appearance | None = None
    ) -> Float[NDArray[np.float64], " B"]:
        """Of each image: the share of the labelled images, each unit counting 1, and of the image itself,
        that are at most as similar to the labelled ones.

        Args:
            appearance: as of `scores`.
        """
        found = self.scores(features, appearance)
        references = self.references
        return (1 + np.searchsorted(references, found, side="right")) / (1 + len(references))

    def left_out(self, unit: Int[NDArray[np.int64], " S"]) -> Float[NDArray[np.float64], " S"]:
        """p-values of the labelled images themselves, each from labelled images of other folds
        (`left_out_folds`).

        Args:
            unit: as of `of`.
        """
        fold, found = left_out_folds(unit), np.zeros(len(unit))
        numbers = None if self.look is None else self.look.numbers
        for f in np.unique(fold):
            own = fold == f
            here, others = (None if numbers is None else numbers[rows] for rows in (own, ~own))
            found[own] = Familiarity.of(self.features[~own], unit[~own], others).p_values(
                self.features[own], here
            )
        return found

    def nearest(self, features: Float[NDArray[np.float32], "B E"]) -> Float[NDArray[np.float32], " B"]:
        """Mean similarity of each image to the nearest labelled ones."""
        found = [_mean_of_nearest(features[rows] @ self.features.T) for rows in _chunks(len(features))]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def check_level(self, level: float) -> None:
        """Refuse a level that no p-value of so few labelled images can reach.

        Raises:
            SettingError: says how many labelled images it takes.
        """
        if not 0 < level < 1:
            raise SettingError(
                f"The level at which images are rejected must lie between 0 and 1, not {level}."
            )
        needed, known = int(np.ceil(1 / level - 1e-9)) - 1, len(self.references)
        if known < needed:
            once = "" if known == len(self.similarity) else " (copies and groups count once)"
            raise SettingError(
                f"Rejecting images at the level {level:g} needs at least {needed} labelled images, and this "
                f"model was adapted to {known}{once}; label more, or use a level of at least "
                f"{1 / (known + 1):.3g}."
            )


@dataclass(frozen=True)
class Strangers:
    """How well images of something else are separated from images like the labelled ones.

    Attributes:
        auroc: probability that a stranger has a lower p-value than an own image; ties count half.
        flagged: share of the strangers that are rejected.
        lost: share of the own images that are rejected.
        level: p-values of at most this are rejected.
    """

    auroc: Interval
    flagged: Interval
    lost: Interval
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        shares = {"auroc": self.auroc, "flagged": self.flagged, "lost": self.lost}
        return {"level": self.level} | {
            name: {"value": share.mean, "low": share.low, "high": share.high, "images": share.n}
            for name, share in shares.items()
        }


def left_out_folds(unit: Int[NDArray[np.int64], " S"]) -> Int[NDArray[np.int64], " S"]:
    """The fold that leaves each labelled image out, all images of a unit together: as many folds as units, at
    most MOST_FOLDS."""
    names, number = np.unique(unit, return_inverse=True)
    return (number % min(len(names), MOST_FOLDS)).astype(np.int64)


def measure(
    own: Float[NDArray[np.float64], " B"],
    strange: Float[NDArray[np.float64], " C"],
    level: float,
    own_unit: Int[NDArray[np.int64], " B"] | None = None,
    strange_unit: Int[NDArray[np.int64], " C"] | None = None,
) -> Strangers:
    """Compare p-values of images like the labelled ones, but other ones, with those of strangers.

    Args:
        own_unit, strange_unit: equal for images that are not independent, such as copies; all are by default.
    """
    sizes = [
        float(len(values)) if unit is None else float(worth(unit, np.zeros_like(unit), 1)[0])
        for values, unit in ((own, own_unit), (strange, strange_unit))
    ]
    return Strangers(
        roc_area(own, strange, (sizes[0], sizes[1])),
        share_interval(strange <= level, strange_unit),
        share_interval(own <= level, own_unit),
        level,
    )


def _mean_of_nearest(similarity: Float[NDArray[np.float32], "B S"]) -> Float[NDArray[np.float32], " B"]:
    """Mean of the largest values of each row that are not -inf; -1 where there are none."""
    most = min(NEAREST, similarity.shape[1])
    nearest = np.sort(np.partition(similarity, -most, axis=1)[:, -most:], axis=1)
    known = np.isfinite(nearest)
    total = np.where(known, nearest, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), -1).astype(np.float32)


def _distance(
    numbers: Appearance, mean: Float[NDArray[np.float64], " A"], whiten: Float[NDArray[np.float64], "A A"]
) -> Float[NDArray[np.float32], " B"]:
    return np.linalg.norm((numbers - mean) @ whiten, axis=1).astype(np.float32)


def _chunks(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + _ROWS_AT_ONCE, count)) for start in range(0, count, _ROWS_AT_ONCE)]

"""Uncertainty of the numbers that farshot shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A mean and its confidence interval; `half` is the field's 1.96 * sd / sqrt(n), NaN where it does not
    apply."""

    mean: float
    low: float
    high: float
    half: float
    n: int


def mean_interval(values: ArrayLike) -> Interval:
    """Mean with mean +- 1.96 sd / sqrt(n); the interval is infinite for fewer than two values."""
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    half = 1.96 * float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, half, len(x))


def proportion_interval(successes: int, n: int) -> Interval:
    """Share of successes with its 95 % Wilson interval; NaN for n = 0."""
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    z2, share = NormalDist().inv_cdf(0.975) ** 2, successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(share, low if successes else 0.0, high if successes < n else 1.0, math.nan, n)


class PairedDifference(NamedTuple):
    """How much larger a is than b on the same tasks.

    Attributes:
        mean, low, high: mean difference and its 95 % interval by Student's t.
        bootstrap_low, bootstrap_high: 95 % percentile bootstrap over tasks.
        t_p, sign_p: two-sided p-values of the t test and of the sign test (ties left out).
        tasks_needed: tasks at which the half width of the interval falls to 0.005, half a point of accuracy.
        n: number of tasks.
    """

    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    t_p: float
    sign_p: float
    tasks_needed: int
    n: int


def paired_difference(a: ArrayLike, b: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> PairedDifference:
    """Compares two methods task by task; needs at least two tasks.

    Args:
        a, b: accuracy in [0, 1] of each task, in the same order.
    """
    from scipy import special  # slow to import, and most commands do not need it

    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(d)
    if n < 2:
        raise ValueError("a paired comparison needs at least two tasks")
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    half = float(special.stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    generator = np.random.default_rng(seed)
    means = d[generator.integers(0, n, (draws, n))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    if spread == 0:
        t_p = 1.0 if mean == 0 else 0.0
    else:
        t_p = float(2 * special.stdtr(n - 1, -abs(mean) / (spread / math.sqrt(n))))
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    # of a fair coin, twice the smaller tail
    sign_p = min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))
    needed = max(2, math.ceil((1.96 * spread / 0.005) ** 2))
    return PairedDifference(mean, mean - half, mean + half, float(low), float(high), t_p, sign_p, needed, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that keep the family-wise error of all of them."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted.tolist()

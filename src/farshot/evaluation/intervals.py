"""Uncertainty of the numbers that farshot shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from farshot.arrays import NDArray

LEAST = 3
"""Values from which on an interval is given."""

POWER = 0.8
"""With which a paired test at 5 % finds what `smallest_effect` and `tasks_to_find` name."""

_Z = NormalDist().inv_cdf(0.975)
_HALVINGS = 50  # of an interval's end: to the last digits of a float
_SURE = 30.0  # standard errors; from 37 on SciPy's noncentral t is not a number
_DRAWN_ONE_BY_ONE = 600  # values of a bootstrap
_AT_ONCE = 4_000_000  # numbers that it draws
_HALF_A_POINT = 0.005  # of accuracy
_ROUNDING = 1e-9  # accuracies of fewer than 10,000 queries that differ do so by more


class Interval(NamedTuple):
    """A mean and its confidence interval; `half` is the field's 1.96 * sd / sqrt(n), NaN where it does not
    apply."""

    mean: float
    low: float
    high: float
    half: float
    n: int


def mean_interval(values: ArrayLike) -> Interval:
    """Mean with mean +- 1.96 sd / sqrt(n), which covers 95 % for many values but 80 % for three; the interval
    is infinite for fewer than that."""
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    half = 1.96 * float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) >= LEAST else math.inf
    mean = float(x.mean())
    return Interval(mean, mean - half, mean + half, half, len(x))


def proportion_interval(successes: int, n: int, worth: float | None = None) -> Interval:
    """Share of successes with its 95 % Wilson interval; NaN for n = 0.

    Args:
        worth: independent cases that these n are worth; by default n.
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    low, high = wilson(successes / n, n if worth is None else worth)
    return Interval(successes / n, low, high, math.nan, n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Ends of the 95 % Wilson interval of a share among n > 0 cases; n need not be whole."""
    z2 = _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return max(0.0, centre - half) if share > 0 else 0.0, min(1.0, centre + half) if share < 1 else 1.0


def mean_of_shares(mean: float, shares: ArrayLike, variances: ArrayLike) -> tuple[float, float]:
    """Ends of the 95 % interval of a mean of shares that counts each as much, such as the mean recall of
    classes: Wilson's for as many cases as have the same standard error.

    Args:
        mean: the mean share, corrected where it needs to be.
        shares: neither 0 nor 1: each with half a success and half a failure more (as Agresti and Coull, 1998,
            add them).
        variances: of each.
    """
    x, centre = np.asarray(variances, dtype=np.float64), float(np.asarray(shares, dtype=np.float64).mean())
    return wilson(mean, centre * (1 - centre) / (float(x.sum()) / len(x) ** 2))


class PairedDifference(NamedTuple):
    """How much larger a is than b on the same tasks.

    Attributes:
        mean, low, high: mean difference and its 95 % interval by Student's t.
        bootstrap_low, bootstrap_high: 95 % percentile bootstrap over tasks.
        t_p, sign_p: two-sided p-values of the t test and of the sign test (ties left out). Where all
            differences are equal, the t test says nothing, and both are the sign test's.
        smallest_effect: the true difference that the t test at 5 % finds at this number of tasks with a
            probability of 80 % (POWER), for normal differences of this spread.
        tasks_to_find: tasks at which that is half a point of accuracy, 0.005.
        tasks_for_precision: tasks at which the half width of the interval falls to half a point.
        n: number of tasks.
    """

    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    t_p: float
    sign_p: float
    smallest_effect: float
    tasks_to_find: int
    tasks_for_precision: int
    n: int

    @property
    def varies(self) -> bool:
        """Whether the tasks differ: where they do not, nothing tells how precise the mean is, and the
        intervals, of no width, and the numbers of tasks say nothing."""
        return self.low < self.high


def paired_proportions(
    both: int, first: int, second: int, neither: int, worth: float | None = None, factor: float = 1.0
) -> Interval:
    """How much larger the first of two shares is on the same cases, with a 95 % interval that holds for few
    cases and where both agree on all (Newcombe, 1998, method 10).

    Args:
        both, first, second, neither: cases in which both succeed, only the first, only the second, or none.
        worth: independent cases that these are worth; by default as many.
        factor: by which the variance of the first share is larger than that of independent cases.
    """
    n = both + first + second + neither
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    a = proportion_interval(both + first, n, (worth or n) / factor)
    b = proportion_interval(both + second, n, worth)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    product = float(both * neither - first * second)
    if product > 0:
        product = max(0.0, product - n / 2 * n / (worth or n))
    phi = product / math.sqrt(margins) if margins else 0.0

    def width(up: float, down: float) -> float:
        return math.sqrt(max(0.0, up**2 - 2 * phi * up * down + down**2))

    mean = (first - second) / n
    low = mean - width(a.mean - a.low, b.high - b.mean)
    high = mean + width(a.high - a.mean, b.mean - b.low)
    return Interval(mean, low, high, math.nan, n)


def roc_area(
    high: Float[NDArray[np.float64], " B"],
    low: Float[NDArray[np.float64], " C"],
    worth: tuple[float, float] | None = None,
) -> Interval:
    """Area under the ROC curve: the probability that a value of the first kind is above one of the second,
    where ties count half. With a 95 % interval that holds for few values and for areas of 0 and 1.

    Newcombe (2006), method 5; its variance is that of exponential values, and is raised to DeLong's (1988)
    where that is larger, as when one kind varies more than the other. NaN where one kind is missing.

    Args:
        worth: independent values that those of both kinds are worth; by default as many.
    """
    if not len(high) or not len(low):
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    above, below = _share_below(high, low), _share_below(-low, -high)
    area, sizes = float(above.mean()), worth or (float(len(high)), float(len(low)))
    half, product = sum(sizes) / 2, sizes[0] * sizes[1]

    def variance(true: float) -> float:
        terms = (1 - true) / (2 - true) + true / (1 + true)
        return true * (1 - true) * (1 + (half - 1) * terms) / product

    measured = sum(
        float(shares.var(ddof=1)) / size if len(shares) > 1 else 0.0
        for shares, size in zip((above, below), sizes, strict=True)
    )
    factor = max(1.0, measured / variance(area)) if 0 < area < 1 else 1.0

    def end(outer: float) -> float:
        """The area farthest towards `outer` that is consistent with the one seen, by halving."""
        inner = area
        for _ in range(_HALVINGS):
            middle = (outer + inner) / 2
            fits = abs(area - middle) <= _Z * math.sqrt(factor * variance(middle))
            outer, inner = (outer, middle) if fits else (middle, inner)
        return inner

    return Interval(area, end(0.0), end(1.0), math.nan, len(high) + len(low))


def _share_below(
    values: Float[NDArray[np.float64], " B"], others: Float[NDArray[np.float64], " C"]
) -> Float[NDArray[np.float64], " B"]:
    """Of the others, for each value; equal ones count half."""
    ordered = np.sort(others)
    below, at_most = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + at_most) / 2 / len(others)


def bootstrap_means(
    d: Float[NDArray[np.float64], " n"], draws: int, generator: np.random.Generator
) -> Float[NDArray[np.float64], " draws"]:
    """Means of samples of n values with replacement, as the bootstrap draws them.

    Of many values, how often each distinct one is drawn is multinomial, which takes far fewer random numbers:
    accuracies of 75 queries differ by at most 151 values.
    """
    if len(d) <= _DRAWN_ONE_BY_ONE:
        return np.asarray(d[generator.integers(0, len(d), (draws, len(d)))].mean(1))
    values, counts = np.unique(d, return_counts=True)
    means = np.empty(draws)
    step = max(1, _AT_ONCE // len(values))
    for start in range(0, draws, step):
        part = slice(start, min(start + step, draws))
        drawn = generator.multinomial(len(d), counts / len(d), part.stop - part.start)
        means[part] = np.einsum("dv,v->d", drawn, values) / len(d)  # no BLAS: its threads would spin
    return means


def paired_difference(a: ArrayLike, b: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> PairedDifference:
    """Compares two methods task by task.

    Args:
        a, b: accuracy in [0, 1] of each task, in the same order.

    Raises:
        ValueError: fewer than LEAST tasks.
    """
    from scipy import special  # slow to import, and most commands do not need it

    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(d)
    if n < LEAST:
        raise ValueError(f"a paired comparison needs at least {LEAST} tasks")
    d[np.abs(d) <= _ROUNDING] = 0.0  # a tie: mean recalls of equal predictions may differ by 1e-16
    # equal differences vary by their rounding
    mean, spread = float(d.mean()), float(d.std(ddof=1)) if np.ptp(d) > _ROUNDING else 0.0
    half = float(special.stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    means = bootstrap_means(d, draws, np.random.default_rng(seed))
    low, high = np.quantile(means, (0.025, 0.975))
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    # of a fair coin, twice the smaller tail
    sign_p = min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))
    t_p = sign_p
    if spread > 0:
        t_p = float(2 * special.stdtr(n - 1, -abs(mean) / (spread / math.sqrt(n))))
    return PairedDifference(
        *(mean, mean - half, mean + half, float(low), float(high), t_p, sign_p),
        smallest_effect=smallest_effect(spread, n),
        tasks_to_find=tasks_to_find(_HALF_A_POINT, spread),
        tasks_for_precision=max(LEAST, math.ceil((1.96 * spread / _HALF_A_POINT) ** 2)),
        n=n,
    )


def paired_power(effect: float, spread: float, n: int) -> float:
    """Probability that a two-sided paired t test at 5 % finds a true difference `effect` of n tasks whose
    differences are normal with standard deviation `spread`: by the noncentral t distribution."""
    from scipy import special

    if spread == 0:
        return float(effect != 0)
    limit, shift = float(special.stdtrit(n - 1, 0.975)), abs(effect) / spread * math.sqrt(n)
    if shift > _SURE:
        return 1.0
    return float(1 - special.nctdtr(n - 1, shift, limit) + special.nctdtr(n - 1, shift, -limit))


def smallest_effect(spread: float, n: int) -> float:
    """The true difference that n tasks find with probability POWER; spread as in `paired_power`."""
    low, high = 0.0, 10 * spread / math.sqrt(n)  # which three tasks find, and more all the more
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if paired_power(middle, spread, n) >= POWER else (middle, high)
    return high


def tasks_to_find(effect: float, spread: float) -> int:
    """The least number of tasks that find a true difference with probability POWER."""
    high = LEAST
    while paired_power(effect, spread, high) < POWER:
        high *= 2
    low = max(LEAST, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if paired_power(effect, spread, middle) >= POWER else (middle + 1, high)
    return high


def over_cells(differences: Sequence[PairedDifference]) -> tuple[Interval, float]:
    """Mean of the differences of several cells, each cell counting as much, with its 95 % interval, and the
    two-sided p-value; by Student's t with Welch and Satterthwaite's degrees of freedom. Of one cell these are
    its own. Where no difference varies, p is that of the sign test over all cells that differ.
    """
    from scipy import special

    cells = len(differences)
    mean = float(np.mean([one.mean for one in differences]))
    n = sum(one.n for one in differences)
    variances = [
        ((one.high - one.mean) / float(special.stdtrit(one.n - 1, 0.975))) ** 2 for one in differences
    ]
    total = sum(variances)
    if total <= 0:
        agree = sum(one.n for one in differences if one.mean * mean > 0)
        against = sum(one.n for one in differences if one.mean * mean < 0)
        p = min(1.0, 2 * float(special.bdtr(min(agree, against), agree + against, 0.5))) if mean else 1.0
        return Interval(mean, mean, mean, 0.0, n), p
    freedom = total**2 / sum(v**2 / (one.n - 1) for v, one in zip(variances, differences, strict=True))
    error = math.sqrt(total) / cells
    half = float(special.stdtrit(freedom, 0.975)) * error
    p = float(2 * special.stdtr(freedom, -abs(mean) / error))
    return Interval(mean, mean - half, mean + half, half, n), p


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that keep the family-wise error of all of them."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted.tolist()

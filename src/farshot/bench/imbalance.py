"""Class sizes of the support sets of imbalanced tasks.

`dirichlet:A` gives every class one image and draws the others as a Pólya urn does, which is to draw shares of
the classes from a symmetric Dirichlet distribution with concentration A, and then classes by these shares: a
Dirichlet-multinomial distribution. `long-tail:R` is the profile of Cui et al. (CVPR 2019): sizes fall
geometrically, the first is R times the last. An urn needs whole numbers only, and the profile decimal
arithmetic, so sizes are the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from farshot.errors import SettingError

KINDS = {"dirichlet": 3, "long-tail": 4}
"""By name; the millions of the version of the draw."""

_SCALE = 1000
_MILLION = 1_000_000
_WRITTEN = re.compile(r"([a-z-]+):(\d{1,3}(?:\.\d{1,3})?)")
_DIGITS = 50


@dataclass(frozen=True)
class Imbalance:
    """How unequal the classes of a support set are.

    Attributes:
        kind: dirichlet or long-tail.
        thousandths: 1000 times the concentration, or the ratio of the largest class to the smallest.
    """

    kind: str
    thousandths: int

    def __post_init__(self) -> None:
        least = 1 if self.kind == "dirichlet" else _SCALE
        if self.kind not in KINDS or not least <= self.thousandths < _MILLION:
            raise SettingError(
                "--imbalance is dirichlet:A with A from 0.001, or long-tail:R with R from 1, both below 1000 "
                f"and with at most three decimals, not {self}."
            )

    @classmethod
    def parse(cls, text: str) -> Imbalance:
        """Read text such as dirichlet:1.0 or long-tail:10.

        Raises:
            SettingError: it has another form.
        """
        found = _WRITTEN.fullmatch(text.strip())
        if found is None:
            raise SettingError(
                "--imbalance is written dirichlet:A or long-tail:R, such as dirichlet:1.0 or long-tail:10, "
                f"with at most three decimals, not {text!r}."
            )
        return cls(found[1], int(Decimal(found[2]) * _SCALE))

    @classmethod
    def of_protocol(cls, protocol: int) -> Imbalance | None:
        """The imbalance of a version of the draw; None for balanced tasks."""
        for kind, millions in KINDS.items():
            if protocol // _MILLION == millions:
                return cls(kind, protocol % _MILLION)
        return None

    @property
    def protocol(self) -> int:
        """Version of the draw: 3,000,000 (Dirichlet) or 4,000,000 (long tail) plus the thousandths."""
        return KINDS[self.kind] * _MILLION + self.thousandths

    def __str__(self) -> str:
        value = Decimal(self.thousandths) / _SCALE
        return f"{self.kind}:{value:f}"

    def sizes(self, total: int, limits: Sequence[int], below: Callable[[int], int]) -> list[int]:
        """Draw the size of each class.

        Args:
            total: images of all classes together.
            limits: the most that each class can have, at least 1; together at least `total`.
            below: draws a uniform number below a whole number.
        """
        drawn = self._urn if self.kind == "dirichlet" else self._tail
        return drawn(total, limits, below)

    def _urn(self, total: int, limits: Sequence[int], below: Callable[[int], int]) -> list[int]:
        """A class is as likely as its images beyond the first, plus the concentration; one that is full is
        not drawn."""
        sizes = [1] * len(limits)
        for _ in range(total - len(limits)):
            weights = [
                self.thousandths + _SCALE * (size - 1) if size < limit else 0
                for size, limit in zip(sizes, limits, strict=True)
            ]
            place = below(sum(weights))
            chosen = 0
            while place >= weights[chosen]:
                place -= weights[chosen]
                chosen += 1
            sizes[chosen] += 1
        return sizes

    def _tail(self, total: int, limits: Sequence[int], below: Callable[[int], int]) -> list[int]:
        """Each image after the first of every class goes to the class with the largest quotient of weight and
        size + 1/2 (Webster's method); which class is first, second, ... is drawn."""
        ways = len(limits)
        order = list(range(ways))
        for i in range(ways):
            j = i + below(ways - i)
            order[i], order[j] = order[j], order[i]
        weights = dict(zip(order, self._profile(ways), strict=True))
        sizes = [1] * ways
        for _ in range(total - ways):
            free = [c for c in order if sizes[c] < limits[c]]
            chosen = max(free, key=lambda c: weights[c] / (2 * sizes[c] + 1))  # the first of equals
            sizes[chosen] += 1
        return sizes

    def _profile(self, ways: int) -> list[Fraction]:
        """R to the power of -i / (ways - 1), to 50 digits."""
        with localcontext(prec=_DIGITS):
            log = (Decimal(self.thousandths) / _SCALE).ln()
            return [Fraction((-log * i / (ways - 1)).exp()) for i in range(ways)]

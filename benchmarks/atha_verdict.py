"""Whether ATHA gains against the method it is added to: the verdict at the top of docs/does-atha-work.md.

    bash benchmarks/does-atha-work/run.sh      # runs the benchmark, then this
    python -m benchmarks.atha_verdict --out docs/does-atha-work.md --recipe steps=50,views=none STORE...

The stores are of `farshot bench`. Each variant of ATHA is compared with its base on the same tasks of every
pool. The p-values are corrected by Holm's method: those of pools for the number of all comparisons on the
part, those of means for the number of means. Only this part of the page is replaced.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.page_parts import replace_part

from farshot.bench.compare import CellComparison, compare
from farshot.bench.results import read_groups
from farshot.bench.store import Store
from farshot.errors import SettingError
from farshot.evaluation.intervals import Interval, PairedDifference, holm, over_cells
from farshot.methods import create

BASES = ("prompt-lora", "clip-lora", "vtt", "limo")
VARIANTS = ("paper", "released")
ENOUGH = 100
"""Tasks of each cell; with fewer the page is provisional."""
LEAST_POOLS = 3
"""A mean over fewer pools is not taken."""
SURE = 0.05
"""A difference counts where its corrected p-value is below this."""


@dataclass(frozen=True, order=True)
class Kind:
    """What is compared: a variant of ATHA with its base, at one number of shots."""

    base: str
    variant: str
    shots: int

    def __str__(self) -> str:
        return f"{self.base}, {self.variant}, {self.shots} shot{'s' if self.shots > 1 else ''}"


@dataclass(frozen=True)
class Measured:
    """All comparisons of one kind.

    Attributes:
        cells: one for each pool, as `compare` gives them.
        p: of each cell, corrected for the number of all comparisons.
        mean: of the differences, each pool counting as much, in [-1, 1]; None with fewer than LEAST_POOLS.
        mean_p: corrected for the number of means.
    """

    cells: list[CellComparison]
    p: list[float]
    mean: Interval | None
    mean_p: float


def specs(base: str, variant: str, recipe: str) -> tuple[str, str]:
    """A base and ATHA on it, as for `farshot bench`; settings that the base lacks are left out."""
    known = create(base).settings()
    chosen = ",".join(one for one in recipe.split(",") if one.partition("=")[0] in known)
    which = "" if variant == VARIANTS[0] else f"variant={variant},"
    return f"{base}[{chosen}]", f"atha[base={base},{which}{chosen}]"


def read(stores: Sequence[Path], recipe: str) -> tuple[dict[Kind, list[CellComparison]], float]:
    """All comparisons that the stores hold, and the seconds of all their tasks."""
    found: defaultdict[Kind, list[CellComparison]] = defaultdict(list)
    seconds = 0.0
    for path in stores:
        with Store(path, read_only=True) as store:
            groups = read_groups(store)
            seconds += sum(float(one.series.seconds.sum()) for entries in groups.values() for one in entries)
            for base, variant in product(BASES, VARIANTS):
                plain, atha = specs(base, variant, recipe)
                try:
                    compared = compare(store, atha, plain, groups)
                except SettingError:  # not in this store
                    continue
                for cell in (cell for cells in compared.values() for cell in cells):
                    found[Kind(base, variant, cell.shots)].append(cell)
    return dict(found), seconds


def corrected(found: dict[Kind, list[CellComparison]]) -> dict[Kind, Measured]:
    """With p-values for the number of comparisons, in the order of BASES, VARIANTS and shots."""
    kinds = sorted(found, key=lambda one: (BASES.index(one.base), one.shots, VARIANTS.index(one.variant)))
    every = iter(holm([cell.difference.t_p for kind in kinds for cell in found[kind]]))
    taken = [kind for kind in kinds if len(found[kind]) >= LEAST_POOLS]
    means = [over_cells([cell.difference for cell in found[kind]]) for kind in taken]
    p_means = holm([p for _, p in means])
    mean_of = {kind: (mean, p) for kind, (mean, _), p in zip(taken, means, p_means, strict=True)}
    return {
        kind: Measured(found[kind], [next(every) for _ in found[kind]], *mean_of.get(kind, (None, 1.0)))
        for kind in kinds
    }


def text(measured: dict[Kind, Measured], seconds: float, command: str) -> str:
    """The verdict and its tables as Markdown."""
    every = [(cell, p) for one in measured.values() for cell, p in zip(one.cells, one.p, strict=True)]
    tasks = [cell.difference.n for cell, _ in every]
    lines = [
        verdict(measured),
        "",
        f"Made by `{command}`; {_span(tasks)} tasks in each cell, "
        f"{seconds / 3600:.1f} hours of fitting and predicting in all. Differences are in points, paired "
        "over tasks, with 95 % intervals by Student's t; p by the t test after Holm's correction.",
        "",
        f"Mean over pools, each counting as much, where there are at least {LEAST_POOLS}:",
        "",
        "| ATHA on | variant | shots | pools | tasks in each | ATHA minus base | p |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for kind, one in measured.items():
        if one.mean is None:
            continue
        tasks = [cell.difference.n for cell in one.cells]
        lines.append(
            f"| {kind.base} | {kind.variant} | {kind.shots} | {len(one.cells)} | {_span(tasks)} | "
            f"{_difference(one.mean)} | {_p(one.mean_p)} |"
        )
    lines += [
        "",
        "Pool by pool; the last column is the true difference that so many tasks find with a probability of "
        "80 % (before the correction):",
        "",
        "| ATHA on | variant | shots | pool | tasks | base | ATHA minus base | p | found at 80 % |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for kind, one in measured.items():
        for cell, p in zip(one.cells, one.p, strict=True):
            d = cell.difference
            numbers = (
                f"{d.n}",
                f"{100 * cell.b.mean:.1f}",
                _difference(d),
                _p(p),
                f"{100 * d.smallest_effect:.1f}",
            )
            which = (kind.base, kind.variant, f"{kind.shots}", cell.pool)
            lines.append(f"| {' | '.join(which + numbers)} |")
    return "\n".join(lines)


def verdict(measured: dict[Kind, Measured]) -> str:
    """One paragraph that says what the numbers say."""
    every = [
        (cell.difference, p) for one in measured.values() for cell, p in zip(one.cells, one.p, strict=True)
    ]
    gains, losses = (sum(p < SURE and s * d.mean > 0 for d, p in every) for s in (1, -1))
    means = {kind: one.mean for kind, one in measured.items() if one.mean is not None}
    up, down = (
        [kind for kind, mean in means.items() if measured[kind].mean_p < SURE and s * mean.mean > 0]
        for s in (1, -1)
    )
    if not means:
        head = "**Nothing can be said yet**: too few pools."
    elif up and down:
        head = f"**It depends.** ATHA gains on {_names(up)} and loses on {_names(down)}."
    elif up:
        head = f"**ATHA gains**, on {_names(up)}."
    elif down:
        head = f"**ATHA does not gain here, and loses** on {_names(down)}."
    else:
        head = "**ATHA does not gain here**, and does not lose either."
    if min(d.n for d, _ in every) < ENOUGH:
        head = f"**Provisional**, as some cells have fewer tasks than planned: {head}"
    over_pools = ""
    if means:
        worst, best = (pick(means, key=lambda kind: means[kind].mean) for pick in (min, max))
        least = f"{_difference(means[worst])} ({worst}) to " if worst != best else ""
        over_pools = (
            f" In the mean over pools it changes accuracy by {least}{_difference(means[best])} points "
            f"({best}); 95 % intervals leave out gains of more than "
            f"{100 * max(mean.high for mean in means.values()):.1f} points in every mean."
        )
    found = 100 * median(d.smallest_effect for d, _ in every)
    return (
        f"{head} Against the same method without its alignment it surely gains in {gains} and surely loses "
        f"in {losses} of {len(every)} cells (base, variant, shots and pool, after Holm's correction)."
        f"{over_pools} In a single pool the tasks find a true difference of {found:.1f} points (median) with "
        "a probability of 80 %."
    )


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _names(kinds: Sequence[Kind]) -> str:
    return "; ".join(map(str, kinds))


def _difference(one: Interval | PairedDifference) -> str:
    return f"{100 * one.mean:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the page")
    parser.add_argument("--made-by", default="farshot bench", help="the command, for the page")
    parser.add_argument("--part", default="verdict", help="of the page, which is replaced")
    parser.add_argument("--recipe", required=True, help="settings of all methods, as run.sh has them")
    parser.add_argument("stores", nargs="+", type=Path, metavar="STORE")
    given = parser.parse_args()
    found, seconds = read(given.stores, given.recipe)
    if not found:
        parser.error("the stores hold no method with ATHA on it on the same tasks")
    replace_part(given.out, given.part, text(corrected(found), seconds, given.made_by))


if __name__ == "__main__":
    main()

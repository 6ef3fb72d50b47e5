"""The part of docs/does-atha-work.md that takes ATHA apart, from what benchmarks.does_atha_work measured."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field

import numpy as np

from farshot.arrays import NDArray
from farshot.evaluation.intervals import (
    Interval,
    PairedDifference,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from farshot.methods import create

BEFORE, PLAIN, ATHA = "before (zero-shot)", "plain", "ATHA"
ALIGNED = {
    ATHA: "both",
    "push only": "push",
    "pull only": "pull",
    "uniform": "uniform",
    "random tokens": "random",
}
"""State -> setting `align`."""
DEFAULT_BASE = "prompt-lora"
_ENOUGH = 200  # tasks per pool
_PROVISIONAL = " **Provisional**: so few tasks show only large effects."


@dataclass
class Found:
    """What was measured on the tasks of one pool, one number per task.

    Attributes:
        accuracy, cka: state -> in [0, 1].
        pull, push: learned strengths of ATHA, one row per task.
    """

    accuracy: dict[str, list[float]] = field(default_factory=dict)
    cka: dict[str, list[float]] = field(default_factory=dict)
    pull: list[NDArray[np.float64]] = field(default_factory=list)
    push: list[NDArray[np.float64]] = field(default_factory=list)


def page(
    results: Mapping[str, Found],
    erased: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    truth: Mapping[str, Sequence[Interval]],
    given: argparse.Namespace,
) -> str:
    """The answers as Markdown."""
    tail, head = ([_against_lot(by, which) for by in erased.values()] for which in ("tail", "head"))
    lines = [
        "## ATHA taken apart",
        "",
        f"Made by `python -m benchmarks.does_atha_work --tasks {given.tasks} --steps {given.steps} --shots "
        f"{given.shots} --seed {given.seed} --images {given.images}{_base(given)}{_also(given)}`; "
        f"the mini worlds with the bundled mini CLIP, {_views(given.base)}. "
        f"Every state meets the same {given.tasks} tasks per pool; differences are paired, with "
        "95 % intervals by Student's t, not corrected for their number; other numbers come before their own "
        "95 % interval." + (_PROVISIONAL if given.tasks < _ENOUGH else ""),
        "",
        "### Do tail tokens carry less of the class?",
        "",
        f"Zero-shot accuracy (%) when {100 * given.share:.0f} % of the patches are replaced by the image's "
        f"mean patch before block {given.block} (from 0, of a tower of 12; others in proportion):",
        "",
        "| pool | images | none | lot | tail minus lot | head minus lot |",
        "|---|---:|---:|---:|---:|---:|",
        *(_erased_row(pool, by) for pool, by in erased.items()),
        "",
        "Where an interval leaves out zero: against as many patches drawn by lot, losing the tail costs less "
        f"in {_of(erased, [one.low > 0 for one in tail])} and more in {sum(one.high < 0 for one in tail)}; "
        f"losing the head costs more in {_of(erased, [one.high < 0 for one in head])} and less in "
        f"{sum(one.low > 0 for one in head)}.",
        "",
    ]
    if truth:
        lines += [
            "Where the truth is known, share (%) of the tokens that the unadapted model chooses, mean over "
            "blocks:",
            "",
            "| pool | head on class | any patch on class | tail on background | any patch on background |",
            "|---|---:|---:|---:|---:|",
            *(
                f"| {pool} | " + " | ".join(_shown(v, 100, 1) for v in values) + " |"
                for pool, values in truth.items()
            ),
            "",
        ]
    lines += [
        "### Does plain fine-tuning lower CKA, and does the push restore it?",
        "",
        "Linear CKA between embeddings of photographs of the source and of the task's queries:",
        "",
        "| pool | before | plain minus before | push only minus plain | ATHA minus plain |",
        "|---|---:|---:|---:|---:|",
    ]
    for pool, found in results.items():
        pairs = ((PLAIN, BEFORE), ("push only", PLAIN), (ATHA, PLAIN))
        cells = [_difference(found.cka[a], found.cka[b], 1, 5) for a, b in pairs]
        before = _shown(mean_interval(found.cka[BEFORE]), 1, 3)
        lines.append(f"| {pool} | {before} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Where an interval leaves out zero: with plain fine-tuning CKA "
        f"{_moves(results, 'cka', PLAIN, BEFORE, 'falls', 'rises')}; against plain fine-tuning, with the "
        f"push alone it {_moves(results, 'cka', 'push only', PLAIN, 'falls', 'rises')}, with ATHA it "
        f"{_moves(results, 'cka', ATHA, PLAIN, 'falls', 'rises')}.",
    ]
    others = list(ALIGNED)
    lines += [
        "",
        "### Where do gains come from?",
        "",
        "Accuracy of plain fine-tuning (%) and what each part of ATHA adds to it, in points:",
        "",
        "| pool | zero-shot | plain | " + " | ".join(others) + " |",
        "|---|" + "---:|" * (2 + len(others)),
    ]
    for pool, found in results.items():
        cells = [_shown(mean_interval(found.accuracy[state]), 100, 2) for state in (BEFORE, PLAIN)]
        cells += [_difference(found.accuracy[state], found.accuracy[PLAIN], 100, 2) for state in others]
        lines.append(f"| {pool} | " + " | ".join(cells) + " |")
    lines += ["", "Against plain fine-tuning, where an interval leaves out zero:", ""]
    lines += [f"- {state} {_moves(results, 'accuracy', state, PLAIN, 'loses', 'gains')}." for state in others]
    lines += [
        "",
        "### Do learned strengths keep their sign?",
        "",
        "Over all tasks and blocks of ATHA: range, and share (%) that does the opposite of its name.",
        "",
        "| pool | pull | negative | push | negative |",
        "|---|---:|---:|---:|---:|",
    ]
    for pool, found in results.items():
        cells = []
        for values in (np.stack(found.pull), np.stack(found.push)):
            cells += [f"{values.min():+.3f} to {values.max():+.3f}", f"{100 * (values < 0).mean():.0f}"]
        lines.append(f"| {pool} | " + " | ".join(cells) + " |")
    kept = [
        (np.stack(found.pull) >= 0).all() and (np.stack(found.push) >= 0).all() for found in results.values()
    ]
    lines += ["", f"Every strength keeps its sign in {_of(results, kept)}."]
    return "\n".join(lines)


def _of(pools: Sized, holds: Sequence[bool]) -> str:
    return f"{sum(holds)} of {len(pools)} pools"


def _moves(results: Mapping[str, Found], what: str, a: str, b: str, down: str, up: str) -> str:
    """In how many pools the interval of the paired difference lies on one side of zero."""
    found = [paired_difference(getattr(f, what)[a], getattr(f, what)[b]) for f in results.values()]
    fell, rose = [one.high < 0 for one in found], [one.low > 0 for one in found]
    return f"{down} in {_of(results, fell)} and {up} in {sum(rose)}"


def _base(given: argparse.Namespace) -> str:
    """The option where it is not the default."""
    return "" if given.base == DEFAULT_BASE else f" --base {given.base}"


def _also(given: argparse.Namespace) -> str:
    """The option as it was given, folders left out: they lie elsewhere on every machine."""
    if not given.also:
        return ""
    _, photos, *pools = given.also
    return " --also MODEL " + " ".join(f"{one.partition('=')[0]}=PATH" for one in (photos, *pools))


def _erased_row(pool: str, by: Mapping[str, NDArray[np.bool_]]) -> str:
    lost = [_difference(list(by[which]), list(by["random"]), 100, 1) for which in ("tail", "head")]
    whole, lot = (proportion_interval(int(by[which].sum()), len(by[which])) for which in ("none", "random"))
    cells = [_shown(one, 100, 1) for one in (whole, lot)]
    return f"| {pool} | {len(by['none'])} | " + " | ".join([*cells, *lost]) + " |"


def _against_lot(by: Mapping[str, NDArray[np.bool_]], which: str) -> PairedDifference:
    return paired_difference(list(by[which]), list(by["random"]))


def _shown(found: Interval, scale: float, digits: int) -> str:
    return (
        f"{scale * found.mean:.{digits}f} [{scale * found.low:.{digits}f}, {scale * found.high:.{digits}f}]"
    )


def _difference(a: Sequence[float], b: Sequence[float], scale: float, digits: int) -> str:
    found = paired_difference(a, b)
    low, high = scale * found.low, scale * found.high
    return f"{scale * found.mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _views(base: str) -> str:
    """How the support images are read."""
    return "without views" if "views" in create(base).settings() else f"with the views of {base}"

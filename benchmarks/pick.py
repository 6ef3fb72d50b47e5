"""Is choosing what to label better than choosing at random? The tables of docs/pick.md.

    python -m benchmarks.pick --draws 30 --seed 1 --rules all
    python -m benchmarks.pick --draws 200 --seed 1000 --report --rules all --first-only \
        --also MODEL rsscn7=PATH steel=PATH --also mini rsscn7=PATH steel=PATH --class-names rsscn7=FILE

A draw takes 5 classes of a pool (all, where it has fewer) and images of each without their labels; all others
of these classes are test images, except copies, near copies and images of one group with those offered. A
rule chooses as many images as random choice does, they get their true labels, and a method on frozen features
is fitted to them. A class of which no image was chosen is never predicted, so all its test images are wrong.
Differences to random choice are paired by draw. Seeds 1 to 99 are for development, those from 1000 for the
report.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from farshot import FewShotClassifier
from farshot.arrays import NDArray
from farshot.bench.tasks import check_seed
from farshot.data.independence import units
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.evaluation.intervals import holm, mean_interval, paired_difference
from farshot.methods import create
from farshot.pick import pick_first, pick_next
from farshot.pick.choice import DEFAULT_BALANCED, DEFAULT_FIRST, DEFAULT_NEXT
from farshot.pick.rules import FIRST, NEXT
from farshot.randomness import key, numpy_generator
from farshot.task import Task
from farshot.world.pools import POOLS as MINI

WAYS = 5
SHOTS = (1, 5)
ROUNDS = 5  # of N images each, after one of every class
Rows = NDArray[np.int64]
Results = dict[tuple[str, str], list[float]]
"""(setting, rule) -> accuracy of each draw."""


@dataclass(frozen=True)
class Draw:
    """Rows of a pool's table.

    Attributes:
        classes: codes of the N classes.
        offered: the images to choose from, in no order.
        test: those to measure on.
        seed: of what is random in choosing.
    """

    classes: Rows
    offered: Rows
    test: Rows
    seed: int


def draws(pool: Pool, count: int, seed: int, per_class: int, uneven: bool) -> Iterator[Draw]:
    """As many draws; uneven: each class offers half as many images as the one before it."""
    unit = units(pool.table, range(len(pool.table)))
    for index in range(count):
        generator = numpy_generator("pick benchmark", pool.name, seed, index)
        classes = generator.permutation(len(pool.by_class))[:WAYS]
        offered, test = [], []
        for place, c in enumerate(classes):
            rows = generator.permutation(pool.by_class[c])
            size = max(2, per_class >> place) if uneven else per_class
            offered.append(rows[:size])
            test.append(rows[per_class:])
        together, others = generator.permutation(np.concatenate(offered)), np.concatenate(test)
        others = others[~np.isin(unit[others], unit[together])]
        yield Draw(classes, together, others, key("pick", pool.name, seed, index))


class Measured:
    """One pool, and the classifier that is fitted to what was chosen of it."""

    def __init__(self, pool: Pool, classifier: FewShotClassifier) -> None:
        assert pool.table.labels is not None
        self.table, self.labels, self.classifier = pool.table, pool.table.labels, classifier
        self.encoder, self.method = classifier._encoder(), create(classifier.method)

    def accuracies(self, choices: Sequence[Rows], test: Rows) -> list[float]:
        """Accuracy on the test images after learning the labels of each choice."""
        tasks = {k: self._task(rows) for k, rows in enumerate(choices) if len(self._classes(rows)) > 1}
        adapted = dict(zip(tasks, self.method.adapt(self.encoder, list(tasks.values())), strict=True))
        out = []
        for k, rows in enumerate(choices):
            best = adapted[k].logits(self.table, test).argmax(1) if k in adapted else 0
            out.append(float((self._classes(rows)[best] == self.labels[test]).mean()))
        return out

    def fit(self, rows: Rows) -> None:
        """Adapts the classifier to these images, by the classes that are among them."""
        task = self._task(rows)
        own = tuple(self.table.classes[c] for c in self._classes(rows))
        table = self.table.subset(rows)
        self.classifier.fit(replace(table, labels=task.labels, classes=own, names=task.class_names))

    def names(self, classes: Rows) -> tuple[str, ...]:
        """What prompts call them."""
        return tuple(self.table.names[c] for c in classes)

    def _classes(self, rows: Rows) -> Rows:
        return np.unique(self.labels[rows])

    def _task(self, rows: Rows) -> Task:
        classes = self._classes(rows)
        return Task(self.table, self.names(classes), rows, np.searchsorted(classes, self.labels[rows]))


def first(on: Measured, draw: Draw, rules: Sequence[str]) -> Iterator[tuple[str, str, Rows]]:
    """(setting, rule, rows): N K images chosen at once, without class names and with them."""
    offered, names = on.table.subset(draw.offered), on.names(draw.classes)
    at_random = numpy_generator("at random", draw.seed).permutation(draw.offered)
    for shots in SHOTS:
        for setting, known in ((f"{shots} no names", None), (f"{shots} names", names)):
            ways = None if known else len(names)
            for rule in rules:
                if rule == "random":  # any images, whichever class CLIP predicts
                    yield setting, rule, at_random[: len(names) * shots]
                else:
                    found = pick_first(on.encoder, offered, shots, class_names=known, ways=ways, rule=rule)
                    yield setting, rule, draw.offered[found.rows]


def onward(on: Measured, draw: Draw, rules: Sequence[str]) -> Iterator[tuple[str, str, Rows]]:
    """(setting, rule, rows): one random image of every class to begin with, then N more in each round."""
    labels = on.labels[draw.offered]
    begin = np.array([draw.offered[labels == c][0] for c in draw.classes])
    offered = on.table.subset(draw.offered)
    for rule in rules:
        labelled = begin
        for number in range(1, ROUNDS + 1):
            if rule == "random":
                rest = np.setdiff1d(draw.offered, labelled)
                more = numpy_generator("at random", draw.seed, number).permutation(rest)[: len(begin)]
            else:
                on.fit(labelled)
                more = draw.offered[pick_next(on.classifier, offered, len(begin), rule=rule).rows]
            labelled = np.concatenate([labelled, more])
            if number in (1, ROUNDS):
                yield f"{number + 1} N in all, round by round", rule, labelled


def measure(on: Measured, drawn: Sequence[Draw], rules: Sequence[str], next_rules: Sequence[str]) -> Results:
    """All settings of one pool."""
    out: Results = defaultdict(list)
    for draw in drawn:
        chosen = [*first(on, draw, rules), *onward(on, draw, next_rules)]
        for (setting, rule, _), accuracy in zip(
            chosen, on.accuracies([rows for _, _, rows in chosen], draw.test), strict=True
        ):
            out[setting, rule].append(accuracy)
    return out


def tables(found: dict[str, Results]) -> Iterator[str]:
    """One table per setting: accuracy of random choice, then each rule's mean difference, +- 1.96 standard
    errors over draws; bold where Holm's correction over the whole table leaves p below 0.05."""
    for setting in dict.fromkeys(setting for results in found.values() for setting, _ in results):
        rules = [r for s, r in next(iter(found.values())) if s == setting and r != "random"]
        differences = {
            (pool, rule): np.subtract(results[setting, rule], results[setting, "random"])
            for pool, results in found.items()
            for rule in rules
        }
        p_values = [paired_difference(one, np.zeros(len(one))).t_p for one in differences.values()]
        sure = dict(zip(differences, holm(p_values), strict=True))
        yield f"\n{setting}\n"
        yield f"| pool | random | {' | '.join(f'`{rule}`' for rule in rules)} |"
        yield "|---|---:|" + "---:|" * len(rules)
        for pool, results in found.items():
            base = mean_interval(results[setting, "random"])
            row = [written(differences[pool, rule], sure[pool, rule]) for rule in rules]
            yield f"| {pool} | {100 * base.mean:.1f} | {' | '.join(row)} |"
        for kind, pools in kinds(list(found)):
            means = [average([differences[pool, rule] for pool in pools]) for rule in rules]
            yield f"| mean of {len(pools)}{kind} | | {' | '.join(means)} |"


def kinds(pools: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The pools over which a mean is taken: the mini worlds, and those of each encoder."""
    for ending in dict.fromkeys(pool.partition(", ")[2] for pool in pools):
        chosen = [pool for pool in pools if pool.partition(", ")[2] == ending]
        if len(chosen) > 1:
            yield f", {ending}" if ending else " mini worlds", chosen


def average(differences: Sequence[NDArray[np.float64]]) -> str:
    """Mean over pools of the mean over draws, in points, +- 1.96 standard errors over draws."""
    error = np.sqrt(sum(one.var(ddof=1) / len(one) for one in differences)) / len(differences)
    return f"{100 * np.mean([one.mean() for one in differences]):+.1f} +- {196 * error:.1f}"


def written(differences: NDArray[np.float64], p: float) -> str:
    """A difference in points with its interval."""
    text = average([differences])
    return f"**{text}**" if p < 0.05 else text


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pools", nargs="*", default=list(MINI), help="measured with the mini CLIP")
    parser.add_argument(
        "--also", nargs="+", action="append", default=[], help="MODEL NAME=PATH ...: a CLIP and pools"
    )
    parser.add_argument("--class-names", nargs="*", default=[], help="NAME=FILE: words for prompts")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--method", default="linear-probe")
    parser.add_argument("--rules", choices=("default", "all"), default="default")
    parser.add_argument("--uneven", action="store_true", help="classes of 40, 20, 10, 5 and 2 images")
    parser.add_argument("--keep", type=Path, help="folder for the results of each pool, which are used again")
    parser.add_argument("--first-only", action="store_true", help="leave out what follows the first choice")
    return parser


def main() -> None:
    given = options().parse_args()
    check_seed(given.seed, given.report)
    rules, next_rules = list(FIRST), list(NEXT)
    if given.rules == "default":
        rules, next_rules = ["random", DEFAULT_FIRST, DEFAULT_BALANCED], ["random", DEFAULT_NEXT]
    words = {name.lower(): Path(file) for name, _, file in (w.partition("=") for w in given.class_names)}
    todo = [("mini", spec, 40) for spec in given.pools]
    todo += [(model, spec, 30) for model, *specs in given.also for spec in specs]
    of_run = ("seed", "draws", "method", "rules", "uneven", "first_only")
    run = "-".join(str(getattr(given, name)) for name in of_run)
    found: dict[str, Results] = {}
    for model, spec, per_class in todo:
        name, own, _ = spec.partition("=")
        shown = f"{name}, {Path(model).name}" if own else name
        kept = given.keep and given.keep / f"{name}-{Path(model).name}-{run}.json"
        if kept and kept.is_file():
            found[shown] = {tuple(key): values for key, values in json.loads(kept.read_text())}
            continue
        pool = open_pool(spec, class_names=words)
        on = Measured(pool, FewShotClassifier(model, given.method, device="cpu"))
        drawn = list(draws(pool, given.draws, given.seed, per_class, given.uneven))
        found[shown] = measure(on, drawn, rules, [] if given.first_only else next_rules)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(list(found[shown].items())))
    print("\n".join(tables(found)))


if __name__ == "__main__":
    main()

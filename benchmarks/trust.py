"""How far the promises of `predict` hold: strangers, prediction sets, calibration. Prints the tables of
docs/trust.md.

    python -m benchmarks.trust --model mini --draws 12
    python -m benchmarks.trust --back-off --model CLIP --draws 12 RSSCN7=PATH
    python -m benchmarks.trust --model CLIP --draws 12 RSSCN7=PATH NEU-steel=PATH leaves=PATH

Each draw takes up to five classes of one set, K pictures of each to adapt to and 20 to measure on. Strangers
are pictures of the other sets; the mini worlds always take part.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmarks.draws import WAYS, draw

from farshot import FewShotClassifier, load_encoder
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.evaluation.calibration import expected_calibration_error
from farshot.evaluation.familiarity import measure
from farshot.evaluation.hierarchy import Hierarchy
from farshot.evaluation.sets import prediction_sets, set_threshold
from farshot.methods.base import softmax
from farshot.model.encoder import Encoder

MINI = ("mini-crops", "mini-land", "mini-skin", "mini-xray")
METHODS = ("linear-probe", "prototypes", "tip-adapter", "zero-shot")
SHOTS = (2, 5, 20)
QUERIES, LEVEL = 20, 0.05
COVERAGES = (0.8, 0.9, 0.95)

Cells = Mapping[tuple[str, int], Mapping[str, list[float]]]


def draw_apart(table: ImageTable, shots: int, seed: int) -> tuple[ImageTable, ImageTable, ImageTable | None]:
    """Pictures to adapt to, pictures to measure on, and those of the classes that were left out."""
    assert table.labels is not None
    generator = np.random.default_rng([seed, shots])
    support, queries, chosen = draw(table, shots, QUERIES, generator)
    others = np.flatnonzero(~np.isin(table.labels, chosen))
    left = table.subset(generator.permutation(others)[: WAYS * QUERIES]) if len(others) else None
    return support, queries, left


def read_once(table: ImageTable, encoder: Encoder) -> ImageTable:
    """The table with identities and pixels as the encoder reads them, so that no draw reads a file again."""
    table.contents()
    reading = encoder.reading("model")
    return table.with_pixels(table.pixels(range(len(table)), reading, encoder.size), reading, encoder.size)


def one_draw(
    encoder: Encoder, method: str, sets: Mapping[str, ImageTable], own: str, shots: int, seed: int
) -> dict[str, float]:
    """All measures of one classifier."""
    support, queries, left = draw_apart(sets[own], shots, seed)
    made = FewShotClassifier(encoder, method, seed=seed, calibrate=True).fit(support)
    labels, logits = queries.labels, made.logits(queries)
    assert labels is not None and made.held_out_ is not None
    p = softmax(logits / np.float32(made.temperature_))
    found = {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "ece": expected_calibration_error(p, labels),
        "ece before": expected_calibration_error(softmax(logits), labels),
        "temperature": made.temperature_,
        "estimate": made.held_out_.evaluation().accuracy.mean,
    }
    for coverage in COVERAGES:
        if len(support) * (1 - coverage) >= coverage - 1e-9:
            chosen = prediction_sets(
                p, set_threshold(made.held_out_.calibrated, made.held_out_.labels, coverage)
            )
            found[f"covered {coverage}"] = float(chosen[np.arange(len(labels)), labels].mean())
            found[f"size {coverage}"] = float(chosen.sum(1).mean())
    if method == METHODS[0]:
        familiar = made.familiarity(queries)
        top = made.predict_proba(queries).max(1)
        if left is not None:
            found["left-out auroc"] = measure(familiar, made.familiarity(left), LEVEL).auroc.mean
        for other, table in sets.items():
            if other != own:
                strange = table.subset(range(0, len(table), 3))
                told = measure(familiar, made.familiarity(strange), LEVEL)
                found[f"auroc {other}"] = told.auroc.mean
                found[f"top auroc {other}"] = measure(
                    top, made.predict_proba(strange).max(1), LEVEL
                ).auroc.mean
                if len(support) >= 1 / LEVEL - 1 - 1e-9:
                    found[f"flagged {other}"] = told.flagged.mean
                    found["lost"] = told.lost.mean
    return found


def one_back_off(
    encoder: Encoder, table: ImageTable, shots: int, seed: int
) -> dict[tuple[float, str], list[float]]:
    """Answers of one classifier from a hierarchy that puts the drawn classes in pairs."""
    support, queries, _ = draw_apart(table, shots, seed)
    made = FewShotClassifier(encoder, METHODS[0], seed=seed, calibrate=True).fit(support)
    assert made.held_out_ is not None and queries.labels is not None
    names = [str(name) for name in made.classes_]
    pairs = Hierarchy(names, {name: f"pair {place // 2}" for place, name in enumerate(names)})
    p = made.predict_proba(queries)
    found: dict[tuple[float, str], list[float]] = {}
    for coverage in COVERAGES:
        if len(support) * (1 - coverage) >= coverage - 1e-9:
            answers = pairs.answers(p, made.answer_threshold(pairs, coverage))
            right = [
                pairs.is_right(one, label)
                for one, label in zip(answers, queries.labels.tolist(), strict=True)
            ]
            found[coverage, "right"] = [float(np.mean(right))]
            found[coverage, "class"] = [float(np.mean([one.name in names for one in answers]))]
            found[coverage, "nothing"] = [float(np.mean([one.name is None for one in answers]))]
    return found


def print_back_off(encoder: Encoder, sets: Mapping[str, ImageTable], draws: int) -> None:
    """The table of answers from a hierarchy."""
    print("| pictures per class | promised % | right % | a class % | a pair % | any class % |")
    print("|---:|---:|---:|---:|---:|---:|")
    for shots in SHOTS:
        cells: defaultdict[tuple[float, str], list[float]] = defaultdict(list)
        for table in sets.values():
            for seed in range(draws):
                for key, values in one_back_off(encoder, table, shots, seed).items():
                    cells[key] += values
        for coverage in COVERAGES:
            if right := cells[coverage, "right"]:
                sure, none = (float(np.mean(cells[coverage, what])) for what in ("class", "nothing"))
                shares = f"{100 * sure:.0f} | {100 * (1 - sure - none):.0f} | {100 * none:.0f}"
                print(f"| {shots} | {100 * coverage:g} | {shown(right)} | {shares} |")


def shown(values: list[float], scale: float = 100) -> str:
    """Mean over draws and 1.96 standard errors."""
    if not values:
        return "-"
    x = scale * np.asarray(values)
    return f"{x.mean():.1f} +- {1.96 * x.std(ddof=1) / np.sqrt(len(x)):.1f}"


def average(found: Mapping[str, list[float]], begins: str) -> list[float]:
    """All values of the measures whose name begins so."""
    return [value for name, values in found.items() if name.startswith(begins) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--draws", type=int, default=12, help="for each set")
    parser.add_argument("--images", type=int, default=60, help="for each class of a mini world")
    parser.add_argument("--back-off", action="store_true", help="only answers from a hierarchy")
    parser.add_argument("sets", nargs="*", metavar="NAME=PATH")
    given = parser.parse_args()
    encoder = load_encoder(given.model)
    sets = {name: open_pool(name, images=given.images).table for name in MINI}
    sets |= {name: read_table(str(Path(path))) for name, path in (pair.split("=", 1) for pair in given.sets)}
    sets = {name: read_once(table, encoder) for name, table in sets.items()}
    if given.back_off:
        print_back_off(encoder, sets, given.draws)
        return
    cells: defaultdict[tuple[str, int], defaultdict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for method in METHODS:
        for shots in SHOTS:
            for own in sets:
                for seed in range(given.draws):
                    for name, value in one_draw(encoder, method, sets, own, shots, seed).items():
                        cells[method, shots][name].append(value)
    _print_strangers(cells)
    _print_sets(cells)
    fits = sum(len(cell["temperature"]) for cell in cells.values())
    print(f"\nTemperatures: {_range(cells, 'temperature')}, {fits} fits")


def _range(cells: Cells, name: str) -> str:
    values = [value for cell in cells.values() for value in cell[name]]
    return f"{min(values):.3f} to {max(values):.3f}"


def _print_strangers(cells: Cells) -> None:
    heads = ("AUROC of p", "AUROC of the top probability", "flagged %", "own lost %", "left-out class, AUROC")
    print(f"| pictures per class | {' | '.join(heads)} |")
    print("|---:|---:|---:|---:|---:|---:|")
    for shots in SHOTS:
        cell = cells[METHODS[0], shots]
        words = [
            shown(average(cell, begins), 1 if "auroc" in begins else 100) for begins in ("flagged ", "lost")
        ]
        aurocs = [f"{np.mean(average(cell, begins)):.3f}" for begins in ("auroc ", "top auroc ", "left-out")]
        print(f"| {shots} | {aurocs[0]} | {aurocs[1]} | {words[0]} | {words[1]} | {aurocs[2]} |")


def _print_sets(cells: Cells) -> None:
    heads = [f"covered at {100 * c:g} %, mean size" for c in COVERAGES]
    print(f"\n| method | pictures per class | accuracy | estimate | ECE before | ECE | {' | '.join(heads)} |")
    print("|---|---:|---:|---:|---:|---:|" + "---:|" * len(heads))
    for (method, shots), cell in cells.items():
        words = [shown(cell[name]) for name in ("accuracy", "estimate", "ece before", "ece")]
        for coverage in COVERAGES:
            size = cell[f"size {coverage}"]
            words.append(f"{shown(cell[f'covered {coverage}'])}, {np.mean(size):.2f}" if size else "-")
        print(f"| {method} | {shots} | {' | '.join(words)} |")


if __name__ == "__main__":
    main()

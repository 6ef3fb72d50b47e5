"""`farshot demo`: the main commands, on images of the bundled mini world.

    farshot demo --out demo

The demo writes a target domain as a folder of PNGs, compares three fast methods on small tasks drawn from it,
adapts to some images per class, saves the model, and evaluates it on the other images. It prints the
predictions of some of these, drawn without regard to the predictions, and writes their explanations.
Percentages are shown only if the probabilities are calibrated. Each step is printed as the command that does
the same with any folder.
"""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path

import numpy as np

from farshot.arrays import NDArray
from farshot.bench.compare import NO_SPREAD, compare
from farshot.bench.grid import Grid, label, parse_method
from farshot.bench.render import render
from farshot.bench.runner import run_grid
from farshot.bench.schema import check_place as check_store
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.classifier import FewShotClassifier, load
from farshot.cli import console
from farshot.cli.console_bench import GridProgress
from farshot.data.pool import pool_of
from farshot.data.readers import read_table
from farshot.data.table import ImageTable, path_of
from farshot.errors import DataError
from farshot.evaluation.intervals import PairedDifference
from farshot.explain import explain_table, subject
from farshot.explain.page import About, check_place, write_explanations
from farshot.model.catalogue import TOY_NOTE
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder
from farshot.randomness import numpy_generator
from farshot.storage import model_folder
from farshot.storage.atomic import check_file, check_writable, whole_file
from farshot.storage.paths import home
from farshot.world import class_names, write_folder

WORLD, POOL = "mini-crops", "crops"  # of the four worlds the one that the mini CLIP sees best
IMAGES = 320  # about forty per class
SHOTS = 16
TASK_SHOTS, WAYS, QUERIES = 5, 5, 15
SEED = 1
EXAMPLES, EXPLAINED = 16, 8
METHOD = "linear-probe"  # the usual choice where there is no GPU: it trains nothing inside CLIP
FLOOR, METHODS = "zero-shot", ("zero-shot", "prototypes", METHOD)


def run_demo(out: Path, tasks: int) -> None:
    """Runs the demo into a folder; what an earlier run measured there is not measured again.

    Args:
        out: new, or the folder of an earlier demo.
        tasks: per method.

    Raises:
        DataError: the folder holds something else.
    """
    out = home(out)
    began = time.monotonic()
    images, store, adapted, predictions, explained = (
        out / name for name in ("images", "results.db", "adapted", "predictions.csv", "explained")
    )
    _check_places(out, images, store, adapted, predictions, explained)
    write_folder(WORLD, "test", range(IMAGES), images)
    table = read_table(str(images))
    _say(f"{len(table)} drawn pictures, a folder for each of {len(table.classes)} classes: {images}")
    _say(f"The encoder: {TOY_NOTE}")
    encoder = load_encoder("mini")  # one for all steps, so that each image is encoded once
    difference = _compare(encoder, table, images, store, tasks)
    calibrated = _adapt(encoder, table, images, adapted)
    classifier = load(adapted, model=encoder)
    rows = examples(table, classifier)
    _predict(classifier, table, rows, adapted, predictions, calibrated)
    _explain(classifier, table.subset(rows[:EXPLAINED]), adapted, explained, calibrated)
    gain = [100 * value for value in (difference.mean, difference.low, difference.high)]
    interval = f"[{gain[1]:+z.1f}, {gain[2]:+z.1f}] (95 %, paired)" if difference.varies else f"({NO_SPREAD})"
    _say(f"\n{METHOD} minus {FLOOR} on the same {difference.n} tasks: {gain[0]:+z.1f} points {interval}.")
    _say(f"Results of every task: {store}   adapted model: {adapted}   predictions: {predictions}")
    _say(f"What it looked at: {explained / 'index.html'}")
    _say(f"{time.monotonic() - began:.0f} s in all.")


def _check_places(
    out: Path, images: Path, store: Path, adapted: Path, predictions: Path, explained: Path
) -> None:
    """Refuses a folder of something else, before anything is drawn."""
    check_writable(out, "choose another --out")
    if out.is_dir() and any(out.iterdir()) and not images.is_dir():
        raise DataError(f"{out} exists and is not the folder of a demo; choose another --out.")
    check_writable(images, "choose another --out")
    if images.is_dir() and (others := _other_than_drawn(images)):
        raise DataError(f"{others[0]} is not of a demo; choose another --out.")
    check_store(store)
    model_folder.check_place(adapted)
    _check_predictions(predictions)
    check_place(explained)


def _other_than_drawn(images: Path) -> list[Path]:
    """What no demo puts into its folder of images, which would be taken for images of a class."""
    names, numbers = set(class_names(WORLD)), {f"{number:05d}.png" for number in range(IMAGES)}
    folders = {images / name for name in names}
    found = [path for path in images.iterdir() if path not in folders and not path.name.startswith(".")]
    for folder in folders:
        if folder.is_dir():
            found += [p for p in folder.iterdir() if p.name not in numbers and not p.name.startswith(".")]
    return sorted(found)


def _check_predictions(path: Path) -> None:
    check_file(path, "a table of predictions", _is_predictions)


def _is_predictions(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(10_000).startswith("image,class,")


def examples(table: ImageTable, classifier: FewShotClassifier) -> NDArray[np.int64]:
    """Rows of some images that it was not adapted to, drawn by a fixed seed and nothing else."""
    unseen = np.flatnonzero(~table.among(set(classifier.support_ids_)))
    return unseen[numpy_generator("demo examples", SEED).permutation(len(unseen))[:EXAMPLES]]


def _compare(encoder: Encoder, table: ImageTable, images: Path, store: Path, tasks: int) -> PairedDifference:
    """The methods on the same tasks; METHOD against FLOOR, paired."""
    _say_command(
        *("bench", "--pools", f"{POOL}={images}", "--model", "mini", "--shots", TASK_SHOTS),
        *("--tasks", tasks, "--seed", SEED, "--store", store, "--methods", *METHODS),
    )
    methods = [parse_method(name) for name in METHODS]
    grid = Grid([pool_of(POOL, table)], [TASK_SHOTS], methods, tasks, SEED, ways=WAYS, queries=QUERIES)
    with Store(store) as filled:
        with GridProgress() as watcher:
            run_grid(grid, encoder, filled, watcher=watcher)
        _say("\n" + render(table_blocks(filled), "text").rstrip())
        _say(f"Chance is {100 / WAYS:.1f} in tasks of {WAYS} classes.")
        (cells,) = compare(filled, METHOD, FLOOR).values()
    return cells[0].difference


def _adapt(encoder: Encoder, table: ImageTable, images: Path, adapted: Path) -> bool:
    """One model from some images of every class, measured on all others; whether its probabilities are
    calibrated."""
    _say_command(
        *("adapt", images, "--model", "mini", "--method", METHOD, "--shots", SHOTS, "--seed", SEED),
        *("--calibrate", "--out", adapted),
    )
    classifier = FewShotClassifier(encoder, METHOD, calibrate=True, seed=SEED)
    with console.progress_of(classifier, f"adapting with {METHOD}"):
        classifier.fit(table.subset(table.draw(SHOTS, SEED)[0]))
    classifier.save(adapted)
    _say_command("evaluate", adapted, images)
    result = classifier.evaluate(table)
    unseen = int(result.confusion.sum())
    _say(
        f"accuracy {console.percent(result.accuracy)} % (95 % interval) on {unseen} images "
        f"that it has not seen; chance is {100 / len(table.classes):.1f} %"
    )
    if result.calibrated:
        _say(f"probabilities are calibrated: on average {100 * result.calibration_error:.1f} points off")
    return result.calibrated


def _predict(
    classifier: FewShotClassifier,
    table: ImageTable,
    rows: NDArray[np.int64],
    adapted: Path,
    predictions: Path,
    calibrated: bool,
) -> None:
    """Print the saved model's predictions of these images, next to their true classes."""
    some, labels = table.subset(rows), table.labels
    assert labels is not None
    _say_command("predict", adapted, *some.images[:2], "...", "--csv", ">", predictions)
    _say(f"{len(rows)} of the images that it has not seen, drawn by a fixed seed, not by result:\n")
    probabilities = classifier.predict_proba(some)
    best = [classifier.classes_[place] for place in probabilities.argmax(1)]
    with (
        whole_file(predictions, _check_predictions) as staging,
        staging.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "class", *classifier.classes_])
        for path, found, p in zip(some.images, best, probabilities, strict=True):
            writer.writerow([path_of(path), found, *(f"{value:.6f}" for value in p)])
    truth = [table.classes[code] for code in labels[rows]]
    wide = max(map(len, table.classes))
    names = [f"{Path(path_of(path)).parent.name}/{Path(path_of(path)).name}" for path in some.images]
    for name, true, found, p in zip(names, truth, best, probabilities, strict=True):
        sure = f"{100 * p.max():5.0f} %" if calibrated else ""
        _say(f"{name:{wide + 10}}  {found!s:{wide}}{sure}  {'right' if found == true else 'wrong'}")
    right = sum(found == true for found, true in zip(best, truth, strict=True))
    expected = f"; by its own percentages {probabilities.max(1).sum():.1f}" if calibrated else ""
    _say(f"{right} of {len(rows)} right{expected}; by chance {len(rows) / len(table.classes):.1f}")


def _explain(
    classifier: FewShotClassifier, some: ImageTable, adapted: Path, explained: Path, calibrated: bool
) -> None:
    """Token maps of images."""
    _say_command("explain", adapted, *some.images[:2], "...", "--out", explained)
    seen = subject(classifier.adapted_, classifier.encoder_, classifier.parameters_.template)
    about = About(
        "mini", label(classifier.method_), tuple(map(str, classifier.classes_)), calibrated=calibrated
    )
    check_place(explained)
    shown = explain_table(classifier, some, seen=seen)
    count = write_explanations(explained, shown, about, seen.origin)
    _say(f"the first {count} of them: {explained / 'index.html'}")


def _say(text: str) -> None:
    console.out.print(text, markup=False)


def _say_command(*words: object) -> None:
    """The command that does the same from a terminal."""
    written = " ".join(str(w) if str(w) in (">", "...") else shlex.quote(str(w)) for w in words)
    _say(f"\n$ farshot {written}")

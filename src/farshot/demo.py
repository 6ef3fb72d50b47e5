"""`farshot demo`: what a person does with their own images, on the bundled mini world.

    farshot demo --out demo

It writes a target domain as an ordinary folder of PNGs, measures three methods on the same small tasks from
that folder, then adapts to five images per class, saves the model, measures it on the rest, and shows what it
looked at.
Nothing here is special: each step is a command that works on any folder, and is printed as such.
"""

from __future__ import annotations

import csv
import shlex
import time
from pathlib import Path

from farshot import console, saved
from farshot.bench.compare import compare
from farshot.bench.grid import Grid, label, parse_method
from farshot.bench.render import render
from farshot.bench.runner import run_grid
from farshot.bench.schema import check_place as check_store
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.classifier import FewShotClassifier, load
from farshot.console_bench import GridProgress
from farshot.data.pool import pool_of
from farshot.data.readers import read_table
from farshot.data.table import ImageTable, path_of
from farshot.errors import DataError
from farshot.explain import explain_images, subject
from farshot.explain.page import About, check_place, write_explanations
from farshot.model.find import load_encoder
from farshot.paths import home
from farshot.stats import PairedDifference
from farshot.whole import check_file, check_writable, whole_file
from farshot.world import class_names, write_folder

WORLD = "mini-skin"
IMAGES = 210  # about thirty per class
SHOTS = 5
SEED = 1
QUERIES = 8
# A quarter of the paper's steps and none of its views, so that two cores need about a minute.
QUICK = {"views": "none", "steps": "25"}
_SPEC = ",".join(f"{name}={value}" for name, value in QUICK.items())
FLOOR, BASELINE, ATHA = "zero-shot[reading=centre]", f"prompt-lora[{_SPEC}]", f"atha[{_SPEC}]"


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
    difference = _compare(table, images, store, tasks)
    _adapt(table, images, adapted)
    some = table.subset(table.draw(1, SEED + 1)[0])
    classifier = load(adapted)
    _predict(classifier, some, adapted, predictions)
    _explain(classifier, some, adapted, explained)
    gain = [100 * value for value in (difference.mean, difference.low, difference.high)]
    _say(
        f"\nATHA minus its baseline on the same {difference.n} tasks: "
        f"{gain[0]:+.1f} points [{gain[1]:+.1f}, {gain[2]:+.1f}] (95 %, paired)."
    )
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
    saved.check_place(adapted)
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


def _compare(table: ImageTable, images: Path, store: Path, tasks: int) -> PairedDifference:
    """Three methods on the same tasks of one shot; ATHA against its baseline, paired."""
    methods = (FLOOR, BASELINE, ATHA)
    _say_command(
        *("bench", "--pools", f"skin={images}", "--model", "mini", "--shots", 1, "--queries", QUERIES),
        *("--tasks", tasks, "--seed", SEED, "--store", store, "--methods", *methods),
    )
    grid = Grid(
        [pool_of("skin", table)], [1], [parse_method(m) for m in methods], tasks, SEED, queries=QUERIES
    )
    with Store(store) as filled:
        with GridProgress() as watcher:
            run_grid(grid, load_encoder("mini"), filled, watcher=watcher)
        _say("\n" + render(table_blocks(filled), "text").rstrip())
        (cells,) = compare(filled, ATHA, BASELINE).values()
    return cells[0].difference


def _adapt(table: ImageTable, images: Path, adapted: Path) -> None:
    """One model from a few images of every class, measured on all others."""
    chosen = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
    _say_command(
        *("adapt", images, "--model", "mini", "--method", "atha", "--shots", SHOTS, "--seed", SEED),
        *(*chosen, "--out", adapted),
    )
    classifier = FewShotClassifier("mini", "atha", settings=QUICK, seed=SEED)
    with console.progress("adapting with atha") as classifier.progress:
        classifier.fit(table.subset(table.draw(SHOTS, SEED)[0]))
    classifier.progress = None
    classifier.save(adapted)
    _say_command("evaluate", adapted, images)
    result, left_out = classifier.evaluate(table)
    _say(
        f"accuracy {console.percent(result.accuracy)} % (95 % interval) on {len(table) - left_out} images "
        f"that it has not seen; chance is {100 / len(table.classes):.1f} %"
    )


def _predict(classifier: FewShotClassifier, some: ImageTable, adapted: Path, predictions: Path) -> None:
    """The saved model on an image of every class."""
    _say_command("predict", adapted, *some.images[:2], "...", "--csv", ">", predictions)
    probabilities = classifier.predict_proba(some)
    with (
        whole_file(predictions, _check_predictions) as staging,
        staging.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "class", *classifier.classes_])
        for path, p in zip(some.images, probabilities, strict=True):
            best = classifier.classes_[int(p.argmax())]
            writer.writerow([path_of(path), best, *(f"{value:.6f}" for value in p)])
            _say(f"{path_of(path)}   {best}   {100 * p.max():.0f} %")


def _explain(classifier: FewShotClassifier, some: ImageTable, adapted: Path, explained: Path) -> None:
    """Token maps of the same images."""
    _say_command("explain", adapted, *some.images[:2], "...", "--out", explained)
    seen = subject(classifier.adapted_, classifier.encoder_, classifier.parameters_.template)
    about = About("mini", label(classifier.method_), seen.class_names, calibrated=False)
    count = write_explanations(explained, explain_images(seen, some), about, seen.origin)
    _say(f"{count} images: {explained / 'index.html'}")


def _say(text: str) -> None:
    console.out.print(text, markup=False)


def _say_command(*words: object) -> None:
    """The command that does the same from a terminal."""
    written = " ".join(str(w) if str(w) in (">", "...") else shlex.quote(str(w)) for w in words)
    _say(f"\n$ farshot {written}")

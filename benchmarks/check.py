"""What `farshot check` finds of planted wrong labels and copies, and what groups do to an estimate. Prints
the tables of docs/check.md.

    python -m benchmarks.check --model mini --draws 4
    python -m benchmarks.check --model CLIP --draws 4 RSSCN7=PATH NEU=PATH leaves=PATH

Labels: a share of all labels is replaced by another class. Copies: 60 pictures of a set are changed, and
looked for among all pictures of the set. Groups: each picture becomes four (mirrored, cropped, brighter),
as from one plant; the truth is measured on pictures that were held back.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from farshot import FewShotClassifier, load_encoder
from farshot.check.findings import doubtful_labels
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.images.likeness import near_pairs, thumbnails
from farshot.model.encoder import Encoder

MINI = ("mini-crops", "mini-land", "mini-skin", "mini-xray")
SHARES = (0.0, 0.1, 0.3)
PICTURES, QUERIES = 10, 20  # of each class, for groups


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((max(1, round(image.width * by)), max(1, round(image.height * by))))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Without this share of each side's length, half at each end."""
    dx, dy = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, round(1.15 * value)))


CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: scaled(image, 0.5),
    "1.5 times the size": lambda image: scaled(image, 1.5),
    "JPEG, quality 50": lambda image: jpeg(image, 50),
    "JPEG, quality 20": lambda image: jpeg(image, 20),
    "half the size, JPEG 50": lambda image: jpeg(scaled(image, 0.5), 50),
    "15 % brighter": brighter,
    "mirrored": ImageOps.mirror,
    "turned by 90 degrees": lambda image: image.rotate(90, expand=True),
    "5 % cropped": lambda image: cropped(image, 0.05),
    "10 % cropped": lambda image: cropped(image, 0.1),
}


def labels(encoder: Encoder, table: ImageTable, share: float, seed: int) -> dict[str, float]:
    """Precision and recall for one draw of wrong labels."""
    assert table.labels is not None
    draws, classes = np.random.default_rng(seed), len(table.classes)
    wrong = draws.random(len(table)) < share
    given = table.labels.copy()
    given[wrong] = (given[wrong] + draws.integers(1, classes, wrong.sum())) % classes
    found = FewShotClassifier(encoder, "linear-probe", seed=seed).held_out(replace(table, labels=given))
    doubts = doubtful_labels(found)
    out = {"accuracy": float((found.probabilities.argmax(1) == table.labels).mean())}
    for name, chosen in (
        ("likely", [one.row for one in doubts if one.is_likely]),
        ("doubtful", [one.row for one in doubts]),
        ("first 10", [one.row for one in doubts[:10]]),
    ):
        out[f"{name} marked"] = len(chosen) / len(table)
        if chosen:
            out[f"{name} precision"] = float(wrong[chosen].mean())
        if wrong.any():
            out[f"{name} recall"] = float(wrong[chosen].sum() / wrong.sum())
    return out


def copies(table: ImageTable, seed: int) -> dict[str, float]:
    """Recall of each change, and false pairs among 1,000 pictures that are not copies."""
    rows = np.random.default_rng(seed).permutation(len(table))[:60]
    all_small, pictures = thumbnails(list(table.images)), [table.image(int(row)) for row in rows]
    out = {"false pairs": float(len(near_pairs(all_small)))}
    for name, change in CHANGES.items():
        pairs = near_pairs(thumbnails([change(picture) for picture in pictures]), all_small)
        out[name] = float(np.mean([rows[i] in pairs[pairs[:, 0] == i, 1] for i in range(len(rows))]))
    return out


def grouped(encoder: Encoder, table: ImageTable, seed: int) -> dict[str, float]:
    """Estimates with random folds and with groups, and the truth."""
    assert table.labels is not None
    draws = np.random.default_rng(seed)
    images: list[Image.Image] = []
    given: list[int] = []
    groups: list[str] = []
    held_back: list[int] = []
    for c in range(len(table.classes)):
        order = draws.permutation(np.flatnonzero(table.labels == c)).tolist()
        held_back += order[PICTURES : PICTURES + QUERIES]
        for row in order[:PICTURES]:
            one = table.image(row)
            images += [
                one,
                cropped(ImageOps.mirror(one), 0.15),
                cropped(one, 0.2),
                cropped(brighter(one), 0.25),
            ]
            given += [c] * 4
            groups += [str(row)] * 4
    made = ImageTable(tuple(images), np.array(given), table.classes, table.names)
    classifier = FewShotClassifier(encoder, "linear-probe", seed=seed)
    truth = classifier.fit(made).evaluate(table.subset(held_back), include_support=True).accuracy.mean
    return {
        "random folds": classifier.estimate(made).accuracy.mean - truth,
        "with groups": classifier.estimate(replace(made, groups=tuple(groups))).accuracy.mean - truth,
        "truth": truth,
    }


def shown(values: list[float], scale: float = 100) -> str:
    """Mean over sets and draws, with 1.96 standard errors."""
    if not values:
        return "-"
    x = scale * np.asarray(values)
    return f"{x.mean():.1f} +- {1.96 * x.std(ddof=1) / np.sqrt(len(x)):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--draws", type=int, default=4, help="for each set")
    parser.add_argument("sets", nargs="*", metavar="NAME=PATH")
    given = parser.parse_args()
    encoder = load_encoder(given.model)
    sets = {name: open_pool(name, images=40).table for name in MINI} if given.model == "mini" else {}
    sets |= {name: read_table(str(Path(path))) for name, path in (pair.split("=", 1) for pair in given.sets)}
    print(
        "| labels made wrong | accuracy | likely wrong: marked, precision, recall | and doubtful | first 10 |"
    )
    print("|---:|---:|---|---|---:|")
    for share in SHARES:
        cell: dict[str, list[float]] = defaultdict(list)
        for table in sets.values():
            for seed in range(given.draws):
                for name, value in labels(encoder, table, share, seed).items():
                    cell[name].append(value)
        words = [
            ", ".join(shown(cell[f"{kind} {what}"]) for what in ("marked", "precision", "recall"))
            for kind in ("likely", "doubtful")
        ]
        first = shown(cell["first 10 precision"])
        print(f"| {100 * share:g} % | {shown(cell['accuracy'])} | {words[0]} | {words[1]} | {first} |")
    cell = defaultdict(list)
    for table in sets.values():
        for name, value in copies(table, 0).items():
            cell[name].append(value)
    print("\n| change | found % | lowest set % |\n|---|---:|---:|")
    for name in CHANGES:
        print(f"| {name} | {100 * np.mean(cell[name]):.1f} | {100 * min(cell[name]):.1f} |")
    pairs = dict(zip(sets, cell["false pairs"], strict=True))
    print(
        "\nPairs among the pictures of a set:",
        ", ".join(f"{k} {v:g} of {len(sets[k])}" for k, v in pairs.items()),
    )
    cell = defaultdict(list)
    for table in sets.values():
        for seed in range(given.draws):
            for name, value in grouped(encoder, table, seed).items():
                cell[name].append(value)
    print("\n| folds | estimate minus truth, points |\n|---|---:|")
    for name in ("random folds", "with groups"):
        print(f"| {name} | {shown(cell[name])} |")


if __name__ == "__main__":
    main()

"""The commands that write, as benchmarks/killed.py runs them: a new one belongs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BENCH = (
    "bench --pools mini-crops --shots 1 --methods {methods} --tasks 4 --queries 2 --model mini --device cpu"
)
SMALL_DEMO = {"IMAGES": 64, "SHOTS": 2, "TASK_SHOTS": 1, "QUERIES": 2, "EXAMPLES": 4, "EXPLAINED": 2}
ADAPT = "adapt {data} --model mini --out {out}/m --device cpu --method"


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        words: {out} is the watched folder, the others are inputs that `Killer` makes.
        before: the command that made what is there before; None where it may only write to a new place.
        grows: names of outputs that an interrupted run leaves for the next to go on from.
        rounded: a run that goes on computes in other batches, so that numbers differ in their last digits.
        small: other values of constants of `farshot.cli.demo`.
    """

    words: str
    before: str | None = None
    grows: tuple[str, ...] = ()
    rounded: bool = False
    small: Mapping[str, int] = field(default_factory=dict)


def _replacing(words: str, **other: str) -> Command:
    """A command, run before with another input."""
    before = words
    for name, value in (other or {"data": "more"}).items():
        before = before.replace(f"{{{name}}}", f"{{{value}}}")
    assert before != words, words
    return Command(words, before)


COMMANDS: dict[str, Command] = {
    "adapt": _replacing(f"{ADAPT} linear-probe"),
    "adapt, LoRA": _replacing(f"{ADAPT} clip-lora --set steps=1 --set batch=2"),
    "predict --out": Command("predict {model} {data} --device cpu --out {out}/p.csv", grows=("p.csv",)),
    "evaluate --out": _replacing("evaluate {model} {data} --include-support --device cpu --out {out}/c.csv"),
    "convert, csv": Command("convert {data} {out}/l.csv --to csv"),
    "convert, coco": Command("convert {data} {out}/l.json --to coco"),
    "convert, cvat": Command("convert {data} {out}/l.xml --to cvat --relative-to {data}"),
    "convert, fiftyone": Command("convert {data} {out}/f --to fiftyone"),
    "convert, imagefolder": Command("convert {data} {out}/f --to imagefolder"),
    "explain": _replacing("explain {model} {data}/cat --device cpu --out {out}/e"),
    "report, model": _replacing("report {model} --data {more} --device cpu --out {out}/r.html", more="most"),
    "report, store": _replacing("report {store} --out {out}/r.html", store="store2"),
    "export onnx": _replacing("export {model} --format onnx --out {out}/o", model="model2"),
    "export --student": _replacing(
        "export {model} --student {crowd} --student-steps 1 --out {out}/o", model="model2"
    ),
    "export torch": _replacing("export {model} --format torch --out {out}/o", model="model2"),
    "export transformers": _replacing("export {lora} --format transformers --out {out}/o", lora="lora2"),
    "export peft": _replacing("export {lora} --format peft --out {out}/o", lora="lora2"),
    "check --out": _replacing("check {data} --model mini --device cpu --out {out}/check.html"),
    "choose --out": _replacing("choose {data} --models mini --device cpu --out {out}/m"),
    "curve --out": _replacing("curve {data} --model mini --device cpu --repeats 2 --out {out}/curve.png"),
    "pick": _replacing("pick {data}/cat {data}/dog --model mini --device cpu --out {out}/p --count 2"),
    "bench": Command(
        BENCH.format(methods="zero-shot linear-probe") + " --store {out}/r.db",
        BENCH.format(methods="zero-shot") + " --store {out}/r.db",
        ("r.db",),
    ),
    "bench, images": Command(
        BENCH.format(methods="zero-shot").replace("mini-crops", "p={data}") + " --ways 3 --store {out}/r.db",
        grows=("r.db",),
    ),
    "store export, jsonl": _replacing("store export {store} {out}/x.jsonl", store="store2"),
    "store export, csv": _replacing("store export {store} {out}/x.csv", store="store2"),
    "store export, parquet": _replacing("store export {store} {out}/x.parquet", store="store2"),
    "store export, bundle": _replacing("store export {store} --bundle {out}/x.zip", store="store2"),
    "store merge": Command("store merge {store} {store2} {out}/x.db"),
    "table --figure": _replacing("table --store {store} --figure {out}/f.png", store="store2"),
    "data prepare": Command("data prepare p={data} --model mini"),
    "demo": Command("demo --out {out}/demo --tasks 3", grows=("demo",), rounded=True),
    "demo, 64 pictures": Command(
        "demo --out {out}/demo --tasks 3", grows=("demo",), rounded=True, small=SMALL_DEMO
    ),
}

"""Holds exported ONNX files against PyTorch on many images: the table of docs/export.md.

    python -m benchmarks.export --images 500 photos/
    python -m benchmarks.export --images 50 --p-values --methods atha full coop --models mini ViT-B/16 photos/

Models are the bundled mini CLIP and a ViT-B/16 of random weights. Probabilities, labels, images per second,
size of the file, both in float32 on the CPU, pixels in memory at the model's size.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.speed.models import random_clip
from safetensors.torch import save_file

from farshot import FewShotClassifier
from farshot.arrays import NDArray
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.export.about import load_exact
from farshot.export.onnx_file import export_onnx, runtime
from farshot.model.formats.clip_hf import config_json, state_dict

QUICK = {"views": "none", "steps": 3}
METHODS: dict[str, dict[str, object]] = {
    "atha": QUICK,
    "atha[variant=released]": {**QUICK, "variant": "released"},
    "prompt-lora": QUICK,
    "tip-adapter": {},
    "linear-probe": {},
    "clip-lora": {"steps": 3},
    "coop": {"steps": 3},
    "full": {"steps": 3},
}
BATCH = 50


class Prepared(ImageTable):
    """Images that are pixels at the model's size already."""

    def pixels(self, rows: Sequence[int] | NDArray[np.int64], reading: str, size: int) -> NDArray[np.uint8]:
        return np.stack([np.asarray(self.images[int(row)]) for row in rows])


def vit(folder: Path) -> Path:
    """A checkpoint of ViT-B/16's shape."""
    encoder = random_clip("ViT-B/16")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_json(encoder)))
    encoder.tokenizer.fast.save(str(folder / "tokenizer.json"))
    save_file(
        {name: value.contiguous() for name, value in state_dict(encoder).items()},
        folder / "model.safetensors",
    )
    return folder


def row(
    model: str | Path, method: str, support: ImageTable, others: ImageTable, folder: Path, p_values: bool
) -> str:
    """Adapts, saves, exports, runs both."""
    name = method.split("[")[0]
    FewShotClassifier(model, name, settings=METHODS[method]).fit(support).save(folder / "adapted")
    made = load_exact(folder / "adapted")
    export_onnx(made, folder / "onnx", p_values=p_values)
    run = runtime(folder / "onnx" / "model.onnx")
    pixels = np.asarray(others.pixels(range(len(others)), made.adapted_.reading, made.encoder_.size))
    prepared = Prepared(tuple(pixels), None, others.classes, others.names)
    start = time.perf_counter()
    ours = made.predict_proba(prepared)
    between = time.perf_counter()
    found = np.concatenate([run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])
    end = time.perf_counter()
    speeds = [len(pixels) / seconds for seconds in (between - start, end - between)]
    same = int((found.argmax(1) == ours.argmax(1)).sum())
    size = (folder / "onnx" / "model.onnx").stat().st_size / 1e6
    return (
        f"`{method}` | {np.abs(found - ours).max():.1e} | {same} of {len(pixels)} "
        f"| {speeds[0]:.1f} | {speeds[1]:.1f} | {speeds[1] / speeds[0]:.2f} | {size:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="labelled images, more than --images")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--models", nargs="+", default=["mini", "ViT-B/16"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:5])
    parser.add_argument("--p-values", action="store_true", help="which take the frozen encoder, too")
    given = parser.parse_args()
    table = read_table(given.folder)
    chosen, rest = table.draw(1, seed=1)
    support = table.subset(chosen)
    others = table.subset(np.random.default_rng(1).permutation(rest)[: given.images])
    columns = ("largest difference", "same label", "PyTorch, images/s", "ONNX, images/s", "ratio", "MB")
    print(f"| model | method | {' | '.join(columns)} |")
    print("|---|---|" + "---:|" * len(columns))
    with tempfile.TemporaryDirectory() as place:
        for model in given.models:
            source = vit(Path(place) / "vit") if model == "ViT-B/16" else model
            for method in given.methods:
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    found = row(source, method, support, others, Path(folder), given.p_values)
                    print(f"| {model} | {found} |", flush=True)


if __name__ == "__main__":
    main()

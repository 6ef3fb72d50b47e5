"""CLIPs of the field's sizes with random weights, and tasks of noise: speed does not depend on values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from farshot.data.table import ImageTable
from farshot.model.config import Biases, TextConfig, VisionConfig
from farshot.model.device import PRECISIONS
from farshot.model.encoder import Encoder, Origin, Preprocessing
from farshot.model.find import bundled_folder
from farshot.model.formats.files import Source
from farshot.model.formats.tokenizer_files import load_fast
from farshot.model.tokenizer import TextRules, Tokenizer
from farshot.model.tower import TextTower, VisionTower
from farshot.task import Task

_BASE = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072, "output": 512}
_LARGE = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096, "output": 768}
_BASE_TEXT = {"width": 512, "depth": 12, "heads": 8, "hidden": 2048, "output": 512}
_LARGE_TEXT = {"width": 768, "depth": 12, "heads": 12, "hidden": 3072, "output": 768}
CONFIGS = {
    "ViT-B/32": ({**_BASE, "patch": 32}, _BASE_TEXT),
    "ViT-B/16": ({**_BASE, "patch": 16}, _BASE_TEXT),
    "ViT-L/14": ({**_LARGE, "patch": 14}, _LARGE_TEXT),
}


def random_clip(name: str, device: str = "cpu", precision: str = "float32") -> Encoder:
    """One of CONFIGS; only shapes are the real ones."""
    images, words = CONFIGS[name]
    vision = VisionConfig(
        **images, activation="quick_gelu", eps=1e-5, pre_norm=True, biases=Biases(patch=False)
    )
    text = TextConfig(**words, activation="quick_gelu", eps=1e-5)
    fast = load_fast(Source("mini", bundled_folder("mini")), text.vocabulary)
    assert fast is not None
    generator = torch.Generator().manual_seed(0)
    towers = [
        {
            key: torch.ones(shape) if "norm" in key else 0.02 * torch.randn(shape, generator=generator)
            for key, shape in config.tensor_shapes().items()
        }
        for config in (vision, text)
    ]
    encoder = Encoder(
        VisionTower(vision, towers[0]),
        TextTower(text, towers[1]),
        Tokenizer(fast, TextRules(length=77, start=1054, end=1055, pad=1055)),
        preprocessing=Preprocessing(),
        log_scale=4.6052,
        origin=Origin(name, "random", layout="clip"),
    )
    return encoder.to(device, PRECISIONS[precision])


def random_tasks(encoder: Encoder, tasks: int, shots: int, classes: int = 5, queries: int = 0) -> list[Task]:
    """Tasks of noise; their prompts are eight tokens long, as those of most class names."""
    draws = np.random.default_rng(0)
    per_class = shots + queries
    side = encoder.size
    images = draws.integers(0, 256, (tasks * classes * per_class, side, side, 3), dtype=np.uint8)
    names = ("mole", "river", "scar", "rust", "tube")[:classes]
    labels = np.tile(np.repeat(np.arange(classes), per_class), tasks)
    table = ImageTable(tuple(images), labels, names, names)
    return [_task(table, names, t, classes, shots, queries) for t in range(tasks)]


def _task(table: ImageTable, names: Sequence[str], t: int, classes: int, shots: int, queries: int) -> Task:
    first = t * classes * (shots + queries)
    rows = first + np.arange(classes * (shots + queries)).reshape(classes, -1)
    labels = np.repeat(np.arange(classes), shots)
    return Task(table, tuple(names), rows[:, :shots].ravel(), labels, rows[:, shots:].ravel(), key=t)

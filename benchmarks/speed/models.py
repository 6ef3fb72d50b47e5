"""CLIPs of the field's sizes with random weights, and tasks of noise: speed does not depend on values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from farshot.data.table import ImageTable
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.model.encoder import Encoder
from farshot.model.tokenizer import Tokeniser
from farshot.task import Task
from farshot.world.tokens import build_tokenizer

_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_LARGE_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CONFIGS = {
    "ViT-B/32": {"vision_config": {"patch_size": 32}},
    "ViT-B/16": {"vision_config": {"patch_size": 16}},
    "ViT-L/14": {
        "vision_config": {"patch_size": 14, "projection_dim": 768, **_LARGE},
        "text_config": _LARGE_TEXT,
        "projection_dim": 768,
    },
}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def random_clip(name: str, device: str = "cpu", precision: str = "float32") -> Encoder:
    """One of CONFIGS; only shapes are the real ones."""
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(**CONFIGS[name])).to(device, PRECISIONS[precision])
    tokenizer = Tokeniser(build_tokenizer(), 77)
    return Encoder(clip, tokenizer, source=name, mean=CLIP_MEAN, std=CLIP_STD)


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

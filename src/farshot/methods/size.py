"""How many parameters a method trains, without any weights: counted on a CLIP of the field's usual size."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from farshot.data.table import ImageTable
from farshot.methods.base import Method
from farshot.model.config import Biases, TextConfig, VisionConfig
from farshot.model.encoder import Encoder, Origin, Preprocessing
from farshot.model.find import bundled_folder
from farshot.model.formats.files import Source
from farshot.model.formats.tokenizer_files import load_fast
from farshot.model.tokenizer import TextRules, Tokenizer
from farshot.model.tower import TextTower, VisionTower
from farshot.task import Task

_CLASSES, _SHOTS = 5, 5


def trained_parameters(method: Method) -> int:
    """What the method would train on the task of farshot.methods.catalogue.REFERENCE."""
    return parameters_for(method, _reference(), _CLASSES, _SHOTS)


def parameters_for(method: Method, encoder: Encoder, classes: int, shots: int) -> int:
    """What the method would train for one task of this shape."""
    labels = np.repeat(np.arange(classes), shots)
    names = tuple(f"class {i}" for i in range(classes))
    task = Task(ImageTable((), None, (), ()), names, np.arange(len(labels)), labels)
    return method.parameters(encoder, task)


@cache
def _reference() -> Encoder:
    """A ViT-B/16 whose tensors have shapes and no values."""
    vision = VisionConfig(
        width=768,
        depth=12,
        heads=12,
        hidden=3072,
        output=512,
        activation="quick_gelu",
        eps=1e-5,
        pre_norm=True,
        biases=Biases(patch=False),
    )
    text = TextConfig(
        width=512,
        depth=12,
        heads=8,
        hidden=2048,
        output=512,
        activation="quick_gelu",
        eps=1e-5,
    )
    towers = [
        {name: torch.empty(shape, device="meta") for name, shape in config.tensor_shapes().items()}
        for config in (vision, text)
    ]
    # words of the default prompt are one token each, as in CLIP's own
    fast = load_fast(Source("mini", bundled_folder("mini")), text.vocabulary)
    assert fast is not None
    rules = TextRules(length=text.length, start=1054, end=1055, pad=1055)
    return Encoder(
        VisionTower(vision, towers[0]),
        TextTower(text, towers[1]),
        Tokenizer(fast, rules),
        preprocessing=Preprocessing(),
        log_scale=4.6052,
        origin=Origin("ViT-B/16", "shapes alone"),
    )

"""How many parameters a method trains, without any weights: counted on a CLIP of the field's usual size."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from farshot.data.table import ImageTable
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.methods.base import Method
from farshot.model.encoder import DualEncoder
from farshot.model.text import Tokeniser
from farshot.task import Task
from farshot.world.tokens import build_tokenizer

REFERENCE = "CLIP ViT-B/16, 5 classes, 5 images each"
_CLASSES, _SHOTS, _POSITIONS = 5, 5, 77


def trained_parameters(method: Method) -> int:
    """What the method would train of, or beside, REFERENCE."""
    return parameters_for(method, _reference(), _CLASSES, _SHOTS)


def parameters_for(method: Method, encoder: DualEncoder, classes: int, shots: int) -> int:
    """What the method would train for one task of this shape."""
    labels = np.repeat(np.arange(classes), shots)
    names = tuple(f"class {i}" for i in range(classes))
    task = Task(ImageTable((), None, (), ()), names, np.arange(len(labels)), labels)
    return method.parameters(encoder, task)


@cache
def _reference() -> DualEncoder:
    """A ViT-B/16 that has shapes and no values."""
    config = CLIPConfig(vision_config={"patch_size": 16})  # all else is transformers' default
    with torch.device("meta"):
        clip = CLIPModel(config)
    tokeniser = Tokeniser(build_tokenizer(), _POSITIONS)  # words of the default prompt are one token each
    return DualEncoder(clip, tokeniser, source="ViT-B/16", mean=CLIP_MEAN, std=CLIP_STD)

"""A small CLIP with random weights and small pools on disk, for tests of the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from farshot.world.tokens import build_tokenizer


def tiny_checkpoint(folder: Path, side: int = 32) -> Path:
    """A CLIP of two blocks of width 32, always of the same weights."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    words = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = CLIPConfig(
        text_config=tower | words,
        vision_config=tower | {"image_size": side, "patch_size": 16},
        projection_dim=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = CLIPModel(config)
    save_file(
        {name: value.contiguous() for name, value in clip.state_dict().items()}, folder / "model.safetensors"
    )
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def picture(path: Path, number: int, side: int = 24) -> None:
    """A small picture that differs from all others; the format is the suffix's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(number)
    blocks = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(np.kron(blocks, np.ones((side // 4, side // 4, 1), np.uint8))).save(path)


def folder_pool(folder: Path, classes: int = 5, images: int = 8) -> Path:
    """A folder per class."""
    for c in range(classes):
        for i in range(images):
            picture(folder / f"kind {c}" / f"{i:03d}.png", 1000 * c + i)
    return folder

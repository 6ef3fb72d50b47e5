"""A small CLIP with random weights and small pools laid out like the real ones, for the benchmark's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tools.mini_clip.tokens import build_tokenizer
from transformers import CLIPConfig, CLIPModel

from farshot.data.bscd import CHESTX, EUROSAT, ISIC


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


def eurosat(folder: Path, images: int = 8) -> Path:
    """Laid out as EuroSAT.zip."""
    for c, name in enumerate(EUROSAT):
        for i in range(1, images + 1):
            picture(folder / "2750" / name / f"{name}_{i}.jpg", 1000 * c + i)
    return folder


def cropdiseases(folder: Path, images: int = 8, classes: int = 6) -> Path:
    """Laid out as Kaggle's plant-disease."""
    names = ("Apple___Apple_scab", "Apple___healthy", "Corn_(maize)___Common_rust_", "Grape___Black_rot")
    for c, name in enumerate((*names, "Potato___Late_blight", "Tomato___Leaf_Mold")[:classes]):
        for i in range(images):
            picture(folder / "train" / name / f"{c:04x}-{i:04x}___RS_HL {i}.JPG", 20_000 + 1000 * c + i)
    return folder


def isic(folder: Path, images: int = 8) -> Path:
    """Laid out as ISIC 2018 task 3."""
    lines = ["image," + ",".join(ISIC)]
    for c in range(len(ISIC)):
        for i in range(images):
            name = f"ISIC_{1000 * c + i:07d}"
            picture(folder / "ISIC2018_Task3_Training_Input" / f"{name}.jpg", 40_000 + 1000 * c + i)
            lines.append(f"{name}," + ",".join("1.0" if k == c else "0.0" for k in range(len(ISIC))))
    name = "ISIC2018_Task3_Training_GroundTruth"
    (folder / name).mkdir()
    (folder / name / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def chestx(folder: Path, images: int = 8) -> Path:
    """Laid out as NIH ChestX-ray14, with rows of several labels and of other findings among the rest."""
    lines = ["Image Index,Finding Labels,Follow-up #"]
    number = 0
    for name in (*CHESTX, "No Finding", "Effusion|Mass", "Hernia"):
        for _ in range(images):
            number += 1
            picture(folder / "images" / f"{number:08d}_000.png", 60_000 + number)
            lines.append(f"{number:08d}_000.png,{name},0")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    return folder


def stand_ins(root: Path, images: int = 8) -> Path:
    """The four pools of BSCD-FSL at toy size, below one folder."""
    for make in (eurosat, cropdiseases, isic, chestx):
        make(root / make.__name__, images)
    return root

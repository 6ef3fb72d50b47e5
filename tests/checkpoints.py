"""Checkpoints in the hub's format, made on the spot."""

import shutil
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

TOKENIZER = Path(__file__).parent / "fixtures" / "clip-tokenizer"
VOCABULARY, END = 49408, 49407


def write_checkpoint(
    folder: Path, *, width: int = 64, depth: int = 3, size: int = 32, patch: int = 8
) -> Path:
    """A CLIPModel with random weights and CLIP's own tokenizer."""
    ends = {"bos_token_id": END - 1, "eos_token_id": END, "pad_token_id": END}
    text = {"vocab_size": VOCABULARY, "hidden_size": width, "intermediate_size": 2 * width, **ends}
    text |= {"num_hidden_layers": depth, "num_attention_heads": max(width // 64, 1), "projection_dim": width}
    vision = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth}
    vision |= {"num_attention_heads": max(width // 64, 1), "image_size": size, "patch_size": patch}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width))
    with torch.no_grad():  # transformers starts so small that all texts are alike
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "layers" in name:
                weight.normal_(std=weight.shape[1] ** -0.5)
    model.save_pretrained(folder)
    return copy_tokenizer(folder)


def copy_tokenizer(folder: Path) -> Path:
    """CLIP's own tokenizer, put next to a model."""
    for file in TOKENIZER.iterdir():
        shutil.copy(file, folder)
    return folder

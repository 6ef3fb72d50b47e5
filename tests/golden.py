"""The small CLIP and the task of the released arithmetic, generated from names (tests/fixtures/README.md)."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch

from farshot.model.config import Biases, TextConfig, VisionConfig
from farshot.model.encoder import Encoder, Origin, Preprocessing
from farshot.model.tokenizer import Tokenizer
from farshot.model.tower import TextTower, VisionTower

WIDTH, JOINT, VOCABULARY = 128, 64, 49_408
START, END = 49_406, 49_407


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A weight in OpenAI's naming."""
    a = np.random.RandomState(crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape).astype(np.float32)
    if name.endswith("bias"):
        return torch.from_numpy(0.02 * a)
    if "ln_" in name:
        return torch.from_numpy(1 + 0.1 * a)
    if "embedding" in name:
        return torch.from_numpy(0.05 * a)
    fan = {4: int(np.prod(shape[-3:]))}.get(len(shape), shape[-1])
    if name in ("visual.proj", "text_projection"):
        fan = shape[0]
    return torch.from_numpy((a / np.sqrt(fan)).astype(np.float32))


def encoder(tokenizer: Tokenizer) -> Encoder:
    """The encoder with those weights."""
    both = {"width": WIDTH, "depth": 12, "heads": 2, "hidden": 4 * WIDTH, "output": JOINT}
    vision = VisionConfig(
        **both,
        activation="quick_gelu",
        eps=1e-5,
        pre_norm=True,
        biases=Biases(patch=False),
        size=96,
        patch=16,
    )
    text = TextConfig(**both, activation="quick_gelu", eps=1e-5, vocabulary=VOCABULARY)
    images = {
        "class": tensor("visual.class_embedding", (WIDTH,)),
        "patch.weight": tensor("visual.conv1.weight", (WIDTH, 3, 16, 16)),
        "position": tensor("visual.positional_embedding", (37, WIDTH)),
        "projection.weight": tensor("visual.proj", (WIDTH, JOINT)).T.contiguous(),
    }
    words = {
        "token": tensor("token_embedding.weight", (VOCABULARY, WIDTH)),
        "position": tensor("positional_embedding", (77, WIDTH)),
        "projection.weight": tensor("text_projection", (WIDTH, JOINT)).T.contiguous(),
    }
    for kind in ("weight", "bias"):
        images[f"pre_norm.{kind}"] = tensor(f"visual.ln_pre.{kind}", (WIDTH,))
        images[f"final_norm.{kind}"] = tensor(f"visual.ln_post.{kind}", (WIDTH,))
        words[f"final_norm.{kind}"] = tensor(f"ln_final.{kind}", (WIDTH,))
    for tensors, prefix in ((images, "visual."), (words, "")):
        for i in range(12):
            tensors |= _block(f"blocks.{i}", f"{prefix}transformer.resblocks.{i}")
    assert set(images) == set(vision.tensor_shapes())
    assert set(words) == set(text.tensor_shapes())
    return Encoder(
        VisionTower(vision, images),
        TextTower(text, words),
        tokenizer,
        preprocessing=Preprocessing(),
        log_scale=float(np.log(100.0)),
        origin=Origin("golden", "generated"),
    )


def _block(ours: str, theirs: str) -> dict[str, torch.Tensor]:
    out = {}
    for kind, rows in (("weight", (3 * WIDTH, WIDTH)), ("bias", (3 * WIDTH,))):
        for name, part in zip("qkv", tensor(f"{theirs}.attn.in_proj_{kind}", rows).chunk(3), strict=True):
            out[f"{ours}.{name}.{kind}"] = part
        shape = (WIDTH, WIDTH) if kind == "weight" else (WIDTH,)
        out[f"{ours}.out.{kind}"] = tensor(f"{theirs}.attn.out_proj.{kind}", shape)
        for name, mlp, wide in (("fc1", "c_fc", (4 * WIDTH, WIDTH)), ("fc2", "c_proj", (WIDTH, 4 * WIDTH))):
            shape = wide if kind == "weight" else wide[:1]
            out[f"{ours}.{name}.{kind}"] = tensor(f"{theirs}.mlp.{mlp}.{kind}", shape)
        for norm in (1, 2):
            out[f"{ours}.norm{norm}.{kind}"] = tensor(f"{theirs}.ln_{norm}.{kind}", (WIDTH,))
    return out


def lora_down(tower: str, block: int, projection: str) -> torch.Tensor:
    """The initial A of one LoRA, (8, 128)."""
    encoder = {"vision": "image_encoder", "text": "text_encoder"}[tower]
    name = f"{encoder}.transformer.resblocks.{block}.attn.{projection}_proj.w_lora_A"
    state = np.random.RandomState(crc32(name.encode()) & 0x7FFFFFFF)
    return torch.from_numpy((state.uniform(-1, 1, (8, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Support (10, 3, 96, 96) and query (15, 3, 96, 96), class by class, normalised already."""
    r = np.random.RandomState(7)
    prototypes = r.standard_normal((5, 3, 96, 96))

    def draw(count: int) -> torch.Tensor:
        drawn = [0.5 * prototypes[c] + 0.7 * r.standard_normal((count, 3, 96, 96)) for c in range(5)]
        return torch.from_numpy(np.concatenate(drawn).astype(np.float32))

    return draw(2), draw(3)

"""The small CLIP and the task of the released arithmetic, generated from names (tests/fixtures/README.md)."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

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


def clip() -> CLIPModel:
    """The CLIPModel with those weights."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config=tower
        | {"vocab_size": VOCABULARY, "bos_token_id": START, "eos_token_id": END, "pad_token_id": END},
        vision_config=tower | {"image_size": 96, "patch_size": 16},
        projection_dim=JOINT,
    )
    model = CLIPModel(config)
    weights = {
        "vision_model.embeddings.class_embedding": tensor("visual.class_embedding", (WIDTH,)),
        "vision_model.embeddings.patch_embedding.weight": tensor("visual.conv1.weight", (WIDTH, 3, 16, 16)),
        "vision_model.embeddings.position_embedding.weight": tensor(
            "visual.positional_embedding", (37, WIDTH)
        ),
        "visual_projection.weight": tensor("visual.proj", (WIDTH, JOINT)).T.contiguous(),
        "text_model.embeddings.token_embedding.weight": tensor("token_embedding.weight", (VOCABULARY, WIDTH)),
        "text_model.embeddings.position_embedding.weight": tensor("positional_embedding", (77, WIDTH)),
        "text_projection.weight": tensor("text_projection", (WIDTH, JOINT)).T.contiguous(),
        "logit_scale": torch.tensor(np.log(100.0)),
    }
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    norms["text_model.final_layer_norm"] = "ln_final"
    for ours, theirs in norms.items():
        weights |= {f"{ours}.{kind}": tensor(f"{theirs}.{kind}", (WIDTH,)) for kind in ("weight", "bias")}
    for tower_name, prefix in (("vision_model", "visual."), ("text_model", "")):
        for i in range(12):
            weights |= _block(f"{tower_name}.encoder.layers.{i}", f"{prefix}transformer.resblocks.{i}")
    model.load_state_dict(weights, strict=False)
    assert set(dict(model.named_parameters())) <= set(weights)
    return model


def _block(ours: str, theirs: str) -> dict[str, torch.Tensor]:
    out = {}
    for kind, rows in (("weight", (3 * WIDTH, WIDTH)), ("bias", (3 * WIDTH,))):
        for name, part in zip("qkv", tensor(f"{theirs}.attn.in_proj_{kind}", rows).chunk(3), strict=True):
            out[f"{ours}.self_attn.{name}_proj.{kind}"] = part
        out[f"{ours}.self_attn.out_proj.{kind}"] = tensor(
            f"{theirs}.attn.out_proj.{kind}", (WIDTH, WIDTH) if kind == "weight" else (WIDTH,)
        )
        for name, mlp, wide in (("fc1", "c_fc", (4 * WIDTH, WIDTH)), ("fc2", "c_proj", (WIDTH, 4 * WIDTH))):
            shape = wide if kind == "weight" else wide[:1]
            out[f"{ours}.mlp.{name}.{kind}"] = tensor(f"{theirs}.mlp.{mlp}.{kind}", shape)
        for norm in (1, 2):
            out[f"{ours}.layer_norm{norm}.{kind}"] = tensor(f"{theirs}.ln_{norm}.{kind}", (WIDTH,))
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

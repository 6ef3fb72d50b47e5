"""DINOv2 and DINOv3 against random tiny models of transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot.errors import ModelError
from farshot.model.find import load_encoder

transformers = pytest.importorskip("transformers")
COMMON = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
V2 = {**COMMON, "image_size": 42, "patch_size": 14}
V3 = {**COMMON, "intermediate_size": 96, "image_size": 64, "patch_size": 16, "num_register_tokens": 4}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("Dinov2", V2),
    "dinov2 gated": ("Dinov2", V2 | {"use_swiglu_ffn": True}),
    "dinov2 registers": ("Dinov2WithRegisters", V2),
    "dinov3": ("DINOv3ViT", V3),
    "dinov3 without registers": ("DINOv3ViT", V3 | {"num_register_tokens": 0}),
    "dinov3 gated": ("DINOv3ViT", V3 | {"use_gated_mlp": True, "hidden_act": "silu"}),
    "dinov3 gated by gelu": ("DINOv3ViT", V3 | {"use_gated_mlp": True}),
}


def made(kind: str, folder: Path) -> Any:
    name, settings = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, f"{name}Model")(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    return model


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def edited(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [3, 4, 6])
def test_embeddings_are_those_of_transformers_at_every_size(kind: str, grid: int, tmp_path: Path):
    model = made(kind, tmp_path)
    size = grid * KINDS[kind][1]["patch_size"]
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(pixels).pooler_output
        found = load_encoder(tmp_path, size=size).forward_images(pixels[None])[0]
    assert distance(found, wanted) < 1e-5


def test_positions_at_the_stored_size_are_the_stored_ones(tmp_path: Path):
    model = made("dinov2 registers", tmp_path)
    found = load_encoder(tmp_path, size=42).vision.tensors["position"]
    assert torch.equal(found, model.embeddings.position_embeddings[0].detach())


def test_what_the_configuration_leaves_out_is_transformers_default(tmp_path: Path):
    made("dinov3", tmp_path)
    config = load_encoder(edited(tmp_path, layer_norm_eps=None, num_attention_heads=None)).vision.config
    assert (config.eps, config.heads) == (1e-5, 6)


def test_an_unknown_activation_is_refused_by_name(tmp_path: Path):
    made("dinov2", tmp_path)
    with pytest.raises(ModelError, match="'relu'"):
        load_encoder(edited(tmp_path, hidden_act="relu"))


def test_timms_giant_has_gate_and_value_in_one_layer(tmp_path: Path):
    made("dinov2 gated", tmp_path)
    timm = tmp_path / "timm"
    timm.mkdir()
    tensors = dict(timm_names(load_file(tmp_path / "model.safetensors")))
    save_file(tensors, timm / "model.safetensors")
    (timm / "config.json").write_text(json.dumps({"architecture": "vit_giant_patch14_dinov2"}))
    edited(tmp_path, num_attention_heads=24)  # as the name means
    pixels = torch.randn(1, 2, 3, 42, 42)
    first, second = (load_encoder(folder, size=42).forward_images(pixels)[0] for folder in (tmp_path, timm))
    assert distance(second, first) < 1e-5


def timm_names(stored: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    plain = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
        "layernorm.": "norm.",
        "encoder.layer.": "blocks.",
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "mlp.weights_out": "mlp.fc2",
        "mlp.down_proj": "mlp.fc2",
        "mlp.weights_in": "mlp.fc1",
    }
    fused = {
        "attention.attention.query": ("attn.qkv", ("query", "key", "value")),
        "mlp.gate_proj": ("mlp.fc1", ("gate_proj", "up_proj")),
    }
    for name, tensor in stored.items():
        if any(part in name for part in ("mask_token", ".key.", ".value.", ".up_proj.")):
            continue
        for old, (new, layers) in fused.items():
            if old in name:
                tensor = torch.cat([stored[name.replace(layers[0], layer)] for layer in layers])
                name = name.replace(old, new)
        for old, new in plain.items():
            name = name.replace(old, new)
        yield name, tensor


@pytest.mark.parametrize(("sides", "size"), [([3, 42, 42], 42), ([3, 70, 70], 70), (None, 224)])
def test_timms_images_have_the_size_of_its_configuration(sides: list[int] | None, size: int, tmp_path: Path):
    made("dinov2", tmp_path)
    tensors = dict(timm_names(load_file(tmp_path / "model.safetensors")))
    save_file(tensors, tmp_path / "model.safetensors")
    about = {"crop_pct": 1.0} | ({} if sides is None else {"input_size": sides})
    config = {"architecture": "vit_small_patch14_dinov2", "pretrained_cfg": about}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(tmp_path)
    assert (encoder.size, encoder.preprocessing.reading) == (size, "shortest-bicubic")


def test_timms_images_that_are_not_square_are_refused(tmp_path: Path):
    config = {"architecture": "vit_small_patch14_dinov2", "pretrained_cfg": {"input_size": [3, 42, 56]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="input_size"):
        load_encoder(tmp_path)

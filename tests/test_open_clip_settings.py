"""Settings of open_clip configurations that change the embedding: used as open_clip does, or refused by
name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot.errors import ModelError
from farshot.images.preprocess import prepare
from farshot.model.encoder import Encoder, normalise
from farshot.model.find import load_encoder
from tests.golden_encoders import copied, expected, load, load_from, root, vision_steps
from tests.test_image_settings import picture

WEIGHTS = "open_clip_model.safetensors"


def changed(
    name: str,
    to: Path,
    *,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    **tensors: torch.Tensor,
) -> Path:
    """A golden checkpoint with other settings and further tensors."""
    folder = copied(name, to)
    about = json.loads((folder / "open_clip_config.json").read_text())
    about["model_cfg"]["vision_cfg"] |= vision or {}
    about["model_cfg"]["text_cfg"] |= text or {}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    save_file(load_file(folder / WEIGHTS) | tensors, folder / WEIGHTS)
    return folder


def final_tokens(encoder: Encoder, pixels: np.ndarray) -> torch.Tensor:
    """Tokens of the pictures after the final norm, (B, 1 + L, D)."""
    about = encoder.preprocessing
    steps = vision_steps(encoder, normalise(torch.from_numpy(pixels), about.mean, about.std))
    return torch.from_numpy(steps["vision_tokens_final_norm"])


def test_the_bias_of_the_head_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bias = torch.arange(40.0)
    folder = changed(
        "biomedclip-like", tmp_path, vision={"timm_proj_bias": True}, **{"visual.head.proj.bias": bias}
    )
    pixels = expected("biomedclip-like")["images_uint8"]
    without = load("biomedclip-like", monkeypatch).encode_images(pixels)
    assert torch.allclose(load_from(folder, monkeypatch).encode_images(pixels), without + bias, atol=1e-4)


@pytest.mark.parametrize("said", [True, False])
def test_patches_are_averaged_where_the_configuration_says_so_or_nothing(
    said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = changed("biomedclip-like", tmp_path, vision={"timm_pool": "avg"})
    if not said:  # open_clip's default
        path = folder / "open_clip_config.json"
        path.write_text(path.read_text().replace('"timm_pool"', '"other"'))
    pixels = expected("biomedclip-like")["images_uint8"]
    wanted = final_tokens(load("biomedclip-like", monkeypatch), pixels)[:, 1:].mean(1)
    wanted = wanted @ load_file(folder / WEIGHTS)["visual.head.proj.weight"].T
    assert torch.allclose(load_from(folder, monkeypatch).encode_images(pixels), wanted, atol=1e-4)


@pytest.mark.parametrize(("pool", "position"), [("first", 0), ("last", 76), ("eos", 5)])
def test_texts_are_pooled_as_the_configuration_says(
    pool: str, position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder = load_from(changed("openclip-vit", tmp_path, text={"pool_type": pool}), monkeypatch)
    ids = encoder.prompts([["a", "a photo of a moth"]])
    end = encoder.tokenizer.rules.end
    place = (ids.ids[0] == end).int().argmax(-1) if pool == "eos" else torch.full((2,), position)
    assert torch.equal(ids.pooled[0], place)
    if pool == "last":
        assert ids.ids.shape[-1] == 77
        assert (ids.ids[0, :, -1] == 0).all()


def test_the_bias_of_the_logits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = changed("openclip-vit", tmp_path, logit_bias=torch.tensor(-10.0))
    assert load_from(folder, monkeypatch).logit_bias == -10


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("biomedclip-like", {"vision": {"timm_proj": "mlp"}}, "timm_proj 'mlp'"),
    ("biomedclip-like", {"vision": {"timm_pool": "abs_attn"}}, "timm_pool 'abs_attn'"),
    ("biomedclip-like", {"vision": {"timm_pool": "map"}}, "timm_pool 'map'"),
    ("siglip-openclip", {"vision": {"timm_pool": "token"}}, "timm_pool 'token'"),
    ("eva02-clip-openclip", {"vision": {"timm_pool": "avg"}}, "timm_pool 'avg'"),
    ("biomedclip-like", {"visual.head.mlp.fc1.weight": torch.ones(2, 2)}, "head.mlp.fc1.weight"),
    ("biomedclip-like", {"text.other.weight": torch.ones(2)}, "other.weight"),
    ("siglip-openclip", {"text.other.weight": torch.ones(2)}, "other.weight"),
    ("openclip-vit", {"text": {"pool_type": "none"}}, "pool_type 'none'"),
    ("openclip-vit", {"vision": {"pool_type": "map"}}, "'map'"),
    (
        "biomedclip-like",
        {"text": {"hf_pooler_type": "cls_pooler"}, "text.transformer.pooler.dense.bias": torch.ones(48)},
        "layer of its pooler",
    ),
]


@pytest.mark.parametrize(("name", "changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_farshot_does_not_have_is_refused_by_name(
    name: str, changes: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ModelError, match=words):
        load_from(changed(name, tmp_path, **changes), monkeypatch)


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        ("FacebookAI/roberta-base", {"model_type": "roberta", "num_attention_heads": 4}, "is no BERT"),
        ("someone/text-tower", {"model_type": "xlm-roberta", "num_attention_heads": 4}, "is no BERT"),
        ("FacebookAI/XLM-RoBERTa-base", None, "is no BERT"),
        ("someone/bert", {"model_type": "bert", "num_attention_heads": 4, "hidden_act": "swish"}, "'swish'"),
    ],
)
def test_a_text_tower_that_is_no_bert_is_refused(
    name: str, about: dict[str, Any] | None, words: str, tmp_path: Path
):
    folder = changed("biomedclip-like", tmp_path, text={"hf_model_name": name})
    if about is not None:
        (folder / name.rpartition("/")[2]).mkdir()
        (folder / name.rpartition("/")[2] / "config.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=words):
        load_encoder(folder)


def test_images_have_the_size_of_the_configuration_also_between_two_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As vit_so400m_patch14_siglip_384: the last pixels are in no patch, but images are resized to all."""
    whole = load("siglip-openclip", monkeypatch)
    encoder = load_from(changed("siglip-openclip", tmp_path, vision={"image_size": 56}), monkeypatch)
    assert (whole.size, encoder.size, encoder.vision.config.grid) == (48, 56, 3)
    pixels = prepare(picture(), encoder.preprocessing.reading, 56).copy()
    wanted = whole.encode_images(np.ascontiguousarray(pixels[None, :48, :48]))
    assert torch.allclose(encoder.encode_images(pixels[None]), wanted, atol=1e-5)


def test_a_size_of_other_patches_than_the_weights_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = changed("siglip-openclip", tmp_path, vision={"image_size": 64})
    with pytest.raises(ModelError, match=r"64 pixels \(image_size\), but its weights are for 3 x 3"):
        load_from(folder, monkeypatch)


@pytest.mark.parametrize(
    ("name", "vision", "text", "words"),
    [
        ("openclip-vit", {"attentional_pool": True}, {}, "is a CoCa"),
        ("openclip-vit", {"layers": [3, 4, 6, 3]}, {}, "has a ResNet"),
        ("openclip-vit", {"pool_type": "avg"}, {}, "pools images by 'avg'"),
        ("openclip-vit", {"image_size": [32, 40]}, {}, "not square"),
        ("openclip-vit", {}, {"pool_type": "none"}, "pool_type 'none'"),
        ("openclip-vit", {}, {"hf_model_name": "FacebookAI/roberta-base"}, "'FacebookAI/roberta-base'"),
        ("biomedclip-like", {"timm_model_name": "convnext_base"}, {}, "'convnext_base'"),
        ("biomedclip-like", {"timm_pool": "abs_attn"}, {}, "timm_pool 'abs_attn'"),
        ("biomedclip-like", {}, {"hf_pooler_type": "mean_pooler"}, "'mean_pooler'"),
    ],
)
def test_what_is_refused_is_refused_without_its_weights(
    name: str, vision: dict[str, Any], text: dict[str, Any], words: str, tmp_path: Path
):
    folder = changed(name, tmp_path, vision=vision, text=text)
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pt")):
        file.unlink()
    with pytest.raises(ModelError, match=words):
        load_encoder(folder)


def test_a_configuration_of_transformers_without_towers_leaves_the_model_to_open_clips(tmp_path: Path):
    folder = copied("siglip-openclip", tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip", "architectures": ["Other"]}))
    assert load_encoder(folder).fingerprint == load_encoder(root() / "siglip-openclip").fingerprint


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "clip_model.", "module._orig_mod."])
def test_a_model_within_another_module_is_read(prefix: str, tmp_path: Path):
    folder = copied("openclip-vit", tmp_path)
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    wrapped = {prefix + name: value for name, value in tensors.items()} | {"step": torch.tensor(3)}
    torch.save(wrapped, folder / "open_clip_pytorch_model.bin")
    assert load_encoder(folder).fingerprint == load_encoder(root() / "openclip-vit").fingerprint

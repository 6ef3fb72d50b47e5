"""Damaged and hostile checkpoints: one sentence that names the file, and no code that runs."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot.errors import ModelError
from farshot.model.find import load_encoder
from farshot.model.formats.sentencepiece import check_charsmap, message_fields, sentencepiece_tokenizer
from tests.golden_encoders import copied, load_from, root


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    with pytest.raises(ModelError) as error:
        load_from(folder, monkeypatch)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert len(sentence) < 700
    return sentence


def edited(folder: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    config = json.loads((folder / file).read_text())
    change(config)
    (folder / file).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["vision_config"].update(hidden_size=65),
        lambda c: c["vision_config"].update(hidden_size=10**12),
        lambda c: c["vision_config"].update(num_hidden_layers=10**9),
        lambda c: c["vision_config"].update(num_hidden_layers=-1),
        lambda c: c["vision_config"].update(num_attention_heads=0),
        lambda c: c["vision_config"].update(num_attention_heads=3),
        lambda c: c["vision_config"].update(image_size=10**9),
        lambda c: c["vision_config"].update(patch_size=0),
        lambda c: c["vision_config"].update(hidden_act="mish"),
        lambda c: c["vision_config"].update(layer_norm_eps="tiny"),
        lambda c: c["vision_config"].update(layer_norm_eps=float("nan")),
        lambda c: c["text_config"].update(layer_norm_eps=-1.0),
        lambda c: c["vision_config"].update(image_size=[40, 48]),
        lambda c: c["text_config"].update(vocab_size=[1]),
        lambda c: c["text_config"].update(max_position_embeddings=10**15),
        lambda c: c.update(text_config=None),
        lambda c: c.update(vision_config=[]),
        lambda c: c.update(projection_dim={"a": 1}),
    ],
)
def test_a_configuration_unlike_its_tensors(change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refused(edited(copied("clip-hf", tmp_path), "config.json", change), monkeypatch)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("openclip-vit", lambda c: c["model_cfg"]["vision_cfg"].update(layers=[3, 4, 6, 3]), "ResNet"),
        ("openclip-vit", lambda c: c["model_cfg"].update(multimodal_cfg={"layers": 1}), "CoCa"),
        ("openclip-vit", lambda c: c["model_cfg"]["vision_cfg"].update(pool_type="avg"), "avg"),
        ("openclip-vit", lambda c: c["model_cfg"]["vision_cfg"].update(head_width=0), "damaged"),
        (
            "siglip-openclip",
            lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="convnext_base"),
            "convnext_base",
        ),
        ("siglip-openclip", lambda c: c["preprocess_cfg"].update(resize_mode="longest"), "longest"),
        (
            "biomedclip-like",
            lambda c: c["model_cfg"]["text_cfg"].update(hf_pooler_type="mean_pooler"),
            "mean_pooler",
        ),
    ],
)
def test_what_open_clip_has_and_farshot_has_not_is_refused_by_name(
    name: str, change, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert named in refused(edited(copied(name, tmp_path), "open_clip_config.json", change), monkeypatch)


@pytest.mark.parametrize("kind", ["naflex", "blip-2"])
def test_other_encoders_are_refused_by_name(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if kind == "naflex":
        folder = edited(
            copied("siglip2-hf", tmp_path), "config.json", lambda c: c.update(model_type="siglip2")
        )
    else:
        folder = edited(copied("clip-hf", tmp_path), "config.json", lambda c: c.update(model_type=kind))
    assert kind in refused(folder, monkeypatch)


def test_json_of_a_hundred_thousand_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000)
    assert "config.json" in refused(folder, monkeypatch)


@pytest.mark.parametrize("damage", ["truncated", "empty", "nan", "missing", "shape", "integers"])
def test_damaged_tensors(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    (folder / "pytorch_model.bin").unlink()
    path = folder / "model.safetensors"
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    tensors = load_file(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        changed = {
            "nan": torch.full_like(tensors[name], float("nan")),
            "missing": None,
            "shape": tensors[name][:-1].contiguous(),
            "integers": tensors[name].int(),
        }[damage]
        tensors = {key: value for key, value in tensors.items() if key != name}
        save_file(tensors if changed is None else {**tensors, name: changed}, path)
    sentence = refused(folder, monkeypatch)
    assert str(folder) in sentence or "blocks.0.fc1.weight" in sentence


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("it-ran"),))


@pytest.mark.parametrize("protocol", ["zip", "old", "raw"])
def test_a_pickle_with_code_does_not_run(protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if protocol == "raw":
        path.write_bytes(pickle.dumps({"a": _Evil()}))
    else:
        torch.save({"a": _Evil()}, path, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(ModelError, match=r"weights\.pt"):
        load_encoder(f"{path}@gelu=exact")
    assert not (tmp_path / "it-ran").exists()


def test_a_torchscript_archive_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:  # as torch.jit.save lays it out
        for name in ("model/data.pkl", "model/constants.pkl", "model/code/__torch__.py", "model/version"):
            archive.writestr(name, b"")
    with pytest.raises(ModelError, match="TorchScript"):
        load_encoder(f"{tmp_path / 'model.pt'}@gelu=exact")


def test_a_tensor_that_only_claims_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    name = "text_model.embeddings.token_embedding.weight"
    tensors[name] = torch.zeros(1, 1).expand(tensors[name].shape)
    torch.save(tensors, folder / "pytorch_model.bin")
    assert "larger than its file" in refused(folder, monkeypatch)


@pytest.mark.parametrize(
    ("content", "named"), [({"a": 1}, "state dict"), ([], "state dict"), ({}, "state dict")]
)
def test_a_file_without_tensors(content: Any, named: str, tmp_path: Path):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=f"{named}|lacks"):
        load_encoder(f"{tmp_path / 'model.pt'}@gelu=exact")


def test_a_bare_file_must_say_its_gelu(tmp_path: Path):
    place = root() / "openclip-bare-pt" / "RemoteCLIP-ViT-tiny.pt"
    with pytest.raises(ModelError, match="@gelu=quick"):
        load_encoder(place)
    with pytest.raises(ModelError, match="unknown option"):
        load_encoder(f"{place}@heads=3")
    with pytest.raises(ModelError, match="tokenizer"):
        load_encoder(place, gelu="exact").encode_texts(["a moth"])


def test_tensors_that_the_format_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "vision_model.extra.weight": torch.zeros(3)}, folder / "model.safetensors")
    assert "extra" in refused(folder, monkeypatch)


def test_an_index_that_names_files_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    content = {"weight_map": {"a": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert "outside" in refused(folder, monkeypatch)


@pytest.mark.parametrize("name", ["clip-hf", "siglip-hf", "biomedclip-like"])
def test_a_damaged_tokenizer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied(name, tmp_path)
    for file in ("tokenizer.json", "spiece.model"):
        if (folder / file).exists():
            (folder / file).write_bytes((folder / file).read_bytes()[:300])
    assert "tokenizer" in refused(folder, monkeypatch)


def test_the_tokenizer_of_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("metaclip2-hf", tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(root() / "clip-hf" / file, folder / file)
    assert "604 tokens, its text tower 94" in refused(folder, monkeypatch)


@pytest.mark.parametrize("values", [{"image_mean": [float("nan"), 1, 1]}, {"image_std": [0, 0, 0]}])
def test_pixels_without_a_sensible_normalisation(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = edited(copied("siglip-hf", tmp_path), "preprocessor_config.json", lambda c: c.update(values))
    assert "preprocessing" in refused(folder, monkeypatch)


@pytest.mark.parametrize("name", ["logit_scale", "logit_bias"])
@pytest.mark.parametrize("value", [[float("nan")], [float("inf")], [1.0, 2.0]])
def test_a_scale_or_bias_that_is_not_one_finite_number(
    name: str, value: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = copied("siglip-hf", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.tensor(value)}, folder / "model.safetensors")
    assert name in refused(folder, monkeypatch)


def _tables(content: bytes) -> dict[str, bytes]:
    size = int.from_bytes(content[:4], "little")
    head, units, texts = content[:4], content[4 : 4 + size], content[4 + size :]
    random = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    return {
        "random": head + random + texts,
        "far": head + b"\xff" * 4 + units[4:] + texts,
        "without texts": head + units,
        "short": content[:2],
        "longer than the file": b"\xff\xff\xff\x7f" + units,
        "no text in UTF-8": head + units + b"\xff" * len(texts),
    }


@pytest.mark.parametrize(
    "damage", ["random", "far", "without texts", "short", "longer than the file", "no text in UTF-8"]
)
def test_a_table_of_characters_that_points_outside_itself(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = copied("siglip-hf", tmp_path)
    model = (folder / "spiece.model").read_bytes()
    table = next(
        inner
        for number, value in message_fields(model)
        if number == 3 and isinstance(value, bytes)
        for key, inner in message_fields(value)
        if key == 2
    )
    assert isinstance(table, bytes)
    check_charsmap(table)
    with pytest.raises(ValueError):  # UnicodeDecodeError is one
        check_charsmap(_tables(table)[damage])
    if len(_tables(table)[damage]) == len(table):
        (folder / "spiece.model").write_bytes(model.replace(table, _tables(table)[damage]))
        assert "spiece.model" in refused(folder, monkeypatch)


@pytest.mark.parametrize("piece", [b"", b"\xe2\x96\x81"])
def test_pieces_without_text_or_twice(piece: bytes, tmp_path: Path):
    fields = b"".join(_message(text) for text in (b"<unk>", piece, b"\xe2\x96\x81"))
    (tmp_path / "spiece.model").write_bytes(fields)
    with pytest.raises(ValueError, match="piece"):
        sentencepiece_tokenizer(tmp_path / "spiece.model")


def _message(text: bytes) -> bytes:
    """A piece of score -1; "<unk>" is the unknown one."""
    kind = b"\x18\x02" if text == b"<unk>" else b""
    content = b"\x0a" + bytes([len(text)]) + text + b"\x15\x00\x00\x80\xbf" + kind
    return b"\x0a" + bytes([len(content)]) + content

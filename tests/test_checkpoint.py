"""A base model is loaded, or refused with one sentence that says what is wrong with it and the way out."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot.errors import ModelError, SettingError
from farshot.model.find import bundled_folder, load_encoder
from tests.bench_helpers import tiny_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def broken(tiny: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(tiny, tmp_path / "clip"))


def refused(model: str | Path, kind: type[Exception] = ModelError, **more) -> str:
    with pytest.raises(kind) as error:
        load_encoder(model, **more)
    text = str(error.value)
    assert str(model) in text or more
    assert "\n" not in text
    return text


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# Loaded --------------------------------------------------------------------------------------------------


def test_a_folder_and_the_bundled_model(tiny: Path) -> None:
    encoder = load_encoder(tiny)
    assert encoder.size == 32
    assert encoder.dtype == torch.float32
    assert not any(value.requires_grad for value in encoder.vision.tensors.values())
    assert (
        load_encoder("mini").fingerprint
        == load_encoder(bundled_folder("mini")).fingerprint
        != encoder.fingerprint
    )


def test_precision_and_device_are_taken(tiny: Path) -> None:
    encoder = load_encoder(tiny, precision="bf16", device="cpu")
    assert encoder.dtype == torch.bfloat16
    assert {value.dtype for value in encoder.vision.tensors.values()} == {torch.bfloat16}
    assert encoder.fingerprint == load_encoder(tiny).fingerprint


def test_mean_and_deviation_come_from_the_checkpoint(broken: Path) -> None:
    assert load_encoder(broken).preprocessing.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    text = json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": None})
    (broken / "preprocessor_config.json").write_text(text)
    encoder = load_encoder(broken)
    assert encoder.preprocessing.mean == pytest.approx((0.5, 0.4, 0.3))
    assert encoder.preprocessing.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


# Refused -------------------------------------------------------------------------------------------------


def test_places_where_no_checkpoint_is(tmp_path: Path) -> None:
    assert "There is no folder or file" in refused(tmp_path / "missing")
    assert "There is no folder or file" in refused("clip-vit")
    (tmp_path / "file.jpg").touch()
    assert "is a file of another kind; weights end with .safetensors" in refused(tmp_path / "file.jpg")
    (tmp_path / "empty").mkdir()
    assert "has neither config.json nor open_clip_config.json" in refused(tmp_path / "empty")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "clip_vision_model"},
        {"model_type": "blip"},
        {"model_type": "clip", "vision_config": {}},
        {"model_type": "clip", "vision_config": {}, "text_config": None},
    ],
)
def test_what_is_no_image_text_encoder(tmp_path: Path, config: dict) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    kind = config["model_type"]
    if kind == "clip":
        assert "has no text_config, so it is not of an image-text encoder" in refused(tmp_path)
    else:
        found = refused(tmp_path)
        assert f"is a checkpoint of type '{kind}', which farshot cannot read; supported are CLIP" in found


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_configuration(broken: Path, text: str) -> None:
    (broken / "config.json").write_text(text)
    assert "config.json is not readable JSON" in refused(broken)


def test_no_tokenizer(broken: Path) -> None:
    for path in broken.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    encoder = load_encoder(broken)  # its images can be used
    with pytest.raises(ModelError, match=r"has no tokenizer .*; copy tokenizer\.json, or vocab\.json"):
        encoder.encode_texts(["a mole"])


def test_a_damaged_tokenizer(broken: Path) -> None:
    (broken / "tokenizer.json").write_text('{"model": 5')
    assert "The tokenizer of" in refused(broken)


def test_the_tokenizer_of_another_model(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    change(broken / "config.json", text_config=config["text_config"] | {"vocab_size": 10})
    assert "tokens, its text tower 10: they are of two models" in refused(broken)


def test_a_tokenizer_without_an_end_token(broken: Path) -> None:
    change(broken / "tokenizer_config.json", eos_token="</end>")
    assert "does not know the token '</end>' (eos_token), so it belongs to another model" in refused(broken)


def test_special_tokens_do_not_depend_on_the_files_own_rules(broken: Path) -> None:
    before = load_encoder(broken)
    change(broken / "tokenizer.json", post_processor=None, truncation=None, padding=None)
    after = load_encoder(broken)
    assert torch.equal(before.encode_texts(["a mole", "a"]), after.encode_texts(["a mole", "a"]))
    assert before.fingerprint == after.fingerprint


def test_weights_that_are_missing_damaged_or_too_few(broken: Path) -> None:
    path = broken / "model.safetensors"
    whole = path.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # not mapped to the file
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "cannot be read" in refused(broken)
    some = {name: tensor for name, tensor in tensors.items() if "text_projection" not in name}
    save_file(some, path)
    assert "lack 1 tensors of the text tower, projection.weight first" in refused(broken)
    other = tensors | {"text_projection.weight": torch.zeros(3, 3)}
    save_file(other, path)
    assert "projection.weight of the text tower" in refused(broken)
    path.unlink()
    assert "has none of the files model.safetensors" in refused(broken)


def test_a_state_dict_of_torch_is_read_as_data(broken: Path) -> None:
    before = load_encoder(broken).fingerprint
    torch.save(load_file(broken / "model.safetensors"), broken / "pytorch_model.bin")
    (broken / "model.safetensors").unlink()
    assert load_encoder(broken).fingerprint == before


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x", ""])
def test_a_device_that_is_not_there(tiny: Path, device: str) -> None:
    assert f"There is no device {device!r}" in refused(tiny, SettingError, device=device)


def test_an_unknown_precision(tiny: Path) -> None:
    assert "Unknown precision 'fp16'; choose one of float32, bf16" in refused(
        tiny, SettingError, precision="fp16"
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The place of an empty hub cache; no socket connects."""

    def refuse(*_arguments, **_options) -> None:
        raise OSError(101, "Network is unreachable")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    return tmp_path / "hub"


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_a_hub_name_is_one_sentence(
    hub: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    assert refused("someone/some-clip") == (
        "someone/some-clip is not in the local cache and the hub cannot be reached; connect once to download "
        "it, or give the folder of a checkpoint, or use --model mini."
    )


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_name_that_is_cached_works_without_network(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    cached(tiny, hub)
    assert load_encoder("someone/some-clip").size == 32


def test_a_hub_name_without_weights_is_one_sentence(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (cached(tiny, hub) / "model.safetensors").unlink()
    assert "has none of the files model.safetensors" in refused("someone/some-clip")


def test_weights_in_parts_of_which_one_is_missing_are_asked_of_the_hub(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    folder, tensors = cached(tiny, hub), load_file(tiny / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    for file in sorted(set(parts.values())):
        assert "has none of the files model.safetensors" in refused("someone/some-clip")
        save_file({name: tensors[name] for name in tensors if parts[name] == file}, folder / file)
    assert load_encoder("someone/some-clip").size == 32


def test_parts_of_an_early_checkpoint_are_read(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder, tensors = cached(tiny, hub), load_file(tiny / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(tensors)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": parts}))
    for file in set(parts.values()):
        torch.save({name: tensors[name] for name in tensors if parts[name] == file}, folder / file)
    for place in ("someone/some-clip", folder):
        assert load_encoder(place).fingerprint == load_encoder(tiny).fingerprint


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has neither config.json nor open_clip_config.json"),
        (
            {"config.json": {"architecture": "vit_base_patch32_clip_224"}},
            "of type 'vit_base_patch32_clip_224'",
        ),
        ({"config.json": {"hidden_size": 3}}, "of type 'unknown'"),
        ({"config.json": {"model_type": "siglip"}}, "has no vision_config"),
    ],
)
def test_a_folder_of_another_kind_is_refused_by_what_it_is(
    files: dict[str, dict[str, Any]], words: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert words in refused(tmp_path)


@pytest.mark.parametrize("length", [300, 5000])
def test_a_name_that_is_too_long_for_a_file_is_one_sentence(length: int) -> None:
    assert "There is no folder or file aaaa" in refused("a" * length)


@pytest.mark.parametrize("name", ["hf-hub:someone/some-clip", "someone/some-clip:model.safetensors"])
def test_other_ways_to_write_a_hub_name(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached(tiny, hub)
    if ":model" in name:  # a bare file is one in open_clip's layout
        for option in ("", "@gelu=exact"):
            assert "give the folder or repository of the checkpoint instead of its file" in refused(
                name + option
            )
    else:
        assert load_encoder(name).size == 32


def cached(checkpoint: Path, hub: Path) -> Path:
    """The checkpoint as the hub's own cache would hold it."""
    revision = "0" * 40
    place = hub / "models--someone--some-clip"
    shutil.copytree(checkpoint, place / "snapshots" / revision)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(revision)
    return place / "snapshots" / revision

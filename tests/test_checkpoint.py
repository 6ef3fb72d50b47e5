"""A base model is loaded, or refused with one sentence that says what is wrong with it and the way out."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from farshot.errors import ModelError, SettingError
from farshot.model.find import MINI, load_encoder
from tests.bench_helpers import tiny_checkpoint
from tests.input_helpers import subprocess_environment


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
    assert next(encoder.clip.parameters()).dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in encoder.clip.parameters())
    assert load_encoder("mini").fingerprint == load_encoder(MINI).fingerprint != encoder.fingerprint


def test_precision_and_device_are_taken(tiny: Path) -> None:
    encoder = load_encoder(tiny, precision="bf16", device="cpu")
    assert next(encoder.clip.parameters()).dtype == torch.bfloat16


def test_mean_and_deviation_come_from_the_checkpoint(broken: Path) -> None:
    assert load_encoder(broken).mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    text = json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": None})
    (broken / "preprocessor_config.json").write_text(text)
    encoder = load_encoder(broken)
    assert encoder.mean == pytest.approx((0.5, 0.4, 0.3))
    assert encoder.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


# Refused -------------------------------------------------------------------------------------------------


def test_places_where_no_checkpoint_is(tmp_path: Path) -> None:
    assert "There is no folder" in refused(tmp_path / "missing")
    assert "There is no folder" in refused("clip-vit")
    (tmp_path / "file.bin").touch()
    assert "is a file; give the folder" in refused(tmp_path / "file.bin")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(tmp_path / "empty")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "siglip", "vision_config": {}, "text_config": {}},
        {"model_type": "clip_vision_model"},
        {"model_type": "clip", "vision_config": {}},
        {"model_type": "clip", "vision_config": {}, "text_config": None},
        {},
    ],
)
def test_what_is_not_clip(tmp_path: Path, config: dict) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    kind = config.get("model_type", "unknown")
    assert f"is a checkpoint of type '{kind}', not CLIP with both towers" in refused(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_configuration(broken: Path, text: str) -> None:
    (broken / "config.json").write_text(text)
    assert "config.json is not readable JSON" in refused(broken)


def test_no_tokenizer(broken: Path) -> None:
    for path in broken.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    assert "has no tokenizer; copy tokenizer.json, or vocab.json and merges.txt" in refused(broken)


def test_a_damaged_tokenizer(broken: Path) -> None:
    (broken / "tokenizer.json").write_text('{"model": 5')
    assert "The tokenizer of" in refused(broken)


def test_the_tokenizer_of_another_model(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    change(broken / "config.json", text_config=config["text_config"] | {"vocab_size": 10})
    assert "tokens, its text tower 10: they are of two models" in refused(broken)


def test_a_tokenizer_without_an_end_token(broken: Path) -> None:
    change(broken / "tokenizer.json", post_processor=None)
    change(broken / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert "sets no end token, so it is not CLIP's" in refused(broken)


def test_weights_that_are_missing_damaged_or_too_few(broken: Path) -> None:
    path = broken / "model.safetensors"
    whole = path.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # not mapped to the file
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "cannot be read" in refused(broken)
    some = {name: tensor for name, tensor in tensors.items() if "text_projection" not in name}
    save_file(some, path)
    assert "lack 1 tensors, text_projection.weight first" in refused(broken)
    other = tensors | {"text_projection.weight": torch.zeros(3, 3)}
    save_file(other, path)
    assert "cannot be read" in refused(broken)
    path.unlink()
    assert "has no model.safetensors" in refused(broken)


def test_a_pickle_is_refused_with_the_line_that_converts_it(broken: Path) -> None:
    folder = broken.rename(broken.with_name("my clip's copy; rm -r $HOME"))
    before = load_encoder(folder).fingerprint
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    text = refused(folder)
    assert "as a pickle, which can run code; if you trust it, convert it once with: python -c " in text
    command = shlex.split(text.partition("convert it once with: ")[2])
    assert command[0] == "python"
    subprocess.run(
        [sys.executable, *command[1:]], env=subprocess_environment(), check=True, capture_output=True
    )
    assert load_encoder(folder).fingerprint == before


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


def test_a_hub_name_without_safetensors_is_refused_with_the_way_to_them(
    tiny: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (cached(tiny, hub) / "model.safetensors").unlink()
    assert "fetch it with `hf download someone/some-clip --local-dir clip`" in refused("someone/some-clip")


def cached(checkpoint: Path, hub: Path) -> Path:
    """The checkpoint as the hub's own cache would hold it."""
    revision = "0" * 40
    place = hub / "models--someone--some-clip"
    shutil.copytree(checkpoint, place / "snapshots" / revision)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(revision)
    return place / "snapshots" / revision

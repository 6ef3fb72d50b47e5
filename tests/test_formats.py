"""Twelve published formats: the same numbers as the libraries that define them, without those libraries."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import farshot
from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import ModelError
from farshot.images.preprocess import prepare
from farshot.model.encoder import normalise
from farshot.model.features import image_features
from farshot.model.find import load_encoder
from farshot.model.positions import rotary_tables
from farshot.model.tokenizer import TextRules, pooled_positions
from farshot.model.tower import Pass
from tests.golden_encoders import (
    BARE,
    NAMES,
    copied,
    distance,
    expected,
    load,
    load_from,
    prompts_of,
    root,
    text_steps,
    tokenized,
    vision_steps,
)

CLOSE, GRADIENT = 1e-5, 2e-5  # relative to the largest value (README of the golden encoders)
WITH_TOKENIZER = [name for name in NAMES if name != "openclip-bare-pt"]
WITH_RESIZED = [name for name in WITH_TOKENIZER if name != "openclip-vit-quickgelu"]


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_and_logits_are_the_librarys(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    with torch.no_grad():
        images = encoder.encode_images(wanted["images_uint8"])
        texts = encoder.forward_texts(prompts_of(encoder, wanted)).final[0]
    assert distance(images, wanted["image_embeds"]) < CLOSE
    assert distance(texts, wanted["text_embeds"]) < CLOSE
    assert encoder.logit_scale == pytest.approx(wanted["logit_scale"].item(), rel=1e-6)
    assert (encoder.logit_bias is None) == ("logit_bias" not in wanted)
    if encoder.logit_bias is not None:
        assert encoder.logit_bias == pytest.approx(wanted["logit_bias"].item(), rel=1e-6)
    cosines = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    logits = encoder.logit_scale * cosines + (encoder.logit_bias or 0.0)
    assert distance(logits, wanted["logits_per_image"]) < GRADIENT


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_vision_tower_is_the_librarys(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    mean, std = encoder.preprocessing.mean, encoder.preprocessing.std
    pixels = normalise(torch.from_numpy(wanted["images_uint8"]), mean, std)
    assert distance(pixels, wanted["pixel_values"]) < CLOSE
    found = vision_steps(encoder, pixels)
    compared = [key for key in found if key in wanted]
    assert len(compared) >= encoder.vision_depth + 2
    for key in compared:
        assert distance(found[key], wanted[key]) < CLOSE, key


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_the_text_tower_is_the_librarys(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    prompts = prompts_of(encoder, wanted)
    found = text_steps(encoder, prompts)
    for block in range(encoder.text_depth):
        key = f"text_tokens_before_block_{block}"
        length, rows = wanted[key].shape[1], len(wanted[key])
        there = prompts.kept[0, :rows, :length].numpy()
        assert distance(found[key][:rows, :length][there], wanted[key][there]) < CLOSE, key
    tokens = torch.from_numpy(found[f"text_tokens_before_block_{encoder.text_depth - 1}"])
    mask = prompts.kept[0][:, None, None] if encoder.text.config.mask_padding else None
    with torch.no_grad():
        last = encoder.text.block(
            encoder.text_depth - 1,
            tokens[None],
            Pass(),
            causal=encoder.text.config.causal,
            mask=mask,
        )
        pooled = encoder.text.final_norm(last[0, torch.arange(len(tokens)), prompts.pooled[0]])
    assert distance(pooled, wanted["text_pooled"]) < CLOSE


@pytest.mark.parametrize("name", WITH_TOKENIZER)
def test_texts_become_the_librarys_tokens(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    prompts = tokenized(encoder, wanted)
    ids, kept = prompts.ids[0].numpy(), prompts.kept[0].numpy()
    theirs = wanted["token_ids"][:, : ids.shape[1]]
    assert (ids[kept] == theirs[kept]).all()
    assert (prompts.pooled[0].numpy() == wanted["text_pool_index"]).all()
    if encoder.tokenizer.rules.fixed_length:
        assert (ids == wanted["token_ids"]).all()  # padding is seen by the tower
    with torch.no_grad():
        assert distance(encoder.forward_texts(prompts).final[0], wanted["text_embeds"]) < CLOSE


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_librarys(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    leaves = {f"blocks.0.{layer}.weight": None for layer in "qkv"}
    tensors = {key: encoder.vision.tensors[key].clone().requires_grad_() for key in leaves}
    changed = encoder.with_tensors({"vision": tensors})
    embedded = changed.forward_images(torch.from_numpy(wanted["images_uint8"])[None])[0]
    value = (torch.from_numpy(wanted["grad_of"]) * embedded).sum()
    value.backward()
    for layer in "qkv":
        found = tensors[f"blocks.0.{layer}.weight"].grad
        assert distance(found, wanted[f"grad_block0_{layer}_weight"]) < GRADIENT, layer


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("openclip-bare-pt", "openclip-vit-quickgelu")]
)
@pytest.mark.parametrize("way", ["up", "down"])
def test_images_of_another_size_get_the_librarys_positions(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
):
    encoder, wanted = load(name, monkeypatch), expected(name)
    pictures = wanted[f"resized_{way}_images_uint8"]
    resized = encoder.at_size(pictures.shape[1])
    position = wanted[f"resized_{way}_pos_embed"].reshape(-1, encoder.vision.config.width)
    ours = resized.vision.tensors["position"][-len(position) :]
    assert distance(ours, position) < CLOSE
    assert distance(resized.encode_images(pictures), wanted[f"resized_{way}_image_embeds"]) < CLOSE
    assert resized.fingerprint != encoder.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoints_own_way_of_resizing(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder, wanted = load(name, monkeypatch), expected(name)
    picture = Image.fromarray(wanted["resize_test_image_uint8"])
    pixels = prepare(picture, encoder.preprocessing.reading, encoder.size)
    values = normalise(torch.from_numpy(pixels.copy()), encoder.preprocessing.mean, encoder.preprocessing.std)
    key = "resize_test_pixel_values"
    theirs = wanted.get(f"{key}_pil_backend", wanted[key])
    assert distance(values, theirs) < CLOSE
    embedded = torch.from_numpy(wanted["resize_test_image_embeds"]).reshape(1, -1)
    if f"{key}_pil_backend" in wanted:  # the stored embedding is that of the other backend's pixels
        embedded = encoder.forward_images(torch.from_numpy(theirs).reshape(1, 1, *values.shape))[0]
    found = image_features(encoder, ImageTable((picture,), None, (), ()), [0])
    assert distance(found, F.normalize(embedded, dim=-1).numpy()) < 1e-4


def test_the_preprocessing_of_the_first_openai_checkpoints_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`preprocessor_config.json` of openai/clip-vit-base-patch16 writes sizes as numbers."""
    folder = copied("clip-hf", tmp_path)
    expected_reading = load_from(folder, monkeypatch).preprocessing
    published = {
        "crop_size": 40,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 40,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(published))
    assert load_from(folder, monkeypatch).preprocessing == expected_reading


def test_rotary_tables_are_the_librarys(monkeypatch: pytest.MonkeyPatch):
    for name in ("pe-core-openclip", "eva02-clip-openclip"):
        config, wanted = load(name, monkeypatch).vision.config, expected(name)
        assert config.rotary is not None
        sin, cos = rotary_tables(config.rotary, config.grid, config.width // config.heads)
        assert distance(sin, wanted["rope_sin"]) < CLOSE
        assert distance(cos, wanted["rope_cos"]) < CLOSE


def test_a_bare_file_is_read_with_the_gelu_that_the_user_names(monkeypatch: pytest.MonkeyPatch):
    wanted = expected("openclip-bare-pt")
    exact = load("openclip-bare-pt", monkeypatch, gelu="exact").encode_images(wanted["images_uint8"])
    quick = load("openclip-bare-pt", monkeypatch, gelu="quick").encode_images(wanted["images_uint8"])
    assert distance(exact, wanted["image_embeds"]) < CLOSE
    assert distance(quick, wanted["alt_quickgelu_image_embeds"]) < CLOSE
    by_name = load_encoder(f"{root() / 'openclip-bare-pt' / BARE}@gelu=quick")
    assert torch.equal(by_name.encode_images(wanted["images_uint8"]), quick)


@pytest.mark.parametrize("folder", ["checkpoints", "me@uni", "me@uni=1"])
def test_a_model_remembers_the_gelu_of_its_bare_file(folder: str, tmp_path: Path):
    copied("openclip-bare-pt", tmp_path)
    place = (tmp_path / "openclip-bare-pt").rename(tmp_path / folder) / BARE
    encoder = load_encoder(place, gelu="exact")
    assert encoder.source == f"{place}@gelu=exact"
    assert load_encoder(f"{place}@gelu=exact").fingerprint == encoder.fingerprint
    pixels = [np.full((48, 48, 3), grey, np.uint8) for grey in (0, 255)]
    fitted = FewShotClassifier(encoder, "prototypes", calibrate=False).fit(pixels, ["dark", "light"])
    fitted.save(tmp_path / "model")
    assert farshot.load(tmp_path / "model").predict(pixels).tolist() == ["dark", "light"]


def test_a_model_with_another_tokenizer_is_refused_by_name(tmp_path: Path):
    folder = copied("clip-hf", tmp_path)
    pixels = [np.full((48, 48, 3), grey, np.uint8) for grey in (0, 255)]
    fitted = FewShotClassifier(str(folder), "prototypes", calibrate=False).fit(pixels, ["dark", "light"])
    fitted.save(tmp_path / "model")
    (folder / "tokenizer.json").unlink()  # vocab.json and merges.txt remain
    with pytest.raises(ModelError, match=r"the tokenizer or the weights in .* are others"):
        farshot.load(tmp_path / "model")


def test_quick_gelu_of_the_configuration_reaches_both_towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, wanted = copied("openclip-vit", tmp_path), expected("openclip-vit")
    config = json.loads((folder / "open_clip_config.json").read_text())
    for value in (True, "TRUE"):  # one repository writes a string
        config["model_cfg"]["quick_gelu"] = value
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        encoder = load_from(folder, monkeypatch)
        assert (
            distance(encoder.encode_images(wanted["images_uint8"]), wanted["alt_quickgelu_image_embeds"])
            < CLOSE
        )
        texts = encoder.forward_texts(prompts_of(encoder, wanted)).final[0]
        assert distance(texts, wanted["alt_quickgelu_text_embeds"]) < CLOSE


def test_a_configuration_without_the_outer_level_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("openclip-vit", tmp_path)
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps(config["model_cfg"]))
    flat, whole = load_from(folder, monkeypatch), load("openclip-vit", monkeypatch)
    pictures = expected("openclip-vit")["images_uint8"]
    assert torch.equal(flat.encode_images(pictures), whole.encode_images(pictures))


def test_siglip_1_and_2_differ_in_the_text_towers_gelu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, wanted = copied("siglip-openclip", tmp_path), expected("siglip-openclip")
    shutil.copy(folder / "open_clip_config.siglip1-text.json", folder / "open_clip_config.json")
    encoder = load_from(folder, monkeypatch)
    texts = encoder.forward_texts(prompts_of(encoder, wanted)).final[0]
    assert distance(texts, wanted["alt_siglip1_text_embeds"]) < CLOSE


def test_both_generations_of_biomedclips_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("biomedclip-like", tmp_path)
    shutil.copy(folder / "open_clip_config.before-2023-11.json", folder / "open_clip_config.json")
    other = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"  # the same BERT, since renamed
    configuration = folder / "BiomedNLP-PubMedBERT-base-uncased-abstract"
    configuration.mkdir()
    shutil.copy(root() / "hub" / other / "config.json", configuration)
    old, new = load_from(folder, monkeypatch), load("biomedclip-like", monkeypatch)
    assert old.fingerprint == new.fingerprint


def test_a_folder_takes_the_configuration_of_its_bert_from_the_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    folder = copied("biomedclip-like", tmp_path)
    with pytest.raises(ModelError, match="its heads are in"):  # of no published BERT
        load_encoder(folder)
    other = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    cached = tmp_path / "hub" / f"models--{other.replace('/', '--')}"
    shutil.copytree(root() / "hub" / other, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert load_encoder(folder).text.config.heads > 0


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("openclip-vit", ("open_clip_pytorch_model.bin", "RemoteCLIP-like.pt", "module-prefixed.pt")),
        ("biomedclip-like", ("open_clip_pytorch_model.bin",)),
        ("clip-hf", ("pytorch_model.bin",)),
    ],
)
def test_the_file_format_is_no_part_of_the_identity(
    name: str, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wanted = load(name, monkeypatch).fingerprint
    for file in files:
        if file.endswith(".bin"):
            folder = copied(name, tmp_path / file)
            for path in folder.glob("*.safetensors"):
                path.unlink()
            place = folder
        else:
            place = root() / name / file
        assert load_from(place, monkeypatch).fingerprint == wanted, file


def test_several_files_and_an_index_are_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("clip-hf", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    weight_map = {}
    for part in range(2):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        save_file({key: tensors[key] for key in names[part::2]}, folder / file)
        weight_map |= dict.fromkeys(names[part::2], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load_from(folder, monkeypatch).fingerprint == load("clip-hf", monkeypatch).fingerprint


@pytest.mark.parametrize("name", ["openclip-bare-pt", "clip-hf"])
def test_precision_is_no_part_of_the_identity(name: str, monkeypatch: pytest.MonkeyPatch):
    encoder = load(name, monkeypatch)
    assert encoder.to("cpu", torch.bfloat16).fingerprint == encoder.fingerprint


def test_all_that_changes_an_answer_changes_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = load("clip-hf", monkeypatch).fingerprint
    seen = {base}
    changes = {
        "config.json": [
            ("hidden_act", lambda config: config["vision_config"].update(hidden_act="gelu")),
            ("heads", lambda config: config["vision_config"].update(num_attention_heads=2)),
            ("eps", lambda config: config["text_config"].update(layer_norm_eps=1e-6)),
        ],
        "preprocessor_config.json": [
            ("mean", lambda config: config.update(image_mean=[0.5, 0.5, 0.5])),
            ("std", lambda config: config.update(image_std=[0.5, 0.5, 0.5])),
        ],
    }
    for file, cases in changes.items():
        for what, change in cases:
            folder = copied("clip-hf", tmp_path / what)
            config = json.loads((folder / file).read_text())
            change(config)
            (folder / file).write_text(json.dumps(config))
            found = load_from(folder, monkeypatch).fingerprint
            assert found not in seen, what
            seen.add(found)
    folder = copied("clip-hf", tmp_path / "tokenizer")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-5]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load_from(folder, monkeypatch).fingerprint not in seen


def test_loading_imports_neither_transformers_nor_open_clip_nor_timm(monkeypatch: pytest.MonkeyPatch):
    code = (
        "import sys; from farshot.model.find import load_encoder; "
        f"load_encoder({str(root() / 'clip-hf')!r}); load_encoder({str(root() / 'openclip-vit')!r}); "
        "print([m for m in ('transformers', 'open_clip', 'timm', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pooled_token_of_each_rule():
    ids = torch.tensor([[5, 9, 3, 9, 1], [9, 2, 3, 1, 1]])
    rules = {"first": [0, 0], "last": [4, 4], "largest": [1, 0], "end": [2, 2]}
    for pool, wanted in rules.items():
        found = pooled_positions(ids, TextRules(5, None, 3, 1, pool=pool))  # type: ignore[arg-type]
        assert found.tolist() == wanted


def test_numpy_and_torch_pixels_give_the_same(monkeypatch: pytest.MonkeyPatch):
    encoder, pictures = load("clip-hf", monkeypatch), expected("clip-hf")["images_uint8"]
    assert torch.equal(encoder.encode_images(pictures), encoder.encode_images(torch.from_numpy(pictures)))
    assert np.asarray(encoder.encode_texts(["a moth"])).shape == (1, encoder.embed_dim)


def test_both_tokenizer_classes_of_siglip_2_lower_case_and_keep_punctuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = copied("siglip2-hf", tmp_path)
    about = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "tokenizer_class": "Siglip2Tokenizer"
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    assert load_from(folder, monkeypatch).tokenizer.rules == load("siglip2-hf", monkeypatch).tokenizer.rules


def test_siglip_without_its_small_files_has_siglips_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("siglip-hf", tmp_path)
    for name in ("tokenizer_config.json", "preprocessor_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    found, whole = load_from(folder, monkeypatch), load("siglip-hf", monkeypatch)
    assert found.tokenizer.rules == whole.tokenizer.rules
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)


def test_a_size_given_as_two_equal_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = copied("siglip-hf", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = [config["vision_config"]["image_size"]] * 2
    (folder / "config.json").write_text(json.dumps(config))
    assert load_from(folder, monkeypatch).fingerprint == load("siglip-hf", monkeypatch).fingerprint


def test_methods_that_need_no_text_take_a_checkpoint_without_a_tokenizer():
    name = f"{root()}/openclip-bare-pt/RemoteCLIP-ViT-tiny.pt@gelu=quick"
    generator = np.random.default_rng(0)
    images, labels = list(generator.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)), [0, 0, 0, 1, 1, 1]
    for method, settings in (("prototypes", {}), ("bd-cspn", {}), ("linear-probe", {"start": "zero"})):
        made = FewShotClassifier(name, method, settings=settings, calibrate=True).fit(images, labels)
        assert np.isfinite(made.predict_proba(images)).all()
    with pytest.raises(ModelError, match="has no tokenizer for its 604 tokens"):
        FewShotClassifier(name, "zero-shot").fit(images, labels)

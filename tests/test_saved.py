"""An adapted model on disk: the same after loading, PEFT reads the LoRA, damage is one sentence."""

import json
import stat
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPModel

from farshot import FewShotClassifier, load
from farshot.errors import DataError, ModelError
from farshot.images.preprocess import normalise
from farshot.saved import write_folder
from tests.toy import toy_task, world_table

TABLE = world_table(count=60)
SUPPORT = TABLE.subset(toy_task(TABLE).support)
QUERIES = [TABLE.images[row] for row in range(8)]
QUICK = {
    "atha": {"views": "none", "steps": 2},
    "prompt-lora": {"views": "none", "steps": 2},
    "clip-lora": {"steps": 2, "batch": 4},
    "zero-shot": {},
}


@pytest.fixture(scope="module")
def adapted(checkpoint: Path) -> FewShotClassifier:
    """clip-lora with a LoRA far from zero, on a checkpoint of its own."""
    settings = {"steps": 3, "batch": 4, "lr": 0.05}
    return FewShotClassifier(checkpoint, "clip-lora", settings=settings).fit(SUPPORT)


@pytest.mark.parametrize("method", QUICK)
def test_a_loaded_model_predicts_the_same(method, tmp_path: Path):
    made = FewShotClassifier("mini", method, settings=QUICK[method]).fit(SUPPORT)
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(QUERIES), made.predict_proba(QUERIES))
    assert again.classes_.tolist() == made.classes_.tolist()
    assert again.get_params()["settings"] == made.method_.settings()


@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # between PEFT and transformers
def test_peft_loads_the_lora_and_gives_the_same_features(adapted, checkpoint: Path, tmp_path: Path):
    adapted.save(tmp_path / "model")
    base = CLIPModel.from_pretrained(checkpoint)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "model").eval()
    pixels = torch.from_numpy(TABLE.pixels(range(4), "squash", 32))[None]
    encoder, part = adapted.encoder_, adapted.adapted_.lora
    prompts = encoder.prompts([["a photo of a highway.", "a photo of an orchard."]])
    with torch.no_grad():
        with encoder.attached([part]):
            images, texts = encoder.encode_images(pixels)[0], encoder.encode_texts(prompts).final[0]
        plain = encoder.encode_images(pixels)[0]
        clip = theirs.base_model.model
        seen = clip.vision_model(normalise(pixels[0], encoder.mean, encoder.std)).pooler_output
        told = clip.text_model(input_ids=prompts.ids[0]).pooler_output
        torch.testing.assert_close(clip.visual_projection(seen), images, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(clip.text_projection(told), texts, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(images, plain, atol=1e-2)  # the LoRA does something


def test_the_folder_holds_what_it_should(adapted, tmp_path: Path):
    folder = tmp_path / "model"
    adapted.save(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"farshot.json", "parts.safetensors", "adapter_config.json", "adapter_model.safetensors"}
    assert not any(name.startswith("lora.") for name in load_file(folder / "parts.safetensors"))
    assert json.loads((folder / "adapter_config.json").read_text())["use_rslora"] is True
    about = json.loads((folder / "farshot.json").read_text())
    assert about["classes"] == ["highway", "orchard"]
    assert about["base_fingerprint"] == adapted.encoder_.fingerprint
    for path in folder.iterdir():  # others may read it
        assert path.stat().st_mode & stat.S_IRGRP


def test_saving_again_replaces_the_model(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    adapted.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_peoples_folders_are_not_overwritten(adapted, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match="not an adapted model"):
        adapted.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_nothing_half_written_is_left_when_the_disk_is_full(adapted, tmp_path: Path, monkeypatch):
    adapted.save(tmp_path / "model")
    before = (tmp_path / "model" / "farshot.json").read_bytes()

    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("farshot.saved.save_file", full)
    with pytest.raises(DataError, match="No space left on device"):
        adapted.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "farshot.json").read_bytes() == before


@pytest.mark.parametrize("name", ["farshot.json", "parts.safetensors", "adapter_model.safetensors"])
def test_a_damaged_file_is_one_sentence(adapted, name, tmp_path: Path):
    adapted.save(tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(b"\x00garbage")
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "model")


def test_a_folder_that_is_no_model_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ModelError, match="farshot adapt"):
        load(tmp_path)


def test_a_model_of_a_newer_farshot_is_refused(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    path = tmp_path / "model" / "farshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ModelError, match="update farshot"):
        load(tmp_path / "model")


def test_another_base_model_is_refused(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    with pytest.raises(ModelError, match="--model"):
        load(tmp_path / "model", model="mini")


def test_the_base_may_have_moved(adapted, checkpoint: Path, tmp_path: Path):
    adapted.save(tmp_path / "model")
    moved = tmp_path / "elsewhere"
    moved.symlink_to(checkpoint)
    again = load(tmp_path / "model", model=moved)
    assert np.array_equal(again.predict(QUERIES), adapted.predict(QUERIES))


def test_tensors_of_other_files_are_not_touched(tmp_path: Path):
    write_folder(tmp_path / "model", {"base_model": "x"}, {"texts": torch.ones(2)}, None)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"farshot.json", "parts.safetensors"}

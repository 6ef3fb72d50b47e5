"""An adapted model on disk: the same after loading, PEFT reads the LoRA, damage is one sentence."""

import itertools
import json
import os
import stat
import sys
from datetime import date
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from farshot import FewShotClassifier, load
from farshot.data.readers import read_table
from farshot.errors import DataError, ModelError
from farshot.model.tower import Pass
from farshot.storage import model_folder
from farshot.storage.model_folder import read_folder, write_folder
from tests.oracle import planes
from tests.toy import as_folder, toy_task, world_table

TABLE = world_table(count=60)
SUPPORT = TABLE.subset(toy_task(TABLE).support)
# none of the support: features are kept once encoded, and among other images the last bit may differ
QUERIES = [TABLE.images[row] for row in toy_task(TABLE).query[:8]]
QUICK = {
    "atha": {"views": "none", "steps": 2},
    "prompt-lora": {"views": "none", "steps": 2},
    "clip-lora": {"steps": 2, "batch": 4},
    "zero-shot": {},
}
REQUIRED = {
    *("method", "settings", "classes", "class_names", "descriptions", "template", "base_model"),
    *("base_fingerprint", "precision", "temperature", "seed", "revision", "support_ids", "losses"),
}


@pytest.fixture(scope="module")
def adapted(checkpoint: Path) -> FewShotClassifier:
    """clip-lora with a LoRA far from zero, on a checkpoint made here."""
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


@pytest.mark.parametrize("labels", [[True, False], [10, 2], ["b", "a"], ["ä_ß", "\U0001f33b"]])
def test_labels_come_back_in_their_type(labels, tmp_path: Path):
    given = np.array(labels)[SUPPORT.labels]
    names = dict(zip(map(str, labels), SUPPORT.names, strict=True))
    made = FewShotClassifier("mini", "zero-shot", class_names=names).fit(SUPPORT.images, given)
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.classes_.dtype == made.classes_.dtype
    assert again.predict(QUERIES).tolist() == made.predict(QUERIES).tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_paths_that_are_not_utf8_are_saved(tmp_path: Path):
    table = read_table(as_folder(SUPPORT, tmp_path / os.fsdecode(b"caf\xe9")))
    made = FewShotClassifier("mini", "zero-shot").fit(table)
    place = tmp_path / os.fsdecode(b"mod\xe8le")
    made.save(place)
    again = load(place)
    assert [Path(one["path"]) for one in again.support_places_] == list(table.images)
    assert again.predict(table.images).tolist() == made.predict(table.images).tolist()


def test_a_base_whose_path_is_not_utf8_is_saved(tmp_path: Path):
    made = FewShotClassifier("mini", "zero-shot").fit(SUPPORT)
    made.save(tmp_path / "model")
    base = os.fsdecode(b"mod\xe8le/clip.pt")
    about, tensors = read_folder(tmp_path / "model")
    write_folder(tmp_path / "again", about | {"base_model": base}, tensors, None)
    assert read_folder(tmp_path / "again")[0]["base_model"] == base


def test_labels_that_a_file_cannot_hold_are_refused():
    days = np.array([date(2020, 1, 1), date(2021, 1, 1)])[SUPPORT.labels]
    for labels in (days, days.astype("M8[D]"), np.array([b"a", b"b"])[SUPPORT.labels]):
        with pytest.raises(DataError, match=r"use (str|label.decode)"):
            FewShotClassifier("mini", "zero-shot").fit(SUPPORT.images, labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, float("nan")], r"has no label \(nan\)"),
        ([0.5, 1.5], r"continuous .* has [01]\.5"),
        ([0, float("inf")], "continuous .* has inf"),
        ([2**63, 2**63 + 1], "too large for a number; give words"),
        (["caf\udce9", "tea"], r"'caf\\udce9' holds bytes that are no characters"),
    ],
)
@pytest.mark.parametrize("kind", [list, np.array, lambda given: np.array(given, dtype=object)])
def test_labels_with_which_a_model_could_not_be_loaded_are_refused(labels, words, kind):
    given = kind([labels[code] for code in SUPPORT.labels])
    with pytest.raises(DataError, match=words):
        FewShotClassifier("mini", "zero-shot").fit(SUPPORT.images, given)


@pytest.mark.parametrize("labels", [[1, 2.0], [False, 2], [np.int64(0), 1], [2, 10]])
def test_an_array_of_objects_is_read_as_the_list_is(labels, tmp_path: Path):
    given = [labels[code] for code in SUPPORT.labels]
    listed = FewShotClassifier("mini", "prototypes").fit(SUPPORT.images, given)
    made = FewShotClassifier("mini", "prototypes").fit(SUPPORT.images, np.array(given, dtype=object))
    made.save(tmp_path / "model")
    for one in (made, load(tmp_path / "model")):
        assert one.classes_.dtype == listed.classes_.dtype
        assert one.classes_.tolist() == listed.classes_.tolist() == labels


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": ["caf\udce9", "tea"]},
        {"descriptions": {"highway": "caf\udce9"}},
        {"template": "a caf\udce9 of a {}."},
    ],
)
def test_words_of_prompts_that_are_no_text_are_refused(wrong):
    with pytest.raises(DataError, match=r"'.*caf\\udce9.*'"):
        FewShotClassifier("mini", "zero-shot", **wrong).fit(SUPPORT)


@pytest.mark.parametrize("labels", [[0, 1], ["big_barn", "cafe\u0301"], [False, True]])
def test_a_loaded_model_can_be_fitted_to_other_classes(labels, tmp_path: Path):
    made = FewShotClassifier("mini", "zero-shot").fit(SUPPORT.images, [labels[c] for c in SUPPORT.labels])
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert (again.class_names, again.descriptions) == (None, None)
    again.fit(SUPPORT)
    assert again.classes_.tolist() == list(SUPPORT.classes)
    assert np.array_equal(again.predict_proba(QUERIES), made.fit(SUPPORT).predict_proba(QUERIES))


def test_names_and_descriptions_that_were_given_are_kept(tmp_path: Path):
    names, words = {"highway": "road", "orchard": "orchard"}, {"road": "a road for cars"}
    made = FewShotClassifier("mini", "zero-shot", class_names=names, descriptions=words).fit(SUPPORT)
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert (again.class_names, again.descriptions) == (names, words)


def test_a_temperature_and_an_estimate_are_kept(tmp_path: Path):
    made = FewShotClassifier("mini", "zero-shot", calibrate=True, seed=3).fit(SUPPORT)
    made.keep_estimate(made.estimate(SUPPORT))
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.temperature_ == made.temperature_ != 1
    assert np.array_equal(again.predict_proba(QUERIES), made.predict_proba(QUERIES))
    again.save(tmp_path / "again")
    first, second = (
        json.loads((tmp_path / name / "farshot.json").read_text()) for name in ("model", "again")
    )
    moved = {"base_model"}  # the bundled model by name or by place: the same
    assert {k: v for k, v in first.items() if k not in moved} == {
        k: v for k, v in second.items() if k not in moved
    }


@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # between PEFT and transformers
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("clip-lora", {"steps": 3, "batch": 4, "lr": 0.05}),
        ("atha", {"views": "none", "steps": 3, "lora_lr": 0.05, "rank": 3, "lora_alpha": 2.5}),
        ("prompt-lora", {"views": "none", "steps": 3, "lora_lr": 0.05}),
        ("mind", {"views": "none", "steps": 3, "lr": 0.05}),
    ],
)
def test_peft_loads_the_lora_and_gives_the_same_features(method, settings, checkpoint: Path, tmp_path: Path):
    """With all other parts off; within 1e-4 in float32, both towers."""
    made = FewShotClassifier(checkpoint, method, settings=settings).fit(SUPPORT)
    made.save(tmp_path / "model")
    base = CLIPModel.from_pretrained(checkpoint)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "model").eval()
    pixels = torch.from_numpy(TABLE.pixels(range(4), "squash", 32))[None]
    encoder, part = made.encoder_, made.adapted_.lora
    prompts = encoder.prompts([["a photo of a highway.", "a photo of an orchard."]])
    with torch.no_grad():
        plain = encoder.forward_images(pixels)[0], encoder.forward_texts(prompts).final[0]
        ours = (
            encoder.forward_images(pixels, Pass([part]))[0],
            encoder.forward_texts(prompts, Pass([part])).final[0],
        )
        clip = theirs.base_model.model
        seen = clip.vision_model(planes(encoder, pixels[0])).pooler_output
        told = clip.text_model(input_ids=prompts.ids[0]).pooler_output
        found = clip.visual_projection(seen), clip.text_projection(told)
    for a, b, without in zip(found, ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        if b is ours[0] or method != "mind":  # mind leaves the text tower alone
            assert not torch.allclose(b, without, atol=1e-2)  # the LoRA does something


def test_the_folder_holds_what_it_should(adapted, tmp_path: Path):
    folder = tmp_path / "model"
    adapted.save(folder)
    names = {path.name for path in folder.iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert names == {"farshot.json", "parts.safetensors", "labelled.safetensors", "labelled.json", *adapter}
    assert not any(name.startswith("lora.") for name in load_file(folder / "parts.safetensors"))
    assert json.loads((folder / "adapter_config.json").read_text())["use_rslora"] is True
    about = json.loads((folder / "farshot.json").read_text())
    assert about["classes"] == ["highway", "orchard"]
    assert about["base_fingerprint"] == adapted.encoder_.fingerprint


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_others_may_read_what_the_umask_lets_them(adapted, tmp_path: Path, umask):
    before = os.umask(umask)
    try:
        adapted.save(tmp_path / "model")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()} == {0o666 & ~umask}


def test_saving_again_replaces_the_model(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    adapted.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_peoples_folders_are_not_overwritten(adapted, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match="not an adapted model"):
        adapted.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call", range(7))
def test_nothing_half_written_is_left(adapted, before, call, error, tmp_path: Path, monkeypatch):
    """Stopped at the first, second, ... file that is written or moved, over an older model or none."""
    if before:
        adapted.save(tmp_path / "model")
        older = (tmp_path / "model" / "farshot.json").read_bytes()
    calls = itertools.count()

    def stopped(real):
        def instead(*args, **more):
            if next(calls) == call:
                raise error
            return real(*args, **more)

        return instead

    monkeypatch.setattr("farshot.storage.model_folder.save_file", stopped(model_folder.save_file))
    monkeypatch.setattr(Path, "write_text", stopped(Path.write_text))
    monkeypatch.setattr(Path, "rename", stopped(Path.rename))
    try:
        adapted.save(tmp_path / "model")
    except (DataError, KeyboardInterrupt) as stop:
        assert isinstance(stop, KeyboardInterrupt) or "No space left on device" in str(stop)
        assert [path.name for path in tmp_path.iterdir()] == (["model"] if before else [])
        if before:
            assert (tmp_path / "model" / "farshot.json").read_bytes() == older
            assert np.array_equal(load(tmp_path / "model").predict(QUERIES), adapted.predict(QUERIES))
    else:
        assert call >= 5 + before  # four files, the older folder moved aside, the new one moved there
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["farshot.json", "parts.safetensors", "adapter_model.safetensors"])
def test_a_damaged_file_is_one_sentence(adapted, name, tmp_path: Path):
    adapted.save(tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(b"\x00garbage")
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "model")


@pytest.mark.parametrize("wrong", [None, [], {}, "x", 2.5])
def test_a_value_of_another_type_is_damage_and_no_traceback(adapted, wrong, tmp_path: Path):
    adapted.save(tmp_path / "model")
    path = tmp_path / "model" / "farshot.json"
    about = json.loads(path.read_text())
    kinds = {"temperature": (int, float)} | {key: type(about[key]) for key in REQUIRED - {"temperature"}}
    for key, kind in kinds.items():
        if not isinstance(wrong, kind):
            path.write_text(json.dumps(about | {key: wrong}))
            with pytest.raises(ModelError, match=f"is damaged .*as {key}"):
                load(tmp_path / "model")


def test_classes_and_names_that_do_not_fit_are_damage(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    path = tmp_path / "model" / "farshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": ["one"]}))
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "model")


def test_a_tensor_of_another_shape_is_damage(tmp_path: Path):
    FewShotClassifier("mini", "prompt-lora", settings=QUICK["prompt-lora"]).fit(SUPPORT).save(
        tmp_path / "model"
    )
    parts = load_file(tmp_path / "model" / "parts.safetensors")
    save_file(parts | {"context.values": torch.zeros(1, 2, 3)}, tmp_path / "model" / "parts.safetensors")
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path / "model")


def test_a_folder_that_is_no_model_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(ModelError, match="farshot adapt"):
        load(tmp_path)


@pytest.mark.parametrize("change", [{"format": 99}, {"format": 3, "method": {"name": "atha"}}])
def test_a_model_of_a_newer_farshot_is_refused_whatever_else_it_has(adapted, change, tmp_path: Path):
    adapted.save(tmp_path / "model")
    path = tmp_path / "model" / "farshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (tmp_path / "model" / "parts.safetensors").rename(tmp_path / "model" / "all.safetensors")
    with pytest.raises(ModelError, match="update farshot"):
        load(tmp_path / "model")


def test_another_base_model_is_refused(adapted, tmp_path: Path):
    adapted.save(tmp_path / "model")
    with pytest.raises(ModelError, match="name its base with model=PLACE"):
        load(tmp_path / "model", model="mini")


def test_the_base_may_have_moved(adapted, checkpoint: Path, tmp_path: Path):
    adapted.save(tmp_path / "model")
    moved = tmp_path / "elsewhere"
    moved.symlink_to(checkpoint)
    again = load(tmp_path / "model", model=moved)
    assert np.array_equal(again.predict(QUERIES), adapted.predict(QUERIES))


def test_without_a_lora_there_are_no_files_for_peft(tmp_path: Path):
    write_folder(tmp_path / "model", {"base_model": "x"}, {"texts": torch.ones(2)}, None)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"farshot.json", "parts.safetensors"}

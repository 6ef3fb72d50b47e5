"""The documented surface: what is imported from farshot, in scikit-learn's tools and with loaded encoders."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

import farshot
from farshot import FewShotClassifier, load, load_encoder
from farshot.errors import DataError, FarshotError, ModelError, SettingError
from farshot.explain import explain
from farshot.export import export
from farshot.model import find
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, use_cache
from tests.toy import world_table

TABLE = world_table("mini-crops", 40, ("canker", "rust"))
IMAGES = list(TABLE.images)
LABELS = [TABLE.classes[code] for code in TABLE.labels]
SUPPORT, SUPPORT_LABELS = IMAGES[:3] + IMAGES[-3:], LABELS[:3] + LABELS[-3:]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("mini")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every checkpoint that is read from now on."""
    seen, real = list[str](), find.locate

    def counted(model, *args):
        seen.append(str(model))
        return real(model, *args)

    monkeypatch.setattr(find, "locate", counted)
    monkeypatch.setattr(find, "LOADED", find.Loaded())
    return seen


def test_the_version_is_that_of_the_package():
    assert farshot.__version__ == "0.1.0"
    told = subprocess.run([sys.executable, "-m", "farshot", "--version"], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "farshot 0.1.0\n")


def test_a_name_a_path_and_an_encoder_give_the_same_classifier(encoder, tmp_path: Path):
    place = find.bundled_folder("mini")
    found = []
    for model in ("mini", str(place), place, encoder):
        with use_cache(FeatureCache()):  # features from other batches differ in the last bits
            made = FewShotClassifier(model, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
            found.append(made.predict_proba(IMAGES[5:9]))
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_a_classifier_with_an_encoder_is_saved_under_the_name_of_its_encoder(encoder, tmp_path: Path):
    made = FewShotClassifier(encoder, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    made.save(tmp_path / "adapted")
    again = load(tmp_path / "adapted")
    assert again.parameters_.model == "mini"
    np.testing.assert_allclose(again.predict_proba(IMAGES), made.predict_proba(IMAGES), atol=1e-6)
    with_encoder = load(tmp_path / "adapted", model=encoder)
    assert with_encoder.encoder_ is encoder


def test_a_base_model_with_a_relative_path_is_found_from_another_folder(tmp_path: Path, monkeypatch):
    shutil.copytree(find.bundled_folder("mini"), tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    made = FewShotClassifier("base", "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    made.save("adapted")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load(tmp_path / "adapted")
    assert np.array_equal(again.predict(IMAGES), made.predict(IMAGES))
    again.save("copy")
    assert load("copy").parameters_.model == str(tmp_path / "base")


def test_a_classifier_that_was_loaded_with_an_encoder_fits_with_it_again(encoder, tmp_path: Path):
    FewShotClassifier(encoder, "linear-probe").fit(SUPPORT, SUPPORT_LABELS).save(tmp_path / "adapted")
    again = load(tmp_path / "adapted", model=encoder)
    assert again.fit(SUPPORT, SUPPORT_LABELS).encoder_ is encoder


def test_exports_are_made_on_the_cpu_in_float32(tmp_path: Path):
    made = FewShotClassifier("mini", "clip-lora", settings={"steps": 1}, precision="bf16")
    made.fit(SUPPORT, SUPPORT_LABELS)
    with pytest.raises(SettingError, match="runs in bf16 on cpu, and exports are made in float32"):
        export(made, "peft", tmp_path / "peft")


def test_a_clip_model_of_transformers_is_taken_with_its_own_weights(encoder, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(find.bundled_folder("mini"))
    made = FewShotClassifier(model, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    assert made.encoder_.fingerprint == encoder.fingerprint
    named = FewShotClassifier("mini", "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    np.testing.assert_allclose(made.predict_proba(IMAGES), named.predict_proba(IMAGES), atol=1e-6)
    model.visual_projection.weight.data *= 1.5
    changed = FewShotClassifier(model, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    assert changed.encoder_.fingerprint != encoder.fingerprint
    made.save(tmp_path / "before")
    again = made.fit(SUPPORT, SUPPORT_LABELS)  # the same classifier, the weights of now
    assert again.encoder_.fingerprint == changed.encoder_.fingerprint
    assert again.encoder_ is again.fit(SUPPORT, SUPPORT_LABELS).encoder_
    again.save(tmp_path / "adapted")
    by_model = load(tmp_path / "adapted", model=model)
    np.testing.assert_allclose(by_model.predict_proba(IMAGES), again.predict_proba(IMAGES), atol=1e-6)
    with pytest.raises(ModelError, match="are others; name its base"):
        load(tmp_path / "before", model=model)
    assert again.set_params(precision="bf16").fit(SUPPORT, SUPPORT_LABELS).encoder_.precision == "bf16"
    with pytest.raises(SettingError, match="Unknown precision 'float8'"):
        again.set_params(precision="float8").fit(SUPPORT, SUPPORT_LABELS)
    fresh = transformers.CLIPModel(model.config)
    fresh.name_or_path = ""
    with pytest.raises(ModelError, match="no tokenizer"):
        FewShotClassifier(fresh, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)


@pytest.mark.parametrize("model", [3, None, ["mini"], b"mini"])
def test_what_is_no_model_is_refused_by_name(model):
    with pytest.raises(SettingError, match="The parameter model must be"):
        FewShotClassifier(model).fit(SUPPORT, SUPPORT_LABELS)


def test_a_model_of_another_size_finds_its_base_again(tmp_path: Path):
    for precision in ("float32", "bf16"):
        large = load_encoder("mini", size=96, precision=precision)
        made = FewShotClassifier(large, "prototypes").fit(SUPPORT, SUPPORT_LABELS)
        made.save(tmp_path / precision)
        again = load(tmp_path / precision)
        assert again.encoder_.size == 96
        np.testing.assert_allclose(again.predict_proba(IMAGES), made.predict_proba(IMAGES), atol=1e-6)


def test_a_loaded_model_fits_again_at_its_size(tmp_path: Path):
    made = FewShotClassifier(load_encoder("mini", size=96), "prototypes").fit(SUPPORT, SUPPORT_LABELS)
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    for other in (clone(again), again.with_method("prototypes"), again):
        other.fit(SUPPORT, SUPPORT_LABELS).save(tmp_path / "second")
        assert other.encoder_.size == 96
        assert np.array_equal(other.predict_proba(IMAGES), made.predict_proba(IMAGES))
        assert other.parameters_.model == load(tmp_path / "second").parameters_.model == "mini"
    held_out = made.held_out(SUPPORT, SUPPORT_LABELS)
    assert np.array_equal(again.held_out(SUPPORT, SUPPORT_LABELS).logits, held_out.logits)


def test_clone_keeps_the_encoder(encoder):
    copied = clone(FewShotClassifier(encoder, "linear-probe"))
    assert copied.model is encoder


@pytest.mark.parametrize("by_name", [True, False])
def test_scikit_learn_loads_the_encoder_once(by_name: bool, encoder, loads):
    made = FewShotClassifier("mini" if by_name else encoder, "linear-probe")
    images, labels = np.stack(IMAGES), np.array(LABELS)
    scores = cross_val_score(made, images, labels, cv=3)
    assert scores.shape == (3,) and scores.mean() > 0.6
    search = GridSearchCV(made, {"method": ["linear-probe", "prototypes"]}, cv=2).fit(images, labels)
    assert search.best_estimator_.predict(images).shape == (len(IMAGES),)
    piped = Pipeline([("classifier", made)]).fit(images, labels)
    assert piped.score(images, labels) > 0.6
    assert len(loads) == int(by_name)


def test_a_checkpoint_that_changed_is_loaded_again(loads, tmp_path: Path):
    for file in find.bundled_folder("mini").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = find.shared_encoder(tmp_path)
    assert find.shared_encoder(tmp_path) is first
    (tmp_path / "model.safetensors").touch()
    assert find.shared_encoder(tmp_path) is not first


def test_an_explanation_of_a_classifier(encoder):
    made = FewShotClassifier(encoder, "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    found = explain(made, IMAGES[5:8])
    assert [one.class_names for one in found] == [("canker", "rust")] * 3
    np.testing.assert_allclose(
        [one.probabilities for one in found], made.predict_proba(IMAGES[5:8]), atol=1e-5
    )


def test_an_export_of_a_classifier(encoder, tmp_path: Path):
    made = FewShotClassifier(encoder, "clip-lora", settings={"steps": 1, "views": "none"})
    made.fit(SUPPORT, SUPPORT_LABELS)
    about = export(made, "peft", tmp_path / "peft")
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()
    assert about["format"] == "peft"
    with pytest.raises(SettingError, match="Unknown export format 'tflite'; choose one of onnx"):
        export(made, "tflite", tmp_path / "other")
    with pytest.raises(SettingError, match="int8=True is for the formats onnx and web"):
        export(made, "peft", tmp_path / "other", int8=True)
    assert not (tmp_path / "other").exists()


def test_errors_are_of_one_family():
    assert all(issubclass(kind, FarshotError) for kind in (DataError, ModelError, SettingError))


def test_what_happens_is_logged_under_the_name_of_the_package(caplog):
    with caplog.at_level(logging.INFO, logger="farshot"):
        FewShotClassifier("mini", "linear-probe").fit(SUPPORT, SUPPORT_LABELS)
    assert any(
        record.name.startswith("farshot.") and "linear-probe" in record.getMessage()
        for record in caplog.records
    )

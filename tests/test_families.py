"""Every family of encoders through the whole way: adapt, save, load, predict, explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from farshot import FewShotClassifier, load
from farshot.errors import ModelError
from farshot.explain import explain_images, subject
from farshot.export.onnx_file import export_onnx
from farshot.storage import hub
from tests.golden_encoders import NAMES, root
from tests.toy import world_table

TABLE = world_table(count=30)
SUPPORT = TABLE.subset(TABLE.draw(2, 0)[0])
QUERIES = TABLE.subset(TABLE.draw(2, 0)[1][:4])
FAMILIES = [name for name in NAMES if name != "openclip-bare-pt"]
METHODS = {
    "atha": {"views": "none", "steps": 2, "rank": 2, "lora_lr": 0.01},
    "prompt-lora": {"views": "none", "steps": 2, "rank": 2, "lora_lr": 0.01},
    "clip-lora": {"steps": 2, "batch": 4, "lr": 0.01},
    "linear-probe": {},
    "tip-adapter": {},
}
OTHERS = [method for method in METHODS if method not in ("atha", "tip-adapter")]


@pytest.fixture(autouse=True)
def other_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """BiomedCLIP names another repository for its BERT's sizes."""
    golden = root()
    monkeypatch.setattr(hub, "download", lambda repo, files, **_: golden / "hub" / repo)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "method", ["atha", "tip-adapter", *(pytest.param(m, marks=pytest.mark.slow) for m in OTHERS)]
)
def test_a_model_of_every_family_is_adapted_saved_loaded_and_explained(
    family: str, method: str, tmp_path: Path
) -> None:
    made = FewShotClassifier(root() / family, method, settings=METHODS[method]).fit(SUPPORT)
    expected = made.predict_proba(QUERIES)
    assert np.isfinite(expected).all()
    made.save(tmp_path / "adapted")
    again = load(tmp_path / "adapted")
    np.testing.assert_allclose(again.predict_proba(QUERIES), expected, atol=1e-6)
    peft = (tmp_path / "adapted" / "adapter_model.safetensors").exists()
    assert peft == (family.endswith("-hf") and made.adapted_.lora is not None)
    seen = list(explain_images(subject(again.adapted_, again.encoder_), QUERIES))
    patches = again.encoder_.vision.config.patches
    for one, probabilities in zip(seen, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, probabilities, atol=1e-5)
        assert one.similarity.shape == (patches, 2)
        assert one.attention.shape == (patches,)
        assert 0 < one.attention.sum() <= 1 + 1e-5
        assert len(one.moved) == (0 if method != "atha" else len(one.moved) or 1)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_every_family_is_exported(family: str, method: str, tmp_path: Path) -> None:
    """`export_onnx` itself refuses probabilities that differ by more than 1e-4."""
    made = FewShotClassifier(root() / family, method, settings=METHODS[method]).fit(SUPPORT)
    about = export_onnx(made, tmp_path / "onnx", QUERIES)
    assert about["checked"]["largest_difference"] < 1e-4


def test_an_encoder_of_images_alone_takes_methods_that_need_no_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=224, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    for method, settings in (("prototypes", {}), ("linear-probe", {"start": "zero"})):
        made = FewShotClassifier(tmp_path / "dino", method, settings=settings).fit(SUPPORT)
        made.save(tmp_path / method)
        found = load(tmp_path / method).predict_proba(QUERIES)
        np.testing.assert_allclose(found, made.predict_proba(QUERIES), atol=1e-6)
    for method in ("zero-shot", "linear-probe", "atha"):
        with pytest.raises(ModelError, match="has no text tower"):
            FewShotClassifier(tmp_path / "dino", method).fit(SUPPORT)

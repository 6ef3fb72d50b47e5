"""The torch.export archive gives Python's numbers, and nothing in it is unpickled."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import farshot
from farshot import FewShotClassifier
from farshot.errors import ModelError
from farshot.export import torch_file
from farshot.export.about import load_exact
from farshot.export.torch_file import export_torch
from tests.input_helpers import everything_in
from tests.toy import toy_task, world_table

TABLE = world_table(count=120)
TASK = toy_task(TABLE)
SUPPORT, QUERIES = TABLE.subset(TASK.support), TABLE.subset(TASK.query)

_LOAD = """
import sys
sys.modules.update(dict.fromkeys(("farshot", "transformers")))
import numpy as np
import torch
module = torch.export.load(sys.argv[1]).module()
pixels = torch.from_numpy(np.load(sys.argv[2]))
with torch.no_grad():
    outputs = [module(pixels), module(pixels[:1])]
outputs = [one if isinstance(one, tuple) else (one,) for one in outputs]
np.savez(sys.argv[3], *(value.numpy() for one in outputs for value in one))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings", "p_values"),
    [
        ("tip-adapter", {}, False),
        ("atha", {"views": "none", "steps": 3, "lora_lr": 0.02}, False),
        ("atha", {"views": "none", "steps": 3, "lora_lr": 0.02}, True),
        ("linear-probe", {}, False),
    ],
    ids=["tip-adapter", "atha", "atha-with-p", "linear-probe"],
)
def test_an_archive_gives_our_logits_without_farshot(
    method, settings, p_values, checkpoint: Path, tmp_path: Path
):
    """In a process that has PyTorch only; a batch, and one picture alone."""
    FewShotClassifier(checkpoint, method, settings=settings).fit(SUPPORT).save(tmp_path / "adapted")
    made = load_exact(tmp_path / "adapted")
    about = export_torch(made, tmp_path / "out", p_values=p_values)
    pixels = np.asarray(QUERIES.pixels(range(len(QUERIES)), made.adapted_.reading, made.encoder_.size))
    np.save(tmp_path / "pixels.npy", pixels)
    files = [tmp_path / "out" / "model.pt2", tmp_path / "pixels.npy", tmp_path / "found.npz"]
    subprocess.run([sys.executable, "-c", _LOAD, *files], check=True, capture_output=True)
    found = list(np.load(tmp_path / "found.npz").values())
    outputs = len(about["outputs"])
    batch, alone = found[:outputs], found[outputs:]
    logits = made.logits(QUERIES) / made.temperature_
    ours = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(np.log(batch[0]), ours, atol=2e-4)
    np.testing.assert_allclose(alone[0], batch[0][:1], atol=1e-6)
    assert outputs == (1 if method == "atha" and not p_values else 2)
    if outputs == 2:
        ours = made.require_familiarity().scores(*made.seen_by_familiarity(QUERIES))
        np.testing.assert_allclose(batch[1], ours, atol=1e-5)
        assert about["outputs"] == ["probabilities", "similarity"] and about["labelled_similarity"]
    assert set(about["files"]) == everything_in(tmp_path / "out")
    _check_content(tmp_path / "out" / "model.pt2")


def _check_content(file: Path) -> None:
    """Weights and constants are raw bytes; the archive has export.json's facts in addition, and no path of
    the computer that wrote it."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        kinds = [
            entry["use_pickle"]
            for name in names
            if name.endswith("_config.json")
            for entry in json.loads(archive.read(name))["config"].values()
        ]
        own = str(Path(farshot.__file__).parent).encode()
        assert not [name for name in names if own in archive.read(name)]
        (extra,) = (name for name in names if name.endswith("extra/export.json"))
        assert json.loads(archive.read(extra))["input"]["shape"][0] == "batch"
    assert kinds and not any(kinds)


@pytest.mark.slow
def test_an_archive_that_predicts_something_else_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = FewShotClassifier(checkpoint, "prototypes").fit(SUPPORT)
    real = torch_file.runtimes

    def shifted(file: Path, outputs: int) -> list:
        first, *others = real(file, outputs)
        return [lambda pixels: first(pixels) + np.float32(2e-4), *others]

    monkeypatch.setattr(torch_file, "runtimes", shifted)
    with pytest.raises(ModelError, match=r"torch.export archive gives .+ by up to 2\.0e-04"):
        export_torch(made, tmp_path / "out")
    assert not everything_in(tmp_path)

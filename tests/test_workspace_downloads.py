"""What is taken away from the app says the same as the app, and tells nothing of the computer it ran on."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from farshot import load
from farshot.app.workspace import Setup, Workspace, downloads
from farshot.app.workspace.downloads import prepare
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.licences import licence_of
from farshot.app.workspace.run import adapt, last_run
from farshot.errors import DataError
from farshot.export import web_page, web_runtime
from tests.input_helpers import Farshot
from tests.test_workspace import quiet
from tests.workspaces import CLASSES, labelled


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, encoders: Encoders) -> Workspace:
    """A model with a limit that some of its predictions reach and others do not."""
    made = labelled(tmp_path_factory.mktemp("place"), 5, more=6)
    made.choose(Setup("mini", "linear-probe"))
    adapt(made, encoders, quiet)
    return made


def unpacked(workspace: Workspace, encoders: Encoders, name: str, to: Path) -> Path:
    place = prepare(workspace, encoders, name)
    with zipfile.ZipFile(place) as archive:
        archive.extractall(to)
    return to / place.stem


def sure(workspace: Workspace) -> dict[str, bool | None]:
    """What the app shows, by picture."""
    run = last_run(workspace)
    assert run is not None
    assert run.certainty is not None
    limit = run.certainty.threshold
    found = {id: run.answer(id) for id in run.predictions}
    assert all(
        answer is not None and answer.sure == (answer.probability >= limit) for answer in found.values()
    )
    return {id: answer.sure for id, answer in found.items() if answer is not None}


def with_limit(folder: Path, probability: float | None) -> None:
    about = json.loads((folder / "farshot.json").read_text())
    about["limit"]["probability"] = probability
    (folder / "farshot.json").write_text(json.dumps(about))


def test_predict_is_as_unsure_as_the_app(
    workspace: Workspace, encoders: Encoders, tmp_path: Path, farshot: Farshot
) -> None:
    model = unpacked(workspace, encoders, "model", tmp_path)
    shown = sure(workspace)
    files = {workspace.path(workspace.picture(id)): value for id, value in shown.items()}
    told = farshot("predict", model, *files, "--json", "--device", "cpu")
    assert told.code == 0
    assert {Path(row["image"]): row["sure"] for row in json.loads(told.out)} == files
    p = load(model, device="cpu").predict_proba(list(files)).max(1)
    with_limit(model, float(np.sort(p)[len(p) // 2]) - 1e-6)
    told = farshot("predict", model, *files, "--csv", "--device", "cpu")
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [row["sure"] for row in rows] == [
        "yes" if x >= np.sort(p)[len(p) // 2] - 1e-6 else "no" for x in p
    ]
    assert {"yes", "no"} == {row["sure"] for row in rows}
    lines = farshot("predict", model, *files, "--device", "cpu").out.splitlines()
    assert ["not sure" in line for line in lines] == [row["sure"] == "no" for row in rows]
    with_limit(model, None)
    assert farshot("predict", model, *files, "--device", "cpu").out.count("not sure") == len(files)
    some = farshot("predict", model, *files, "--only", CLASSES[0], "--only", CLASSES[1], "--device", "cpu")
    assert some.out.count("not sure") == len(files)  # all the classes that there are


def test_a_limit_that_is_none_is_refused(workspace: Workspace, encoders: Encoders, tmp_path: Path) -> None:
    model = unpacked(workspace, encoders, "model", tmp_path)
    for damaged in (2.0, "x", -1, [1]):
        with_limit(model, damaged)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="limit"):
            load(model, device="cpu")


@pytest.mark.slow
def test_the_onnx_program_is_as_unsure_as_the_app(
    workspace: Workspace, encoders: Encoders, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    folder = unpacked(workspace, encoders, "onnx", tmp_path)
    about = json.loads((folder / "export.json").read_text())
    kept = load(workspace.adapted, device="cpu").limit_
    assert kept is not None
    assert about["limit"] == {"wanted": 0.8, "probability": kept.probability}
    told = {one.key: one.value for one in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(told["farshot.limit"]) == about["limit"]
    assert json.loads(told["farshot.classes"]) == about["classes"]
    files = [workspace.path(picture) for picture in workspace.unlabelled]
    p = load(workspace.adapted, device="cpu").predict_proba(files).max(1)
    about["limit"]["probability"] = float(np.median(p))
    (folder / "export.json").write_text(json.dumps(about))
    ran = subprocess.run(
        [sys.executable, folder / "predict.py", *files], capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    assert ["not sure" in line for line in lines] == [x < np.median(p) - 1e-6 for x in p]
    assert 0 < ran.stdout.count("not sure") < len(files)


def test_the_report_has_the_limit(workspace: Workspace, encoders: Encoders) -> None:
    page = prepare(workspace, encoders, "report").read_text()
    kept = load(workspace.adapted, device="cpu").limit_
    assert kept is not None
    where = "always" if kept.probability is None else f"below a probability of {100 * kept.probability:.1f} %"
    assert where in page
    assert "80 % of the cross-validated predictions were right" in page


def test_the_downloaded_model_explains_itself_and_holds_no_path(
    workspace: Workspace, encoders: Encoders, tmp_path: Path, checkpoint: Path
) -> None:
    other = labelled(tmp_path / "other", 2)
    other.choose(Setup(str(checkpoint), "prototypes"))
    adapt(other, encoders, quiet)
    for made, base in ((workspace, "mini"), (other, checkpoint.name)):
        folder = unpacked(made, encoders, "model", tmp_path / base)
        text = (folder / "README.md").read_text()
        assert all(name in text for name in (*CLASSES, base, "farshot predict adapted-model", "## Licence"))
        for file in folder.iterdir():
            data = file.read_bytes()
            for path in (made.folder, tmp_path, checkpoint.parent, Path.home()):
                assert str(path).encode() not in data, (file.name, path)
        assert ("--model" in text) == (made is other)
        model = load(folder, device="cpu", model=None if made is workspace else str(checkpoint))
        assert list(model.classes_) == sorted(CLASSES)


def test_the_table_has_a_prediction_for_every_picture(workspace: Workspace, encoders: Encoders) -> None:
    rows = list(
        csv.DictReader(io.StringIO(prepare(workspace, encoders, "predictions").read_text("utf-8-sig")))
    )
    assert len(rows) == len(workspace.pictures)
    shown = sure(workspace)
    for picture, row in zip(workspace.pictures, rows, strict=True):
        assert row["label"] == (picture.label or "")
        assert row["class"] in CLASSES
        assert sum(float(row[f"p({name})"]) for name in CLASSES) == pytest.approx(1, abs=1e-5)
        assert row["adapted_to"] == ("no" if picture.label is None else "yes")
        if picture.label is None:
            assert row["sure"] == ("yes" if shown[picture.id] else "no")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n# A model\n", "applies to this model: mit, as its model card says"),
        ("---\nlicense: other\nlicense_name: acme-1\n---\n", "applies to this model: acme-1, as"),
        ("# A model\n", "applies to this model; read it in the files that came with it"),
        ("---\n: : [\n---\n", "applies to this model; read it in the files that came with it"),
        (None, "applies to this model; read it in the files that came with it"),
    ],
)
def test_the_licence_of_a_base_model_is_the_one_of_its_card(
    tmp_path: Path, card: str | None, expected: str
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert expected in licence_of(str(tmp_path))
    assert "Apache 2.0" in licence_of("mini")
    assert "read it at https://huggingface.co/some/clip" in licence_of("some/clip")


def test_the_web_page_says_what_is_missing_without_a_network(
    workspace: Workspace, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def offline() -> dict[str, bytes]:
        raise DataError("no registry.")

    monkeypatch.setattr(downloads, "runtime_files", offline)
    with pytest.raises(DataError, match=r"fetched once from the npm registry, and that has failed"):
        prepare(workspace, encoders, "web")
    assert not downloads.is_ready(workspace, "web")


@pytest.mark.slow
def test_the_web_page_holds_the_model(
    workspace: Workspace, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    small = dict.fromkeys(web_runtime.FILES, b"of onnxruntime-web")
    monkeypatch.setattr(downloads, "runtime_files", lambda: small)
    monkeypatch.setattr(web_page, "runtime_files", lambda _folder: small)
    folder = unpacked(workspace, encoders, "web", tmp_path)
    assert {"index.html", "model.onnx", "page.js", "onnxruntime-web.js"} <= {
        one.name for one in folder.iterdir()
    }
    assert sorted(json.loads((folder / "export.json").read_text())["classes"]) == sorted(CLASSES)
    assert not (workspace.folder / "downloads" / "web-page").exists()

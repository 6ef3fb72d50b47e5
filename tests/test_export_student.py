"""A student answers as its teacher does, on pictures that neither was trained on, or is not written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farshot import FewShotClassifier
from farshot.data.given import image_table
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError, SettingError
from farshot.evaluation.intervals import wilson
from farshot.export import student as student_module
from farshot.export.distillation import LEAST, Distillation, answers, make_views, split, train
from farshot.export.onnx_file import runtime
from farshot.export.predictor import predictor
from farshot.export.student import export_student
from farshot.export.student_net import Student
from tests.input_helpers import Farshot, everything_in, refusal
from tests.toy import as_folder, world_table

SIDE = 32
QUICK = Distillation(pixels=SIDE, steps=20, views=2)


def coloured(count: int, start: int = 0) -> ImageTable:
    """Pictures that are mostly red, green or blue, with much noise, which any teacher tells apart."""
    generator = np.random.default_rng(start)
    images, labels = [], []
    for number in range(count):
        pixels = generator.integers(0, 140, (SIDE, SIDE, 3))
        pixels[..., number % 3] += 110
        images.append(pixels.astype(np.uint8))
        labels.append(number % 3)
    names = ("red", "green", "blue")
    return ImageTable(tuple(images), np.array(labels), names, names)


@pytest.fixture(scope="module")
def teacher(checkpoint: Path) -> FewShotClassifier:
    """It knows the colours of these pictures."""
    made = FewShotClassifier(checkpoint, "linear-probe", device="cpu").fit(coloured(12))
    new = coloured(30, start=7)
    assert (made.predict(new) == np.array(new.classes)[new.labels]).mean() > 0.9
    return made


@pytest.fixture(scope="module")
def crowd() -> ImageTable:
    return coloured(60, start=1)


@pytest.fixture(scope="module")
def made(teacher: FewShotClassifier, crowd: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, made with labelled pictures, of a teacher that is too large for an ONNX file."""
    out, write = tmp_path_factory.mktemp("student") / "out", student_module.write_onnx

    def small_only(module, *arguments):
        if not isinstance(module, Student):
            raise ModelError("too large")
        write(module, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student_module, "write_onnx", small_only)
        labelled = coloured(30, start=2)  # each is there twice
        export_student(teacher, crowd, out, QUICK, labelled=labelled.subset([*range(30)] * 2))
    return out


def test_a_student_answers_as_its_teacher_does(teacher, made: Path):
    """On new pictures, of which each class is a third."""
    about = json.loads((made / "export.json").read_text())
    found = about["student"]
    assert found["agreement"]["images"] == 12 and found["trained_on"] == 48
    assert found["agreement"]["low"] < found["agreement"]["value"] <= found["agreement"]["high"]
    assert found["chance"] < 0.6
    new = coloured(60, start=3)
    ours, theirs = (
        teacher.predict_proba(new).argmax(1),
        runtime(made / "model.onnx")(np.stack(new.images)).argmax(1),
    )
    assert (ours == theirs).mean() > 0.8
    measured = found["labelled"]
    assert measured["images"] == 60 and measured["student"]["value"] > 0.7
    for one in (measured["teacher"], measured["student"]):  # copies say nothing more
        assert (one["low"], one["high"]) == pytest.approx(wilson(one["value"], 30), abs=1e-4)
    assert measured["difference"]["low"] < measured["difference"]["mean"] < measured["difference"]["high"]
    assert found["bytes"] == (made / "model.onnx").stat().st_size
    assert found["speed"]["teacher_in"] == "PyTorch" and found["speed"]["ratio"] > 0
    assert about["checked"]["largest_difference"] < 1e-4
    assert set(about["files"]) == everything_in(made)
    own = Path(student_module.__file__).parent.parent  # a path of this computer
    assert str(own).encode() not in (made / "model.onnx").read_bytes()
    assert about["calibrated"] and about["temperature"] != 1  # 30 labelled pictures
    assert "fewer than" in found["warnings"][0]
    assert about["estimate"] is None and about["limit"] is None


def test_the_program_in_the_export_runs_the_student(made: Path, tmp_path: Path):
    new = coloured(3, start=4)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, pixels in zip(files, new.images, strict=True):
        Image.fromarray(np.asarray(pixels)).save(file)
    command = [sys.executable, made / "predict.py", *files]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = runtime(made / "model.onnx")(np.stack(new.images))
    lines = [line.split("\t") for line in told.stdout.splitlines()]
    classes = json.loads((made / "export.json").read_text())["classes"]
    assert [line[1] for line in lines] == [classes[c] for c in expected.argmax(1)]
    assert [line[2] for line in lines] == [f"{100 * row.max():.1f} %" for row in expected]


def test_the_same_seed_gives_the_same_student(teacher, crowd: ImageTable, tmp_path: Path):
    """To the bit, and another seed other weights; the global random numbers stay as they were."""
    before, found = torch.random.get_rng_state(), []
    for number, seed in enumerate((0, 0, 1)):
        how = Distillation(pixels=SIDE, steps=2, views=2, seed=seed)
        student = Student("small", SIDE, 3, teacher.encoder_.preprocessing, seed)
        views = make_views(
            teacher, predictor(teacher), crowd.subset(range(8)), how, tmp_path / str(number), lambda *_: None
        )
        train(student, views, how, lambda *_: None)
        found.append(answers(student, np.stack(crowd.images[:8])))
    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_copies_are_on_one_side_and_labelled_pictures_are_not_measured_on(teacher, crowd: ImageTable):
    twice = image_table([*crowd.images, *crowd.images, *coloured(12).images])
    train, held_out = split(teacher, twice, 0)
    assert sorted([*train, *held_out]) == list(range(132))
    assert not set(train[train < 120] % 60) & set(held_out % 60)
    assert held_out.max() < 120 and 26 <= len(held_out) <= 28


def larger(table: ImageTable) -> ImageTable:
    """The same pictures of twice the size: near copies."""
    images = tuple(np.asarray(image).repeat(2, axis=0).repeat(2, axis=1) for image in table.images)
    return ImageTable(images, table.labels, table.classes, table.names)


def test_near_copies_of_what_was_trained_on_are_not_measured_on(teacher, crowd: ImageTable, tmp_path: Path):
    support = larger(coloured(12))
    for seed in range(3):
        _, held_out = split(teacher, image_table([*crowd.images, *support.images]), seed)
        assert len(held_out) == 14 and held_out.max() < 60
    rows, _ = split(teacher, crowd, 0)
    how = Distillation(pixels=SIDE, steps=1, views=1)
    with pytest.raises(DataError, match="at least three labelled pictures that neither"):
        export_student(teacher, crowd, tmp_path / "out", how, labelled=larger(crowd.subset(rows)))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_a_student_that_is_interrupted_leaves_what_was_there(
    fault, teacher, crowd: ImageTable, tmp_path: Path, monkeypatch
):
    def stop(*arguments):
        assert [path for path in tmp_path.glob(".farshot-*/views") if path.stat().st_size > 5000]
        raise fault

    monkeypatch.setattr(student_module, "train", stop)
    with pytest.raises(fault):
        export_student(teacher, crowd, tmp_path / "out", QUICK)
    assert not everything_in(tmp_path)


def test_too_few_pictures_are_refused(teacher, crowd: ImageTable, tmp_path: Path):
    with pytest.raises(DataError, match=f"at least {LEAST} different pictures .* there are 19; add some"):
        export_student(teacher, crowd.subset(range(19)), tmp_path / "out", QUICK)
    known = image_table([*coloured(18).images, *crowd.images[:2]])
    known_teacher = FewShotClassifier(teacher.encoder_, "linear-probe").fit(coloured(18))
    with pytest.raises(DataError, match="2 show nothing that the model was adapted to"):
        split(known_teacher, known, 0)
    assert not everything_in(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "tiny"}, "'tiny'; choose one of small, medium"),
        ({"pixels": 31}, "pixels=31 must be between 32 and 384"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"views": 0}, "views=0 must be between 1 and"),
        ({"temperature": float("nan")}, "temperature=nan must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words: str):
    with pytest.raises(SettingError, match=words):
        Distillation(**settings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--student", "nowhere"), "There is no nowhere"),
        (("--student", ".", "--format", "peft"), "--student writes an ONNX file"),
        (("--format", "onnx", "--student-size", "medium"), "are for --student IMAGES"),
        ((), "Name a format: --format onnx, web"),
    ],
)
def test_the_command_refuses_in_one_sentence(options, words: str, farshot: Farshot, tmp_path: Path):
    said = refusal(farshot("export", "adapted", "--out", tmp_path / "out", *options))
    assert words in said
    assert not everything_in(tmp_path)


def test_pictures_that_are_urls_are_fetched_if_asked(farshot: Farshot, tmp_path: Path, monkeypatch):
    asked: list[bool] = []
    monkeypatch.setattr("farshot.cli.export.use_downloads", asked.append)
    refusal(farshot("export", "m", "--student", tmp_path, "--download", "--out", tmp_path / "out"))
    assert asked == [True]


@pytest.mark.slow
def test_the_command_says_how_near_the_student_is(farshot: Farshot, tmp_path: Path):
    """On a mini world with the mini CLIP: agreement of at least 80 %, where chance is a half."""
    labelled, crowd = world_table(count=120), world_table(count=3000)
    FewShotClassifier("mini", "linear-probe", device="cpu").fit(labelled).save(tmp_path / "adapted")
    as_folder(crowd, tmp_path / "crowd", range(len(labelled), len(crowd)))
    told = farshot("export", tmp_path / "adapted", "--student", tmp_path / "crowd", "--student-pixels", 32,
                   "--student-steps", "300", "--out", tmp_path / "out")  # fmt: skip
    assert told.code == 0, told.err
    found = json.loads((tmp_path / "out" / "export.json").read_text())["student"]
    assert found["agreement"]["value"] > 0.8
    assert found["chance"] < 0.6 and found["speed"]["teacher_in"] == "ONNX Runtime"
    share = found["agreement"]
    assert (
        f"for {100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}] %" in told.out
    )
    assert f"{found['speed']['ratio']:.1f} times as fast" in told.out
    assert "no p-values, none of these" in told.out and "scores, which are not calibrated" in told.out

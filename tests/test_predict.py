"""`farshot predict` and `evaluate` on many images: part by part, to a file that can be gone on with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from farshot import FewShotClassifier, load
from farshot.classifier import stream
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.metrics import Evaluation, evaluate
from farshot.model import features
from tests.input_helpers import Farshot, class_folders, picture, refusal, rows_of


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "AT_ONCE", 5)


def stop_after(parts: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a signal to this process when so many parts were predicted."""
    predict, done = stream.predict_part, []

    def counted(*arguments, **options):
        done.append(1)
        if len(done) > parts:
            os.kill(os.getpid(), number)
        return predict(*arguments, **options)

    monkeypatch.setattr(stream, "predict_part", counted)


def test_parts_are_what_all_images_at_once_are(adapted: Path, pictures: Path) -> None:
    classifier = load(adapted)
    table = ImageTable(tuple(sorted(pictures.iterdir())), None, (), ())
    parts = list(stream.predict_parts(classifier, table, p_values=True))
    assert [len(part.rows) for part in parts] == [5, 5, 2]
    assert np.concatenate([part.rows for part in parts]).tolist() == list(range(12))
    np.testing.assert_allclose(
        np.concatenate([part.logits for part in parts]), classifier.logits(table), rtol=1e-5, atol=1e-5
    )
    unlike = np.concatenate([part.p_values for part in parts if part.p_values is not None])
    np.testing.assert_allclose(unlike, classifier.familiarity(table))


def test_each_file_is_decoded_once_and_features_are_not_kept(
    adapted: Path, pictures: Path, decoded: list[object]
) -> None:
    classifier = load(adapted)
    table = ImageTable(tuple(sorted(pictures.iterdir())), None, (), ())
    before = len(features.SHARED)
    list(stream.predict_parts(classifier, table, p_values=True))
    assert sorted(decoded) == sorted(table.images)
    assert len(features.SHARED) == before


def test_parts_that_are_read_ahead_come_in_order_and_end_with_the_reader() -> None:
    chunks = [np.array([number]) for number in range(6)]
    read: list[int] = []

    def look(rows):
        read.append(int(rows[0]))
        return ImageTable((), None, (), ()), rows

    found = stream.read_ahead(look, chunks)
    assert int(next(found)[1][0]) == 0
    found.close()  # one more is read, and no others
    assert read in ([0], [0, 1])
    assert [int(rows[0]) for _, rows in stream.read_ahead(look, chunks)] == list(range(6))
    assert list(stream.read_ahead(look, [])) == []


def test_rows_come_before_the_end(
    farshot: Farshot, adapted: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, signal.SIGINT, monkeypatch)
    told = farshot("predict", adapted, pictures)
    assert told.code == 130
    assert len(told.out.splitlines()) == 10


def test_an_interrupted_file_is_gone_on_with(
    farshot: Farshot, adapted: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = farshot("predict", adapted, pictures, "--csv").out
    out = tmp_path / "rows.csv"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGINT, patch)
        told = farshot("predict", adapted, pictures, "--out", out)
    assert (told.code, told.out) == (130, "")
    assert "the rows so far are in" in told.err
    assert len(rows_of(out)) == 1 + 5
    with out.open("a", encoding="utf-8") as file:  # as a killed process leaves it
        file.write('pictures/"half')
    told = farshot("predict", adapted, pictures, "--out", out)
    assert (told.code, told.err) == (0, f"5 rows were in {out} already.\n")
    assert out.read_text(encoding="utf-8") == whole
    assert list(tmp_path.iterdir()) == [out]
    assert "exists and is not an unfinished list" in refusal(
        farshot("predict", adapted, pictures, "--out", out)
    )
    assert out.read_text(encoding="utf-8") == whole


def test_a_file_of_a_transductive_method_begins_again(
    farshot: Farshot, place: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = tmp_path / "tim", tmp_path / "rows.csv"
    made = ("adapt", place / "data", "--model", place / "clip", "--method", "tim", "--set", "steps=20")
    assert farshot(*made, "--no-estimate", "--out", model).code == 0
    whole = farshot("predict", model, pictures, "--csv").out
    with monkeypatch.context() as patch:
        stop_after(0, signal.SIGINT, patch)
        told = farshot("predict", model, pictures, "--out", out)
    assert "the same command begins again, since the method classifies all images together" in told.err
    out.write_text("".join(whole.splitlines(keepends=True)[:6]), encoding="utf-8")  # killed while writing
    told = farshot("predict", model, pictures, "--out", out)
    assert told.code == 0, told.err
    assert "the 12 images were classified together" in told.err
    assert out.read_text(encoding="utf-8") == whole
    assert sorted(tmp_path.iterdir()) == [out, model]


def test_rows_of_another_model_or_other_options_are_not_mixed(
    farshot: Farshot, adapted: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.csv"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGTERM, patch)
        before_that = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray leaves its own way of ending
        assert farshot("predict", adapted, pictures, "--out", out).code == 143
        signal.signal(signal.SIGTERM, before_that)
    before = out.read_bytes()
    told = farshot("predict", adapted, pictures, "--out", out, "--only", "cat", "--only", "dog")
    assert "was begun with another model or other options" in refusal(told)
    note = tmp_path / "rows.csv.unfinished.json"
    about = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps(about | {"model": "0" * 32}), encoding="utf-8")
    assert "another model" in refusal(farshot("predict", adapted, pictures, "--out", out))
    note.write_text("{", encoding="utf-8")
    assert f"{note} is damaged" in refusal(farshot("predict", adapted, pictures, "--out", out))
    assert out.read_bytes() == before


def test_the_order_of_the_classes_of_only_changes_no_answer(
    farshot: Farshot, adapted: Path, pictures: Path
) -> None:
    def answers(*classes: str) -> list[tuple[str, dict[str, float]]]:
        only = [word for name in classes for word in ("--only", name)]
        found = json.loads(farshot("predict", adapted, pictures, "--json", *only).out)
        return [
            (one["class"], {name: round(p, 5) for name, p in one["probabilities"].items()}) for one in found
        ]

    assert answers("owl", "cat", "dog") == answers("cat", "dog", "owl") == answers()
    assert answers("owl", "cat") == answers("cat", "owl")
    assert len({name for name, _ in answers()}) > 1


def test_two_runs_do_not_write_one_file(
    farshot: Farshot, adapted: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "rows.csv"
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGINT, patch)
        farshot("predict", adapted, pictures, "--out", out)
    with out.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        told = farshot("predict", adapted, pictures, "--out", out)
    assert "Another farshot is writing" in refusal(told)
    assert farshot("predict", adapted, pictures, "--out", out).code == 0
    assert len(rows_of(out)) == 1 + 12


def test_an_unreadable_image_does_not_cost_the_others(
    farshot: Farshot, adapted: Path, tmp_path: Path
) -> None:
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    told = farshot("predict", adapted, tmp_path, "--json")
    assert told.code == 2
    assert [Path(one["image"]).stem for one in json.loads(told.out)] == ["0", "1", "3", "4", "5"]
    assert "1 of 6 images cannot be read" in told.err
    out = tmp_path / "rows.csv"
    assert farshot("predict", adapted, tmp_path, "--out", out).code == 2
    assert "1 of 6 images cannot be read" in farshot("predict", adapted, tmp_path, "--out", out).err
    picture(2).save(tmp_path / "2.png")
    assert farshot("predict", adapted, tmp_path, "--out", out).code == 0
    assert sorted(Path(row[0]).stem for row in rows_of(out)[1:]) == list("012345")


def test_a_file_of_rows_is_completed_without_unreadable_images(
    farshot: Farshot, adapted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        picture(number).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "rows.csv"
    assert farshot("predict", adapted, folder, "--out", out).code == 2
    told = farshot("predict", adapted, folder, "--out", out, "--skip-unreadable")
    assert (told.code, told.err.splitlines()[-1]) == (0, "1 unreadable image is left out.")
    assert sorted(Path(row[0]).stem for row in rows_of(out)[1:]) == list("0123")
    assert sorted(tmp_path.iterdir()) == [folder, out]


def test_rows_go_to_a_new_folder_and_an_impossible_place_is_refused_first(
    farshot: Farshot, adapted: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder" / "rows.csv"
    assert farshot("predict", adapted, pictures, "--out", out).code == 0
    assert len(rows_of(out)) == 1 + 12
    told = farshot("predict", tmp_path / "no model", pictures, "--out", out / "rows.csv")
    assert f"{out / 'rows.csv'} cannot be written" in refusal(told)


def test_evaluation_is_that_of_all_images_at_once(adapted: Path, tmp_path: Path) -> None:
    classifier = load(adapted)
    folder = class_folders(tmp_path / "data", images=4, start=300)
    images = sorted(folder.rglob("*.png"))
    labels = [image.parent.name for image in images]
    found = classifier.evaluate(images, labels)
    codes = np.array([classifier.classes_.tolist().index(label) for label in labels])
    expected = evaluate(codes, classifier.predict_proba(images), classifier.classes_.tolist())
    assert found.confusion.tolist() == expected.confusion.tolist()
    assert found.nll == pytest.approx(expected.nll, rel=1e-5)


def test_evaluation_lists_unreadable_images_and_can_skip_them(
    farshot: Farshot, adapted: Path, tmp_path: Path
) -> None:
    folder = class_folders(tmp_path / "data", images=3, start=400)
    (folder / "cat" / "0.png").write_bytes(b"no picture")
    assert "1 of 9 images cannot be read" in refusal(farshot("evaluate", adapted, folder))
    told = farshot("evaluate", adapted, folder, "--skip-unreadable", "--json")
    assert told.err == "1 unreadable image is left out.\n"
    about = json.loads(told.out)
    assert (about["images"], about["left_out_support"]) == (8, 0)


def test_evaluation_skips_whole_parts_of_unreadable_images(
    farshot: Farshot, adapted: Path, tmp_path: Path
) -> None:
    folder = class_folders(tmp_path / "data", images=3, start=400)
    for number in range(9):  # of which 5 are a part
        (folder / "cat" / f"_{number}.png").write_bytes(b"no picture")
    told = farshot("evaluate", adapted, folder, "--skip-unreadable", "--json")
    assert (told.code, json.loads(told.out)["images"]) == (0, 9)
    for image in folder.rglob("[0-9].png"):
        image.write_bytes(b"no picture")
    sentence = refusal(farshot("evaluate", adapted, folder, "--skip-unreadable"))
    assert sentence.startswith("farshot: None of the 18 images can be read. ")
    assert str(folder / "cat" / "0.png") in sentence


def test_of_many_classes_the_lowest_are_shown_and_all_are_written(
    farshot: Farshot, adapted: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farshot.cli.console.MOST_CLASSES", 2)
    out = tmp_path / "classes.csv"
    command = ("evaluate", adapted, place / "data", "--include-support", "--out", out)
    told = farshot(*command)
    assert "The 2 of 3 classes with the lowest recall" in told.out
    rows = rows_of(out)
    assert [row[0] for row in rows] == ["class", "cat", "dog", "owl"]
    assert all(0 <= float(low) <= float(mean) <= float(high) <= 1 for _, _, mean, low, high, *_ in rows[1:])
    assert farshot(*command).code == 0  # its own file may be replaced
    out.write_text("mine", encoding="utf-8")
    assert "is not a CSV file of recall and precision" in refusal(farshot(*command))
    assert out.read_text(encoding="utf-8") == "mine"


def test_the_lowest_recalls_with_classes_that_are_not_shown() -> None:
    labels, probabilities = np.array([0, 0, 1, 3]), np.eye(4, dtype=np.float32)[[0, 1, 1, 0]]
    found: Evaluation = evaluate(labels, probabilities, list("abcd"))
    assert found.lowest(2) == [0, 3]
    assert found.lowest(4) == [0, 1, 2, 3]
    assert next(row for row in found.rows() if row[0] == "c")[2:5] == ["", "", ""]


def test_nothing_is_measured_where_all_was_adapted_to(adapted: Path, place: Path) -> None:
    classifier: FewShotClassifier = load(adapted)
    images = sorted((place / "data").rglob("*.png"))
    with pytest.raises(DataError, match="All these images were used for adapting"):
        classifier.evaluate(images, [image.parent.name for image in images])


def test_an_evaluation_decodes_each_file_once(adapted: Path, pictures: Path, decoded: list[object]) -> None:
    classifier = load(adapted)
    images = sorted(pictures.iterdir())
    labels = ["cat", "dog"] * (len(images) // 2)
    classifier.evaluate(images, labels)
    assert sorted(decoded) == images

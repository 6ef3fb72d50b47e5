"""Label Studio's JSON: exports that are read, and tasks that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farshot.annotations.label_studio import read, write
from farshot.annotations.rows import Labelled
from farshot.errors import DataError
from tests.label_studio_helpers import given


def export(folder: Path, *tasks: Any) -> Path:
    """A file with these tasks."""
    file = folder / "export.json"
    file.write_text(json.dumps(list(tasks)), encoding="utf-8")
    return file


def task(*annotations: Any, image: str = "/data/upload/1/a.png", **more: Any) -> dict[str, Any]:
    """A task of a full export."""
    return {"id": 7, "data": {"image": image}, "annotations": list(annotations), **more}


@pytest.mark.parametrize(
    ("annotations", "label"),
    [
        ([], None),
        ([given("cat")], "cat"),
        ([given("cat", was_cancelled=True)], None),
        ([given("cat"), given("dog", was_cancelled=True, updated_at="2030")], "cat"),
        ([given("cat", updated_at="2026-02"), given("dog", updated_at="2026-01", id=9)], "cat"),
        ([given("cat", created_at="2026-02"), given("dog", created_at="2026-03")], "dog"),
        ([given("cat", updated_at="2026", id=3), given("dog", updated_at="2026", id=2)], "cat"),
        ([given("cat"), given("dog")], "dog"),
        ([{"result": []}], None),
        ([{"result": None}, "nonsense", None], None),
        ([{"result": [{"type": "rectanglelabels", "value": {"rectanglelabels": ["x"]}}]}], None),
    ],
)
def test_of_several_annotations_the_last_that_was_not_cancelled_counts(
    tmp_path: Path, annotations: list[Any], label: str | None
):
    assert read(export(tmp_path, task(*annotations))) == [Labelled("/data/upload/1/a.png", label)]


def test_predictions_count_where_nobody_gave_a_label(tmp_path: Path):
    ours = given("cat", score=0.75, model_version="farshot-12")
    other = given("cat", score=12.5, model_version="yolo")
    rows = read(
        export(
            tmp_path,
            task(predictions=[ours]),
            task(predictions=[other]),
            task(given("dog"), predictions=[ours]),
        )
    )
    assert [(row.label, row.score, row.by) for row in rows] == [
        ("cat", 0.75, "model"),
        ("cat", None, "model"),  # nobody knows whether it is calibrated
        ("dog", None, "person"),
    ]


def test_a_minimal_export_is_read_with_one_entry_per_annotation(tmp_path: Path):
    entry = {"id": 1, "image": "/data/upload/1/a.png", "annotator": 1, "annotation_id": 1}
    rows = read(
        export(
            tmp_path,
            {**entry, "choice": "cat", "updated_at": "2026-02"},
            {**entry, "choice": "dog", "updated_at": "2026-01", "annotation_id": 2},
            {**entry, "id": 2, "kind": {"choices": ["owl"]}},
            {**entry, "id": 3, "image": "http://host/b.jpg?x=1"},
        )
    )
    assert [(row.image, row.label) for row in rows] == [
        ("/data/upload/1/a.png", "cat"),
        ("/data/upload/1/a.png", "owl"),
        ("http://host/b.jpg?x=1", None),
    ]


def test_a_minimal_entry_without_a_label_does_not_get_another_column_as_its_class(tmp_path: Path):
    entries = [
        {"id": number, "image": f"{number}.png", "patient": f"P{number}", "choice": label}
        for number, label in enumerate(["scab", "rust", None])
    ]
    del entries[2]["choice"]
    labels = [row.label for row in read(export(tmp_path, *entries))]
    assert labels == ["scab", "rust", None]
    for entry in entries[:2]:  # one that nobody can tell from a column of the data
        entry["kind"] = entry.pop("choice")
    with pytest.raises(DataError, match=r"several columns may be its label \('kind', 'patient'\)"):
        read(export(tmp_path, *entries))


def test_entries_of_a_minimal_export_may_have_labels_of_several_controls(tmp_path: Path):
    entries = [
        {"id": 1, "image": "1.png", "animal": "cat"},
        {"id": 2, "image": "2.png", "plant": "fern", "animal": 7},
        {"id": 3, "image": "3.png", "note": "too dark", "animal": "cat", "was_cancelled": True},
        {"id": 4, "note": "no image", "text": "skipped", "image": "4.png", "skipped": True},
    ]
    assert [row.label for row in read(export(tmp_path, *entries))] == ["cat", "fern", None, None]
    del entries[2]["was_cancelled"]
    with pytest.raises(DataError, match=r"task 3: several columns may be its label \('animal', 'note'\)"):
        read(export(tmp_path, *entries))


def test_an_empty_annotation_gets_no_column_that_an_earlier_one_had_next_to_its_label(tmp_path: Path):
    task = {"id": 1, "image": "1.png", "patient": "P1"}
    earlier = {**task, "updated_at": "2026-01"}
    later = {**task, "updated_at": "2026-02"}
    assert read(export(tmp_path, {**earlier, "choice": "cat"}, later))[0].label is None
    with pytest.raises(DataError, match="several columns may be its label"):
        read(export(tmp_path, {**earlier, "kind": "cat"}, later))


def test_the_column_of_the_image_is_found(tmp_path: Path):
    odd = {"id": 1, "data": {"photo": "a.jpg", "text": "words"}, "annotations": [given("cat")]}
    assert read(export(tmp_path, odd)) == [Labelled("a.jpg", "cat")]
    with pytest.raises(DataError, match=r"task 1: 'a', 'b' may all be its image; call the column .* `image`"):
        read(export(tmp_path, {"id": 1, "data": {"a": "1.jpg", "b": "2.jpg"}}))
    with pytest.raises(DataError, match="nothing in its data is its image"):
        read(export(tmp_path, {"id": 1, "data": {"a": 3}}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no export of Label Studio"),
        ("{}", "it is no list of tasks"),
        ("[1]", "it is no list of tasks"),
        ("[]", "has no tasks"),
        ("[" * 100_000, "nested too deep"),
        ('[{"data": {"image": "a.png"}}, {"id": 4}]', "task 4 has no `data`, but others have"),
        ('[{"id": 1, "image": "a.png", "x": "1", "y": "2"}]', "several columns may be its label ('x', 'y')"),
        (json.dumps([task({"result": given("a")["result"] + given("b")["result"]})]), "it has 2 classes"),
        (
            json.dumps([task({"result": given("a")["result"] + given("b", "more")["result"]})]),
            "several Choices",
        ),
        (
            json.dumps([task({"result": [given("a")["result"][0] | {"value": {"choices": [["a", "b"]]}}]})]),
            "nested",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, text: str, words: str):
    file = tmp_path / "export.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(file)
    assert words in str(error.value) and str(file) in str(error.value)


def test_what_is_written_is_read_again_and_nothing_else_is_replaced(tmp_path: Path):
    rows = [
        Labelled("a.png", "Katze ä"),
        Labelled("b.png", "dog", 0.5, "model"),
        Labelled("c.png", "dog", None, "model", "test", "patient 3"),
        Labelled("d.png", None, split="train"),
    ]
    file = tmp_path / "tasks.json"
    for _ in range(2):  # also over itself
        write(rows, file)
        assert read(file) == rows
    assert list(tmp_path.iterdir()) == [file]
    for text in ("mine", "[1]"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="is not a list of tasks"):
            write(rows, file)
        assert file.read_text(encoding="utf-8") == text

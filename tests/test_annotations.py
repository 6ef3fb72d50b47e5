"""Labels go to the formats of other tools and come back, and such files are read as labelled tables."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from farshot.annotations.formats import FORMATS, format_called, recognised, single
from farshot.annotations.rows import Labelled
from farshot.data.readers import read_table
from farshot.errors import DataError, SettingError
from farshot.export.labels import TARGETS, Choice, convert_labels
from tests.input_helpers import Farshot, class_folders, picture, refusal, refused_table, rows_of

FILES = {"csv": "l.csv", "coco": "l.json", "cvat": "l.xml", "datumaro": "l.json", "fiftyone": "folder"}
PERSON = Labelled("cat/0.png", "cat", split="train", group="a")
MODEL = Labelled("dog/1.png", "dog", 0.75, "model", "test", "b")
UNLABELLED = Labelled("owl/2.png", None, split="val", group="c")


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """A folder per class."""
    return class_folders(tmp_path / "animals")


def labels_of(source: str | Path) -> dict[str, str]:
    """The class of each image, by the end of its path."""
    table = read_table(source)
    assert table.labels is not None
    names = ["/".join(Path(str(image)).parts[-2:]) for image in table.images]
    return {name: table.classes[code] for name, code in zip(names, table.labels.tolist(), strict=True)}


@pytest.mark.parametrize("name", FILES)
def test_a_format_gives_back_what_it_can_hold(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILES[name]
    format_called(name).write([PERSON, MODEL, UNLABELLED], path)
    found = format_called(name).read(path)
    assert [row.image for row in found] == ["cat/0.png", "dog/1.png", "owl/2.png"]
    assert [row.label for row in found] == ["cat", "dog", None]
    assert [row.by for row in found] == ["person", "model", "person"]
    assert [row.split for row in found] == ["train", "test", "val"]
    assert [row.score for row in found] == [None, None if name == "cvat" else 0.75, None]
    assert [row.group for row in found] == ([None] * 3 if name == "cvat" else ["a", "b", "c"])


@pytest.mark.parametrize("name", ["coco", "cvat", "datumaro", "fiftyone"])
@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1, max_size=4
    )
)
def test_any_words_come_back(name: str, words: list[str]) -> None:
    rows = [
        Labelled(f"{n}-{word}", word) for n, word in enumerate(words) if word.strip() and word.isprintable()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[name]
        format_called(name).write(rows, path)
        assert format_called(name).read(path) == rows


@pytest.mark.parametrize("to", FILES)
def test_a_converted_folder_is_the_same_table(animals: Path, to: str) -> None:
    out = animals.parent / FILES[to]
    rows = convert_labels(str(animals), out, to)
    assert len(rows) == 9
    assert labels_of(out) == labels_of(animals) != {}
    assert read_table(out).notes == ()


def test_pictures_are_copied_into_a_folder_per_class(animals: Path) -> None:
    table = animals.parent / "l.csv"
    table.write_text(
        "path,label\n" + "".join(f"animals/{name}/0.png,{name[0]}\n" for name in ("cat", "dog"))
        + "animals/cat/1.png,c\nanimals/dog/1.png,c\n"
    )  # fmt: skip
    out = animals.parent / "copied"
    convert_labels(str(table), out, "imagefolder")
    assert labels_of(out) == {"c/0.png": "c", "c/1.png": "c", "c/1-2.png": "c", "d/0.png": "d"}
    assert (out / "c" / "1-2.png").read_bytes() == (animals / "dog" / "1.png").read_bytes()
    with pytest.raises(DataError, match="copied exists and is not an empty folder; choose another OUT"):
        convert_labels(str(table), out, "imagefolder")
    assert convert_labels(str(out), animals.parent / "back.csv", "csv")


@pytest.mark.parametrize(
    ("subsets", "expected"),
    [(("default", "Default"), None), (("Train", "Validation"), ("train", "val")), (("train", ""), None)],
)
@pytest.mark.parametrize("to", ["csv", "coco", "datumaro", "fiftyone", "imagefolder"])
def test_subsets_of_a_cvat_project_can_be_adapted_to_once_converted(
    animals: Path, tmp_path: Path, subsets: tuple[str, str], expected: tuple[str, ...] | None, to: str
) -> None:
    images = "".join(
        f'<image id="{number}" name="{name}/0.png" subset="{subset}"><tag label="{name}"/></image>'
        for number, (name, subset) in enumerate(zip(("cat", "dog"), subsets, strict=True))
    )
    (animals / "a.xml").write_text(f"<annotations>{images}</annotations>")
    out = animals / (
        "tree" if to in ("imagefolder", "fiftyone") else f"new.{'csv' if to == 'csv' else 'json'}"
    )
    convert_labels(str(animals / "a.xml"), out, to)
    assert read_table(out).splits == read_table(animals / "a.xml").splits == expected
    assert sorted(labels_of(out).values()) == ["cat", "dog"]


def test_splits_become_folders(animals: Path) -> None:
    table = animals.parent / "l.csv"
    table.write_text("path,label,split\nanimals/cat/0.png,cat,train\nanimals/dog/0.png,dog,test\n")
    convert_labels(str(table), animals.parent / "tree", "imagefolder")
    assert read_table(animals.parent / "tree").splits == ("train", "test")


def test_a_label_that_is_no_folder_leaves_nothing(animals: Path) -> None:
    table = animals.parent / "l.csv"
    table.write_text("path,label\nanimals/cat/0.png,cat\nanimals/dog/0.png,../dog\n")
    with pytest.raises(DataError, match=r"The label '\.\./dog' cannot be the name of a folder"):
        convert_labels(str(table), animals.parent / "tree", "imagefolder")
    assert sorted(path.name for path in animals.parent.iterdir()) == ["animals", "l.csv"]


def test_classes_and_pictures_with_names_that_readers_skip_are_not_lost(animals: Path) -> None:
    table = animals.parent / "l.csv"
    (animals / "cat" / "0.png").rename(animals / "cat" / ".0.png")
    table.write_text("path,label\nanimals/cat/.0.png,cat\nanimals/dog/0.png,dog\n")
    convert_labels(str(table), animals.parent / "tree", "imagefolder")
    assert labels_of(animals.parent / "tree") == {"cat/image.0.png": "cat", "dog/0.png": "dog"}
    for name in ("1.log", "2.xmp"):
        picture(5).save(animals / "cat" / name, "PNG")
    table.write_text("path,label\nanimals/cat/1.log,cat\nanimals/cat/2.xmp,dog\n")
    convert_labels(str(table), animals.parent / "more", "imagefolder")
    assert labels_of(animals.parent / "more") == {"cat/image1.log.img": "cat", "dog/image2.xmp.img": "dog"}
    table.write_text("path,label\nanimals/cat/.0.png,.5 mm\nanimals/dog/0.png,dog\n")
    with pytest.raises(DataError, match=r"The label '\.5 mm' cannot be the name of a folder"):
        convert_labels(str(table), animals.parent / "other", "imagefolder")


@pytest.mark.parametrize("name", FILES)
def test_names_that_are_no_unicode_come_back_or_are_refused(tmp_path: Path, name: str) -> None:
    rows = [Labelled("caf\udce9.png", "cat"), Labelled("dog.png", "dog")]
    path = tmp_path / FILES[name]
    if name in ("csv", "cvat"):
        with pytest.raises(DataError, match="is not UTF-8, which this format cannot hold"):
            format_called(name).write(rows, path)
        assert not path.exists()
    else:
        format_called(name).write(rows, path)
        assert format_called(name).read(path) == rows


def test_scores_that_a_table_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the score 87 of a\.png is not from 0 to 1"):
        format_called("csv").write([Labelled("a.png", "cat", 87.0, "model")], tmp_path / "l.csv")
    assert not (tmp_path / "l.csv").exists()


def test_items_of_datumaro_have_different_ids(tmp_path: Path) -> None:
    names = ["a/0.jpg", "a/0.png", "a/1.png"]
    format_called("datumaro").write([Labelled(name, "cat") for name in names], tmp_path / "l.json")
    items = json.loads((tmp_path / "l.json").read_text())["items"]
    assert [item["id"] for item in items] == ["a/0.jpg", "a/0.png", "a/1"]


def test_an_image_is_one_task_of_label_studio(tmp_path: Path) -> None:
    rows = [Labelled("a.png", "cat", group="g"), Labelled("a.png", "dog", 0.5, "model", group="g")]
    format_called("label-studio").write(rows, tmp_path / "l.json")
    (task,) = json.loads((tmp_path / "l.json").read_text())
    assert task["data"] == {"image": "a.png", "group": "g"}
    assert task["annotations"][0]["result"][0]["value"] == {"choices": ["cat"]}
    assert task["predictions"][0]["result"][0]["value"] == {"choices": ["dog"]}
    assert task["predictions"][0]["score"] == 0.5


def test_pictures_of_one_name_in_predictions_of_the_app_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    head = "image,label,class,sure,unlike,adapted_to,p(cat),p(dog)\n"
    path.write_text(head + "0.png,cat,cat,yes,no,yes,0.9,0.1\n0.png,,dog,yes,no,no,0.2,0.8\n")
    with pytest.raises(DataError, match=r"line 3: a second picture called 0\.png"):
        convert_labels(str(path), tmp_path / "l.json", "coco")


def coco(folder: Path, **changed: Any) -> Path:
    """A file of object detection in a folder `annotations`, whose images are in `train2017`."""
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(4)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": n // 2, "category_id": 7 + 2 * (n // 2), "bbox": [1, 1, 2, 2]}
            for n in range(4)
        ],
    }
    for name in ("annotations", "train2017"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n in range(4):
        picture(n).save(folder / "train2017" / f"{n}.png")
    path = folder / "annotations" / "instances.json"
    path.write_text(json.dumps(content | changed))
    return path


def test_coco_of_boxes_is_read_with_its_folder_of_images(tmp_path: Path) -> None:
    path = coco(tmp_path)
    assert labels_of(path) == {"train2017/0.png": "cat", "train2017/1.png": "dog"}
    notes = read_table(path).notes
    assert notes == (
        f"paths in instances.json count from {tmp_path / 'train2017'}",
        "2 images without a label are left out",
    )


ONE = {"id": 1, "image_id": 0, "category_id": 7}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"annotations": [{**ONE, "image_id": 44}]},
            r"annotations\[0\]: there is no entry with the image_id 44",
        ),
        ({"annotations": [{**ONE, "category_id": [7]}]}, r"no entry with the category_id \[7\]"),
        ({"annotations": {"a": 1}}, "has no list 'annotations'"),
        ({"annotations": [3]}, r"annotations\[0\] must be an object, not 3"),
        ({"annotations": [{**ONE, "score": "high"}]}, "the score must be a number, not 'high'"),
        ({"categories": [{"id": 7, "name": ""}]}, "its name must be text, not ''"),
        (
            {
                "categories": [{"id": 7, "name": "crane"}, {"id": 9, "name": "crane "}],
                "annotations": [ONE, {**ONE, "image_id": 1, "category_id": 9}],
            },
            "has two labels of the name 'crane'; rename or merge them",
        ),
        ({"categories": [{"id": 7}, {"id": 7}]}, r"categories\[1\]: the id 7 is there twice"),
        ({"images": [{"id": 0, "file_name": 3}]}, "file_name must be text, not 3"),
        ({"images": [{"id": None}]}, "the id must be a number or text"),
        ({"annotations": []}, "has no label that a person gave; label some images first"),
        ({"annotations": [{**ONE, "score": 0.5}]}, "no label that a person gave; convert it to CSV"),
        ({"annotations": [ONE, {**ONE, "category_id": 9}]}, "0.png has the labels 'cat' and 'dog'; keep one"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_named(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    if "images" in changed or "categories" in changed:
        changed = {"annotations": [ONE], **changed}
    with pytest.raises(DataError, match=says):
        read_table(coco(tmp_path, **changed))


def test_splits_and_groups_of_some_images_only_are_refused(tmp_path: Path) -> None:
    def images(**last: Any) -> list[dict[str, Any]]:
        more = [{"split": "test", "group": 7}, {"split": "train", "group": 8}]
        return [{"id": n, "file_name": f"{n}.png", **(last if n == 1 else more[n % 2])} for n in range(2)]

    whole = read_table(coco(tmp_path, images=images(split="train", group=8)))
    assert whole.splits == ("test", "train") and whole.groups == ("7", "8")
    for last, says in (
        ({"group": 8}, r"1\.png: it has no split, but other images have one"),
        ({"group": 8, "split": "unused"}, r"1\.png: 'unused' is not a split; make it train, val or test"),
        ({"split": "train"}, r"1\.png: it has no group, but other images have one"),
    ):
        with pytest.raises(DataError, match=says):
            read_table(coco(tmp_path, images=images(**last)))


def in_splits(folder: Path, name: str, *splits: str | None) -> Path:
    """Labels of a tool that names these splits, of the pictures of the folder animals."""
    rows = [Labelled(f"{'cat' if n % 2 else 'dog'}/{n // 2}.png", "cat" if n % 2 else "dog", split=split)
            for n, split in enumerate(splits)]  # fmt: skip
    format_called(name).write(rows, folder / FILES[name])
    return folder / FILES[name]


@pytest.mark.parametrize("name", ["csv", "coco", "cvat", "datumaro"])
@pytest.mark.parametrize("others", ["Train", "holdout"])
def test_a_split_of_another_name_is_refused_and_never_adapted_to(
    animals: Path, name: str, others: str
) -> None:
    source = in_splits(animals, name, others, "holdout")
    with pytest.raises(DataError, match=r"'holdout' is not a split"):
        read_table(source)
    for to in ("imagefolder", "fiftyone", "coco"):
        with pytest.raises(
            DataError, match=r"(dog|cat)/0\.png: 'holdout' is not a split; make it train, val"
        ):
            convert_labels(str(source), animals.parent / ("new.json" if to == "coco" else "new"), to)
    rows = convert_labels(str(source), animals.parent / "new.csv", "csv")  # where it can be changed
    assert [row.split for row in rows] == [{"Train": "train"}.get(others, others), "holdout"]


def test_copies_are_never_mixed_where_some_pictures_have_a_split_and_others_none(animals: Path) -> None:
    for name in ("coco", "cvat", "datumaro"):
        source = in_splits(animals, name, "test", None)
        with pytest.raises(DataError, match=r"cat/0\.png: it has no split, but other images have one"):
            convert_labels(str(source), animals.parent / "tree", "imagefolder")
        source.unlink()


def test_a_group_of_fiftyone_is_called_by_its_id(animals: Path) -> None:
    samples = [
        {
            "filepath": f"{kind}/0.png",
            "ground_truth": {"_cls": "Classification", "label": kind},
            "group": {"_id": {"$oid": "64f0"}, "_cls": "Group", "name": side},
        }
        for kind, side in (("cat", "left"), ("dog", "right"))
    ]
    (animals / "samples.json").write_text(json.dumps({"samples": samples}))
    assert [row.group for row in format_called("fiftyone").read(animals)] == ["64f0", "64f0"]


def test_a_sample_of_fiftyone_with_tags_of_two_splits_is_refused(animals: Path) -> None:
    sample = SAMPLES["samples"][0] | {"tags": ["val", "train"]}
    (animals / "samples.json").write_text(json.dumps({"samples": [sample]}))
    assert "samples[0]: it has the tags of two splits, val and train; keep one" in refused_table(animals)


def with_group(name: str, group: object) -> object:
    """The content of a file of this tool, whose picture 0.png shows a cat and is of this group."""
    if name == "coco":
        images = [{"id": 0, "file_name": "0.png", "group": group}]
        return {"images": images, "categories": [{"id": 7, "name": "cat"}], "annotations": [ONE]}
    if name == "fiftyone":
        label = {"_cls": "Classification", "label": "cat"}
        return {"samples": [{"filepath": "0.png", "group": group, "truth": label}]}
    if name == "datumaro":
        label = {"type": "label", "label_id": 0}
        item = {"id": "0.png", "attr": {"group": group}, "annotations": [label]}
        return {"categories": {"label": {"labels": [{"name": "cat"}]}}, "items": [item]}
    result = {"from_name": "c", "type": "choices", "value": {"choices": ["cat"]}}
    return [{"id": 1, "data": {"image": "0.png", "group": group}, "annotations": [{"result": [result]}]}]


@pytest.mark.parametrize("name", ["coco", "fiftyone", "datumaro", "label-studio"])
def test_a_group_has_one_name_in_files_of_tools_and_in_tables(tmp_path: Path, name: str) -> None:
    path = tmp_path / "l.json"
    for value, group in (
        (7.0, "7"),
        (7, "7"),
        (7.5, "7.5"),
        (" p1 ", "p1"),
        ("Mu\u0308ller", "M\u00fcller"),
        (" ", None),
        (None, None),
        (True, None),
        (False, None),
    ):
        path.write_text(json.dumps(with_group(name, value)))
        assert format_called(name).read(path) == [Labelled("0.png", "cat", group=group)]
    for value in ([1], {"id": 3}):
        path.write_text(json.dumps(with_group(name, value)))
        with pytest.raises(DataError, match=r"l\.json.*: group must be text or a number, not [\[{]"):
            format_called(name).read(path)


def test_labels_like_formulas_come_back_from_csv(tmp_path: Path) -> None:
    class_folders(tmp_path / "signs", ("+", "-", "=x"), 2)
    convert_labels(str(tmp_path / "signs"), tmp_path / "signs.csv", "csv")
    assert "'+" in (tmp_path / "signs.csv").read_text()  # no cell is a formula
    assert read_table(tmp_path / "signs.csv").classes == read_table(tmp_path / "signs").classes


def test_one_of_several_labels_is_chosen() -> None:
    rows = [Labelled("a", "x"), Labelled("a", "y"), Labelled("b", "x"), Labelled("b", "y", 0.5, "model")]
    assert single(rows, "f", "first") == [rows[0], *rows[2:]]
    assert single(rows, "f", "skip") == rows[2:]
    with pytest.raises(DataError, match="f: a has the labels 'x' and 'y'"):
        single(rows, "f")


@pytest.mark.parametrize("more", [{"split": "test"}, {"group": "b"}, {"split": "test", "by": "model"}])
def test_one_image_of_two_splits_or_groups_is_refused(more: dict[str, Any]) -> None:
    first = Labelled("cat/0.png", "cat", split="train", group="a")
    what = "split 'train' and with 'test'" if "split" in more else "group 'a' and with 'b'"
    with pytest.raises(DataError, match=rf"f: cat/0\.png is there twice, with the {what}; keep one"):
        single([first, replace(first, **more)], "f")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_of_both_kinds_are_converted_alike(animals: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {
            "path": ["cat/0.png", "cat/0.png", "dog/0.png", "dog/1.png"],
            "label": ["cat", "cat", "dog", None],
            "by": ["person", "model", "model", None],
            "group": [7.0, 7.0, 8.0, 8.0],
        }
    )
    path = animals / f"l.{ending}"
    frame.astype({"group": int}).to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    assert convert_labels(str(path), animals / "l.json", "coco") == [
        Labelled("cat/0.png", "cat", group="7"),
        Labelled("cat/0.png", "cat", by="model", group="7"),
        Labelled("dog/0.png", "dog", by="model", group="8"),
        Labelled("dog/1.png", None, group="8"),
    ]


def test_the_command_says_what_is_left_out(animals: Path, farshot: Farshot) -> None:
    picture(90).save(animals / "loose.png")
    told = farshot("convert", animals, animals / "l.csv", "--to", "csv")
    assert told.err == f"Note: 1 picture directly in {animals} has no class and is left out.\n"
    (animals / "l.csv").write_text("path,label\ncat/0.png,cat\ncat/0.png,dog\ncat/1.png,\ndog/0.png,dog\n")
    told = farshot("convert", animals / "l.csv", animals / "new", "--to", "imagefolder", "--several", "skip")
    assert told.err == (
        "Note: 1 images with several labels are left out.\nNote: 1 images without a label are left out.\n"
    )


@pytest.mark.parametrize("to", [name for name in FILES if name != "cvat"] + ["label-studio"])
def test_names_that_are_no_paths_stay_as_they_are(tmp_path: Path, to: str) -> None:
    names = ["s3://bucket/a//1.jpg", "data:image/png;base64,iVBO//A/../B==", "gs://b/2.png", "http://h/3.png"]
    names.append(str(tmp_path / "a:b" / "4.png"))
    format_called("label-studio").write([Labelled(name, "cat") for name in names], tmp_path / "tasks.json")
    out = tmp_path / "new" / FILES.get(to, "l.json")
    out.parent.mkdir()
    convert_labels(str(tmp_path / "tasks.json"), out, to)
    assert [row.image for row in format_called(to).read(out)] == names
    with pytest.raises(
        DataError, match=r"'s3://bucket/a//1.jpg' is no path, and only images of http and http"
    ):
        read_table(out)


def cvat(body: str, head: str = "") -> str:
    return f'<?xml version="1.0"?>{head}<annotations><version>1.1</version>\n{body}</annotations>'


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (cvat('<image name="a.png"><tag label="&b;"/></image>', BOMB), "declares entities"),
        (cvat('<image name="a.png"><tag label="x">&a;</tag></image>', OUTSIDE), "declares entities"),
        (cvat('<image id="0"><tag label="x"/></image>'), "line 2: the name of the image must be text"),
        (cvat('<image name="a.png"><tag/></image>'), "line 2: the label of the tag must be text"),
        (cvat('<track id="0"></track>'), "line 2: a track, as in videos"),
        (cvat("<image"), "line 2: not XML"),
        ("<html></html>", "is not XML of CVAT"),
        ("", "not XML"),
        (cvat('<image name="nowhere.png"><tag label="x"/></image>'), "there is no file"),
    ],
)
def test_what_is_wrong_in_a_cvat_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    assert says in refused_table(path)


def test_a_cvat_file_with_shapes_and_models_gives_the_tags_of_people(animals: Path) -> None:
    path = animals / "a.xml"
    path.write_text(
        cvat(
            '<image id="0" name="cat/0.png" subset="Train">'
            '<box label="ear"><attribute name="a">1</attribute></box>'
            '<tag label="cat" source="manual"><attribute name="b">2</attribute></tag></image>'
            '<image id="1" name="dog/0.png"><tag label="dog"></tag></image>'
            '<image id="2" name="dog/1.png"><tag label="cat" source="auto"></tag></image>'
        )
    )
    assert labels_of(path) == {"cat/0.png": "cat", "dog/0.png": "dog"}


SAMPLES = {
    "samples": [
        {"filepath": "cat/0.png", "tags": ["x", "train"], "a": {"_cls": "Classification", "label": "cat"}},
        {
            "filepath": "dog/0.png",
            "tags": ["validation"],
            "truth": {"_cls": "Classifications", "classifications": [{"label": "dog"}]},
            "boxes": {"_cls": "Detections", "detections": [{"label": "ear"}]},
            "predictions": {"_cls": "Classification", "label": "owl", "confidence": 0.9},
        },
    ]
}  # fmt: skip


def test_samples_of_fiftyone_are_read(animals: Path) -> None:
    (animals / "samples.json").write_text(json.dumps(SAMPLES))
    for source in (animals, animals / "samples.json"):
        assert labels_of(source) == {"cat/0.png": "cat", "dog/0.png": "dog"}
        assert read_table(source).splits == ("train", "val")
    rows = format_called("fiftyone").read(animals)
    assert rows[2] == Labelled("dog/0.png", "owl", 0.9, "model", "val")


def test_labels_of_a_model_without_a_score_stay_those_of_a_model(animals: Path, farshot: Farshot) -> None:
    several = {"_cls": "Classifications", "classifications": [{"label": "cat"}]}
    sample = {"filepath": "cat/0.png", "tags": [], "predictions": several}
    (animals / "samples.json").write_text(json.dumps({"samples": [sample]}))
    assert format_called("fiftyone").read(animals) == [Labelled("cat/0.png", "cat", None, "model")]
    path = animals / "a.xml"
    path.write_text(cvat('<image id="0" name="cat/0.png"><tag label="cat" source="auto"></tag></image>'))
    with pytest.raises(DataError, match="cannot say that a model gave a label without a score"):
        convert_labels(str(path), animals / "l.json", "fiftyone")
    assert not (animals / "l.json").exists()
    told = farshot("convert", path, animals.parent / "tree", "--to", "imagefolder")
    assert told.code == 0 and "1 of these labels were given by a model" in told.err
    told = farshot("convert", animals.parent / "tree", animals.parent / "two", "--to", "imagefolder")
    assert told.code == 0 and "by a model" not in told.err


def classification(folder: Path, **content: Any) -> Path:
    """A folder as FiftyOneImageClassificationDataset."""
    (folder / "data" / "b").mkdir(parents=True)
    for name in ("a.png", "b/c.png", "d.png"):
        picture(len(name)).save(folder / "data" / name)
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


def test_labels_of_fiftyone_are_read_and_written(tmp_path: Path) -> None:
    folder = classification(
        tmp_path / "f", classes=["cat", "dog"], labels={"a": 1, "b/c": {"label": 0}, "d": None}
    )
    assert labels_of(folder) == {"data/a.png": "dog", "b/c.png": "cat"}
    out = folder / "labels2.json"
    convert_labels(str(folder), out, "fiftyone")
    assert json.loads(out.read_text())["labels"] == {"a": 1, "b/c": 0, "d": None}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"classes": ["cat"], "labels": {"a": 4}}, "'a': the label 4 is no index into the 1 classes"),
        ({"classes": None, "labels": {"a": 0}}, "no index into the 0 classes"),
        ({"labels": {"zz": "cat"}}, "'zz': there is no image of this name in"),
        ({"labels": []}, "has no object 'labels'"),
        ({"labels": {"a": ["cat", "dog"]}}, "has the labels 'cat' and 'dog'"),
    ],
)
def test_what_is_wrong_in_labels_of_fiftyone_is_named(
    tmp_path: Path, content: dict[str, Any], says: str
) -> None:
    folder = classification(tmp_path / "f", **content)
    with pytest.raises(DataError, match=says):
        read_table(folder)


def test_predictions_become_labels_of_a_model(animals: Path) -> None:
    path = animals / "p.csv"
    path.write_text("image,class,cat,dog,sure\ncat/0.png,cat,0.9,0.1,yes\ndog/0.png,,0.5,0.5,no\n")
    assert format_called("csv").read(path) == [
        Labelled("cat/0.png", "cat", 0.9, "model"),
        Labelled("dog/0.png", None, None, "model"),
    ]
    convert_labels(str(path), animals / "p.json", "coco")
    content = json.loads((animals / "p.json").read_text())
    assert content["annotations"] == [{"id": 1, "image_id": 1, "category_id": 1, "score": 0.9, "by": "model"}]
    assert content["images"][0] == {"id": 1, "file_name": "cat/0.png", "width": 24, "height": 20}


def test_predictions_are_not_taken_as_labels_of_people(animals: Path) -> None:
    path = animals / "p.csv"
    path.write_text("image,class,cat,dog,sure\ncat/0.png,cat,0.9,0.1,yes\ndog/0.png,dog,0.4,0.6,no\n")
    assert "all labels are a model's; remove the columns of its scores" in refused_table(path)
    path.write_text("image,class\ncat/0.png,cat\ndog/0.png,dog\n")
    assert labels_of(path) == {"cat/0.png": "cat", "dog/0.png": "dog"}


def test_who_gave_a_label_is_read_in_any_case_and_other_words_are_refused(animals: Path) -> None:
    path = animals / "a.csv"
    path.write_text("path,label,by\ncat/0.png,cat,Person\ndog/0.png,dog,\ndog/1.png,cat, Model \n")
    assert labels_of(path) == {"cat/0.png": "cat", "dog/0.png": "dog"}
    assert [row.by for row in format_called("csv").read(path)] == ["person", "person", "model"]
    path.write_text("path,label,by\ncat/0.png,cat,person\ndog/0.png,dog,robot\n")
    assert "line 3: by is 'robot'; write person or model" in refused_table(path)


def test_the_apps_predictions_give_labels_of_both(animals: Path) -> None:
    path = animals / "predictions.csv"
    path.write_text(
        "\ufeffimage,label,class,sure,unlike,adapted_to,p(cat),p(dog)\n"
        "cat/0.png,cat,cat,yes,no,yes,0.9,0.1\ndog/0.png,,dog,yes,no,no,0.2,0.8\n",
        encoding="utf-8",
    )
    convert_labels(str(path), animals / "all.csv", "csv")
    assert rows_of(animals / "all.csv") == [
        ["path", "label", "score", "by"],
        ["cat/0.png", "cat", "", "person"],
        ["cat/0.png", "cat", "0.900000", "model"],
        ["dog/0.png", "dog", "0.800000", "model"],
    ]
    assert labels_of(animals / "all.csv") == {"cat/0.png": "cat"}
    assert read_table(animals / "all.csv").notes == ("2 labels that a model gave are left out",)
    convert_labels(str(path), animals / "models.csv", "csv", Choice(by="model"))
    assert "remove the column 'by'" in refused_table(animals / "models.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label,score\na.png,x,7\n", "line 2: the score '7' must be a number from 0 to 1"),
        ("path,label,by\na.png,x,robot\n", "line 2: by is 'robot'; write person or model"),
        ("path,label\n,x\n", "line 2: no image"),
        ("path,label\n", "has no rows to convert"),
    ],
)
def test_what_is_wrong_in_a_table_of_labels_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        convert_labels(str(tmp_path / "l.csv"), tmp_path / "o.json", "coco")
    assert not (tmp_path / "o.json").exists()


def test_paths_count_from_the_folders_that_are_named(animals: Path) -> None:
    table = animals.parent / "elsewhere" / "l.csv"
    table.parent.mkdir()
    table.write_text("path,label\ncat/0.png,cat\n")
    choice = Choice(images=animals, relative_to=animals.parent)
    rows = convert_labels(str(table), animals.parent / "elsewhere" / "l.json", "coco", choice)
    assert [row.image for row in rows] == ["animals/cat/0.png"]
    with pytest.raises(
        SettingError, match=r"CVAT names pictures by paths below a folder, and .*--relative-to"
    ):
        convert_labels(str(table), table.with_name("m.xml"), "cvat", Choice(images=animals))
    assert not table.with_name("m.xml").exists()
    far = convert_labels(str(table), table.with_name("m.json"), "coco", Choice(images=animals))
    assert [row.image for row in far] == [str(animals / "cat" / "0.png")]


def test_existing_files_and_wrong_words_are_refused(animals: Path) -> None:
    taken = animals.parent / "taken.json"
    taken.write_text("mine")
    with pytest.raises(DataError, match="exists and is not an empty file; choose another OUT"):
        convert_labels(str(animals), taken, "coco")
    assert taken.read_text() == "mine"
    for to, out, says in (
        ("yolo", "x", "There is no format 'yolo'; choose of"),
        ("coco", "x.csv", "called as a file of csv"),
    ):
        with pytest.raises(SettingError, match=says):
            convert_labels(str(animals), animals.parent / out, to)
    with pytest.raises(SettingError, match="--by takes person or model"):
        Choice(by="robot")
    with pytest.raises(SettingError, match="--several takes first or skip"):
        Choice(several="last")
    with pytest.raises(SettingError, match="no format 'imagefolder'"):
        format_called("imagefolder")


def test_the_command_says_what_it_wrote(animals: Path, farshot: Farshot) -> None:
    out = animals.parent / "l.json"
    told = farshot("convert", animals, out, "--to", "coco")
    assert told.code == 0
    assert told.out == f"{out}: 9 labels of 3 classes on 9 images.\n"
    assert "exists and is not an empty file" in refusal(farshot("convert", animals, out, "--to", "coco"))
    known = recognised(out)
    assert known is not None
    assert known.name == "coco"
    assert set(FORMATS) < set(TARGETS)


@pytest.mark.slow
def test_commands_take_labels_of_other_tools(animals: Path, farshot: Farshot) -> None:
    out = animals.parent / "l.xml"
    convert_labels(str(animals), out, "cvat")
    adapted = animals.parent / "adapted"
    told = farshot(
        "adapt", out, "--model", "mini", "--method", "prototypes", "--out", adapted, "--device", "cpu"
    )
    assert told.code == 0, told
    assert "to 9 images of 3 classes" in told.out
    told = farshot("evaluate", adapted, out, "--include-support", "--device", "cpu")
    assert told.code == 0, told
    assert "on 9 images" in told.out


def test_an_image_in_an_archive_is_copied(tmp_path: Path) -> None:
    import zipfile

    folder = class_folders(tmp_path / "a", ("cat", "dog"), 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    convert_labels(str(tmp_path / "a.zip"), tmp_path / "tree", "imagefolder")
    with Image.open(tmp_path / "tree" / "cat" / "0.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(picture(0)))


COMMANDS = re.findall(
    r"^    farshot (convert [^#\n]*)",
    (Path(__file__).parents[1] / "docs" / "exchange.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(
    tmp_path: Path, command: str, farshot: Farshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "leaves", ("scab", "rust"), 2)
    (tmp_path / "predictions.csv").write_text("image,class,rust,scab\nleaves/rust/0.png,rust,0.9,0.1\n")
    both = [ONE, {**ONE, "id": 2, "category_id": 9}, {**ONE, "id": 3, "image_id": 1}]
    coco(tmp_path / "photos", annotations=both).rename(tmp_path / "instances.json")
    told = farshot(*shlex.split(command.strip()))
    assert told.code == 0, told
    assert re.search(r": [1-9]\d* labels of [12] class", told.out)


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"items": [{"id": "a"}]}, "has no label that a person gave"),
        ({"items": [{"annotations": []}]}, r"items\[0\]: the path of the image must be text"),
        ({"items": [{"id": "a", "annotations": [{"type": "label", "label_id": 5}]}]}, "with the number 5"),
        (
            {
                "categories": {"label": {"labels": [{"name": "crane"}, {"name": "crane"}]}},
                "items": [
                    {"id": str(n), "annotations": [{"type": "label", "label_id": n}]} for n in range(2)
                ],
            },
            "has two labels of the name 'crane'; rename or merge them",
        ),
        ({"categories": {"label": {"labels": [{}]}}}, r"labels\[0\]: its name must be text"),
    ],
)
def test_what_is_wrong_in_a_datumaro_file_is_named(
    tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"items": [], "categories": {}} | changed))
    with pytest.raises(DataError, match=says):
        read_table(path)


def test_the_name_of_a_datumaro_file_is_its_split(animals: Path) -> None:
    path = animals / "validation.json"
    format_called("datumaro").write([Labelled("cat/0.png", "cat"), Labelled("dog/0.png", "dog")], path)
    assert read_table(path).splits == ("val", "val")


def test_images_in_folders_of_splits_are_found(tmp_path: Path) -> None:
    path = coco(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images" / "train")
    assert labels_of(path) == {"train/0.png": "cat", "train/1.png": "dog"}

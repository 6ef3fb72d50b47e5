"""Every way in ends in the same table; what is wrong with it is named by path, line or row."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from farshot.data.names import read_descriptions
from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from farshot.images.reading import read_image
from tests.input_helpers import class_folders, picture, pixels_of, subprocess_environment


def refused(source: str | Path, **more) -> str:
    with pytest.raises(DataError) as error:
        read_table(source, **more)
    text = str(error.value)
    assert str(source).removeprefix("hf:") in text or more
    assert text.endswith(".")
    assert "\n" not in text
    return text


def labels_of(table) -> list[str]:
    return [table.classes[code] for code in table.labels]


# Folder per class ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "path;label;size, mm\nNAME0;a;1,5\nNAME1;b;2,0\n",
        'size, mm;"path";label\n1,5;NAME0;a\n2,0;NAME1;b\n',
        "label\tpath\twidth; height, mm\na\tNAME0\t1\nb\tNAME1\t2\n",
        "sep=;\npath;label\nNAME0;a\nNAME1;b\n",
        "\ufeffsep=;\r\npath;label;size, mm\r\nNAME0;a;1\r\nNAME1;b;2\r\n",
        '"sep=,"\npath,label\nNAME0,a\nNAME1,b\n',
    ],
)
def test_a_table_of_a_spreadsheet_of_any_country_is_read(tmp_path: Path, text: str) -> None:
    for number in range(2):
        picture(number).save(tmp_path / f"{number}.png")
    for number in range(2):
        text = text.replace(f"NAME{number}", f"{number}.png")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    table = read_table(tmp_path / "t.csv")
    assert table.classes == ("a", "b") and len(table) == 2


@pytest.mark.parametrize("front", ["", "path,"])
def test_a_cell_of_the_header_that_is_too_long_is_refused_with_its_line(tmp_path: Path, front: str) -> None:
    text = f"{front}{'x' * 200_000},label\n0.png,a\n"
    assert "t.csv, line 1: field larger than field limit" in refused(written(tmp_path / "t.csv", text))


def test_a_line_that_names_the_separator_is_counted(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "t.csv").write_text("sep=;\npath;label\n0.png;a\n1.png;b\n")
    with pytest.raises(DataError, match=r"t\.csv, line 4: there is no file"):
        read_table(tmp_path / "t.csv")


def test_a_folder_per_class(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("black_cat", "dog"), 2)
    (folder / "dog" / "more").mkdir()
    picture(50).save(folder / "dog" / "more" / "deep.JPG")
    for extra in ("dog/notes.txt", "dog/.hidden.png", "dog/Thumbs.db", "readme.md"):
        (folder / extra).write_text("no image")
    (folder / ".cache").mkdir()
    table = read_table(folder)
    assert table.classes == ("black_cat", "dog")
    assert table.names == ("black cat", "dog")
    assert labels_of(table) == ["black_cat"] * 2 + ["dog"] * 3
    found = [str(Path(path).relative_to(folder)) for path in table.images]
    assert found == ["black_cat/0.png", "black_cat/1.png", "dog/0.png", "dog/1.png", "dog/more/deep.JPG"]


def test_folders_that_cannot_be_classes(tmp_path: Path) -> None:
    assert "check the path" in refused(tmp_path / "missing")
    (tmp_path / "flat").mkdir()
    picture(0).save(tmp_path / "flat" / "a.png")
    assert "has no subfolders; put the images of each class" in refused(tmp_path / "flat")
    folder = class_folders(tmp_path / "data")
    (folder / "empty").mkdir()
    assert f"{folder / 'empty'} holds no image" in refused(folder)
    (tmp_path / "data.xlsx").touch()
    assert "not a folder, .csv, .parquet, .json, .xml, .zip or .tar" in refused(tmp_path / "data.xlsx")


@pytest.mark.parametrize("second", ["Black cat", "black  cat", "black cat "])
def test_two_classes_of_one_name_in_prompts_are_refused(tmp_path: Path, second: str) -> None:
    folder = class_folders(tmp_path / "data", ("black_cat", second), 1)
    text = refused(folder)
    assert "two classes of one name in prompts, 'black cat'" in text
    assert repr(second) in text
    assert "give --class-names" in text
    table = read_table(folder, class_names={"black_cat": "panther", second: "cat"})
    assert sorted(table.names) == ["cat", "panther"]
    assert len(set(table.classes)) == 2


def test_to_compare_labels_they_need_only_differ(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("black_cat", "Black cat"), 1)
    assert read_table(folder, for_prompts=False).classes == ("Black cat", "black_cat")
    path = lists(tmp_path, label_names=["x", "y", "x"])
    images_at(tmp_path, "a.png", "sub/b.png")
    assert "two classes of one name, 'x'" in refused(path, for_prompts=False)


def test_a_class_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    picture(9).save(odd / "0.png")
    assert "'\\udcff'; give it a name in plain text" in refused(folder)
    folder = class_folders(tmp_path / "blank", ("_", "cat"))
    assert "a class of the name ''" in refused(folder)


# CSV and Parquet -----------------------------------------------------------------------------------------


def images_at(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_a_csv_with_relative_absolute_and_quoted_paths(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png", "sub/b, c.png", 'sub/"d".png', "ä.png")
    text = (
        'label,path,more\ncat,a.png,1\n"dog, old","sub/b, c.png",2\ncat,"sub/""d"".png",\n\n cat , ä.png ,\n'
    )
    text += f"dog,{tmp_path / 'a.png'},5\n"
    table = read_table(written(tmp_path / "list.csv", text))
    assert labels_of(table) == ["cat", "dog, old", "cat", "cat", "dog"]
    assert table.classes == ("cat", "dog", "dog, old")
    names = ["a.png", "sub/b, c.png", 'sub/"d".png', "ä.png", "a.png"]
    assert [Path(path) for path in table.images] == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    "start", ["path,label\n", "\ufeffimage,class\r\n", "Image_Path;TARGET\n", "file\tcategory\n"]
)
def test_headers_separators_and_marks_of_other_programs(tmp_path: Path, start: str) -> None:
    images_at(tmp_path, "a.png", "b.png")
    separator = next(mark for mark in ",;\t" if mark in start)
    text = start + f"a.png{separator}01\nb.png{separator}NA\n{separator}\n"
    assert labels_of(read_table(written(tmp_path / "list.CSV", text))) == ["01", "NA"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("path,label\n", "has no rows"),
        ("path,kind\na.png,cat\n", "has no column of labels; name exactly one of its columns label or class"),
        ("a.png,cat\n", "has no column of image paths"),
        ("path,file,label\na.png,a.png,cat\n", "has 2 columns of image paths"),
        ("path,label\na.png,cat\na.png,\n", "line 3: no label"),
        ("path,label\n\na.png,cat\n,cat\n", "line 4: no image"),
        ("path,label\na.png,cat\nb.png,dog\n", "line 3: there is no file"),
        ("path,label\na.png,cat\na,b.png,dog\n", "line 3: 3 cells, but the header has 2"),
        ("path,label\na.png,cat\na.png\n", "line 3: 1 cells, but the header has 2"),
        ('path,label\n"a.png,cat\n', "line 2: unexpected end of data"),
        ("path,label\n" + "x" * 5000 + ".png,cat\n", "line 2: there is no file"),
    ],
)
def test_what_can_be_wrong_with_a_csv(tmp_path: Path, text: str, words: str) -> None:
    images_at(tmp_path, "a.png")
    assert words in refused(written(tmp_path / "list.csv", text))


def test_a_csv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    assert "save it again as UTF-8" in refused(written(tmp_path / "list.csv", "path,label\nä,b\n", "latin-1"))


def test_a_parquet_file_reads_as_the_same_csv(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png", "b.png")
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["cat", "dog"]})
    frame.to_parquet(tmp_path / "list.parquet")
    frame.to_csv(tmp_path / "list.csv", index=False)
    first, second = read_table(tmp_path / "list.parquet"), read_table(tmp_path / "list.csv")
    assert (first.images, first.classes, labels_of(first)) == (
        second.images,
        second.classes,
        labels_of(second),
    )


def test_a_parquet_file_may_number_its_classes(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png", "b.png")
    pd.DataFrame({"path": ["a.png", "b.png"], "label": [3, 11]}).to_parquet(tmp_path / "list.parquet")
    assert labels_of(read_table(tmp_path / "list.parquet", class_names={"3": "cat", "11": "dog"})) == [
        "3",
        "11",
    ]


def test_what_can_be_wrong_with_a_parquet_file(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png")
    path = written(tmp_path / "list.parquet", "not Parquet")
    assert "cannot be read as Parquet" in refused(path)
    pd.DataFrame({"path": ["a.png", "a.png"], "label": ["cat", None]}).to_parquet(path)
    assert "row 2: no label" in refused(path)


# JSON lists ----------------------------------------------------------------------------------------------


def lists(folder: Path, **other) -> Path:
    found = {"image_names": ["a.png", "sub/b.png"], "image_labels": [2, 0], "label_names": ["x", "y", "z"]}
    return written(folder / "novel.json", json.dumps(found | other))


def test_the_fields_json_lists(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png", "sub/b.png")
    table = read_table(lists(tmp_path))
    assert table.classes == ("x", "z")  # 'y' has no image here
    assert labels_of(table) == ["z", "x"]
    assert (
        read_table(lists(tmp_path, image_names=[str(tmp_path / "a.png")] * 2)).images[0] == tmp_path / "a.png"
    )


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"label_names": None},
            "must be a JSON object with the lists image_names, image_labels, label_names",
        ),
        ({"image_labels": [0]}, "has 2 image_names but 1 image_labels"),
        ({"image_labels": [0, 3]}, "image_labels[1] is 3"),
        ({"image_labels": [0, -1]}, "image_labels[1] is -1"),
        ({"image_labels": [0, "x"]}, "image_labels[1] is 'x'"),
        ({"image_labels": [0, True]}, "image_labels[1] is True"),
        ({"image_names": ["a.png", "c.png"]}, "image_names[1]: there is no file"),
        ({"image_names": ["a.png", 5]}, "image_names[1]: int where the path of an image should be"),
        ({"image_names": [], "image_labels": []}, "names no image"),
        ({"label_names": ["x", "y", "x"]}, "two classes of one name, 'x'"),
        ({"label_names": ["x", "y", ""]}, "a class of the name ''"),
    ],
)
def test_what_can_be_wrong_with_json_lists(tmp_path: Path, other: dict, words: str) -> None:
    images_at(tmp_path, "a.png", "sub/b.png")
    assert words in refused(lists(tmp_path, **other))


def test_labels_of_one_name_stay_refused_whatever_prompts_call_them(tmp_path: Path) -> None:
    images_at(tmp_path, "a.png", "sub/b.png")
    path = lists(tmp_path, label_names=["x", "y", "x"])
    assert "two classes of one name, 'x'" in refused(path, class_names=["first", "second"])


def test_broken_json_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "line 2: not JSON" in refused(written(tmp_path / "novel.json", '{"image_names":\n oops}'))


# Datasets ------------------------------------------------------------------------------------------------


def dataset_of(images: list, labels: list, names: tuple[str, ...] = ("dog", "cat")) -> datasets.Dataset:
    features = datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    )
    return datasets.Dataset.from_dict({"picture": images, "label": labels}, features=features)


def encoded(folder: Path, number: int) -> dict:
    picture(number).save(folder / f"{number}.png")
    return {"bytes": (folder / f"{number}.png").read_bytes(), "path": None}


def test_a_saved_dataset(tmp_path: Path) -> None:
    images = [encoded(tmp_path, 0), encoded(tmp_path, 1), str(tmp_path / "0.png")]
    dataset_of(images, [1, 0, 1]).save_to_disk(tmp_path / "saved")
    table = read_table(tmp_path / "saved")
    assert table.classes == ("cat", "dog")
    assert labels_of(table) == ["cat", "dog", "cat"]
    assert all(
        np.array_equal(pixels_of(read_image(table.images[i])), pixels_of(picture(i % 2))) for i in range(3)
    )
    assert table.id(0) == table.id(2)


def test_damaged_images_of_a_dataset_are_listed_and_skipped_as_files_are(tmp_path: Path) -> None:
    broken = {"bytes": encoded(tmp_path, 3)["bytes"][:200], "path": None}
    images = [encoded(tmp_path, 0), encoded(tmp_path, 1), broken]
    dataset_of(images, [0, 1, 1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"1 of 3 images cannot be read[^\n]*\n  [^\n]*saved/row 2: "):
        read_table(tmp_path / "saved").check_readable()
    assert len(read_table(tmp_path / "saved").check_readable(True)) == 2


def test_what_can_be_wrong_with_a_dataset(tmp_path: Path) -> None:
    image = encoded(tmp_path, 0)
    good = dataset_of([image], [0])
    datasets.DatasetDict(train=good, extra=good).save_to_disk(tmp_path / "splits")
    text = refused(tmp_path / "splits")
    assert f"holds the splits train, extra; give one of them: {tmp_path / 'splits' / 'train'}" in text
    assert len(read_table(tmp_path / "splits" / "train")) == 1
    dataset_of([image], [-1]).save_to_disk(tmp_path / "secret")
    assert "row 0: no label" in refused(tmp_path / "secret")
    dataset_of([None], [0]).save_to_disk(tmp_path / "null")
    assert "row 0: no image" in refused(tmp_path / "null")
    good.remove_columns("label").save_to_disk(tmp_path / "unlabelled")
    assert "exactly one image column and one class column; it has ['picture']" in refused(
        tmp_path / "unlabelled"
    )
    next((tmp_path / "secret").glob("*.arrow")).write_bytes(b"damaged")
    assert "cannot be read as a saved dataset" in refused(tmp_path / "secret")


def test_a_dataset_of_the_hub_without_network_is_one_sentence(tmp_path: Path) -> None:
    program = (
        "from farshot.data.readers import read_table\nfrom farshot.errors import DataError\n"
        "try: read_table('hf:someone/something:test')\nexcept DataError as error: print(error)"
    )
    environment = subprocess_environment(HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
    told = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(
        r"The dataset someone/something \(split test\) could not be loaded \(.*\); check name and network, "
        r"or give a folder of images\.\n",
        told.stdout,
    )


# Names of classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "a house cat\n\n a  hound \nowl\n"),
        ("names.txt", "dog: a hound\ncat: a house cat\nowl: owl\n"),
        ("names.json", '["a house cat", "a hound", "owl"]'),
        ("names.json", '{"owl": "owl", "dog": "a hound", "cat": "a house cat", "unused": "x"}'),
    ],
)
def test_the_forms_of_a_file_of_class_names(tmp_path: Path, name: str, text: str) -> None:
    folder = class_folders(tmp_path / "data")
    table = read_table(folder, class_names=written(tmp_path / name, text))
    assert table.names == ("a house cat", "a hound", "owl")
    assert table.classes == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("names.txt", "cat\ndog\n", "names.txt has 2 names but the data has 3 classes (cat, dog, owl)"),
        ("names.json", '{"cat": "a"}', "names.json has no name for the class 'dog'"),
        ("names.json", '"cat"', "must be a JSON object (class -> name) or list of names"),
        ("names.json", '{"cat": null, "dog": "a", "owl": "b"}', "must be a JSON object (class -> name)"),
        ("names.txt", "cat\nCAT\nowl\n", "two classes of one name in prompts, 'cat': 'cat' and 'dog'"),
    ],
)
def test_what_can_be_wrong_with_class_names(tmp_path: Path, name: str, text: str, words: str) -> None:
    folder = class_folders(tmp_path / "data")
    assert words in refused(folder, class_names=written(tmp_path / name, text))


def test_a_missing_file_of_class_names_is_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    assert "missing.txt cannot be read" in refused(folder, class_names=tmp_path / "missing.txt")


def test_descriptions_may_use_either_name_of_a_class(tmp_path: Path) -> None:
    path = written(tmp_path / "words.json", '{"black_cat": "a panther", "old dog": "a hound"}')
    found = read_descriptions(path, ("black cat", "old dog"), ("black_cat", "old_dog"))
    assert found == {"black cat": "a panther", "old dog": "a hound"}
    with pytest.raises(
        DataError, match="describes 'black_cat', which is not a class; the classes are: cat, dog"
    ):
        read_descriptions(path, ("cat", "dog"))
    with pytest.raises(DataError, match="must be a JSON object: class name -> description"):
        read_descriptions(written(path, '{"cat": 1}'), ("cat", "dog"))


# Without labels ------------------------------------------------------------------------------------------


def test_files_and_folders_without_labels(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("b", "a"), 1)
    picture(7).save(tmp_path / "z.png")
    table = unlabelled([tmp_path / "z.png", folder])
    assert [Path(path).name for path in table.images] == ["z.png", "0.png", "0.png"]
    assert table.images[1] == folder / "a" / "0.png"
    assert table.labels is None
    with pytest.raises(DataError, match=r"There is no .*missing\.png; check the path"):
        unlabelled([tmp_path / "missing.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in the folders given"):
        unlabelled([tmp_path / "empty"])

"""Splits and groups of folders and tables are used; a folder that can be read in two ways is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from farshot import FewShotClassifier, load
from farshot.data.cache import cached
from farshot.data.pool import pool_of
from farshot.data.pools import suspicions
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.report.model import measure, model_report
from farshot.storage.model_folder import read_folder
from tests.bench_helpers import folder_pool
from tests.input_helpers import Farshot, class_folders, picture, refusal

CLASSES = ("spot", "stain")
QUICK = ("--model", "mini", "--method", "zero-shot", "--device", "cpu")


def pictures(folder: Path, *names: str, start: int = 0) -> Path:
    for number, name in enumerate(names, start):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures of each class to train on, one to validate, two to test."""
    for start, (split, count) in enumerate((("Train", 3), ("valid", 1), ("test", 2))):
        class_folders(tmp_path / "tree" / split, CLASSES, count, start=1000 * start)
    return tmp_path / "tree"


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Eight pictures in a CSV; plants 0 to 3, each with one picture of each class."""
    rows = ["path,label,Group"]
    for number in range(8):
        label, plant = CLASSES[number % 2], number // 2
        pictures(tmp_path, f"{number}.png", start=number)
        rows.append(f"{number}.png,{label},plant-{plant}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    return tmp_path / "list.csv"


def folders_of(table: ImageTable) -> list[str]:
    return [Path(str(image)).parent.name for image in table.images]


# Reading -------------------------------------------------------------------------------------------------


def test_a_split_tree_has_classes_and_splits(tree: Path) -> None:
    table = read_table(tree)
    assert table.classes == CLASSES
    assert table.splits == ("train", "train", "train", "test", "test", "val") * 2
    assert [table.classes[code] for code in table.labels] == folders_of(table)
    for image, split in zip(table.images, table.splits, strict=True):
        assert Path(image).relative_to(tree).parts[0] == {"train": "Train", "val": "valid"}.get(split, split)


def test_splits_may_lie_below_the_classes(tmp_path: Path) -> None:
    for name in CLASSES:
        class_folders(tmp_path / name, ("training", "testing"), 2)
    table = read_table(tmp_path)
    assert table.classes == CLASSES
    assert table.splits == ("test", "test", "train", "train") * 2


def test_a_picture_in_none_of_the_splits_below_its_class_is_refused(tmp_path: Path) -> None:
    for name in CLASSES:
        class_folders(tmp_path / name, ("train", "test"), 2)
    pictures(tmp_path / CLASSES[0], "preview.png")
    with pytest.raises(DataError, match=rf"the splits test and train within .* lie in .*{CLASSES[0]}, which"):
        read_table(tmp_path)


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    table = read_table(class_folders(tmp_path / "vehicles", ("car", "train"), 1))
    assert table.classes == ("car", "train")
    assert table.splits is None


def test_split_folders_that_are_none_are_refused(tree: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "flat", ("train", "test"), 2)
    with pytest.raises(DataError, match=r"the splits test, train, but pictures lie directly in .*test;"):
        read_table(tmp_path / "flat")
    class_folders(tree / "annotations", ("masks",), 1)
    with pytest.raises(DataError, match="and also the folder 'annotations', which is none"):
        read_table(tree)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_of_splits_and_groups_are_read(tmp_path: Path, form: str) -> None:
    import pandas as pd

    pictures(tmp_path, "a.png", "b.png", "c.png")
    frame = pd.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "x"], "SPLIT": ["Train", "dev", "TEST"]}
    )
    frame[" group "] = [1, 2, 3]
    path = tmp_path / f"list.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_parquet(path)
    table = read_table(path)
    assert table.splits == ("train", "val", "test")
    assert table.groups == ("1", "2", "3")
    assert table.subset([2, 0]).splits == ("test", "train")
    assert table.subset([2, 0]).groups == ("3", "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label,split\na.png,x,fold1\n", "line 2: 'fold1' is not a split; write train, val or test"),
        ("path,label,split\na.png,x,train\na.png,x,\n", "line 3: no split; write train, val or test"),
        ("path,label,group\na.png,x, \n", "line 2: no group; name one"),
        ("path,label,split,Split\na.png,x,train,train\n", "has 2 columns of splits"),
        ("path,label,group,GROUP\na.png,x,1,1\n", "has 2 columns of groups"),
    ],
)
def test_what_can_be_wrong_with_splits_and_groups(tmp_path: Path, text: str, words: str) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "list.csv")


def test_a_table_checks_its_splits_and_groups() -> None:
    images = (picture(0), picture(1))
    with pytest.raises(DataError, match="2 images but 1 groups; give one per image"):
        ImageTable(images, None, (), (), groups=("a",))
    with pytest.raises(DataError, match="2 images but 3 splits"):
        ImageTable(images, None, (), (), splits=("train",) * 3)
    with pytest.raises(DataError, match="'holdout' is not a split; splits are train, val, test"):
        ImageTable(images, None, (), (), splits=("train", "holdout"))


def test_splits_and_groups_outlive_the_cache_and_the_check(tree: Path, grouped: Path, tmp_path: Path) -> None:
    for source in (tree, grouped):
        table = read_table(source)
        for copy in (cached(pool_of("x", table), tmp_path / "cache").table, table.check_readable()):
            assert (copy.splits, copy.groups) == (table.splits, table.groups)


def test_without_splits_every_image_is_adapted_to_and_measured(grouped: Path) -> None:
    table = read_table(grouped)
    assert table.test_split is None
    assert table.train_rows().tolist() == table.test_rows().tolist() == list(range(8))


# Levels --------------------------------------------------------------------------------------------------


def test_two_levels_of_classes_are_refused_with_both_named(farshot: Farshot, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", "a/x/0.png", "a/y/1.png", "b/z/2.png")
    with pytest.raises(DataError, match=r"may be the classes: a, b \(level 1\) or x, y, z \(level 2\)"):
        read_table(data)
    assert read_table(data, level=1).classes == ("a", "b")
    table = read_table(data, level=2)
    assert table.classes == ("x", "y", "z")
    assert [table.classes[code] for code in table.labels] == folders_of(table)
    with pytest.raises(DataError, match="pictures in a/x, which is not 3 folders deep"):
        read_table(data, level=3)
    with pytest.raises(DataError, match="level counts from 1"):
        read_table(data, level=0)
    assert "(level 1)" in refusal(farshot("adapt", data, "--out", tmp_path / "o", *QUICK))
    assert farshot("adapt", data, "--level", 2, "--out", tmp_path / "o", *QUICK).code == 0
    told = farshot("evaluate", tmp_path / "o", data, "--level", 2, "--include-support", "--json")
    assert [one["class"] for one in json.loads(told.out)["classes"]] == ["x", "y", "z"]
    out = tmp_path / "page.html"
    assert "(level 1)" in refusal(farshot("report", tmp_path / "o", "--data", data, "--out", out))


def test_the_benchmark_takes_a_level_too(farshot: Farshot, tmp_path: Path) -> None:
    names = [f"{folder}/{number}.png" for folder in ("a/x", "a/y", "b/z") for number in range(3)]
    data, store, cache = pictures(tmp_path / "data", *names), tmp_path / "r.db", tmp_path / "cache"
    bench = ("bench", "--pools", f"own={data}", "--methods", "zero-shot", "--shots", 1, "--queries", 1)
    bench += ("--ways", "all", "--tasks", 2, "--model", "mini", "--store", store, "--cache", cache)
    assert "(level 1)" in refusal(farshot(*bench))
    assert farshot(*bench, "--level", 2).code == 0
    assert farshot("store", "export", store, tmp_path / "r.jsonl").code == 0
    assert '"class_names": ["x", "y", "z"]' in (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    check = ("data", "check", "own", data)
    assert "(level 1)" in farshot(*check).out
    assert "9 images of 3 classes" in farshot(*check, "--level", 2).out
    prepare = ("data", "prepare", "own", data, "--size", 64, "--cache", tmp_path / "other")
    assert "(level 1)" in refusal(farshot(*prepare))
    assert "9 decoded now" in farshot(*prepare, "--level", 2).out


def test_two_levels_within_splits_are_refused_too(tmp_path: Path) -> None:
    names = [f"{split}/{name}/0.png" for split in ("train", "test") for name in ("a/x", "a/y", "b/z")]
    data = pictures(tmp_path / "data", *names)
    with pytest.raises(DataError, match=r"a, b \(level 1\) or x, y, z \(level 2\)"):
        read_table(data)
    table = read_table(data, level=2)
    assert table.classes == ("x", "y", "z")
    assert table.splits == ("test", "train") * 3


@pytest.mark.parametrize(
    "names",
    [
        ("cat/0.png", "cat/2024-01/1.png", "dog/2.png"),  # next to pictures
        ("cat/2024-01/0.png", "cat/2024-02/1.png", "dog/2.png"),  # dog shows the level
        ("cat/cam1/0.png", "cat/cam2/1.png", "dog/cam1/2.png"),  # cameras repeat
        ("cat/images/0.png", "dog/images/1.png"),  # one folder each
        ("cat/siamese/0.png", "dog/hound/1.png"),  # the same classes either way
    ],
)
def test_harmless_subfolders_belong_to_their_class_and_are_mentioned(
    farshot: Farshot, tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = pictures(tmp_path / "data", *names)
    table = read_table(data)
    assert table.classes == ("cat", "dog")
    (note,) = table.notes
    assert f"the classes are the folders directly in {data} (cat, dog)" in note
    told = farshot("adapt", data, "--out", tmp_path / "out", *QUICK)
    assert told.code == 0
    assert f"Note: {note}." in told.err
    assert note in [finding.what for finding in suspicions(pool_of("x", table))]


def test_a_level_is_for_folders_only(grouped: Path) -> None:
    with pytest.raises(DataError, match="is not a folder per class, so it has no levels"):
        read_table(grouped, level=1)
    assert read_table(class_folders(grouped.parent / "plain", CLASSES, 1)).notes == ()


# One picture, two labels ---------------------------------------------------------------------------------


def test_one_picture_under_two_labels_is_refused_by_adapt(farshot: Farshot, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", CLASSES, 2)
    (data / "list.csv").write_text(
        "path,label\nspot/0.png,spot\nstain/0.png,stain\nspot/1.png,spot\n./spot/0.png,stain\n"
    )
    said = refusal(farshot("adapt", data / "list.csv", "--out", tmp_path / "out", *QUICK))
    assert f"{data / 'spot' / '0.png'} has two labels, 'spot' and 'stain'; keep one" in said
    (data / "stain" / "copy.png").write_bytes((data / "spot" / "0.png").read_bytes())
    said = refusal(farshot("adapt", data, "--out", tmp_path / "out", *QUICK))
    assert f"{data / 'spot' / '0.png'} and {data / 'stain' / 'copy.png'}, one picture, has two labels" in said
    with pytest.raises(DataError, match="Image 1 and Image 3, one picture, has two labels, '4' and '7'"):
        FewShotClassifier("mini", "zero-shot").fit([picture(0), picture(1), picture(0)], [4, 4, 7])


# Adapting and measuring ----------------------------------------------------------------------------------


def test_adapt_takes_train_and_evaluate_takes_test(farshot: Farshot, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = farshot("adapt", tree, "--out", out, "--estimate", *QUICK)
    assert told.code == 0, told.err
    assert "Adapting to the split train (6 images); left out: val (2), test (4)." in told.out
    assert "to 6 images of 2 classes" in told.out
    assert f"4 images are left for measuring: farshot evaluate {out} {tree}" in told.out
    train = read_table(tree).subset(read_table(tree).train_rows())
    assert set(load(out).support_ids_) == set(train.contents())
    told = farshot("evaluate", out, tree)
    assert "Measuring on the split test (4 images); left out: train (6), val (2)." in told.out
    assert "on 4 images" in told.out
    assert "adapted to are left out" not in told.out
    assert json.loads(farshot("evaluate", out, tree, "--json").out)["split"] == "test"
    assert "on 10 images" in farshot("evaluate", out, tree, "--include-support").out


def test_shots_are_drawn_from_train(farshot: Farshot, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert farshot("adapt", tree, "--out", out, "--shots", 2, "--seed", 3, *QUICK).code == 0
    table = read_table(tree)
    train = set(table.contents(table.train_rows()))
    used = set(load(out).support_ids_)
    assert len(used) == 4
    assert used < train
    about, tensors = read_folder(out)
    found = measure(load(out), table)
    assert (len(found.table), len(found.support)) == (4, 4)
    page = model_report(about, tensors, load(out), table, images=0)
    assert page["drawn"].startswith("Checked: this draw of 2 per class")
    said = refusal(farshot("adapt", tree, "--out", out, "--shots", 4, *QUICK))
    assert "has 3 images, fewer than the 4 asked for" in said


def test_in_python_a_table_with_splits_is_used_in_the_same_way(tree: Path) -> None:
    table = read_table(tree)
    made = FewShotClassifier("mini", "prototypes", device="cpu").fit(table)
    assert len(made.support_ids_) == 6
    assert made.estimate(table).confusion.sum() == 6
    found = made.evaluate(table)
    assert (found.confusion.sum(), found.left_out) == (4, 0)
    without_test = table.subset([row for row, split in enumerate(table.splits) if split != "test"])
    assert without_test.test_split == "val"
    assert made.evaluate(without_test).confusion.sum() == 2
    only_train = table.subset(table.train_rows())
    with pytest.raises(DataError, match="All these images are of the split 'train'"):
        made.evaluate(only_train)
    assert made.evaluate(only_train, include_support=True).confusion.sum() == 6
    with pytest.raises(DataError, match="No image is in the split 'train'"):
        made.fit(table.subset(table.test_rows()))


def test_a_class_of_another_split_is_no_unknown_label(tree: Path) -> None:
    table = read_table(tree)
    made = FewShotClassifier("mini", "zero-shot", device="cpu").fit(table)
    class_folders(tree / "valid", ("owl",), 1, start=77)
    assert made.evaluate(read_table(tree)).confusion.sum() == 4
    class_folders(tree / "test", ("owl",), 1, start=78)
    with pytest.raises(DataError, match="The label 'owl' is not one of the classes"):
        made.evaluate(read_table(tree))


def test_images_of_a_group_that_was_adapted_to_are_not_measured(
    farshot: Farshot, grouped: Path, tmp_path: Path
) -> None:
    table = read_table(grouped)
    assert table.groups == tuple(f"plant-{number // 2}" for number in range(8))
    made = FewShotClassifier("mini", "zero-shot", device="cpu").fit(table.subset([0, 3]))
    rows, labels = made.unseen(table)
    assert rows.tolist() == [4, 5, 6, 7]
    assert labels.tolist() == [0, 1, 0, 1]
    made.save(tmp_path / "adapted")
    assert load(tmp_path / "adapted").unseen(table)[0].tolist() == [4, 5, 6, 7]
    told = farshot("evaluate", tmp_path / "adapted", grouped)
    assert "4 images that it was adapted to, or whose group it was adapted to, are left out." in told.out
    assert made.evaluate(table).left_out == 4
    assert made.evaluate(table, include_support=True).left_out == 0
    with pytest.raises(DataError, match=r"were used for adapting, or their groups were \(plant-0, plant-1\)"):
        made.unseen(table.subset([1, 2]))


def test_a_model_without_groups_of_an_earlier_version_is_read(grouped: Path, tmp_path: Path) -> None:
    table = read_table(grouped)
    FewShotClassifier("mini", "zero-shot", device="cpu").fit(table.subset([0, 3])).save(tmp_path / "adapted")
    path = tmp_path / "adapted" / "farshot.json"
    about = json.loads(path.read_text())
    assert about.pop("support_groups") == ["plant-0", "plant-1"]
    path.write_text(json.dumps(about))
    assert load(tmp_path / "adapted").unseen(table)[0].tolist() == [1, 2, 4, 5, 6, 7]


def test_a_group_in_train_and_test_is_mentioned(grouped: Path) -> None:
    lines = grouped.read_text().splitlines()
    splits = ["split", "train", "train", "train", "train", "test", "test", "val", "val"]
    grouped.write_text("\n".join(map(",".join, zip(lines, splits, strict=True))))
    assert read_table(grouped).notes == ()
    grouped.write_text(grouped.read_text().replace("plant-2", "plant-1"))
    (note,) = read_table(grouped).notes
    assert note.startswith("the groups plant-1 are in the split train and in the one to measure on")


def test_a_benchmark_says_what_it_does_with_splits_and_groups(
    farshot: Farshot, tree: Path, grouped: Path
) -> None:
    told = farshot("data", "check", "own", tree)
    assert "tasks draw from all splits (test, train, val) together" in told.out
    told = farshot("data", "check", "own", grouped)
    assert "no image of a group that is in the support set of a task is among its queries" in told.out
    told = farshot(
        *("bench", "--pools", f"own={tree}", "--model", "mini", "--store", tree.parent / "r.db"),
        *("--methods", "zero-shot", "--tasks", 1, "--shots", 1, "--queries", 1, "--ways", 2),
    )
    assert told.code == 0, told.err
    assert "Note: own: tasks draw from all splits (test, train, val) together." in told.err


# Pools of other sizes ------------------------------------------------------------------------------------


def test_pools_of_other_sizes_run_side_by_side(farshot: Farshot, tmp_path: Path) -> None:
    pools = [f"{name}={folder_pool(tmp_path / name, classes=n)}" for name, n in (("two", 2), ("Six", 6))]
    start = ["bench", "--pools", *pools, "--model", "mini", "--store", tmp_path / "r.db", "--device", "cpu"]
    start += ["--methods", "zero-shot", "--tasks", 1, "--shots", 1, "--queries", 1]
    assert "A 5-way task needs 5 classes; this pool has 2: use --ways two=2" in refusal(farshot(*start))
    for options, ways in (
        (("--ways", "all"), {2, 6}),
        (("--ways", "4", "two=2"), {2, 4}),
        (("--ways", "two=2"), {2, 5}),
        (("--ways", "3", "two=all", "six=all"), {2, 6}),
    ):
        (tmp_path / "r.db").unlink(missing_ok=True)
        told = farshot(*start, *options)
        assert told.code == 0, told.err
        told = farshot("table", "--store", tmp_path / "r.db")
        assert {n for n in range(2, 8) if f"{n}-way" in told.out} == ways


# The shared examples -------------------------------------------------------------------------------------


def test_the_shared_examples_are_read_as_their_page_says(
    farshot: Farshot, real_images: Path, tmp_path: Path
) -> None:
    faults = real_images.parent / "faults"
    if not faults.is_dir():
        pytest.skip(f"there is no {faults}")
    table = read_table(faults / "tree")
    assert (table.classes, table.splits) == (("spot", "stain"), (*["test"] * 4, *["train"] * 4) * 2)
    table = read_table(faults / "split-and-group.csv")
    assert table.splits == ("train",) * 8 + ("test",) * 8
    assert np.unique(table.groups).tolist() == ["plant-0", "plant-1"]
    assert len(table.notes) == 1
    said = refusal(farshot("adapt", faults / "two-labels.csv", "--out", tmp_path / "out", *QUICK))
    assert "0.png has two labels, 'spot' and 'stain'" in said

"""The split files of CoOp are read with their splits, wherever their images lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farshot.bench.split import split_task
from farshot.data.pools import open_pool
from farshot.data.readers import read_table
from farshot.errors import DataError
from tests.input_helpers import picture

NAMES = {0: "Annual Crop Land", 1: "Forest", 2: "River"}


def write(folder: Path, below: str = "2750", **changed: Any) -> Path:
    """A split file of three classes, whose images lie in a folder."""
    content: dict[str, list[list[Any]]] = {"train": [], "val": [], "test": []}
    for code, name in NAMES.items():
        for number, split in enumerate(("train", "train", "train", "val", "test", "test")):
            file = f"{name.split()[0]}/{number}.jpg"
            content[split].append([file, code, name])
            place = folder / below / file
            place.parent.mkdir(parents=True, exist_ok=True)
            picture(100 * code + number).save(place)
    path = folder / "split_zhou_EuroSAT.json"
    path.write_text(json.dumps(content | changed))
    return path


@pytest.mark.parametrize("below", ["", "2750"])
def test_images_are_found_next_to_the_file_or_in_one_folder(tmp_path: Path, below: str) -> None:
    table = read_table(write(tmp_path, below))
    assert table.classes == tuple(NAMES.values())
    assert table.splits is not None
    assert [table.splits.count(split) for split in ("train", "val", "test")] == [9, 3, 6]
    assert table.labels is not None
    for image, label, split in zip(table.images, table.labels.tolist(), table.splits, strict=True):
        path = Path(str(image))
        assert path.parent.name == NAMES[label].split()[0]
        assert split == ("train" if int(path.stem) < 3 else "val" if path.stem == "3" else "test")
    assert table.notes == (() if not below else ("paths in split_zhou_EuroSAT.json count from 2750/",))


def test_a_benchmark_draws_from_its_splits(tmp_path: Path) -> None:
    pool = open_pool(f"eurosat-coop={write(tmp_path)}")
    task = split_task(pool, 2)
    assert task.class_names == tuple(NAMES.values())
    assert len(task.query) == 6
    assert {Path(str(pool.table.images[row])).stem for row in task.support} <= {"0", "1", "2"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"train": [["a.jpg", 0]]}, r"train\[0\] must be \[path, label, class name\], with a whole number"),
        ({"train": [["a.jpg", True, "a"]]}, "with a whole number as label"),
        ({"test": [[7, 0, "a"]]}, r"test\[0\] must be .* with text as path"),
        ({"test": [["Forest/4.jpg", 0, "Forest"]]}, "the label 0 is called 'Forest' here and 'Annual"),
        ({"test": [["Forest/4.jpg", 9, "Forest"]]}, "has two labels for the class 'Forest'"),
        ({"test": [["Forest/99.jpg", 1, "Forest"]]}, r"test\[0\]: there is no file .*99\.jpg"),
        ({"train": [], "val": [], "test": []}, "names no image"),
    ],
)
def test_what_is_wrong_in_a_split_file_is_named(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_table(write(tmp_path, **changed))


def test_images_in_two_folders_are_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path)
    write(tmp_path, "other")
    with pytest.raises(DataError, match="is in 2750 and other; put the file into the folder"):
        read_table(path)

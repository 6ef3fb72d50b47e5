"""WebDataset shards: files of one name in a tar are one example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from farshot.model.catalogue import TOY_NOTE
from tests.image_bytes import encoded
from tests.input_helpers import Farshot, class_folders, picture
from tests.test_archives import packed, refused


def shards(
    folder: Path, count: int = 2, kind: str = "cls", labels: tuple = ("7", "3"), each: int = 4
) -> Path:
    """A folder of shards with as many examples each, classes in turn."""
    folder.mkdir(parents=True)
    for shard in range(count):
        files: dict[str, bytes] = {}
        for number in range(each):
            label = labels[number % len(labels)]
            text = json.dumps({"label": label, "width": 3}) if kind == "json" else f"{label}\n"
            key = f"part/{shard}_{number:03d}"
            files |= {
                f"{key}.png": encoded(picture(100 * shard + number), "PNG"),
                f"{key}.{kind}": text.encode(),
            }
            files[f"{key}.seg.png"] = b"a mask, not the image"
        packed(folder / f"shard-{shard:03d}.tar", files)
    return folder


@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
def test_shards_of_a_folder_or_a_pattern_are_one_table(tmp_path: Path, kind: str) -> None:
    folder = shards(tmp_path / "data", kind=kind)
    for source in (folder, f"{folder}/shard-{{000..001}}.tar"):
        table = read_table(source)
        assert table.classes == ("3", "7")
        assert [table.classes[code] for code in table.labels] == ["7", "3"] * 4
        names = [f"{folder}/shard-{s:03d}.tar/part/{s}_{n:03d}.png" for s in range(2) for n in range(4)]
        assert [str(image) for image in table.images] == names
        table.check_readable()
        assert [str(image) for image in unlabelled([source]).images] == names
    assert len(read_table(folder / "shard-001.tar")) == 4


@pytest.mark.parametrize("name", ["a.jfif", "IM0001", "a.pgm", "a.JPG", "logs/curve.png"])
def test_a_tar_of_images_and_a_loose_picture_of_any_name_are_refused(tmp_path: Path, name: str) -> None:
    folder = shards(tmp_path / "data")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(encoded(picture(0), "PNG"))
    for read in (read_table, lambda source: unlabelled([source])):
        with pytest.raises(DataError, match=f"the picture {name}, and also images in shard-000.tar; give"):
            read(folder)


def test_a_tar_next_to_folders_of_pictures_or_without_any_does_not_hide_pictures(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "leaves", ("rust", "scab"), 2)
    images = read_table(folder).images
    packed(folder / "old.tar", {"1.png": encoded(picture(1), "PNG"), "1.cls": b"0"})
    assert read_table(folder).images == unlabelled([folder]).images == images
    packed(folder / "rust" / "code.tar", {"main.py": b"", "LICENSE": b"MIT"})
    (folder / "rust" / "torn.tar").write_bytes(b"no tar at all")
    assert unlabelled([folder / "rust"]).images == images[:2]


def test_folders_without_pictures_do_not_hide_the_shards_next_to_them(tmp_path: Path) -> None:
    folder = shards(tmp_path / "data")
    (folder / "logs").mkdir()
    assert len(read_table(folder)) == len(unlabelled([folder])) == 8


def test_pictures_of_any_name_in_a_tar_are_listed(tmp_path: Path) -> None:
    names = ["2024.01.02 leaf.png", "IMG_1.png", "a.b.png"]
    tmp_path.joinpath("tars").mkdir()
    packed(tmp_path / "tars" / "x.tar", {name: encoded(picture(0), "PNG") for name in names})
    for source in (tmp_path / "tars", tmp_path / "tars" / "x.tar"):
        assert [Path(str(image)).name for image in unlabelled([source]).images] == names


def test_shards_of_several_splits_keep_them(tmp_path: Path) -> None:
    folder = shards(tmp_path / "data")
    (folder / "shard-000.tar").rename(folder / "train-000.tar")
    (folder / "shard-001.tar").rename(folder / "test-000.tar")
    table = read_table(folder)
    assert table.splits == ("test",) * 4 + ("train",) * 4
    shards(tmp_path / "more", 1)
    (tmp_path / "more" / "shard-000.tar").rename(folder / "extra-000.tar")
    assert "holds files of the splits test, train and also extra-000.tar" in refused(folder)


def test_words_are_labels_and_numbers_may_be_named(tmp_path: Path) -> None:
    words = shards(tmp_path / "words", labels=("scab", "rust"))
    assert read_table(words).classes == ("rust", "scab")
    folder = shards(tmp_path / "data", labels=("1", "0"))
    (folder / "classnames.txt").write_text("rust\nscab\n", encoding="utf-8")
    table = read_table(folder)
    assert [table.classes[code] for code in table.labels] == ["scab", "rust"] * 4
    (folder / "classnames.txt").write_text("rust\n", encoding="utf-8")
    assert "names 1 classes, and there is a label 1; add its name" in refused(folder)
    (folder / "classnames.txt").write_text("rust\nscab\n\n\n", encoding="utf-8")
    assert read_table(folder).classes == ("rust", "scab")


def test_names_with_dots_are_refused_with_labels_and_listed_without(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    good = {"1.png": PNG, "1.cls": b"0", "1.seg.png": PNG}
    dotted = {
        f"img_2024.05.{n}.{kind}": PNG if kind == "png" else b"1" for n in (4, 5) for kind in ("png", "cls")
    }
    packed(folder / "x.tar", good | dotted)
    says = "x.tar, img_2024.05.4.cls: a key ends at the first dot, so that this is another file of img_2024;"
    for source in (folder, folder / "x.tar"):
        assert says in refused(source)
        names = [Path(str(image)).name for image in unlabelled([source]).images]
        assert names == ["1.png", "img_2024.05.4.png", "img_2024.05.5.png"]
    packed(folder / "x.tar", good | {"2.left.png": PNG, "2.json": b'{"label": 1}'})
    assert "2.left.png: a key ends at the first dot" in refused(folder)


def test_one_shard_has_the_images_that_are_labelled(tmp_path: Path) -> None:
    shard = shards(tmp_path / "data") / "shard-000.tar"
    assert unlabelled([shard]).images == read_table(shard).images


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("crane\nowl\ncrane\n", "line 3: crane is named twice"),
        ("crane\n\nowl\n", "line 2: there is no name"),
    ],
)
def test_each_class_of_shards_is_named_once(tmp_path: Path, names: str, says: str) -> None:
    folder = shards(tmp_path / "data", labels=("1", "0"))
    (folder / "classnames.txt").write_text(names, encoding="utf-8")
    assert f"{folder}/classnames.txt, {says}" in refused(folder)


PNG = encoded(picture(0), "PNG")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": PNG, "a.cls": b"1", "b.png": PNG}, "b: no label; add a file .cls, .json or .txt"),
        ({"a.png": PNG, "a.jpg": PNG, "a.cls": b"1"}, "a: two images of one key"),
        (
            {"a.png": PNG, "a.cls": b"1", "a.pyd": b"x"},
            "a.pyd: this is a Python pickle, which",
        ),
        ({"a.png": PNG, "a.cls": b"1", "a.pickle": b"x"}, "which is never opened"),
        ({"a.png": PNG, "a.cls": b" \n"}, "a.cls: no label; write one class"),
        ({"a.png": PNG, "a.txt": b"1\n2"}, "a.txt: several lines; write one class"),
        ({"a.png": PNG, "a.cls": b"\xff"}, "a.cls: it is not UTF-8 text"),
        ({"a.png": PNG, "a.json": b"{"}, "a.json cannot be read as JSON"),
        ({"a.png": PNG, "a.json": b"[" * 100_000}, "a.json cannot be read as JSON (it is nested too deep)"),
        ({"a.png": PNG, "a.json": b'{"x": 1}'}, 'a.json has no class; write one as "label"'),
        ({"a.png": PNG, "a.json": b'{"label": [1]}'}, 'a.json has no class; write one as "label"'),
        ({"a.png": PNG, "a.cls": b"1", "b.tar": b"x"}, "an archive within an archive is not opened"),
        ({"a.png": PNG, "a.cls": b"1" * 2_000_000}, "it is over 1 MB"),
    ],
)
def test_what_can_be_wrong_with_a_shard(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    path = packed(tmp_path / "x.tar", files)
    assert words in refused(path)


def test_a_pattern_names_shards_that_are_there(tmp_path: Path) -> None:
    folder = shards(tmp_path / "data")
    with pytest.raises(DataError, match=r"There is no .*shard-002.tar, which .* names; check the range"):
        read_table(f"{folder}/shard-{{000..002}}.tar")
    for wrong in ("{005..002}", "{0..999999999999}", "{0..1}{0..1}"):
        with pytest.raises(DataError, match="the range must go up and have at most 100,000 shards"):
            read_table(f"{folder}/shard-{wrong}.tar")


def test_a_model_is_adapted_to_shards(tmp_path: Path, farshot: Farshot) -> None:
    pattern = f"{shards(tmp_path / 'data', labels=('scab', 'rust'))}/shard-{{000..001}}.tar"
    told = farshot(
        "adapt", pattern, "--model", "mini", "--method", "linear-probe", "--out", tmp_path / "adapted"
    )
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    more = shards(tmp_path / "more", count=1)
    told = farshot("predict", tmp_path / "adapted", more, f"{more}/shard-{{000..000}}.tar")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    assert len(told.out.splitlines()) >= 8

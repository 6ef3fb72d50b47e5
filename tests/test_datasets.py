"""Datasets on disk are read row by row, without `datasets`, and their images stay where they are."""

from __future__ import annotations

import io
import json
import re
import sys
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from farshot.classifier import FewShotClassifier
from farshot.data.lookup import source_at
from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from farshot.export.labels import convert_labels
from farshot.images.member import Member
from farshot.model.catalogue import TOY_NOTE
from tests.image_bytes import encoded
from tests.input_helpers import Farshot, class_folders, everything_in, no_file_larger_than, picture, pixels_of
from tests.input_helpers import refused_table as refused

NAMES = ["dog", "cat", "owl"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.utils.logging, "_tqdm_active", False, raising=False)
    datasets.disable_progress_bars()
    return tmp_path / "cache"


def image(number: int) -> dict:
    return {"bytes": encoded(picture(number), "PNG"), "path": f"{number}.png"}


def dataset(count: int = 6, start: int = 0, **more: list) -> datasets.Dataset:
    kinds = {name: datasets.Value("string") for name in more}
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), **kinds}
    )
    columns = {
        "image": [image(start + n) for n in range(count)],
        "label": [n % 2 for n in range(count)],
        **more,
    }
    return datasets.Dataset.from_dict(columns, features=features)


def check(table, path: Path, first: int, count: int = 6) -> None:
    """A table of `dataset`."""
    assert table.classes == ("cat", "dog")
    assert [table.classes[code] for code in table.labels] == [NAMES[n % 2] for n in range(count)]
    assert [str(one) for one in table.images] == [f"{path}/row {first + n}" for n in range(count)]
    assert all(isinstance(one, Member) for one in table.images)
    for row in range(count):
        assert np.array_equal(pixels_of(table.image(row)), pixels_of(picture(row)))


def test_a_saved_dataset_is_read_where_it_lies_and_without_the_library(
    tmp_path: Path, cache: Path, monkeypatch
) -> None:
    dataset().save_to_disk(tmp_path / "saved", num_shards=2)
    monkeypatch.setitem(sys.modules, "datasets", None)
    before = everything_in(tmp_path)
    check(read_table(tmp_path / "saved"), tmp_path / "saved", 0)
    assert unlabelled([tmp_path / "saved"]).images == read_table(tmp_path / "saved").images
    assert everything_in(tmp_path) == before


def test_saved_splits_are_those_of_the_table(tmp_path: Path) -> None:
    parts = datasets.DatasetDict(train=dataset(4), validation=dataset(2, 10), test=dataset(2, 20))
    parts.save_to_disk(tmp_path / "saved")
    table = read_table(tmp_path / "saved")
    assert table.splits == ("train",) * 4 + ("val",) * 2 + ("test",) * 2
    assert str(table.images[4]) == f"{tmp_path / 'saved'}/validation/row 0"
    assert np.array_equal(pixels_of(table.image(7)), pixels_of(picture(21)))
    assert len(unlabelled([tmp_path / "saved"])) == 8


def test_parquet_with_images_is_unpacked_to_the_cache_once(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.parquet"
    dataset().to_parquet(path)
    table = read_table(path)
    check(table, path, 1)
    assert table.notes[0].startswith(f"the images of {path} were unpacked to the cache, {cache}")
    (kept,) = (cache / "datasets").iterdir()
    changed = kept.stat().st_mtime_ns
    again = read_table(path)
    check(again, path, 1)
    assert again.notes == ()
    assert kept.stat().st_mtime_ns == changed
    assert [str(one) for one in unlabelled([path]).images] == [str(one) for one in table.images]


def test_names_of_classes_come_from_the_schema_or_are_the_labels(tmp_path: Path) -> None:
    rows = [image(n) for n in range(4)]
    pd.DataFrame({"image": rows, "label": [7, 7, 3, 3]}).to_parquet(tmp_path / "numbers.parquet")
    assert read_table(tmp_path / "numbers.parquet").classes == ("3", "7")
    words = pd.DataFrame({"img": [row["bytes"] for row in rows], "class": pd.Categorical(["b", "a"] * 2)})
    words.to_parquet(tmp_path / "words.parquet", compression="zstd")
    table = read_table(tmp_path / "words.parquet")
    assert table.classes == ("a", "b")
    assert np.array_equal(pixels_of(table.image(3)), pixels_of(picture(3)))


def test_columns_of_splits_and_groups_count(tmp_path: Path) -> None:
    more = {"split": ["train"] * 4 + ["test"] * 2, "patient": list("aabbcc")}
    dataset(**more).to_parquet(tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet", groups="patient")
    assert table.splits == ("train",) * 4 + ("test",) * 2
    assert table.groups == tuple("aabbcc")


@pytest.mark.parametrize(
    ("cells", "groups"),
    [
        ([1.0, 1.0, 2.5, 2.5], ("1", "1", "2.5", "2.5")),
        ([True, True, False, False], ("True", "True", "False", "False")),
        ([date(2024, 1, 2)] * 2 + [date(2024, 1, 3)] * 2, ("2024-01-02",) * 2 + ("2024-01-03",) * 2),
        ([Decimal("1.50")] * 2 + [Decimal("2.00")] * 2, ("1.50", "1.50", "2.00", "2.00")),
    ],
)
def test_groups_are_named_the_same_with_images_or_paths_in_the_rows(
    tmp_path: Path, cells: list, groups: tuple
) -> None:
    rows = [image(n) for n in range(4)]
    for n, row in enumerate(rows):
        (tmp_path / f"{n}.png").write_bytes(row["bytes"])
    paths = [f"{n}.png" for n in range(4)]
    for name, images in (("images", rows), ("paths", paths)):
        table = pa.table({"image": images, "label": [0.0, 0.0, 1.0, 1.0], "group": cells})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
        read = read_table(tmp_path / f"{name}.parquet")
        assert read.groups == groups
        assert read.classes == ("0", "1")


def test_a_column_of_groups_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [image(0), image(1)], "label": ["a", "b"], "group": [["x"], ["y"]]})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert "neither words nor numbers in its column 'group'" in refused(tmp_path / "x.parquet")


def test_a_folder_of_parquet_files_is_one_dataset_with_their_splits(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "repository" / "README.md").write_text("x")
    dataset(4).to_parquet(folder / "train-00000-of-00002.parquet")
    dataset(2, 30).to_parquet(folder / "train-00001-of-00002.parquet")
    dataset(2, 20).to_parquet(folder / "test-00000-of-00001.parquet")
    table = read_table(tmp_path / "repository")
    assert table.splits == ("test",) * 2 + ("train",) * 6
    assert str(table.images[0]) == f"{folder}/test-00000-of-00001.parquet/row 1"
    assert np.array_equal(pixels_of(table.image(7)), pixels_of(picture(31)))
    for source in (tmp_path / "repository", folder):
        assert unlabelled([source]).images == table.images


def test_parquet_files_next_to_pictures_do_not_hide_them(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "leaves", ("rust", "scab"), 2)
    table = read_table(folder)
    dataset().to_parquet(folder / "old.parquet")
    assert read_table(folder).images == table.images
    assert unlabelled([folder]).images == table.images
    (folder / "old.parquet").write_bytes(b"no Parquet at all")
    assert read_table(folder).images == table.images


@pytest.mark.parametrize("rows", ["x.parquet", "data/train-00000.parquet"])
@pytest.mark.parametrize("loose", ["sample.png", "IM1", "assets/banner.jpg"])
def test_parquet_files_and_a_loose_picture_are_refused_by_name(tmp_path: Path, rows: str, loose: str) -> None:
    for name in (rows, loose):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    dataset().to_parquet(tmp_path / rows)
    (tmp_path / loose).write_bytes(encoded(picture(1), "PNG"))
    for read in (read_table, lambda source: unlabelled([source])):
        with pytest.raises(DataError, match=f"the picture {loose}, and also images in {rows}; give the file"):
            read(tmp_path)
        assert len(read(tmp_path / rows).images) == len(dataset())


def test_the_pictures_of_a_clones_page_and_its_licence_do_not_hide_its_rows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset().to_parquet(tmp_path / "data" / "train.parquet")
    rows = read_table(tmp_path).images
    (tmp_path / "LICENSE").write_text("MIT")
    assert read_table(tmp_path).images == rows
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs")
    (tmp_path / "assets").mkdir()
    picture(3).save(tmp_path / "assets" / "banner.png")
    assert read_table(tmp_path).images == unlabelled([tmp_path]).images == rows


def test_parquet_files_keep_the_splits_of_their_rows(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    dataset(2, split=["train", "test"]).to_parquet(folder / "part-0.parquet")
    dataset(2, 20, split=["test", "train"]).to_parquet(folder / "part-1.parquet")
    assert read_table(folder).splits == ("train", "test", "test", "train")
    dataset(2, 40).to_parquet(folder / "part-2.parquet")
    with pytest.raises(DataError, match=r"part-2.parquet has no split, but others have one"):
        read_table(folder)


def test_a_parquet_file_of_no_split_among_those_of_several_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("train-0", "test-0", "extra-0")):
        dataset(2, 20 * number).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"the splits test, train and also extra-0.parquet, which is of none"):
        read_table(tmp_path)


def test_images_are_not_kept_in_memory(tmp_path: Path) -> None:
    large = np.random.default_rng(0).bytes(1_000_000)
    rows = [{"bytes": large[: -1 - n], "path": None} for n in range(40)]
    frame = pd.DataFrame({"image": rows, "label": ["a", "b"] * 20})
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=10)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    table = read_table(tmp_path / "x.parquet")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert table.images[39].read() == large[:-40]


def test_a_row_is_found_again_by_its_name(tmp_path: Path, farshot: Farshot) -> None:
    dataset(8).to_parquet(tmp_path / "x.parquet")
    dataset(8).save_to_disk(tmp_path / "saved")
    for place, first in ((tmp_path / "x.parquet", 1), (tmp_path / "saved", 0)):
        found = source_at(f"{place}/row {first + 3}")
        assert isinstance(found, Member)
        assert found.read() == image(3)["bytes"]
        assert source_at(f"{place}/row 99") is None
    adapt = ("--model", "mini", "--method", "linear-probe", "--out")
    told = farshot("adapt", tmp_path / "saved", *adapt, tmp_path / "adapted")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    dataset(4, 50).to_parquet(tmp_path / "more.parquet")
    told = farshot(
        "adapt", tmp_path / "more.parquet", "--from", tmp_path / "adapted", "--out", tmp_path / "b"
    )
    assert told.code == 0
    assert "unpacked to the cache" in told.err
    told = farshot("predict", tmp_path / "b", tmp_path / "more.parquet", "--csv")
    assert told.code == 0
    assert f"{tmp_path / 'more.parquet'}/row 4," in told.out


def test_what_can_be_wrong_with_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"

    def written(**columns: list) -> Path:
        pd.DataFrame(columns).to_parquet(path)
        return path

    assert "row 2: no label" in refused(written(image=[image(0), image(1)], label=["a", None]))
    assert "row 2: no image" in refused(written(image=[image(0), None], label=["a", "b"]))
    assert "exactly one image column and one class column; it has ['image']" in refused(
        written(image=[image(0)])
    )
    assert "exactly one image column" in refused(written(image=[image(0)], img=[image(0)], label=["a"]))
    missing = {"bytes": None, "path": "missing.png"}
    table = read_table(written(image=[missing, image(1)], label=["a", "b"]))
    with pytest.raises(DataError, match="1 of 2 images cannot be read"):
        table.check_readable()
    assert len(unlabelled([written(image=[image(0)])])) == 1


def test_a_class_that_the_schema_does_not_name_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [image(0)], "label": pa.array([5], pa.int64())})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    assert "class 5 of 3" in refused(tmp_path / "x.parquet")


def test_two_classes_of_one_name_in_the_schema_are_refused(tmp_path: Path) -> None:
    written = dataset(4).data.table
    about = written.schema.metadata[b"huggingface"].replace(b'"cat"', b'"dog"')
    parquet.write_table(written.replace_schema_metadata({b"huggingface": about}), tmp_path / "x.parquet")
    assert "has two classes of one name; rename or merge them" in refused(tmp_path / "x.parquet")


def test_a_file_that_unpacks_to_far_more_is_refused_and_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch
) -> None:
    monkeypatch.setattr("farshot.data.arrow.BOMB_BYTES", 10_000_000)
    table = pa.table({"image": pa.array([bytes(1_000_000)] * 200), "label": pa.array(["a", "b"] * 100)})
    parquet.write_table(table, tmp_path / "x.parquet", compression="zstd", row_group_size=50)
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    assert "unpacks to over 10 MB, far more than images do" in refused(tmp_path / "x.parquet")
    assert not [path for path in (cache / "datasets").iterdir() if path.suffix == ".arrow"]


def test_compressed_arrow_says_so(tmp_path: Path) -> None:
    dataset(50).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    rows = pa.ipc.open_stream(file.read_bytes()).read_all()
    with (
        pa.OSFile(str(file), "wb") as out,
        pa.ipc.new_stream(out, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer,
    ):
        writer.write_table(rows)
    assert "keeps its images compressed; save it again without compression" in refused(tmp_path / "saved")


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_damage_anywhere_is_a_sentence(tmp_path: Path, kind: str) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    dataset().to_parquet(tmp_path / "x.parquet")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file = file if kind == "saved" else tmp_path / "x.parquet"
    source = tmp_path / "saved" if kind == "saved" else file
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for number in range(60):
        damaged = whole.copy()
        end = len(whole) if number % 2 else 2000
        damaged[generator.integers(0, end, 4)] = generator.integers(0, 256, 4)
        file.write_bytes(damaged.tobytes())
        try:
            table = read_table(source)
            for row in range(len(table)):
                table.image(row)
        except DataError as error:
            assert "\n" not in str(error)
            assert str(error).endswith(".")


@pytest.mark.parametrize("inside", ["../secret.arrow", "/etc/passwd"])
def test_a_saved_dataset_names_no_file_outside(tmp_path: Path, inside: str) -> None:
    dataset().save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": inside}]}))
    assert "cannot be read as a saved dataset" in refused(tmp_path / "saved")


def test_a_cache_that_cannot_be_written_is_named_and_not_the_dataset(
    tmp_path: Path, cache: Path, monkeypatch
) -> None:
    pd.DataFrame({"image": [image(n)["bytes"] for n in range(4)], "label": list("abab")}).to_parquet(
        tmp_path / "x.parquet"
    )
    said = re.escape(f"{tmp_path / 'x.parquet'}: the cache {cache / 'datasets'} cannot be written (File too")
    with no_file_larger_than(1000), pytest.raises(DataError, match=rf"^{said}.*set FARSHOT_CACHE to another"):
        read_table(tmp_path / "x.parquet")
    assert not list((cache / "datasets").iterdir())
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"cannot be written, since .*file cannot \(.*set FARSHOT_CACHE to another folder\.$"
    ):
        read_table(tmp_path / "x.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    dataset().to_parquet(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'farshot[parquet]'" in refused(tmp_path / "x.parquet")


def test_the_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    dataset().to_parquet(tmp_path / "x.parquet")
    assert [one.read() for one in read_table(tmp_path / "x.parquet").images] == [
        image(n)["bytes"] for n in range(6)
    ]
    assert io.BytesIO(image(0)["bytes"]).read(4) == b"\x89PNG"


def test_images_of_the_hub_stay_in_the_files_of_its_cache(tmp_path: Path, place: Path, monkeypatch) -> None:
    more = {"group": list("aabbcc"), "split": ["train"] * 4 + ["test"] * 2}
    dataset(**more).to_parquet(tmp_path / "x.parquet")
    dataset(by=["person"] * 3 + ["model"] * 3).to_parquet(tmp_path / "by.parquet")
    load = datasets.load_dataset

    def from_the_hub(name: str, split: str) -> datasets.Dataset:
        files = str(tmp_path / {"ada/leaves": "x.parquet", "ada/by": "by.parquet"}[name])
        return load("parquet", data_files=files, split=split, cache_dir=str(tmp_path / "hub"))

    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    table = read_table("hf:ada/leaves", groups="group")
    check(table, Path("hf:ada/leaves"), 0)
    assert table.groups == ("a", "a", "b", "b", "c", "c")
    assert {Path(one.file).suffix for one in table.images} == {".arrow"}
    assert all(str(tmp_path / "hub") in str(one.file) for one in table.images)
    part = read_table("hf:ada/leaves:train[:5]")
    assert len(part) == 5
    assert part.groups == tuple("aabbc")
    assert part.splits == ("train",) * 4 + ("test",)
    assert len(read_table("hf:ada/by:train[:5]")) == 3
    assert np.array_equal(pixels_of(part.image(3)), pixels_of(picture(3)))
    with pytest.raises(DataError, match="no path leads to them; copy them with --to imagefolder"):
        convert_labels("hf:ada/leaves", tmp_path / "l.csv", "csv")
    convert_labels("hf:ada/leaves", tmp_path / "copied", "imagefolder")
    copied = read_table(tmp_path / "copied")
    assert (len(copied), copied.classes) == (6, ("cat", "dog"))
    assert sorted(map(copied.content, range(6))) == sorted(map(table.content, range(6)))
    model = FewShotClassifier(place / "clip", "prototypes", device="cpu").fit(table)
    assert [one["path"] for one in model.support_places_] == [None] * len(model.support_ids_)

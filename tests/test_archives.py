"""Images in zips and tars are read where they lie, and a hostile archive is one sentence."""

from __future__ import annotations

import csv
import io
import itertools
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from farshot.data.readers import read_table, unlabelled
from farshot.errors import DataError
from farshot.images.member import Member
from farshot.images.reading import UnreadableImage
from farshot.model.catalogue import TOY_NOTE
from tests.hostile_zips import zips
from tests.image_bytes import encoded
from tests.input_helpers import Farshot, class_folders, everything_in, picture, refusal
from tests.input_helpers import refused_table as refused
from tests.zip_bytes import LINK, Piece, zipped

KINDS = ("zip", "tar")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def packed(place: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of these files, of the kind that its name says."""
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as out:
            for name, data in files.items():
                out.writestr(name, data)
        return place
    with tarfile.open(place, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return place


# What is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("front", ["", "photos/", "a/b/"])
def test_an_archive_is_read_as_the_folder_that_it_was_made_of(tmp_path: Path, kind: str, front: str) -> None:
    folder = class_folders(tmp_path / "data")
    files = {front + name: data for name, data in files_of(folder).items()}
    litter = {"__MACOSX/cat/._0.png": b"x", front + "cat/.DS_Store": b"x", front + "cat/notes.txt": b"x"}
    path = packed(tmp_path / f"photos.{kind}", litter | files)
    table, plain = read_table(path), read_table(folder)
    assert (table.classes, table.names) == (plain.classes, plain.names)
    assert table.labels.tolist() == plain.labels.tolist()
    assert table.contents() == plain.contents()
    assert [table.id(row) for row in range(9)] == [plain.id(row) for row in range(9)]
    assert [str(image) for image in table.images] == [f"{path}/{name}" for name in files]
    assert np.array_equal(table.pixels([3, 8], "squash", 16), plain.pixels([3, 8], "squash", 16))
    assert unlabelled([path]).images == table.images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", ["PlantVillage/PlantVillage", "home/user/data", "d/test"])
@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_folders_around_those_of_classes_or_splits_are_passed_over(
    tmp_path: Path, kind: str, outer: str, splits: tuple[str, ...]
) -> None:
    for number, split in enumerate(splits or ["."]):
        class_folders(tmp_path / "data" / split, ("rust", "scab"), 1, start=1000 * number)
    files = {f"{outer}/{name}": data for name, data in files_of(tmp_path / "data").items()}
    table = read_table(packed(tmp_path / f"x.{kind}", files))
    assert table.classes == ("rust", "scab")
    only = ("test", "test") if outer == "d/test" else None
    assert table.splits == (("test", "train") * 2 if splits else only)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_of_levels_names_the_folder_from_which_they_count(tmp_path: Path, kind: str) -> None:
    files = {f"d/e/{place}/1.png": b"" for place in ("rust/1", "rust/2", "scab/3")}
    path = packed(tmp_path / f"x.{kind}", files)
    assert refused(path).startswith(f"{path / 'd' / 'e'} has two levels of folders")


def test_a_tar_of_a_folder_itself_names_its_images_as_others_do(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data")
    place = packed(tmp_path / "x.tar", {f"./{name}": data for name, data in files_of(folder).items()})
    table = read_table(place)
    assert "./" not in str(table.images[0])
    listed = tmp_path / "l.csv"
    listed.write_text("path,label\n" + "".join(f"{image},a\n" for image in table.images), encoding="utf-8")
    assert list(map(str, read_table(listed).images)) == list(map(str, table.images))


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_splits_and_groups_are_those_of_a_folder(tmp_path: Path, kind: str) -> None:
    for number, split in enumerate(("train", "test")):
        class_folders(tmp_path / "data" / split, images=2, start=1000 * number)
    path = packed(tmp_path / f"x.{kind}", files_of(tmp_path / "data"))
    table = read_table(path, groups="(cat|dog|owl)/[0-9]")
    assert table.splits is not None
    assert len(table.train_rows()) == len(table.test_rows()) == 6
    assert set(table.groups or ()) == {"cat", "dog", "owl"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_archive_of_one_split_is_of_that_split(tmp_path: Path, kind: str, split: str) -> None:
    class_folders(tmp_path / "data" / split, images=2)
    for front in ("", "photos/"):
        files = {front + name: data for name, data in files_of(tmp_path / "data").items()}
        table = read_table(packed(tmp_path / f"{front[:-1]}x.{kind}", files))
        assert table.splits == (split,) * 6 == read_table(tmp_path / "data").splits
        assert table.classes == ("cat", "dog", "owl")


def test_a_packed_folder_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        class_folders(tmp_path / "test" / split, images=2, start=1000 * number)
    path = tmp_path / "x.zip"
    files = {f"test/{name}": data for name, data in files_of(tmp_path / "test").items()}
    table = read_table(packed(path, files))
    assert sorted(table.splits or ()) == ["test"] * 6 + ["train"] * 6


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_next_to_class_folders_are_noted(tmp_path: Path, count: int) -> None:
    folder = class_folders(tmp_path / "data")
    for number in range(count):
        picture(90 + number).save(folder / f"loose{number}.png")
    (folder / "notes.txt").write_text("x")
    archive = packed(tmp_path / "x.zip", files_of(folder))
    words = "1 picture directly in {} has no class and is left out"
    if count == 2:
        words = "2 pictures directly in {} have no class and are left out"
    for source in (folder, archive):
        assert read_table(source).notes == (words.format(source),)


def test_the_csv_in_an_archive_names_its_images(tmp_path: Path) -> None:
    files = {f"set/images/{n}.png": encoded(picture(n), "PNG") for n in range(4)}
    rows = "path,label,split\n" + "".join(
        f"images/{n}.png,{'ab'[n % 2]},{'train' if n < 2 else 'test'}\n" for n in range(4)
    )
    other = {"set/sizes.csv": b"name,width\nx,3\n"}
    path = packed(tmp_path / "x.zip", files | other | {"set/labels.csv": rows.encode()})
    table = read_table(path)
    assert table.classes == ("a", "b")
    assert table.splits == ("train", "train", "test", "test")
    assert [str(image) for image in table.images] == [f"{path}/set/images/{n}.png" for n in range(4)]
    assert "no levels" in refused(path, level=1)
    again = packed(tmp_path / "y.zip", files | {"a.csv": rows.encode(), "b.csv": rows.encode()})
    assert "holds two tables, a.csv and b.csv" in refused(again)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_a_csv_in_an_archive_may_end_as_those_of_a_file(tmp_path: Path, end: str) -> None:
    files = {f"{n}.png": encoded(picture(n), "PNG") for n in range(2)}
    table = end.join(["path,label", "0.png,a", "1.png,b", ""]).encode()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "t.csv").write_bytes(table)
    for source in (tmp_path / "t.csv", packed(tmp_path / "x.zip", files | {"t.csv": table})):
        assert read_table(source).classes == ("a", "b")


@pytest.mark.parametrize("inside", ["../{}", "{}", "/etc/hostname", "missing.png"])
def test_the_csv_in_an_archive_leads_nowhere_else(tmp_path: Path, inside: str) -> None:
    picture(0).save(tmp_path / "secret.png")
    cell = inside.format("secret.png" if inside.startswith("..") else tmp_path / "secret.png")
    path = packed(tmp_path / "x.zip", {"t.csv": f"path,label\n{cell},a\n".encode()})
    assert f"t.csv, line 2: there is no file {cell} in {path}; pack it, too." in refused(path)


def test_a_member_is_read_from_the_archive_and_nothing_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))
    path = packed(tmp_path / "x.zip", files_of(class_folders(tmp_path / "data")))
    before = everything_in(tmp_path)
    read_table(path).check_readable().pixels(range(9), "squash", 16)
    assert everything_in(tmp_path) == before


def test_an_archive_that_is_written_again_is_listed_again(tmp_path: Path) -> None:
    files = files_of(class_folders(tmp_path / "data"))
    path = packed(tmp_path / "x.zip", files)
    assert len(read_table(path)) == 9
    packed(path, {name: data for name, data in files.items() if "owl" not in name})
    assert read_table(path).classes == ("cat", "dog")


# Commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [KINDS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in KINDS[1:])]
)
def test_commands_take_an_archive_as_they_take_a_folder(tmp_path: Path, farshot: Farshot, kind: str) -> None:
    folder = class_folders(tmp_path / "data", ("cat", "dog"), 4)
    path = packed(tmp_path / f"photos.{kind}", files_of(folder))
    more = packed(tmp_path / f"more.{kind}", files_of(class_folders(tmp_path / "new", ("cat", "dog"), 2, 50)))
    adapt = ("--model", "mini", "--method", "linear-probe", "--out")
    told = farshot("adapt", path, *adapt, tmp_path / "adapted")
    assert told.code == 0 and told.err.count("\n") == 1 and TOY_NOTE in told.err
    again = farshot("adapt", folder, *adapt, tmp_path / "plain")
    assert again.code == 0
    ours, theirs = (
        list(csv.DictReader(io.StringIO(farshot("predict", tmp_path / model, source, "--csv").out)))
        for model, source in (("adapted", more), ("plain", tmp_path / "new"))
    )
    assert [row["image"] for row in ours] == [f"{more}/{c}/{n}.png" for c in ("cat", "dog") for n in range(2)]
    assert [row["image"] for row in theirs] == [str(p) for p in sorted((tmp_path / "new").rglob("*.png"))]
    for one, other in zip(ours, theirs, strict=True):
        assert {k: v for k, v in one.items() if k != "image"} == {
            k: v for k, v in other.items() if k != "image"
        }
    told = farshot("evaluate", tmp_path / "adapted", path)
    assert told.code == 2  # it was adapted to all of them
    assert farshot("evaluate", tmp_path / "adapted", more).code == 0
    assert farshot("check", path, "--model", "mini").code == 0
    joined = farshot("adapt", more, "--from", tmp_path / "adapted", "--out", tmp_path / "joined")
    assert joined.code == 0 and joined.err.count("\n") == 1 and TOY_NOTE in joined.err
    path.unlink()
    told = farshot("adapt", more, "--from", tmp_path / "adapted", "--out", tmp_path / "gone")
    assert "which is no longer there or has changed" in refusal(told)


def test_what_is_picked_from_a_zip_can_be_labelled_and_adapted_to(tmp_path: Path, farshot: Farshot) -> None:
    path = packed(tmp_path / "x.zip", {f"photos/{n}.png": encoded(picture(n), "PNG") for n in range(8)})
    told = farshot("pick", path, "--model", "mini", "--ways", "2", "--shots", "2", "--out", tmp_path / "p")
    assert told.code == 0, told
    table = tmp_path / "p" / "picked.csv"
    lines = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8"), newline="")))
    label = lines[0].index("label")
    for number, line in enumerate(lines[1:]):
        line[label] = "ab"[number % 2]
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    found = read_table(table)
    assert all(isinstance(image, Member) for image in found.images)
    assert {str(image) for image in found.images} <= {f"{path}/photos/{n}.png" for n in range(8)}


# What is refused -----------------------------------------------------------------------------------------


def good() -> Iterator[bytes]:
    for number in itertools.count(500):
        yield encoded(picture(number), "PNG")


def hostile() -> list:
    source = good()
    return list(zips(lambda: next(source)))


def test_a_hostile_zip_is_a_sentence_or_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    refusals = 0
    for kind, name, data, _, _ in hostile():
        if kind == "a hundred thousand entries":  # fine here, and slow
            continue
        path = tmp_path / f"{refusals}-{name}"
        path.write_bytes(data)
        try:
            table = unlabelled([path])
        except DataError as error:
            refusals += 1
            text = str(error)
            assert text.startswith(str(path)), kind
            assert text.endswith("."), kind
            assert "\n" not in text, kind
            continue
        for row in range(len(table)):
            try:
                table.image(row)
            except UnreadableImage as error:
                refusals += 1
                assert str(error).startswith(str(path)), kind
    assert refusals >= 35
    assert not list(tmp_path.glob("**/evil*"))


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (Piece("../evil.png", b"x"), "../evil.png: its path leads out of the archive"),
        (Piece("evil.png", b"x", mode=LINK), "a link or a device"),
        (Piece("evil.png", b"x", flags=0x801), "locked with a password"),
        (Piece("more.zip", b"x"), "an archive within an archive is not opened"),
        (Piece("more.tar.gz", b"x"), "an archive within an archive is not opened"),
        (Piece("a.png", b"", packed=b"", size=600_000_000), "it is over 500 MB"),
    ],
)
def test_what_a_zip_may_not_hold_is_named(tmp_path: Path, piece: Piece, words: str) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped(Piece("cat/0.png", encoded(picture(0), "PNG")), piece))
    assert words in refused(path)


def tar_with(path: Path, info: tarfile.TarInfo, data: bytes = b"") -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return path


def test_what_a_tar_may_not_hold_is_named(tmp_path: Path) -> None:
    out = tarfile.TarInfo("../evil.png")
    assert "leads out of the archive" in refused(tar_with(tmp_path / "a.tar", out, b"x"))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        link = tarfile.TarInfo("cat/evil.png")
        link.type, link.linkname = kind, "/etc/passwd"
        assert "a link or a device" in refused(tar_with(tmp_path / f"{kind!r}.tar", link))
    with tarfile.open(tmp_path / "z.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    assert "the tar is compressed" in refused(tmp_path / "z.tar")
    (tmp_path / "odd.tar").write_bytes(b"\xff" * 5000)
    assert "the tar is damaged or not whole" in refused(tmp_path / "odd.tar")
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    assert "holds no image" in refused(tmp_path / "empty.tar")
    long = tarfile.TarInfo("cat/1.png")
    long.pax_headers = {"comment": "x" * 2_000_000}
    assert "a header of over a megabyte" in refused(tar_with(tmp_path / "pax.tar", long, b"x"))


def test_a_tar_that_ends_early_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", files_of(class_folders(tmp_path / "data", ("a", "b"), 1)))
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"IEND") - 400])
    try:
        table = unlabelled([path])
        with pytest.raises(UnreadableImage, match="damaged or not whole"):
            for row in range(len(table)):
                table.image(row)
    except DataError as error:
        assert "damaged or not whole" in str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_is_a_sentence(tmp_path: Path, kind: str, seed: int) -> None:
    path = packed(tmp_path / f"x.{kind}", files_of(class_folders(tmp_path / "data", images=1)))
    whole, generator = np.frombuffer(path.read_bytes(), np.uint8), np.random.default_rng(seed)
    for number in range(40):
        damaged = whole.copy()
        damaged[generator.integers(0, len(whole), 8)] = generator.integers(0, 256, 8)
        place = tmp_path / f"{number}.{kind}"
        place.write_bytes(damaged.tobytes())
        try:
            table = unlabelled([place])
            for row in range(len(table)):
                table.image(row)
        except DataError as error:
            assert "\n" not in str(error)
            assert str(error).endswith(".")


def test_archives_without_images_or_classes(tmp_path: Path) -> None:
    assert "check the path" in refused(tmp_path / "missing.zip")
    assert "holds no image" in refused(packed(tmp_path / "a.zip", {"notes.txt": b"x"}))
    flat = packed(tmp_path / "b.zip", {"0.png": encoded(picture(0), "PNG")})
    assert "has no folders and no CSV" in refused(flat)
    assert len(unlabelled([flat])) == 1
    (tmp_path / "folder.zip").mkdir()
    assert "has no subfolders" in refused(tmp_path / "folder.zip")

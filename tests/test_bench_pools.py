"""Pools are read as they are distributed, each known trap is found, and no image is decoded twice."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from farshot.bench.tasks import sample_task
from farshot.data import index as index_module
from farshot.data import table as table_module
from farshot.data.cache import CachedTable, Slots, cached, prepare
from farshot.data.check import check_pool
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.errors import DataError
from tests.bench_helpers import chestx, cropdiseases, eurosat, folder_pool, isic, picture, stand_ins
from tests.input_helpers import class_folders, subprocess_environment


def found_in(name: str, path: Path) -> str:
    """What `farshot data check` says, and whether the pool is refused."""
    pool, findings = check_pool(name, path)
    return ("refused: " if pool is None else "open: ") + " | ".join(f"{f.what} -> {f.fix}" for f in findings)


def test_the_four_pools_are_read_in_their_own_layout(tmp_path: Path) -> None:
    root = stand_ins(tmp_path)
    pools = {name: open_pool(name, root=root) for name in ("eurosat", "cropdiseases", "isic", "chestx")}
    assert [sum(pool.sizes) for pool in pools.values()] == [80, 48, 56, 56]
    assert pools["eurosat"].ids[0] == "AnnualCrop/AnnualCrop_1.jpg"
    assert pools["eurosat"].table.names[:2] == ("Annual Crop Land", "Forest")
    assert pools["cropdiseases"].table.names[2] == "Corn (maize) Common rust"
    assert pools["isic"].table.names[0] == "Melanoma"
    assert pools["chestx"].ids[0] == "images/00000001_000.png"
    assert all(pool.notes for pool in pools.values())  # of toy size, so not the published pools
    for pool in pools.values():
        assert sample_task(pool, queries=2).shots == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_names_that_are_not_utf8_are_named_in_ascii(tmp_path: Path) -> None:
    folder = folder_pool(tmp_path / os.fsdecode(b"n\xe9"))
    file = next(folder.rglob("*.png"))
    file.rename(file.with_name(os.fsdecode(b"caf\xe9.png")))
    pool = cached(open_pool(f"own={folder}"), tmp_path / "cache")
    assert [name for name in pool.ids if not name.isascii() or "caf" in name] == [
        f"{file.parent.name}/caf\\udce9.png"
    ]
    assert len(pool.fingerprint) == 32


def test_pools_are_found_under_several_names(tmp_path: Path) -> None:
    eurosat(tmp_path / "EuroSAT")
    assert open_pool("EuroSAT", root=tmp_path).name == "eurosat"
    assert open_pool("eurosat", paths={"eurosat": tmp_path / "EuroSAT"}).name == "eurosat"
    assert open_pool("eurosat", paths={"eurosat": tmp_path / "EuroSAT" / "2750"}).ids[0].startswith("Annual")
    assert open_pool(str(folder_pool(tmp_path / "own"))).name == "own"
    assert open_pool(f"mine={tmp_path / 'own'}").name == "mine"
    for name, trouble in (("nothing", "NAME=PATH"), ("isic", "put ISIC there"), ("a/b=c", "letters")):
        with pytest.raises(DataError, match=trouble):
            open_pool(name, root=tmp_path)


def test_mini_worlds_need_no_files() -> None:
    pool = open_pool("mini-skin", images=20)
    assert pool.sizes == (20,) * 7
    assert pool.fingerprint == open_pool("mini-skin", images=20).fingerprint
    assert cached(pool) is pool


def augmented(path: Path) -> None:
    for file in sorted(path.rglob("*.JPG"))[:3]:
        for ending in ("_90deg", "_flipLR", "_new30degFlipLR"):
            shutil.copy(file, file.with_name(file.stem + ending + ".JPG"))


def abbreviated(path: Path) -> None:
    shutil.rmtree(path / "ISIC2018_Task3_Training_GroundTruth")
    for name in ("MEL", "NV", "BCC"):
        picture(path / name / "0.jpg", 1)


def two_labels(path: Path) -> None:
    table = path / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("1.0,0.0", "1.0,1.0", 1))


def listed_twice(path: Path) -> None:
    with (path / "Data_Entry_2017.csv").open("a") as file:
        file.write("00000001_000.png,Mass,1\n")


def missing_images(path: Path) -> None:
    for file in sorted((path / "images").iterdir())[:5]:
        file.unlink()


def missing_class(path: Path) -> None:
    shutil.rmtree(path / "2750" / "River")


def truncated(path: Path) -> None:
    file = path / "2750" / "Forest" / "Forest_1.jpg"
    file.write_bytes(file.read_bytes()[:200])


def all_bands(path: Path) -> None:
    for file in (path / "2750").rglob("*_1.jpg"):
        Image.open(file).save(file.with_suffix(".tif"))


def wrong_columns(path: Path) -> None:
    (path / "Data_Entry_2017.csv").write_text("file,label\n")


@pytest.mark.parametrize(
    ("make", "spoil", "what", "fix"),
    [
        (cropdiseases, augmented, "9 of 57 files are augmented copies", "not the one of 70,295"),
        (isic, abbreviated, "folders called BCC, MEL, NV", "its classes get full names"),
        (isic, two_labels, "1 rows of .* do not have exactly one 1.0", "Fetch the ground truth"),
        (
            chestx,
            listed_twice,
            "lists 00000001_000.png 2 times, so it has several labels",
            "one row per image",
        ),
        (chestx, missing_images, "5 of 56 images listed in Data_Entry_2017.csv are missing", "Unpack all"),
        (chestx, wrong_columns, "no column 'Image Index'", "as it is distributed"),
        (eurosat, missing_class, "no image of the class River", "Fetch EuroSAT again"),
        (eurosat, truncated, "1 of 80 images cannot be read: .*Forest_1.jpg.*truncated", "Fetch these files"),
        (eurosat, all_bands, "13-band .tif", "Use the RGB version"),
    ],
)
def test_each_trap_is_found_with_the_step_that_mends_it(
    tmp_path: Path, make: Callable[[Path], Path], spoil: Callable[[Path], None], what: str, fix: str
) -> None:
    path = make(tmp_path / "pool")
    spoil(path)
    said = found_in(make.__name__, path)
    assert said.startswith("refused")
    assert re.search(what, said), said
    assert fix in said


def test_what_is_right_is_not_refused(tmp_path: Path) -> None:
    said = found_in("chestx", chestx(tmp_path / "pool"))
    assert said.startswith("open")
    assert "8 rows have several labels and are left out" in said
    assert "56 images of 7 classes; the published pool has 25848 of 7" in said


def test_traps_are_found_in_images_of_any_layout(tmp_path: Path) -> None:
    for c, name in enumerate(("MEL", "NV", "BCC")):
        picture(tmp_path / "skin" / name / "0.png", c)
    assert "classes are called BCC, MEL, NV in prompts" in found_in("own", tmp_path / "skin")
    for c, name in enumerate(("Mass", "Effusion|Mass")):
        picture(tmp_path / "chest" / name / "0.png", c)
    assert "joins several labels" in found_in("own", tmp_path / "chest")
    with pytest.raises(DataError, match="joins several labels"):
        open_pool(str(tmp_path / "chest"))
    for name in ("a", "b"):
        picture(tmp_path / "torn" / name / "0.png", 7)
    assert "1 pictures are in several classes" in found_in("own", tmp_path / "torn")
    Image.new("RGB", (1024, 1024)).save(tmp_path / "torn" / "a" / "0.png")
    assert "slow to decode" in found_in("own", tmp_path / "torn")


def test_a_file_that_a_table_lists_twice_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", ord(name))
    (tmp_path / "own.csv").write_text("path,label\na.png,x\nb.png,y\na.png,x\n")
    with pytest.raises(DataError, match=r"lists a\.png more than once; keep one of its rows"):
        open_pool(f"own={tmp_path / 'own.csv'}")


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["../train/a.png", "../test/a.png"], ("train/a.png", "test/a.png")),
        (["../train/a.png", "../train/b.png"], ("a.png", "b.png")),
        (["{home}/labels/in/a.png", "{home}/labels/in/b.png"], ("a.png", "b.png")),
        (["in/a.png", "../b.png"], ("in/a.png", "../b.png")),
        (["{home}/labels/in/a.png", "{home}/b.png"], ("labels/in/a.png", "b.png")),
        (["../../p/a.png", "../../q/a.png"], ("p/a.png", "q/a.png")),
    ],
)
def test_images_near_their_table_are_named_by_their_paths(
    tmp_path: Path, cells: list[str], ids: tuple[str, ...]
) -> None:
    home = tmp_path / "home"
    files = [cell.format(home=home) for cell in cells]
    (home / "labels").mkdir(parents=True)
    for file in files:
        picture(home / "labels" / file, 7)
    (home / "labels" / "l.csv").write_text("path,label\n" + "".join(f"{file},x\n" for file in files))
    assert open_pool(f"own={home / 'labels' / 'l.csv'}").ids == ids


def test_names_of_images_of_several_places_have_no_local_path(tmp_path: Path) -> None:
    """The same table on another machine is the same pool, and equal files are no duplicates by name."""

    def pool(home: str, images: Callable[[Path], Path]) -> Pool:
        table = tmp_path / home / "x" / "tables" / "own.csv"
        folder = images(tmp_path / home)
        files = [table.parent / "in" / "a.png", *(folder / name / "b.png" for name in ("p", "q", "."))]
        for number, file in enumerate(files):
            picture(file, min(number, 1))
        table.write_text("path,label\n" + "".join(f"{file},{file.stem}\n" for file in files))
        return open_pool(f"own={table}")

    one, other = pool("alice", lambda home: home / "photos"), pool("bob", lambda home: home.parent / "y")
    assert one.ids == other.ids == ("1/in/a.png", "2/b.png", "3/b.png", "4/b.png")
    assert one.fingerprint == other.fingerprint


class Counter:
    """Counts how often each image is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[str] = []
        original = table_module.read_picture

        def read(source, *options, **more):
            self.decoded.append(str(source))
            return original(source, *options, **more)

        monkeypatch.setattr(table_module, "read_picture", read)


def odd_pool(folder: Path) -> Pool:
    """Pictures of many shapes, one of them turned by its EXIF orientation, two of one content."""
    shapes = [(40, 24), (24, 56), (30, 30), (300, 280)]
    for c in range(2):
        for i, shape in enumerate(shapes):
            pixels = np.random.default_rng(10 * c + i).integers(0, 256, (*shape, 3), dtype=np.uint8)
            path = folder / f"class {c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = 6 if i == 1 else 1
            Image.fromarray(pixels).save(path, exif=exif)
    shutil.copy(folder / "class 0" / "0.png", folder / "class 0" / "copy.png")
    return open_pool(f"odd={folder}")


@pytest.mark.parametrize("reading", ["squash", "centre", "reduced", "shortest40-bicubic-floor"])
def test_the_cache_gives_the_same_pixels_and_decodes_once(tmp_path: Path, monkeypatch, reading: str) -> None:
    pool = odd_pool(tmp_path / "pool")
    plain = pool.table.pixels(range(9), reading, 32)
    counter = Counter(monkeypatch)
    for _ in range(2):
        again = cached(pool, tmp_path / "cache").table
        found = again.pixels([3, 1], reading, 32)
        found = again.pixels(range(9), reading, 32)
        assert all(np.array_equal(a, b) for a, b in zip(plain, found, strict=True))
        turned = again.subset([8, 0])
        assert np.array_equal(turned.pixels([0], reading, 32)[0], plain[8])
    assert len(counter.decoded) == 8  # nine files, two of one content


def test_the_cache_is_filled_where_the_system_has_no_pwrite(tmp_path: Path, monkeypatch) -> None:
    """As on Windows; threads that write at once do not disturb each other."""
    monkeypatch.delattr("os.pwrite")
    pool = odd_pool(tmp_path / "pool")
    plain = pool.table.pixels(range(9), "squash", 32)
    again = cached(pool, tmp_path / "cache").table
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda row: again.pixels([row], "squash", 32), list(range(9)) * 4))
    found = cached(pool, tmp_path / "cache").table.pixels(range(9), "squash", 32)
    assert np.array_equal(found, plain)


def test_images_of_a_zip_have_nothing_to_prepare_and_are_not_called_generated(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("cat", "dog"), 1)
    shutil.make_archive(str(tmp_path / "p"), "zip", folder)
    pool = cached(open_pool(f"my={tmp_path / 'p.zip'}"), tmp_path / "cache")
    with pytest.raises(DataError, match="pool my are read where they lie within other files; there is noth"):
        prepare(pool, ["squash"], 16)


def test_prepare_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch) -> None:
    pool = cached(open_pool(f"p={folder_pool(tmp_path / 'p', images=30)}"), tmp_path / "cache")
    counter = Counter(monkeypatch)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(pool, ["squash"], 16, stop)
    first = len(counter.decoded)
    assert 0 < first < 150
    again = cached(open_pool(f"p={tmp_path / 'p'}"), tmp_path / "cache")
    assert prepare(again, ["squash"], 16)[0] == 150 - first
    assert prepare(again, ["squash"], 16)[0] == 0
    assert len(counter.decoded) == len(set(counter.decoded)) == 150


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not_hashed_again(
    tmp_path: Path, monkeypatch
) -> None:
    folder = folder_pool(tmp_path / "p", images=2)
    before = cached(open_pool(f"p={folder}"), tmp_path / "cache")
    hashed: list[Path] = []
    original = index_module.image_id
    monkeypatch.setattr(index_module, "image_id", lambda file: hashed.append(file) or original(file))
    assert cached(open_pool(f"p={folder}"), tmp_path / "cache").fingerprint == before.fingerprint
    assert hashed == []
    picture(folder / "kind 0" / "000.png", 999)
    assert cached(open_pool(f"p={folder}"), tmp_path / "cache").fingerprint != before.fingerprint
    assert [file.name for file in hashed] == ["000.png"]


def test_a_full_disk_stops_the_cache_with_one_sentence(tmp_path: Path, monkeypatch) -> None:
    pool = cached(open_pool(f"p={folder_pool(tmp_path / 'p', images=2)}"), tmp_path / "cache")

    def full(handle: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("farshot.data.cache.os.pwrite", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); free space"):
        pool.table.pixels([0], "squash", 16)


def test_slots_of_a_killed_process_are_written_again(tmp_path: Path) -> None:
    shapes = {"a": (2, 2), "b": (2, 3)}
    slots = Slots(tmp_path, "squash-2", shapes)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    slots.write({"a": pixels})
    again = Slots(tmp_path, "squash-2", shapes)
    assert again.has("a") and not again.has("b")
    assert np.array_equal(again.read("a"), pixels)
    assert isinstance(cached(odd_pool(tmp_path / "odd"), tmp_path).table, CachedTable)


@pytest.mark.parametrize("damage", ["cut", "gone", "other bytes", "sums gone"])
def test_a_damaged_cache_is_decoded_again(tmp_path: Path, damage: str) -> None:
    pool = odd_pool(tmp_path / "pool")
    expected = pool.table.pixels(range(9), "squash", 32)
    cached(pool, tmp_path / "cache").table.pixels(range(9), "squash", 32)
    (pixels,) = (tmp_path / "cache").glob("*/*.u8")
    if damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[: 32 * 32 * 3 * 2 + 100])
    elif damage == "gone":
        pixels.unlink()
    elif damage == "sums gone":
        pixels.with_suffix(".crc").unlink()
    else:
        data = bytearray(pixels.read_bytes())
        data[5000] ^= 255
        pixels.write_bytes(data)
    for _ in range(2):
        found = cached(pool, tmp_path / "cache").table.pixels(range(9), "squash", 32)
        assert np.array_equal(found, expected)


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = odd_pool(tmp_path / "pool")
    expected = pool.table.pixels(range(9), "squash", 32)
    cached(pool, tmp_path / "cache").table.pixels(range(8), "squash", 32)
    real = os.open

    def read_only(path: object, flags: int, *mode: int, **more: Any) -> int:
        if str(path).startswith(str(tmp_path / "cache")) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode, **more)  # type: ignore[arg-type]

    before = {file.name: file.read_bytes() for file in (tmp_path / "cache").rglob("*.*")}
    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    found = cached(pool, tmp_path / "cache").table.pixels(range(9), "squash", 32)
    assert np.array_equal(found, expected)
    assert {file.name: file.read_bytes() for file in (tmp_path / "cache").rglob("*.*")} == before


FULL = """
import os, sys
import numpy as np
from pathlib import Path
from farshot.data.cache import Slots
from farshot.errors import DataError
disk, free = Path(sys.argv[1]), int(sys.argv[2])
with (disk / "filler").open("wb") as file:
    room = os.statvfs(disk)
    file.write(bytes(room.f_bavail * room.f_frsize - free))
try:
    slots = Slots(disk / "pool", "squash-8", {str(i): (8, 8) for i in range(3000)})
    print(slots.has("7"), slots.has("2999"))
    slots.write({"7": np.ones((8, 8, 3), np.uint8)})
    for i in range(0, 3000, 30):
        slots.write({str(i): np.ones((8, 8, 3), np.uint8)})
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize(("free", "began"), [(4096, False), (32768, True)])
def test_a_full_disk_in_memory_is_one_sentence(tmp_path: Path, free: int, began: bool) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no mounting here")
    try:
        command = [sys.executable, "-c", FULL, str(tmp_path), str(free)]
        done = subprocess.run(
            command, env=subprocess_environment(), capture_output=True, text=True, check=False
        )
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert done.returncode == 0, (done.returncode, done.stderr)  # not SIGBUS
    assert ("False False" in done.stdout) == began
    assert "No space left on device" in done.stdout

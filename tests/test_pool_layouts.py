"""Published pools as their owners distribute them: each in a small folder of the exact layout, with its bad
inputs."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farshot.bench.split import split_task
from farshot.bench.tasks import sample_task
from farshot.data.bscd import EUROSAT, ISIC
from farshot.data.cache import cached, prepare
from farshot.data.check import check_pool
from farshot.data.layouts import KATHER, NCT, NEU, RSSCN7
from farshot.data.medmnist import MEDMNIST
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.data.published import PUBLISHED
from farshot.errors import DataError
from tests.bench_helpers import picture
from tests.input_helpers import Farshot, refusal

HAM_CODES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")
SPLITS = ("train", "val", "test")
NEU_SHORT = ("Cr", "In", "Pa", "PS", "RS", "Sc")


def kather(folder: Path) -> Path:
    for c, name in enumerate(KATHER):
        for i in range(3):
            picture(
                folder
                / "Kather_texture_2016_image_tiles_5000"
                / name
                / f"1{i:03d}_CRC-Prim-HE-0{c}_01.tif_Row_1_Col_{i}.tif",
                100 * c + i,
            )
    return folder


def nct(folder: Path) -> Path:
    for part, images in (("NCT-CRC-HE-100K", 3), ("CRC-VAL-HE-7K", 2)):
        for c, name in enumerate(NCT):
            for i in range(images):
                picture(folder / part / name / f"{name}-{part[:3]}{i}.tif", 1000 * images + 100 * c + i)
    return folder


def ham10000(folder: Path) -> Path:
    """Two pictures of every lesion, one in each folder."""
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for c, code in enumerate(HAM_CODES):
        for i in range(8):
            name = f"ISIC_{24306 + 100 * c + i:07d}"
            picture(folder / f"HAM10000_images_part_{1 + i % 2}" / f"{name}.jpg", 100 * c + i)
            lines.append(f"HAM_{1000 * c + i // 2:07d},{name},{code},histo,45.0,male,back")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    (folder / "hmnist_28_28_L.csv").write_text("pixel0000,label\n")
    return folder


def rsscn7(folder: Path) -> Path:
    for c, name in enumerate(RSSCN7):
        for i in range(1, 4):
            picture(folder / name / f"{name[0]}{i:03d}.jpg", 100 * c + i)
    return folder


def neu(folder: Path) -> Path:
    """NEU-CLS."""
    for c, name in enumerate(NEU_SHORT):
        for i in range(1, 4):
            picture(folder / "NEU surface defect database" / f"{name}_{i}.bmp", 100 * c + i)
    return folder


def neu_kaggle(folder: Path) -> Path:
    for half, numbers in (("train", range(1, 4)), ("validation", range(4, 6))):
        for c, name in enumerate(NEU):
            for i in numbers:
                picture(folder / "NEU-DET" / half / "images" / name / f"{name}_{i}.jpg", 100 * c + i)
        (folder / "NEU-DET" / half / "annotations").mkdir()
    return folder


def neu_det(folder: Path) -> Path:
    for c, name in enumerate(NEU):
        for i in range(1, 4):
            picture(folder / "NEU-DET" / "IMAGES" / f"{name}_{i}.jpg", 100 * c + i)
    (folder / "NEU-DET" / "ANNOTATIONS").mkdir()
    return folder


def dtd(folder: Path) -> Path:
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for c, name in enumerate(("banded", "polka-dotted", "zigzagged")):
        for i in range(6):
            file = f"{name}/{name}_{i:04d}.jpg"
            picture(folder / "dtd" / "images" / file, 100 * c + i)
            lines[SPLITS[i % 3]].append(file)
    (folder / "dtd" / "labels").mkdir()
    for split, files in lines.items():
        (folder / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(files) + "\n")
        (folder / "dtd" / "labels" / f"{split}2.txt").write_text("\n".join(files[:1]) + "\n")
    return folder


def aircraft(folder: Path) -> Path:
    data = folder / "fgvc-aircraft-2013b" / "data"
    variants = ("707-320", "Boeing 717", "F/A-18")
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for c, name in enumerate(variants):
        for i in range(6):
            picture(data / "images" / f"{1000 * c + i:07d}.jpg", 100 * c + i)
            lines[SPLITS[i % 3]].append(f"{1000 * c + i:07d} {name}")
    for split, rows in lines.items():
        (data / f"images_variant_{split}.txt").write_text("\n".join(rows) + "\n")
    (data / "variants.txt").write_text("\n".join(variants) + "\n")
    return folder


def eurosat_torchvision(folder: Path) -> Path:
    for c, name in enumerate(EUROSAT):
        for i in range(1, 4):
            picture(folder / "eurosat" / "2750" / name / f"{name}_{i}.jpg", 100 * c + i)
    return folder


def eurosat_hub(folder: Path) -> Path:
    """Parquet files as the hub converts them, with the spellings of blanchon/EuroSAT_RGB."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = [re.sub("(?<=[a-z])(?=[A-Z])", " ", name) for name in EUROSAT]
    names = [{"Industrial": "Industrial Buildings", "Sea Lake": "SeaLake"}.get(n, n) for n in names]
    (folder / "data").mkdir(parents=True)
    for s, split in enumerate(("train", "test")):
        rows, labels = [], []
        for c in range(10):
            for i in range(2 + s):
                picture(folder / "x.png", 1000 * s + 10 * c + i)
                rows.append({"bytes": (folder / "x.png").read_bytes(), "path": f"{c}_{i}.png"})
                labels.append(c)
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"image": rows, "label": pa.array(labels, pa.int64())})
        about = json.dumps({"info": {"features": features}})
        parquet.write_table(
            table.replace_schema_metadata({"huggingface": about}),
            folder / "data" / f"{split}-00000-of-00001-0a1b.parquet",
        )
    (folder / "x.png").unlink()
    return folder


def medmnist(
    folder: Path, name: str = "breastmnist", side: int = 224, compressed: bool = True, colour: bool = False
) -> Path:
    """Arrays as the owner saves them, with labels in a column."""
    folder.mkdir(parents=True, exist_ok=True)
    random, arrays = np.random.default_rng(0), {}
    for split, images in zip(SPLITS, (6, 3, 5), strict=True):
        shape = (images, side, side, 3) if colour else (images, side, side)
        arrays[f"{split}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(images, dtype=np.uint8)[:, None] % 2
    save = np.savez_compressed if compressed else np.savez
    save(folder / f"{name}{'' if side == 28 else f'_{side}'}.npz", **arrays)
    return folder


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path], list[int], str, set[str] | None]] = {
    "kather": ("kather", kather, [3] * 8, "Simple Stroma", None),
    "nct": ("nct-crc", nct, [5] * 9, "Background", {"train", "test"}),
    "ham10000": ("ham10000", ham10000, [8] * 7, "Melanocytic Nevus", None),
    "rsscn7": ("rsscn7", rsscn7, [3] * 7, "Field", None),
    "neu": ("neu", neu, [3] * 6, "Inclusion", None),
    "neu-kaggle": ("neu", neu_kaggle, [5] * 6, "Inclusion", {"train", "val"}),
    "neu-det": ("neu", neu_det, [3] * 6, "Inclusion", None),
    "dtd": ("dtd", dtd, [6] * 3, "polka-dotted", set(SPLITS)),
    "aircraft": ("aircraft", aircraft, [6] * 3, "Boeing 717", set(SPLITS)),
    "eurosat-torchvision": ("eurosat", eurosat_torchvision, [3] * 10, "Forest", None),
    "eurosat-hub": ("eurosat", eurosat_hub, [5] * 10, "Forest", {"train", "test"}),
    "medmnist": ("breastmnist", medmnist, [8, 6], "normal or benign", set(SPLITS)),
}
"""Name of the pool, its files, sizes of classes, name of the second class, splits."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def words_on(name: str, path: Path) -> str:
    """The findings of `farshot data check`, and whether the pool is refused."""
    pool, findings = check_pool(name, path)
    return ("refused: " if pool is None else "open: ") + " | ".join(f"{f.what} -> {f.fix}" for f in findings)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pool_is_read_in_the_layout_of_its_owner(tmp_path: Path, layout: str) -> None:
    name, make, sizes, second, splits = LAYOUTS[layout]
    folder = make(tmp_path / "data" / name)
    pool = open_pool(name, root=tmp_path / "data")
    assert list(pool.sizes) == sizes if name != "ham10000" else sorted(pool.sizes) == sizes
    assert second in pool.table.names
    assert len(set(pool.table.names)) == len(sizes)
    assert (None if pool.table.splits is None else set(pool.table.splits)) == splits
    assert not any(str(tmp_path) in one for one in pool.ids)
    about = PUBLISHED[name]
    words = words_on(name, folder)
    assert words.startswith("open"), words
    found = f"{sum(sizes)} images of {len(sizes)} classes; the published pool has"
    assert f"{found} {about.images} of {about.classes} -> Fetch {about.source}" in words
    assert any(found in note for note in pool.notes)
    task = sample_task(pool, ways=2, queries=1, index=3)
    assert task.table.pixels(task.support, "squash", 16).shape == (2, 16, 16, 3)
    if splits and "test" in splits:
        drawn = split_task(pool, 1)
        assert pool.table.splits is not None
        assert {pool.table.splits[row] for row in drawn.support} == {"train"}
        assert {pool.table.splits[row] for row in drawn.query} == {"test"}
    again = open_pool(name, root=tmp_path / "data")
    assert (again.ids, again.fingerprint) == (pool.ids, pool.fingerprint)
    read_through = cached(pool)
    assert read_through.fingerprint == pool.fingerprint
    assert prepare(read_through, ["squash"], 16)[0] == len(pool.table)
    rows = np.arange(len(pool.table))
    assert np.array_equal(
        read_through.table.pixels(rows, "squash", 16), pool.table.pixels(rows, "squash", 16)
    )


def test_the_counts_are_the_owners() -> None:
    counts = {name: (about.images, about.classes) for name, about in PUBLISHED.items()}
    assert counts["kather"] == (5_000, 8) == (8 * 625, len(KATHER))
    assert counts["ham10000"] == (10_015, 7) == counts["isic"] == counts["dermamnist"]
    assert counts["rsscn7"] == (2_800, 7) == (7 * 400, len(RSSCN7))
    assert counts["neu"] == (1_800, 6) == (6 * 300, len(NEU))
    assert counts["dtd"] == (5_640, 47) == (47 * 120, 47)
    assert counts["aircraft"] == (10_000, 100)
    assert counts["nct-crc"] == (107_180, 9) == counts["pathmnist"]
    assert counts["organamnist"] == (58_830, 11)
    assert counts["tissuemnist"] == (236_386, 8)
    assert len(MEDMNIST) == 11


def test_labels_are_those_of_names_and_files(tmp_path: Path) -> None:
    pool = open_pool("neu", paths={"neu": neu(tmp_path / "neu")})
    assert pool.table.labels is not None
    by_prefix = {name[:2]: pool.table.classes[c] for name, c in zip(pool.ids, pool.table.labels, strict=True)}
    assert by_prefix == dict(zip(NEU_SHORT, NEU, strict=True))
    pool = open_pool("ham10000", paths={"ham10000": ham10000(tmp_path / "ham")})
    assert pool.table.labels is not None
    for name, c in zip(pool.ids, pool.table.labels, strict=True):
        code = HAM_CODES[(int(name[5:12]) - 24306) // 100]
        assert pool.table.names[c] == ISIC[code.upper()]
    pool = open_pool("eurosat", paths={"eurosat": eurosat_hub(tmp_path / "hub")})
    assert pool.table.labels is not None
    for c, name in enumerate(EUROSAT.values()):
        assert pool.table.names[c] == name
    train = [row for row, one in enumerate(pool.ids) if one.startswith("train")]
    assert pool.table.labels[train].tolist() == [c for c in range(10) for _ in range(2)]


def test_images_of_a_lesion_are_never_in_support_and_query(tmp_path: Path) -> None:
    pool = open_pool("ham10000", paths={"ham10000": ham10000(tmp_path / "ham")})
    groups = pool.table.groups
    assert groups is not None and Counter(Counter(groups).values()) == {2: 28}
    for index in range(30):
        task = sample_task(pool, ways=5, shots=2, queries=3, index=index)
        assert not {groups[r] for r in task.support} & {groups[r] for r in task.query}


def test_rsscn7_without_letters_has_the_same_classes(tmp_path: Path) -> None:
    folder = rsscn7(tmp_path / "a")
    named = open_pool("rsscn7", paths={"rsscn7": folder})
    for name in RSSCN7:
        (folder / name).rename(folder / name[1:])
    plain = open_pool("rsscn7", paths={"rsscn7": folder})
    assert plain.table.names == named.table.names
    assert plain.table.classes[0] == "Grass"


def test_medmnist_is_unpacked_once_and_its_pixels_are_those_of_the_arrays(
    tmp_path: Path, cache: Path
) -> None:
    for compressed, colour in ((True, False), (False, True)):
        folder = medmnist(tmp_path / f"{colour}", compressed=compressed, colour=colour)
        pool = open_pool("breastmnist", paths={"breastmnist": folder})
        with np.load(folder / "breastmnist_224.npz", allow_pickle=False) as arrays:
            for row in (0, 7, 13):
                split, number = pool.ids[row].split("/")
                wanted = arrays[f"{split}_images"][int(number)]
                wanted = wanted if colour else np.repeat(wanted[..., None], 3, axis=2)
                assert np.array_equal(np.asarray(pool.table.image(row)), wanted)
                assert pool.table.labels is not None
                assert pool.table.labels[row] == arrays[f"{split}_labels"][int(number), 0]
    files = sorted((cache / "datasets").iterdir())
    assert [file.suffix for file in files] == [".pnm"] * 2
    before = [file.stat().st_mtime_ns for file in files]
    assert "were unpacked to the cache" not in words_on("breastmnist", folder)
    assert [file.stat().st_mtime_ns for file in files] == before
    files[0].unlink()
    files[1].unlink()
    assert "were unpacked to the cache" in words_on("breastmnist", folder / "breastmnist_224.npz")


def changed(folder: Path, **arrays: np.ndarray | None) -> None:
    """Change arrays of the npz file; None removes one."""
    file = folder / "breastmnist_224.npz"
    with np.load(file, allow_pickle=False) as old:
        new = {name: old[name] for name in old.files} | arrays
    np.savez_compressed(file, **{name: value for name, value in new.items() if value is not None})  # type: ignore[arg-type]


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def pickled(folder: Path) -> None:
    file = folder / "breastmnist_224.npz"
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([Trap()], dtype=object), allow_pickle=True)
    assert pickle.PROTO in objects.getvalue()
    changed(folder, train_labels=None)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("train_labels.npy", objects.getvalue())


def cut(folder: Path) -> None:
    file = folder / "breastmnist_224.npz"
    file.write_bytes(file.read_bytes()[:5000])


def flipped(folder: Path) -> None:
    """A byte of the pixels of an array that is stored as it is."""
    file = medmnist(folder, compressed=False) / "breastmnist_224.npz"
    data = bytearray(file.read_bytes())
    data[200_000] ^= 255
    file.write_bytes(data)


def too_long(folder: Path) -> None:
    file = folder / "breastmnist_224.npz"
    changed(folder, train_labels=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1)}
    )
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("train_labels.npy", header.getvalue() + b"\0" * 6)


U1 = np.uint8


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda f: (f / "breastmnist_224.npz").unlink(), "has no breastmnist_224.npz; fetch it"),
        (lambda f: changed(f, val_images=None), "it has no array val_images"),
        (lambda f: changed(f, val_labels=np.zeros((2, 1), U1)), "val_images.npy has 3 pictures.* 2 labels"),
        (lambda f: changed(f, val_labels=np.full((3, 1), 7, U1)), "label 7, but the classes are 0 to 1"),
        (lambda f: changed(f, val_labels=np.zeros((3, 14), U1)), "several labels per picture is no pool"),
        (lambda f: changed(f, val_labels=np.zeros((3, 1))), "of float64, not one whole number"),
        (lambda f: changed(f, val_images=np.zeros((3, 28, 28, 28), U1)), "no pictures of MedMNIST"),
        (lambda f: changed(f, val_images=np.zeros((3, 28, 28))), "float64, which are no pictures"),
        (pickled, "an array holds Python objects"),
        (cut, "the zip is damaged"),
        (flipped, "damaged: its bytes are not those that were packed"),
        (too_long, "has 1000000000 rows"),
    ],
)
def test_npz_files_that_are_wrong_are_refused_in_one_sentence(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = medmnist(tmp_path / "m")
    spoil(folder)
    with pytest.raises(DataError, match=what) as error:
        open_pool("breastmnist", paths={"breastmnist": folder})
    assert "\n" not in str(error.value)
    assert str(tmp_path / "m") in str(error.value)
    assert not list(cache.rglob("*.pnm"))
    assert not (tmp_path / "unpickled").exists()


def test_small_pictures_and_another_split_are_marked(tmp_path: Path) -> None:
    folder = medmnist(tmp_path / "m", side=28)
    assert "pictures are 28 pixels wide, not 224 -> Fetch the file" in words_on("breastmnist", folder)


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: shutil.move(path / old, path / new)


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        (file,) = path.rglob(name)
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return edit


def removed(pattern: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        place = sorted(path.rglob(pattern))[0]
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


KATHER_ROOT = "Kather_texture_2016_image_tiles_5000"


@pytest.mark.parametrize(
    ("layout", "spoil", "what"),
    [
        ("kather", renamed(KATHER_ROOT, "larger_images_10"), "no folder 01_TUMOR; .*larger images have no"),
        ("kather", removed("03_COMPLEX"), "no image of the class 03_COMPLEX"),
        ("nct", renamed("NCT-CRC-HE-100K", "other"), "no folder NCT-CRC-HE-100K; unpack"),
        (
            "nct",
            lambda path: shutil.copytree(path / "NCT-CRC-HE-100K", path / "NCT-CRC-HE-100K-NONORM"),
            "has both",
        ),
        ("ham10000", removed("HAM10000_metadata.csv"), "no HAM10000_metadata.csv; unpack Kaggle's"),
        ("ham10000", removed("HAM10000_images_part_2"), "no folder HAM10000_images_part_2; unpack both"),
        (
            "ham10000",
            removed("ISIC_0024306.jpg"),
            "1 of 56 images listed in HAM10000_metadata.csv are missing",
        ),
        ("ham10000", edited("*metadata.csv", ",nv,", ",wart,"), "csv, line 2: 'wart' is not a diagnosis"),
        ("ham10000", edited("*metadata.csv", "HAM_0000000", ""), "csv, line 2: no lesion_id"),
        ("ham10000", edited("*metadata.csv", "lesion_id", "lesion"), "no column 'lesion_id'"),
        ("ham10000", edited("*metadata.csv", "ISIC_0024307", "ISIC_0024306"), "lists ISIC_0024306 2 times"),
        ("rsscn7", removed("aGrass"), "no image of the class aGrass"),
        (
            "rsscn7",
            lambda path: [shutil.rmtree(path / name) for name in RSSCN7],
            "no folder aGrass; unpack RSSCN7",
        ),
        ("neu", lambda path: picture(path / "NEU surface defect database" / "Xy_1.bmp", 1), "Xy_1.bmp names"),
        ("neu", removed("NEU surface defect database"), "neither files such as Cr_1.bmp"),
        ("neu-kaggle", removed("validation"), "no folder validation/images; unpack"),
        ("dtd", removed("val1.txt"), "no .*val1.txt; unpack dtd-r1.0.1.tar.gz whole"),
        ("dtd", removed("images"), "no folder images; unpack dtd"),
        ("dtd", removed("banded_0001.jpg"), "1 of 18 images listed in labels are missing"),
        (
            "dtd",
            edited("train1.txt", "banded/banded_0000.jpg", "banded"),
            "line 1: 'banded' is not class/file",
        ),
        (
            "dtd",
            edited("test1.txt", "banded/banded_0002", "banded/banded_0000"),
            "line 1: images/banded/banded_0000.jpg is listed already, in train",
        ),
        ("aircraft", removed("variants.txt"), "no .*variants.txt; unpack fgvc-aircraft-2013b"),
        ("aircraft", removed("images_variant_test.txt"), "no .*images_variant_test.txt; unpack"),
        ("aircraft", removed("0000000.jpg"), "1 of 18 images listed in images_variant_.*txt are missing"),
        (
            "aircraft",
            edited("images_variant_val.txt", "707-320", "707"),
            "line 1: the variant '707' is not in variants.txt",
        ),
        (
            "aircraft",
            edited("images_variant_val.txt", "0000001 ", "../x "),
            "line 1: '../x 707-320' is not a number and",
        ),
        ("eurosat-torchvision", renamed("eurosat/2750", "eurosat/x"), "no folder 2750/AnnualCrop"),
    ],
)
def test_each_bad_input_is_one_sentence_with_the_way_out(
    tmp_path: Path, layout: str, spoil: Callable[[Path], object], what: str
) -> None:
    name, make, *_ = LAYOUTS[layout]
    folder = make(tmp_path / "pool")
    spoil(folder)
    words = words_on(name, folder)
    assert words.startswith("refused"), words
    assert re.search(what, words), words
    assert "\n" not in words
    with pytest.raises(DataError):
        open_pool(name, paths={name: folder})


def test_a_data_set_of_the_hub_is_marked_and_its_classes_are_checked(tmp_path: Path) -> None:
    folder = eurosat_hub(tmp_path / "hub")
    assert "do not have the owner's file names, so tasks hold other images" in words_on("eurosat", folder)
    from pyarrow import parquet

    for file in (folder / "data").iterdir():
        table = parquet.read_table(file)
        about = json.loads(table.schema.metadata[b"huggingface"])
        about["info"]["features"]["label"]["names"][2] = "Moor"
        parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), file)
    with pytest.raises(DataError, match=r"the class 'Moor', which is none of EuroSAT's ten"):
        open_pool("eurosat", paths={"eurosat": folder})


def test_histology_without_test_images_or_normalisation_says_so(tmp_path: Path) -> None:
    folder = nct(tmp_path / "nct")
    shutil.rmtree(folder / "CRC-VAL-HE-7K")
    words = words_on("nct-crc", folder)
    assert "7,180 test images, is not here, so there is no split" in words
    assert "27 images of 9 classes; the published pool has 100000 of 9" in words
    assert open_pool("nct-crc", paths={"nct-crc": folder / "NCT-CRC-HE-100K"}).table.splits is None
    (folder / "NCT-CRC-HE-100K").rename(folder / "NCT-CRC-HE-100K-NONORM")
    assert "without colour normalisation" in words_on("nct-crc", folder)


def test_a_tree_of_train_val_and_test_needs_no_name(tmp_path: Path) -> None:
    for s, split in enumerate(SPLITS):
        for c in range(3):
            for i in range(3):
                picture(tmp_path / "tree" / split / f"kind_{c}" / f"{i}.png", 100 * s + 10 * c + i)
    pool: Pool = open_pool(f"tree={tmp_path / 'tree'}")
    assert pool.sizes == (9, 9, 9)
    drawn = split_task(pool, 2)
    assert len(drawn.query) == 9
    assert pool.table.splits is not None
    assert {pool.table.splits[row] for row in drawn.query} == {"test"}


def test_pools_are_listed_checked_and_asked_for(farshot: Farshot, tmp_path: Path) -> None:
    medmnist(tmp_path / "medmnist")
    told = farshot("data", "list", "--data-root", tmp_path)
    assert told.code == 0, told.err
    for name in ("kather", "ham10000", "dtd", "aircraft", "breastmnist", "pathmnist"):
        assert name in told.out
    assert "breastmnist_224.npz" in told.out
    told = farshot("data", "check", "breastmnist", tmp_path / "medmnist")
    assert told.code == 0, told.err
    assert "breastmnist differs from the published pool: 14 images of 2 classes" in told.out
    told = farshot(
        *("bench", "--pools", "pathmnist", "--data-root", tmp_path, "--model", "mini"),
        *("--methods", "zero-shot", "--store", tmp_path / "r.db"),
    )
    assert "has no folder pathmnist; put PathMNIST there" in refusal(told)


def test_a_file_for_a_pool_of_folders_is_refused_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(DataError, match=r"is a file, and the pool eurosat .* such as my-eurosat="):
        open_pool(f"eurosat={tmp_path / 'split.json'}")


def test_your_own_images_may_have_the_name_of_a_pool_if_their_classes_are_named(tmp_path: Path) -> None:
    for c, name in enumerate(("Grass", "Kiosk")):
        for i in range(3):
            picture(tmp_path / "own" / name / f"{i}.png", 10 * c + i)
    (tmp_path / "names.txt").write_text("Grass: lawn\nKiosk: kiosk\n")
    spec, words = f"rsscn7={tmp_path / 'own'}", {"rsscn7": tmp_path / "names.txt"}
    assert open_pool(spec, class_names=words).table.names == ("lawn", "kiosk")
    with pytest.raises(DataError, match="no image of the class Field"):
        open_pool(spec)
    with pytest.raises(DataError, match="eurosat have fixed names"):
        open_pool(f"eurosat={tmp_path / 'own'}", class_names={"eurosat": tmp_path / "names.txt"})

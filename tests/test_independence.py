"""Near copies, groups, and what keeps them out of estimates, draws, evaluations and benchmark tasks."""

from __future__ import annotations

import io
import json
import shlex
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.fft import dctn

from farshot import FewShotClassifier
from farshot.bench.tasks import query_labels, sample_task
from farshot.data.cache import cached
from farshot.data.independence import group_hint, groups_by, picture_units, units
from farshot.data.pool import pool_of
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.likeness import near_pairs, thumbnails
from farshot.randomness import numpy_generator
from tests.input_helpers import Farshot, class_folders
from tests.toy import world_table

WORLD = world_table(count=64, classes=("highway", "orchard", "river"))
assert WORLD.labels is not None
TABLE = WORLD.subset(np.argsort(WORLD.labels, kind="stable")[:24])
"""8 pictures of every class, one class after the other."""


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "compressed": lambda image: jpeg(image, 50),
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.rotate(90, expand=True),
    "mirrored and turned": lambda image: ImageOps.mirror(image.rotate(270, expand=True)),
    "brighter": lambda image: image.point(lambda value: min(255, int(1.1 * value))),
}


def pictures(table: ImageTable = TABLE) -> list[Image.Image]:
    return [table.image(row) for row in range(len(table))]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_near_copies_of_their_own_only(change: str):
    images = pictures()
    changed = [CHANGES[change](image) for image in images]
    pairs = near_pairs(thumbnails(images), thumbnails(changed))
    assert pairs.tolist() == [[row, row] for row in range(len(images))]
    assert not len(near_pairs(thumbnails(images)))


def test_the_hash_is_that_of_the_cosine_transform():
    from farshot.images.likeness import hashes  # its definition: signs of the lowest frequencies

    grey = np.random.default_rng(0).integers(0, 256, (5, 32, 32)).astype(np.uint8)
    low = dctn(grey.astype(np.float64), axes=(1, 2), type=2)[:, :8, :8].reshape(5, 64)
    expected = np.where(low > np.median(low, axis=1, keepdims=True), 1, -1)
    np.testing.assert_array_equal(hashes(grey), expected)


def test_pictures_of_one_colour_and_unreadable_files_are_like_nothing(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    flat = [Image.new("RGB", (40, 40), (value,) * 3) for value in (10, 200)]
    assert not len(near_pairs(thumbnails([*flat, tmp_path / "broken.jpg"])))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.integers(0, 9))
def test_units_do_not_depend_on_the_order_of_rows(groups: list[int], seed: int):
    images = pictures()[: len(groups)] + [ImageOps.mirror(image) for image in pictures()[: len(groups)]]
    names = tuple(f"g{g}" for g in groups) + tuple(f"h{i}" for i in range(len(groups)))
    table = ImageTable(tuple(images), None, (), (), groups=names)
    order = numpy_generator("order", seed).permutation(len(images))
    straight, mixed = units(table, range(len(images))), units(table, order)
    assert all(
        (straight[order[i]] == straight[order[j]]) == (mixed[i] == mixed[j])
        for i in range(len(order))
        for j in range(len(order))
    )
    n = len(groups)
    assert all(straight[i] == straight[n + i] for i in range(n))  # a picture and its mirror image
    assert all((straight[i] == straight[j]) == (groups[i] == groups[j]) for i in range(n) for j in range(n))


def test_pictures_that_are_all_alike_are_not_called_copies():
    """As on a production line: only the noise differs."""
    scene = np.asarray(TABLE.image(0)).astype(int)
    noise = np.random.default_rng(0).integers(-6, 7, (12, *scene.shape))
    alike = [Image.fromarray(np.clip(scene + one, 0, 255).astype(np.uint8)) for one in noise]
    table = ImageTable((*alike, alike[0]), None, (), ())
    assert picture_units(table, range(13)).tolist() == [*range(12), 0]
    made = FewShotClassifier("mini", "prototypes").fit(alike[:8], ["a", "b"] * 4)
    assert made.thumbnails_ is None
    assert made.evaluate(alike[8:], ["a", "b"] * 2).left_out == 0


def test_the_memory_for_pictures_that_are_all_alike_is_bounded():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 3, (400, 32, 32))
    alike = np.clip(generator.integers(0, 255, (32, 32)) + noise, 0, 255).astype(np.uint8)
    tracemalloc.start()
    pairs = near_pairs(alike)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == 400 * 399 // 2
    assert peak < 30_000_000
    assert len(near_pairs(alike[:200], alike[150:])) == 200 * 250


def test_near_copies_are_in_one_fold_and_do_not_raise_the_estimate():
    assert TABLE.labels is not None
    images, labels = pictures(), TABLE.labels.tolist()
    twice = images + [ImageOps.mirror(jpeg(image, 60)) for image in images]
    classifier = FewShotClassifier("mini", "prototypes")
    held_out = classifier.held_out(twice, labels * 2)
    n = len(images)
    assert held_out.fold[:n].tolist() == held_out.fold[n:].tolist()


def test_an_estimate_with_groups_is_not_the_one_without_that_was_computed_before():
    groups = tuple(f"{row // 2}" for row in range(len(TABLE)))
    classifier = FewShotClassifier("mini", "prototypes")
    without, within = classifier.held_out(TABLE), classifier.held_out(replace(TABLE, groups=groups))
    assert (without.fold[::2] != without.fold[1::2]).any()
    assert (within.fold[::2] == within.fold[1::2]).all()


def test_near_copies_of_the_support_are_not_measured(tmp_path: Path):
    from farshot import load

    assert TABLE.labels is not None
    images, labels = pictures(), TABLE.labels.tolist()
    made = FewShotClassifier("mini", "prototypes").fit(images[::2], labels[::2])
    changed = [CHANGES["half the size"](image) for image in images]
    result = made.evaluate(changed, labels)
    assert result.left_out == len(images[::2])
    assert made.evaluate(changed, labels, include_support=True).left_out == 0
    made.save(tmp_path / "model")
    again = load(tmp_path / "model").evaluate(changed, labels)
    assert again.left_out == result.left_out
    assert (again.confusion == result.confusion).all()


def test_a_draw_leaves_near_copies_out_and_takes_different_groups_first():
    assert TABLE.labels is not None
    images, labels = pictures(), TABLE.labels
    twice = (*images, *(CHANGES["half the size"](image) for image in images))
    table = ImageTable(twice, np.concatenate([labels, labels]), TABLE.classes, TABLE.names)
    support, rest = table.draw(3, 0)
    n = len(images)
    assert not {row % n for row in support.tolist()} & {row % n for row in rest.tolist()}
    assert len({row % n for row in support.tolist()}) == 9

    groups = tuple(f"{label} {i % 4}" for i, label in enumerate(labels.tolist()))
    grouped = ImageTable(tuple(images), labels, TABLE.classes, TABLE.names, groups=groups)
    support, rest = grouped.draw(3, 0)
    assert len({groups[row] for row in support.tolist()}) == 9
    assert not {groups[row] for row in support.tolist()} & {groups[row] for row in rest.tolist()}
    support, rest = grouped.draw(5, 0)  # more than there are groups: still different pictures
    assert len(support) == 15
    assert len(rest) == 0


# groups --------------------------------------------------------------------------------------------------


def test_groups_by_a_regular_expression():
    names = ["a/patient1_02.png", "a/patient1_03.png", "b/patient12_x.png"]
    assert groups_by(r"patient\d+", names) == ("patient1", "patient1", "patient12")
    assert groups_by(r"(\d+)_", names) == ("1", "1", "12")
    with pytest.raises(DataError, match=r"does not match the name 'b/patient12_x.png'"):
        groups_by(r"_\d", names)
    with pytest.raises(DataError, match="neither a column of the table nor a regular expression"):
        groups_by("(", names)


@pytest.mark.parametrize(
    ("names", "hints"),
    [
        ([f"p{i}_{j}.png" for i in range(8) for j in range(3)], True),
        ([f"leaf {i}-{j}.png" for i in range(8) for j in "ab"], True),
        ([f"IMG_{i:04d}.png" for i in range(24)], False),  # one front for all
        ([f"{i:04d}.png" for i in range(24)], False),
        ([f"{i:08x}-{i * 7:04x}.png" for i in range(24)], False),  # no front twice
        ([f"p{i}_{j}.png" for i in range(2) for j in range(12)], False),  # too few groups to be sure
    ],
)
def test_names_that_suggest_groups_are_told(names: list[str], hints: bool):
    hint = group_hint(names, ["a"] * len(names))
    assert bool(hint) == hints
    if hints:  # what it proposes does what it says
        pattern = hint.split("'")[1]
        below = [f"{label}/{Path(name).stem}" for label in "xy" for name in names]
        found = groups_by(pattern, below)
        assert len(set(found)) == 16  # eight things of each of two classes, though their names are the same


@pytest.fixture
def by_patient(tmp_path: Path) -> Path:
    """A folder per class; pictures 0 and 1, 2 and 3, ... are of one patient."""
    assert TABLE.labels is not None
    for row, label in enumerate(TABLE.labels.tolist()):
        place = tmp_path / "data" / TABLE.classes[label] / f"p{row // 2}_{row % 2}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        TABLE.image(row).save(place)
    return tmp_path / "data"


def test_the_commands_take_groups(farshot: Farshot, by_patient: Path):
    out = by_patient.parent / "adapted"
    arguments = ("--model", "mini", "--method", "prototypes", "--shots", 2)
    told = farshot("adapt", by_patient, "--out", out, *arguments)
    assert "suggest that several pictures show one thing" in told.err
    told = farshot("adapt", by_patient, "--out", out, *arguments, "--groups", r"p\d+")
    assert told.code == 0, told.err
    assert "suggest" not in told.err
    command = f"farshot evaluate {out} {by_patient} --groups 'p\\d+'"
    assert f"12 images are left for measuring: {command}\n" in told.out
    told = farshot(*shlex.split(command)[1:], "--json")
    assert json.loads(told.out)["left_out_support"] == 12  # two patients of two pictures of every class
    assert json.loads(told.out)["images"] == 12
    assert "adapted with groups" not in told.err
    told = farshot("evaluate", out, by_patient)
    assert "adapted with groups" in told.err and "--groups" in told.err
    assert farshot("adapt", by_patient, "--out", out, *arguments, "--groups", "nothing").code == 2


def test_the_command_that_measures_has_the_options_that_found_the_images(
    farshot: Farshot, by_patient: Path, tmp_path: Path
):
    """Labels are the folders of the second level; one of the pictures cannot be read."""
    place, out = tmp_path / "places" / "north", tmp_path / "adapted"
    place.parent.mkdir()
    by_patient.rename(place)
    (next(place.glob("*")) / "broken.png").write_bytes(b"no image")
    arguments = ("--out", out, "--model", "mini", "--method", "prototypes", "--shots", 2)
    told = farshot("adapt", place.parent, *arguments, "--level", 2, "--skip-unreadable")
    assert told.code == 0, told.err
    command = f"farshot evaluate {out} {place.parent} --level 2 --skip-unreadable"
    assert f"18 images are left for measuring: {command}\n" in told.out
    told = farshot(*shlex.split(command)[1:], "--json")
    assert json.loads(told.out)["images"] == 18


def test_a_column_of_another_name_groups(tmp_path: Path, by_patient: Path):
    rows = [
        f"{file.relative_to(by_patient.parent)},{file.parent.name},{file.stem[:-2]}"
        for file in sorted(by_patient.rglob("*.png"))
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,Patient", *rows]))
    table = read_table(tmp_path / "table.csv", groups="patient")
    assert table.groups is not None
    assert len(set(table.groups)) == len(TABLE) / 2
    assert read_table(tmp_path / "table.csv").groups is None
    assert read_table(tmp_path / "table.csv", groups=r"p\d+").groups == table.groups


def test_a_benchmark_keeps_groups_and_near_copies_of_own_images_apart(by_patient: Path, tmp_path: Path):
    pool = pool_of("own", read_table(by_patient, groups=r"p\d+"))
    ungrouped = pool_of("own", read_table(by_patient))
    assert pool.fingerprint != ungrouped.fingerprint
    shared = 0
    for index in range(20):
        shape = {"ways": 3, "shots": 2, "queries": 4, "seed": 1, "index": index}
        task = sample_task(pool, **shape)
        groups = np.array(pool.table.groups)
        assert not set(groups[task.support]) & set(groups[task.query])
        assert np.bincount(query_labels(task)).tolist() == [4, 4, 4]
        assert len({*task.support, *task.query}) == 18
        plain = sample_task(ungrouped, **shape)
        shared += len(set(groups[plain.support]) & set(groups[plain.query]))
    assert shared  # without groups they are mixed
    with pytest.raises(DataError, match="too few images of groups that are not in the support set"):
        sample_task(pool, ways=3, shots=4, queries=4)

    original = by_patient / "river" / "p8_0.png"
    CHANGES["half the size"](Image.open(original)).save(by_patient / "river" / "small.png")
    pool = cached(pool_of("own", read_table(by_patient)), tmp_path / "cache")
    assert sorted(pool.ids[row] for row in pool.copies) == ["river/p8_0.png", "river/small.png"]
    again = cached(pool_of("own", read_table(by_patient)), tmp_path / "cache")
    assert again.copies == pool.copies


def test_the_fingerprint_of_a_pool_is_that_of_its_groups_and_copies_in_any_order(tmp_path: Path):
    rows = [f"{number}.png,{'ab'[number // 4]},g{number // 2}" for number in range(8)]
    for number in range(8):  # 7 is a copy of 0
        pixels = np.random.RandomState(number % 7).randint(0, 256, (16, 16, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")

    def fingerprint(rows: list[str]) -> str:
        (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *rows]))
        return pool_of("own", read_table(tmp_path / "table.csv")).fingerprint

    first = fingerprint(rows)
    assert fingerprint(rows[::-1]) == fingerprint([*rows[3:], *rows[:3]]) == first
    assert (
        first == "11cdd36f729ef096e6b4ebb9bdba3e67"
    )  # that of earlier versions, for rows in the order of their names
    swapped = [row.replace("g1", "g0") if row.startswith("3") else row for row in rows]
    swapped = [row.replace("g0", "g1") if row.startswith("0") else row for row in swapped]
    assert fingerprint([swapped[3], *swapped[1:3], swapped[0], *swapped[4:]]) != first


def test_contradictions_of_your_own_images_are_called_so(farshot: Farshot, tmp_path: Path):
    folder = class_folders(tmp_path / "mine", ("cat", "dog"), 2)
    (folder / "dog" / "9.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    told = farshot("data", "check", "mine", folder)
    assert "CONTRADICTION: 1 pictures are in several classes: cat/0.png (cat) = dog/9.png (dog)" in told.out
    assert "mine can be used, but holds contradictions: 5 images of 2 classes." in told.out
    assert "differs" not in told.out.lower()


def test_data_check_and_reports_know_near_copies_and_groups(
    farshot: Farshot, by_patient: Path, tmp_path: Path
):
    original = by_patient / "river" / "p8_0.png"
    CHANGES["mirrored"](Image.open(original)).save(by_patient / "river" / "mirrored.png")
    told = farshot("data", "check", "own", by_patient)
    assert "1 pictures occur again in another size, compression, brightness or orientation" in told.out
    assert "river/mirrored.png (river) = river/p8_0.png (river)" in told.out
    assert "can be used, but holds copies" in told.out
    (by_patient / "river" / "mirrored.png").unlink()
    grouped = ("--groups", r"p\d+")
    adapted = tmp_path / "adapted"
    farshot(
        *("adapt", by_patient, "--out", adapted, "--model", "mini", "--method", "prototypes"),
        *("--shots", 2, *grouped),
    )
    told = farshot(
        *("report", adapted, "--data", by_patient, "--out", tmp_path / "r.html", "--images", 0, *grouped)
    )
    assert told.code == 0, told.err
    assert "on 12 images that it was not adapted to" in (tmp_path / "r.html").read_text()

"""Copies of a picture are one picture: in folds, tasks, evaluations and saved folders."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import config
from PIL import Image

from farshot import FewShotClassifier, load
from farshot.bench.tasks import sample_task
from farshot.data.cache import cached
from farshot.data.given import image_table, labelled_table
from farshot.data.independence import units
from farshot.data.pool import Pool, pool_of
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.errors import DataError, FarshotError
from farshot.images.identity import content_id
from farshot.images.reading import image_id
from farshot.task import Task
from tests.input_helpers import Farshot, class_folders, picture
from tests.toy import toy_task, world_table

TABLE = world_table(count=60)
TASK = toy_task(TABLE, shots=4)
IMAGES = [TABLE.images[row] for row in TASK.support]
LABELS = [TABLE.classes[code] for code in TASK.labels]
QUERIES = [TABLE.images[row] for row in TASK.query[:10]]


def zero_shot(**more: Any) -> FewShotClassifier:
    return FewShotClassifier("mini", "zero-shot", **more)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Wrong types on purpose: only farshot may refuse them."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def test_one_picture_has_one_identity_in_any_format(tmp_path: Path) -> None:
    image = picture(1)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.tif")
    image.save(tmp_path / "c.png", compress_level=0)
    turned.save(tmp_path / "turned.png", exif=exif)
    sources = [tmp_path / name for name in ("a.png", "b.tif", "c.png", "turned.png")]
    same = [*sources, image, np.asarray(image), (tmp_path / "a.png").read_bytes()]
    assert len({content_id(source) for source in same}) == 1
    assert content_id(picture(2)) != content_id(image)
    picture(3).save(tmp_path / "a.png")
    assert content_id(tmp_path / "a.png") == content_id(picture(3))


@pytest.mark.parametrize("kind", ["palette", "orientation", "transparency"])
def test_images_with_equal_stored_values_that_show_something_else_differ(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4, (64, 64), dtype=np.uint8)
    made = []
    for number in (0, 1):
        image = Image.fromarray(pixels, "L")
        if kind == "palette":
            image = Image.fromarray(pixels, "P")
            image.putpalette(np.random.default_rng(number).integers(0, 256, 768).tolist())
        elif kind == "orientation":
            exif = Image.Exif()
            exif[0x0112] = (1, 3)[number]
            image.save(tmp_path / "x.png", exif=exif)
            image = Image.open(tmp_path / "x.png")
            image.load()
        else:
            image.info["transparency"] = number
        made.append(image)
    assert image_id(made[0]) != image_id(made[1])
    fitted = zero_shot().fit(IMAGES, LABELS)
    alone = [zero_shot().fit(IMAGES, LABELS).predict_proba([one])[0] for one in made]
    assert not np.array_equal(*alone)
    np.testing.assert_allclose(fitted.predict_proba(made), alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["F", "negative F", "I", "I;16"])
def test_deep_images_that_only_a_range_tells_apart_differ(kind: str) -> None:
    """By default both of a pair are read as the same picture."""
    grey = np.arange(64 * 64).reshape(64, 64) % 200
    pairs = {
        "F": [(1e-6 * grey).astype(np.float32), (2e-6 * grey).astype(np.float32)],
        "negative F": [-grey.astype(np.float32), -2 * grey.astype(np.float32)],
        "I": [-grey.astype(np.int32), -2 * grey.astype(np.int32)],
        "I;16": [np.full((64, 64), 4000, np.uint16), np.full((64, 64), 4001, np.uint16)],
    }
    low, high = {"F": (0, 4e-4), "I;16": (4000, 4001)}.get(kind, (-400, 0))
    made = [Image.fromarray(values) for values in pairs[kind]]
    assert content_id(made[0]) == content_id(made[1])
    assert image_id(made[0]) != image_id(made[1])
    fitted = FewShotClassifier("mini", "prototypes", read_options={"range": (low, high)}, calibrate=False)
    assert fitted.fit(made, ["dark", "light"]).predict(made).tolist() == ["dark", "light"]


def test_ids_of_pictures_of_8_bits_stay_as_stores_hold_them() -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    image = Image.fromarray(grey)
    transparent = image.convert("RGBA")
    transparent.putalpha(128)
    assert [image_id(one) for one in (image, image.convert("RGB"), image.convert("P"), transparent)] == [
        "d9b91cf454e4e167d0fc78874f971fdb",
        "c92eedf72f5341040100bf6111eb5baf",
        "c92eedf72f5341040100bf6111eb5baf",
        "9a4047687c5dfa01f3c4e7fbffd151ac",
    ]


def test_copies_are_in_one_fold_and_folds_without_copies_stay_as_they_were() -> None:
    labels = [*LABELS, *LABELS]
    table, _ = labelled_table([*IMAGES, *(Image.fromarray(np.asarray(i)) for i in IMAGES)], labels)
    number = units(table, np.arange(len(table)))
    assert number[: len(IMAGES)].tolist() == number[len(IMAGES) :].tolist()
    for method in ("zero-shot", "prototypes"):
        made = FewShotClassifier("mini", method)
        once, twice = made.held_out(IMAGES, LABELS, folds=4), made.held_out(table, folds=4)
        half = len(IMAGES)
        assert twice.fold[:half].tolist() == twice.fold[half:].tolist() == once.fold.tolist()
    estimate = FewShotClassifier("mini", "prototypes")
    assert estimate.estimate(table).accuracy.mean == estimate.estimate(IMAGES, LABELS).accuracy.mean


def test_two_copies_are_too_few_for_an_estimate() -> None:
    with pytest.raises(DataError, match="1 different ones among 2, the rest are copies"):
        zero_shot().estimate([IMAGES[0], IMAGES[0], IMAGES[-1], IMAGES[-1]], ["a", "a", "b", "b"])


@pytest.mark.parametrize("given", ["files", "pictures", "arrays"])
@pytest.mark.parametrize("later", ["files", "pictures", "arrays"])
def test_an_evaluation_leaves_the_support_out_however_it_is_given(given: str, later: str, tmp_path: Path):
    def as_given(kind: str) -> tuple[Any, ...]:
        if kind == "arrays":
            return tuple(map(np.asarray, TABLE.images))
        pictures = [Image.fromarray(np.asarray(image)) for image in TABLE.images]
        if kind == "pictures":
            return tuple(pictures)
        for number, one in enumerate(pictures):
            one.save(tmp_path / f"{number}.png")
        return tuple(tmp_path / f"{number}.png" for number in range(len(pictures)))

    made = zero_shot().fit(replace(TABLE, images=as_given(given), _ids={}, _contents={}).subset(TASK.support))
    table = replace(TABLE, images=as_given(later), _ids={}, _contents={})
    result = made.evaluate(table)
    assert result.left_out == len(IMAGES)
    assert result.confusion.sum() == len(TABLE) - len(IMAGES)
    made.save(tmp_path / "model")
    assert load(tmp_path / "model").evaluate(table).left_out == len(IMAGES)


def test_a_folder_of_an_earlier_version_leaves_its_support_out(tmp_path: Path) -> None:
    support = TABLE.subset(TASK.support)
    zero_shot().fit(support).save(tmp_path / "model")
    path = tmp_path / "model" / "farshot.json"
    about = json.loads(path.read_text())
    assert all(name.startswith("rgb-") for name in about["support_ids"])
    path.write_text(json.dumps(about | {"support_ids": list(support.ids)}))
    assert load(tmp_path / "model").evaluate(TABLE).left_out == len(support)


def copied_pool(images: int, copies: int) -> Pool:
    """Three classes of so many pictures, each of them this often."""
    pictures = [np.asarray(picture(i)) for i in range(3 * images)]
    names = ("a", "b", "c")
    rows = [p for p in pictures for _ in range(copies)]
    table = ImageTable(tuple(rows), np.repeat(np.arange(3), images * copies), names, names)
    return pool_of("copied", table)


@pytest.mark.parametrize("index", range(20))
def test_no_task_holds_a_picture_twice(index: int) -> None:
    pool = copied_pool(12, 2)
    task = sample_task(pool, ways=3, shots=2, queries=10, index=index)
    shown = pool.table.contents(np.concatenate([task.support, task.query]))
    assert len(set(shown)) == len(shown) == 36


def test_a_copy_changes_only_the_tasks_that_hold_it() -> None:
    pool = copied_pool(40, 1)
    images = list(pool.table.images)
    images[1] = images[0]
    other = pool_of("copied", replace(pool.table, images=tuple(images), _ids={}, _contents={}))
    assert other.fingerprint != pool.fingerprint
    changed = 0
    for index in range(60):
        before, after = (sample_task(p, ways=3, shots=5, queries=5, index=index) for p in (pool, other))
        rows = np.concatenate([before.support, before.query])
        same = np.array_equal(rows, np.concatenate([after.support, after.query]))
        assert same == (not {0, 1} <= set(rows.tolist()))
        changed += not same
    assert changed


def test_too_few_different_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="too few different pictures"):
        sample_task(copied_pool(5, 4), ways=3, shots=1, queries=15)


def test_a_draw_takes_different_pictures_and_leaves_their_copies_out() -> None:
    table = copied_pool(6, 2).table
    support, rest = table.draw(3, 0)
    shown = table.contents(support)
    assert len(set(shown)) == 9
    assert not set(shown) & set(table.contents(rest))
    with pytest.raises(DataError, match="only 6 different pictures"):
        table.draw(7, 0)


def test_the_index_knows_the_pictures_and_an_earlier_one_is_completed(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "p")
    Image.open(folder / "cat" / "0.png").save(folder / "cat" / "copy.tif")
    pool = cached(pool_of("p", read_table(folder)), tmp_path / "cache")
    assert sorted(pool.ids[row] for row in pool.copies) == ["cat/0.png", "cat/copy.tif"]
    (index,) = (tmp_path / "cache").rglob("index.json")
    known = json.loads(index.read_text())
    index.write_text(json.dumps({name: values[:5] for name, values in known.items()}))
    assert cached(pool_of("p", read_table(folder)), tmp_path / "cache").copies == pool.copies
    assert json.loads(index.read_text()) == known


def test_data_check_names_copies(farshot: Farshot, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "p", images=3)
    Image.open(folder / "cat" / "0.png").save(folder / "cat" / "copy.tif")
    told = farshot("data", "check", "own", folder)
    assert "cat/0.png = cat/copy.tif" in told.out
    assert "in order" not in told.out
    Image.open(folder / "cat" / "1.png").save(folder / "dog" / "copy.tif")
    assert "cat/1.png (cat) = dog/copy.tif (dog)" in farshot("data", "check", "own", folder).out


# fitted state and calibration ----------------------------------------------------------------------------


def test_what_was_fitted_is_what_is_saved(tmp_path: Path) -> None:
    words = {"highway": "a wide road"}
    made = zero_shot(descriptions=words).fit(IMAGES, LABELS)
    expected = made.predict_proba(QUERIES)
    words["highway"] = "a field"
    made.set_params(method="atha", template="a drawing of {}.", seed=9, precision="bf16", model="nowhere")
    made.save(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "farshot.json").read_text())
    assert about["descriptions"] == {"highway": "a wide road"}
    assert (about["method"], about["template"], about["seed"]) == ("zero-shot", "a photo of a {}.", 0)
    assert np.array_equal(load(tmp_path / "model").predict_proba(QUERIES), expected)


def test_an_estimate_with_calibration_is_calibrated_and_folds_run_once(monkeypatch) -> None:
    from farshot.methods.linear_probe import LinearProbe

    runs = []
    real = LinearProbe.adapt
    monkeypatch.setattr(LinearProbe, "adapt", lambda self, *a, **k: runs.append(a[1]) or real(self, *a, **k))
    labels = ["highway", "orchard", *LABELS[2:]]  # one is wrong, so that there is a temperature
    made = FewShotClassifier("mini", "linear-probe", calibrate=True)
    found = made.estimate(IMAGES, labels)
    held_out = made.held_out(IMAGES, labels)
    assert found.calibrated
    assert found.nll == held_out.evaluation(calibrated=True).nll != held_out.evaluation().nll
    made.fit(IMAGES, labels)
    assert [len(tasks) for tasks in runs] == [4, 1]
    assert made.temperature_ == held_out.temperature()


def test_a_transductive_method_says_so(farshot: Farshot, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "p")
    FewShotClassifier("mini", "transclip").fit(read_table(folder)).save(tmp_path / "model")
    told = farshot("predict", tmp_path / "model", folder, "--json")
    assert "transclip is transductive: the 9 images were classified together" in told.err
    assert all("9 images" in one["note"] for one in json.loads(told.out))
    assert "transductive" in (FewShotClassifier.predict.__doc__ or "")


# the Python interface ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 9, 3), (3, 8, 9), (8, 9, 1), (4, 8, 9), (8, 9), (8,)])
def test_an_array_that_is_one_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"put it in brackets"):
        image_table(np.zeros(shape, np.uint8))


def test_batches_of_images_are_taken() -> None:
    for shape in ((2, 8, 9, 3), (5, 8, 9), (1, 8, 9)):
        assert len(image_table(np.zeros(shape, np.uint8))) == shape[0]


def test_other_collections_are_refused_with_the_way_out(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"path": ["a.png", "b.png"]})
    picture(0).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        for images, words in (
            (frame, r"X\['path'\]"),
            (frame.to_numpy(), r"X.ravel\(\)"),
            (file, "an open file"),
            ([file], "Image 1, an open file"),
            (None, "None"),
            (7, "not int"),
            ({"a.png"}, "not a set"),
            ([tmp_path / "a.png", None], "Image 2"),
        ):
            with pytest.raises(DataError, match=words):
                image_table(images)
    assert image_table(frame["path"]).images == ("a.png", "b.png")


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(0).save(tmp_path / "a.png")
    expected = zero_shot().fit(IMAGES, LABELS).save("~/model")
    assert expected is None
    made = load("~/model")
    assert np.array_equal(made.predict(["~/a.png", Path("~/a.png")]), made.predict([tmp_path / "a.png"] * 2))
    assert image_table(["~nobody-of-this-name/a.png"]).images == ("~nobody-of-this-name/a.png",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": "road"}, "class_names is 'road'"),
        ({"class_names": {"highway": "a", "orchard": "b", "Orchard": "c"}}, "'Orchard'"),
        ({"class_names": ["road", None]}, "None as a name"),
        ({"class_names": ["road", " "]}, "' ' as a name"),
        ({"class_names": ["big  road", "big road"]}, "same name in prompts"),
        ({"class_names": 3}, "class_names is a int"),
        ({"descriptions": {"hihgway": "a road"}}, "descriptions describes 'hihgway'"),
        ({"descriptions": {"highway": ""}}, "description of 'highway'"),
        ({"descriptions": "x"}, "parameter descriptions"),
        ({"model": None}, "parameter model"),
        ({"method": None}, "parameter method"),
        ({"template": None}, "parameter template"),
        ({"settings": "steps=1"}, "parameter settings"),
        ({"device": None}, "parameter device"),
        ({"precision": None}, "parameter precision"),
        ({"seed": None}, "parameter seed"),
        ({"micro_batch": 0}, "micro_batch"),
    ],
)
def test_parameters_that_cannot_be_used_are_named(unchecked, change: dict[str, Any], words: str) -> None:
    made = FewShotClassifier(**({"model": "mini", "method": "zero-shot"} | change))
    with pytest.raises(FarshotError, match=words):
        made.fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["", "", "b", "b"], "'' is blank"),
        (["a  b", "a  b", "a b", "a b"], "same name in prompts"),
        ([b"a", b"a", b"b", b"b"], "label.decode"),
        (np.array(["2020-01-01", "2020-01-01", "2021-01-01", "2021-01-01"], "M8[D]"), "use str"),
        ([1j, 1j, 2j, 2j], "neither a word nor a number"),
        ([["a"], ["a"], ["b"], ["b"]], r"y.ravel\(\)"),
        ([["a"], ["a", "b"], [], []], "different lengths"),
        ([None] * 4, r"Image 1 has no label \(None\)"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_when_fitting(unchecked, labels: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        zero_shot().fit([*IMAGES[:2], *IMAGES[-2:]], labels)


@pytest.mark.parametrize(
    "labels", [[" " * 9000] * 4, ["a  " + "b" * 9000, "a " + "b" * 9000] * 2, ["c" * 9000] * 4]
)
def test_a_label_of_any_length_is_refused_in_one_short_sentence(unchecked, labels: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        zero_shot().fit(IMAGES[:4], labels)
    assert len(str(refused.value)) < 400


def test_none_is_refused_by_name(unchecked) -> None:
    made = zero_shot().fit(IMAGES, LABELS)
    for ask in (made.predict, made.save, load, made.evaluate, lambda x: zero_shot().fit(x, LABELS)):
        with pytest.raises(FarshotError, match="None"):
            ask(None)


def test_descriptions_may_use_labels() -> None:
    names = {"highway": "road", "orchard": "trees"}
    by_label, by_name = (
        zero_shot(class_names=names, descriptions={key: "a wide road"}).fit(IMAGES, LABELS)
        for key in ("highway", "road")
    )
    assert np.array_equal(by_label.predict_proba(QUERIES), by_name.predict_proba(QUERIES))


def test_copies_without_warnings() -> None:
    """Copies among the labelled images are used without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero_shot().fit([*IMAGES, IMAGES[0]], [*LABELS, LABELS[0]])
    assert Task(TABLE, TABLE.names, TASK.support, TASK.labels).shots == 4


def test_a_group_is_in_one_fold_with_all_that_shares_its_pictures():
    images = [np.full((8, 8, 3), value, dtype=np.uint8) for value in (1, 2, 3, 1, 5, 6)]
    groups = ("a", "a", "b", "b", "c", "d")  # rows 0 and 3 are one picture, which joins a and b
    table = ImageTable(tuple(images), None, (), (), groups=groups)
    assert units(table, np.arange(6)).tolist() == [0, 0, 0, 0, 1, 2]
    assert units(table, np.array([5, 1, 2])).tolist() == [0, 1, 2]

"""Labelling in rounds: several tables at once, and an adapted model with more images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from farshot import FewShotClassifier, load, load_encoder
from farshot.classifier.hub import files_to_upload
from farshot.data.merge import merged
from farshot.data.readers import read_table
from farshot.errors import DataError
from tests.input_helpers import Farshot
from tests.toy import as_folder, world_table

TABLE = world_table(count=120, classes=("highway", "orchard", "river"))


def write(folder: Path, rows: range, classes: tuple[str, ...] = TABLE.classes) -> Path:
    """A folder per class with these rows of the table, as far as they are of these classes."""
    assert TABLE.labels is not None
    return as_folder(TABLE, folder, [row for row in rows if TABLE.classes[int(TABLE.labels[row])] in classes])


def test_several_folders_are_one(farshot: Farshot, tmp_path: Path):
    a, b = write(tmp_path / "a", range(20), ("highway", "orchard")), write(tmp_path / "b", range(20, 40))
    both = write(tmp_path / "both", range(20), ("highway", "orchard"))
    write(both, range(20, 40))
    told = farshot("adapt", a, b, "--out", tmp_path / "m", "--model", "mini", "--method", "prototypes")
    assert told.code == 0, told.err
    farshot("adapt", both, "--out", tmp_path / "n", "--model", "mini", "--method", "prototypes")
    two, one = load(tmp_path / "m"), load(tmp_path / "n")
    assert sorted(two.support_ids_) == sorted(one.support_ids_)
    np.testing.assert_allclose(two.predict_proba(TABLE), one.predict_proba(TABLE), atol=1e-3)
    names = tmp_path / "names.txt"
    names.write_text("highway: wide road\norchard: fruit trees\nriver: stream\n")
    told = farshot(
        *("adapt", a, b, "--out", tmp_path / "m", "--model", "mini", "--method", "prototypes"),
        *("--class-names", names),
    )
    assert load(tmp_path / "m").adapted_.class_names == ("wide road", "fruit trees", "stream")


def test_tables_that_do_not_fit_are_refused(tmp_path: Path):
    a = read_table(write(tmp_path / "a", range(20)))
    split = read_table(write(tmp_path / "s" / "train", range(20)).parent)
    with pytest.raises(DataError, match="s has splits and a has none"):
        merged([a, split], ["a", "s"])
    other = read_table(tmp_path / "a", class_names=["road", "trees", "water"])
    with pytest.raises(DataError, match="calls the class 'highway' 'road'"):
        merged([a, other], ["a", "b"])
    grouped = read_table(tmp_path / "a", groups=r"\d\d")
    both = merged([a, grouped], ["a", "b"])
    assert both.groups is not None
    assert len(set(both.groups[: len(a)])) == len(a)
    assert merged([a], ["a"]) is a
    thrice = merged([both, a], ["m", "c"]).groups  # as `--from` does with a model of both
    assert thrice is not None
    assert thrice[: len(both)] == both.groups
    assert len(set(thrice)) == len(set(both.groups)) + len(a)


def test_an_adapted_model_takes_more_images_and_a_new_class(farshot: Farshot, tmp_path: Path):
    first = write(tmp_path / "first", range(25), ("highway", "orchard"))
    names = tmp_path / "names.txt"
    names.write_text("highway: wide road\norchard: fruit trees\n")
    told = farshot(
        *("adapt", first, "--out", tmp_path / "m", "--model", "mini", "--method", "linear-probe"),
        *("--set", "C=5", "--seed", 3, "--template", "a drawing of a {}.", "--class-names", names),
    )
    assert told.code == 0, told.err
    old = load(tmp_path / "m")
    more = write(tmp_path / "more", range(25, 45))
    told = farshot("adapt", more, "--from", tmp_path / "m", "--out", tmp_path / "n")
    assert told.code == 0, told.err
    new = load(tmp_path / "n")
    assert new.parameters_.template == "a drawing of a {}."
    assert (new.method, new.method_.settings()["C"], new.parameters_.seed) == ("linear-probe", 5, 3)
    assert set(new.classes_) == {"highway", "orchard", "river"}
    assert new.adapted_.class_names == ("wide road", "fruit trees", "river")
    assert set(old.support_ids_) < set(new.support_ids_)
    assert len(new.support_ids_) == len(old.support_ids_) + len(list(more.rglob("*.png")))

    told = farshot("adapt", more, "--from", tmp_path / "m", "--out", tmp_path / "o", "--set", "C=1")
    assert told.code == 2
    assert "leave out --set" in told.err
    next(first.rglob("*.png")).unlink()
    told = farshot("adapt", more, "--from", tmp_path / "m", "--out", tmp_path / "o")
    assert told.code == 2
    assert "no longer there or has changed" in told.err


def test_more_images_are_adapted_to_at_the_size_of_the_first(farshot: Farshot, tmp_path: Path):
    first = read_table(write(tmp_path / "first", range(25), ("highway", "orchard")))
    FewShotClassifier(load_encoder("mini", size=96), "prototypes").fit(first).save(tmp_path / "m")
    more = write(tmp_path / "more", range(25, 45))
    told = farshot("adapt", more, "--from", tmp_path / "m", "--out", tmp_path / "n")
    assert told.code == 0, told.err
    assert "Adapted mini with prototypes" in told.out
    new = load(tmp_path / "n")
    assert (new.encoder_.size, new.parameters_.model) == (96, "mini")


def test_a_fine_tuned_model_is_cross_validated_again_if_it_was(farshot: Farshot, tmp_path: Path):
    first, more = (
        write(tmp_path / "first", range(25), ("highway", "orchard")),
        write(tmp_path / "b", range(25, 45)),
    )
    tuned = ("--model", "mini", "--method", "bitfit", "--set", "steps=1", "--set", "views=none", "--estimate")
    assert farshot("adapt", first, *tuned, "--out", tmp_path / "m").code == 0
    assert farshot("adapt", more, "--from", tmp_path / "m", "--out", tmp_path / "n").code == 0
    assert load(tmp_path / "n").calibrated_
    told = farshot("adapt", more, "--from", tmp_path / "m", "--no-estimate", "--out", tmp_path / "o")
    assert told.code == 0 and not load(tmp_path / "o").calibrated_


def test_images_in_memory_cannot_be_found_again(farshot: Farshot, tmp_path: Path):
    FewShotClassifier("mini", "prototypes").fit(TABLE).save(tmp_path / "m")
    told = farshot(
        "adapt", write(tmp_path / "a", range(20)), "--from", tmp_path / "m", "--out", tmp_path / "n"
    )
    assert told.code == 2
    assert "does not know where its images lie" in told.err


def test_where_images_lie_is_kept_and_not_pushed(tmp_path: Path):
    table = read_table(write(tmp_path / "a", range(20)), groups=r"\d\d")
    made = FewShotClassifier("mini", "prototypes").fit(table)
    made.save(tmp_path / "m")
    assert load(tmp_path / "m").support_places_ == made.support_places_
    assert {one["path"] for one in made.support_places_} == {str(path) for path in table.images}
    assert table.groups is not None
    assert [one["group"] for one in made.support_places_] == list(table.groups)
    assert set(files_to_upload(tmp_path / "m", "ada/clip")) == {"farshot.json", "parts.safetensors"}
    text = (tmp_path / "m" / "labelled.json").read_text()
    (tmp_path / "m" / "labelled.json").write_text(json.dumps({"images": [{"path": 3}]}))
    from farshot.errors import ModelError

    with pytest.raises(ModelError, match=r"labelled.json is damaged"):
        load(tmp_path / "m")
    (tmp_path / "m" / "labelled.json").write_text(text)
    assert load(tmp_path / "m").support_places_ == made.support_places_


# fewer classes ------------------------------------------------------------------------------------------


def test_a_choice_between_some_classes_is_the_softmax_of_their_logits(farshot: Farshot, tmp_path: Path):
    made = FewShotClassifier("mini", "prototypes").fit(TABLE)
    assert TABLE.labels is not None
    logits = made.logits(TABLE)
    some = made.predict_proba(TABLE, ["river", "highway"])
    expected = np.exp(logits[:, [2, 0]]) / np.exp(logits[:, [2, 0]]).sum(1, keepdims=True)
    np.testing.assert_allclose(some, expected, atol=1e-5)
    assert set(made.predict(TABLE, ["river", "highway"])) == {"river", "highway"}
    assert (made.predict(TABLE, TABLE.classes) == made.predict(TABLE)).all()
    with pytest.raises(DataError, match="'lake' is not one of the classes"):
        made.predict_proba(TABLE, ["river", "lake"])
    with pytest.raises(DataError, match="at least two"):
        made.predict(TABLE, ["river", "river"])

    made.save(tmp_path / "m")
    images = write(tmp_path / "a", range(6))
    told = farshot("predict", tmp_path / "m", images, "--only", "river", "--only", "highway", "--json")
    for row in json.loads(told.out):
        assert list(row["probabilities"]) == ["river", "highway"]
        assert row["class"] == max(row["probabilities"], key=row["probabilities"].get)
    told = farshot("predict", tmp_path / "m", images, "--only", "river", "--only", "highway", "--csv")
    assert told.out.splitlines()[0] == "image,class,river,highway,p_value"
    told = farshot("predict", tmp_path / "m", images, "--only", "river", "--coverage", 0.5)
    assert told.code == 2
    assert "leave out --only" in told.err

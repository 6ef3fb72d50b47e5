"""Names of classes never change places silently: a label that is misspelt, doubled or written in another way
is refused by name, and classes that are numbers are in the order of numbers."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from farshot import FewShotClassifier, load
from farshot.app.workspace.classes import ClassWords
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.run import adapt
from farshot.app.workspace.state import Setup, Workspace
from farshot.data.names import descriptions_of, in_class_order, read_names
from farshot.data.readers import read_table
from farshot.errors import DataError
from tests.bench_helpers import folder_pool
from tests.input_helpers import Farshot, class_folders, picture, refusal
from tests.workspaces import labelled

CLASSES = ("Field", "Forest", "Äcker")
IMAGES = [picture(number) for number in range(6)]
LABELS = ["Field", "Field", "Forest", "Forest", "Äcker", "Äcker"]


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def land(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "land", CLASSES, 2)


def names_of(folder: Path, file: Path, text: str) -> dict[str, str]:
    file.write_text(text, encoding="utf-8")
    table = read_table(folder, class_names=file)
    return dict(zip(table.classes, table.names, strict=True))


# Files of names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Forest: woods\nFeild: farm\nÄcker: acres\n", "no name for the class 'Field', but one for 'Feild'"),
        ("forest: woods\nfield: farm\näcker: acres\n", "for the class 'Field', but one for 'field'"),
        ("0: farm\n1: woods\n2: acres\n", "no name for the class 'Field', but one for '"),
        ("Forest = woods\nField = farm\nÄcker = acres\n", "line 1: 'Forest = woods' is neither a name nor"),
        ("Forest\twoods\nField\tfarm\nÄcker\tacres\n", "line 1: 'Forest\\twoods' is neither a name nor"),
        ("Forest -> woods\nField -> farm\nÄcker -> acres\n", "is neither a name nor 'label: name'"),
        ("Forest: woods\nField farm\nÄcker: acres\n", "line 2: 'Field farm' is not of the form"),
        ("Forest: woods\nField: farm\nField: barn\nÄcker: acres\n", "line 3: 'Field' is named twice"),
        ("Forest: woods\nField:\nÄcker: acres\n", "line 2: no name for 'Field'"),
        ("Forest\nField\nÄcker\n", "calls the class 'Field' 'Forest', which is another class"),
        ("woods\nField\nacres\n", "calls the class 'Forest' 'Field', which is another class"),
    ],
)
def test_a_file_whose_labels_do_not_fit_is_refused(land: Path, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as error:
        names_of(land, tmp_path / "names.txt", text)
    assert words in str(error.value)
    assert "names.txt" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Field": "farm", "Forest": "woods", "Field": "barn", "Äcker": "acres"}', "the key 'Field' twice"),
        ('{"Feild": "farm", "Forest": "woods", "Äcker": "acres"}', "but one for 'Feild'"),
        (json.dumps({"Field": "farm", "Forest": "woods", "Äcker": "a", decomposed("Äcker"): "b"}), "twice"),
        ('["Forest", "Field", "Äcker"]', "which is another class"),
    ],
)
def test_json_whose_labels_do_not_fit_is_refused(land: Path, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        names_of(land, tmp_path / "names.json", text)


@pytest.mark.parametrize("form", [composed, decomposed])
@pytest.mark.parametrize("written", [composed, decomposed])
def test_labels_are_compared_in_one_unicode_form(tmp_path: Path, form, written) -> None:
    folder = class_folders(tmp_path / "land", tuple(map(form, CLASSES)), 1)
    found = names_of(folder, tmp_path / "names.txt", written("Äcker: acres\nForest: woods\nField: farm\n"))
    assert found == {"Field": "farm", "Forest": "woods", "Äcker": "acres"}
    table = read_table(folder, class_names={written("Äcker"): "acres", "Forest": "woods", "Field": "farm"})
    assert table.names == ("farm", "woods", "acres")


def test_two_folders_of_one_name_in_two_unicode_forms_are_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "land", ("Forest", composed("Äcker")), 1)
    try:
        class_folders(folder, (decomposed("Äcker"),), 1, start=50)
    except FileExistsError:
        pytest.skip("this file system takes both forms for one name")
    with pytest.raises(DataError, match="two classes of one name, 'Äcker'"):
        read_table(folder, for_prompts=False)


def test_labels_and_names_may_contain_colons_where_they_are_clear(tmp_path: Path) -> None:
    classes = ("a", "a: b", "c")
    (tmp_path / "x").mkdir()
    for number, _ in enumerate(classes):
        picture(number).save(tmp_path / "x" / f"{number}.png")
    rows = "".join(f'{number}.png,"{name}"\n' for number, name in enumerate(classes))
    (tmp_path / "x" / "list.csv").write_text("path,label\n" + rows)
    found = names_of(tmp_path / "x" / "list.csv", tmp_path / "n.txt", "c: 3: three\na: b: 2\na: 1\n")
    assert found == {"a": "1", "a: b": "2", "c": "3: three"}


def test_names_without_data_are_of_one_form(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("a: cat\nb: dog\n")
    assert read_names(path) == {"a": "cat", "b": "dog"}
    for text, words in (("a: cat\ndog\n", "line 2: 'dog' is not"), ("a: cat\na: dog\n", "named twice")):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_names(path)


# In Python -----------------------------------------------------------------------------------------------


def zero_shot(**more) -> FewShotClassifier:
    return FewShotClassifier("mini", "zero-shot", device="cpu", **more)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"Feild": "farm", "Forest": "woods", "Äcker": "acres"}, "but one for 'Feild'"),
        ({"Field": "farm", "Forest": "w", "Äcker": "a", decomposed("Äcker"): "b"}, "names 'Äcker' twice"),
        (["Forest", "Field", "Äcker"], "which is another class"),
    ],
)
@pytest.mark.parametrize("as_table", [False, True])
def test_class_names_in_python_are_held_to_the_same(names, words: str, as_table: bool, land: Path) -> None:
    X, y = (read_table(land), None) if as_table else (IMAGES, LABELS)
    with pytest.raises(DataError, match=words):
        zero_shot(class_names=names).fit(X, y)


@pytest.mark.parametrize(
    "names", [{"Forest": "woods", "Field": "farm", decomposed("Äcker"): "acres"}, ["farm", "woods", "acres"]]
)
def test_class_names_reach_the_prompts_of_a_table(land: Path, names) -> None:
    assert zero_shot(class_names=names).fit(read_table(land)).adapted_.class_names == (
        *("farm", "woods", "acres"),
    )


def test_one_label_in_two_unicode_forms_is_refused() -> None:
    labels = ["Field", "Field", "Field", "Äcker", "Äcker", decomposed("Äcker")]
    with pytest.raises(DataError, match="'Äcker' is written in two Unicode forms"):
        zero_shot().fit(IMAGES, labels)


def test_labels_come_back_as_written_and_are_evaluated_in_any_form(land: Path) -> None:
    labels = list(map(decomposed, LABELS))
    made = zero_shot().fit(IMAGES, labels)
    assert set(made.classes_) == set(labels)
    found = made.evaluate(read_table(land), include_support=True)
    assert found.confusion.sum() == 6
    assert found.left_out == 0


@pytest.mark.parametrize(
    ("descriptions", "words"),
    [
        (
            {"Feild": "a ploughed field"},
            r"describes 'Feild', which is not a class \(did you mean 'Field'\?\)",
        ),
        ({"Field": "a", decomposed("Äcker"): "b", "Äcker": "c"}, "describes the class 'Äcker' twice"),
        ({"Field": " "}, "as the description of 'Field'; give it words"),
    ],
)
def test_descriptions_in_python_that_do_not_fit_are_refused(descriptions, words: str) -> None:
    with pytest.raises(DataError, match=words):
        zero_shot(descriptions=descriptions).fit(IMAGES, LABELS)


def test_descriptions_may_name_labels_or_names_and_are_kept(tmp_path: Path) -> None:
    labels = ["black_cat" if label == "Field" else label for label in LABELS]
    for key in ("black_cat", "black cat"):
        made = zero_shot(descriptions={key: "a panther", decomposed("Äcker"): "soil"}).fit(IMAGES, labels)
        plain = zero_shot(class_names={"Forest": "Forest", "Äcker": "soil", "black_cat": "a panther"})
        assert np.array_equal(made.logits(IMAGES), plain.fit(IMAGES, labels).logits(IMAGES))
        made.save(tmp_path / key)
        assert load(tmp_path / key).descriptions == {"black cat": "a panther", "Äcker": "soil"}
    twice = {"black_cat": "a panther", "black cat": "a tom"}
    with pytest.raises(DataError, match="describes the class 'black cat' twice"):
        zero_shot(descriptions=twice).fit(IMAGES, labels)
    with pytest.raises(DataError, match="'cat', which is the label of one class and the name of another"):
        descriptions_of({"cat": "x"}, ["dog", "cat"], ["cat", "dog"])


def test_a_loaded_model_keeps_its_names_by_label(tmp_path: Path) -> None:
    zero_shot(class_names=["farm", "woods", "acres"]).fit(IMAGES, LABELS).save(tmp_path / "adapted")
    loaded = load(tmp_path / "adapted")
    assert loaded.fit(IMAGES, LABELS).adapted_.class_names == ("farm", "woods", "acres")
    with pytest.raises(DataError, match="no name for the class 'x'"):
        loaded.fit(IMAGES, ["x", "x", "y", "y", "z", "z"])


def test_descriptions_of_the_app_count_whatever_the_class_is_called(tmp_path: Path) -> None:
    workspace = labelled(tmp_path)
    workspace.choose(Setup("mini", "zero-shot"))
    _, second = workspace.class_names
    workspace.rename_class(workspace.class_names[0], "old_town")
    workspace.name_classes([ClassWords("old_town", "a mill"), ClassWords(second)])
    workspace.name_classes([*workspace.classes, ClassWords("unused", "x")])
    run = adapt(workspace, Encoders("cpu"), lambda *_: None)
    assert run.classes == tuple(sorted(["old_town", second]))
    assert json.loads((workspace.adapted / "farshot.json").read_text())["descriptions"] == {
        "old town": "a mill"
    }


def test_a_class_of_the_app_has_one_unicode_form(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.name_classes([ClassWords(decomposed("Äcker"))])
    assert workspace.class_names == (composed("Äcker"),)


# Order ---------------------------------------------------------------------------------------------------


def test_whole_numbers_are_in_the_order_of_numbers() -> None:
    given = ["10", "b", "2", "0", "-3", "a", "01", "1", "1.5", "²", "9" * 400]
    assert in_class_order(given) == ["-3", "0", "01", "1", "2", "10", "1.5", "9" * 400, "a", "b", "²"]


def test_folders_and_tables_of_numbered_classes_are_ordered_as_in_python(tmp_path: Path) -> None:
    numbers = tuple(map(str, range(12)))
    folder = class_folders(tmp_path / "digits", numbers, 1)
    names = tmp_path / "names.txt"
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    names.write_text("\n".join(words))
    rows = [(f"{number}/0.png", int(number)) for number in numbers]
    frame = pd.DataFrame(rows, columns=["path", "label"])
    frame.to_csv(folder / "list.csv", index=False)
    frame.to_parquet(folder / "list.parquet")
    for source in (folder, folder / "list.csv", folder / "list.parquet"):
        table = read_table(source, class_names=names)
        assert table.classes == numbers, source
        assert table.names == tuple(words), source
        assert [table.classes[code] for code in table.labels] == [Path(p).parent.name for p in table.images]
    made = zero_shot(class_names=words).fit([picture(100 * c) for c in range(12)], list(range(12)))
    assert made.adapted_.class_names == tuple(words)


def test_numbers_as_text_in_python_need_names_by_label() -> None:
    images, labels = [picture(n) for n in range(12)], list(map(str, range(12)))
    words = [f"word {n}" for n in range(12)]
    with pytest.raises(DataError, match="numbers written as text, which sort as 0, 1, 10, 11"):
        zero_shot(class_names=words).fit(images, labels)
    made = zero_shot(class_names=dict(zip(labels, words, strict=True))).fit(images, labels)
    assert made.adapted_.class_names[2] == "word 10"
    assert made.classes_[2] == "10"


# On the command line -------------------------------------------------------------------------------------


def test_adapt_prints_what_prompts_call_each_class(farshot: Farshot, land: Path, tmp_path: Path) -> None:
    names, words = tmp_path / "names.txt", tmp_path / "words.json"
    names.write_text("Forest: woods\nÄcker: acres\nField: farm\n", encoding="utf-8")
    words.write_text('{"woods": "[dense] trees"}')
    command = ("adapt", land, "--model", "mini", "--method", "zero-shot", "--device", "cpu")
    told = farshot(*command, "--out", tmp_path / "a", "--class-names", names, "--descriptions", words)
    assert told.code == 0, told.err
    assert told.out.splitlines()[:4] == [
        "Classes and what prompts call them:",
        "  Field: farm",
        "  Forest: [dense] trees",
        "  Äcker: acres",
    ]
    assert "what prompts call" not in farshot(*command, "--out", tmp_path / "b").out
    names.write_text("Forest: woods\nÄcker: acres\nFeild: farm\n", encoding="utf-8")
    said = refusal(farshot(*command, "--out", tmp_path / "c", "--class-names", names))
    assert "but one for 'Feild'" in said


def test_options_for_single_pools_name_pools_that_are_run(farshot: Farshot, tmp_path: Path) -> None:
    pool, names = folder_pool(tmp_path / "p", classes=2), tmp_path / "names.txt"
    names.write_text("kind 0: word 0\nkind 1: word 1\n")
    start = ["bench", "--pools", f"p={pool}", "--model", "mini", "--store", tmp_path / "r.db"]
    start += ["--methods", "zero-shot", "--tasks", 1, "--shots", 1, "--queries", 1, "--device", "cpu"]
    for options, words in (
        (["--class-names", f"q={names}"], "--class-names names the pool 'q', but the pools are p"),
        (["--pool-path", f"q={pool}"], "--pool-path names the pool 'q'"),
        (["--ways", "q=2"], "--ways names the pool 'q'"),
        (["--ways", "p=2", "P=3"], "--ways P=3: give one number"),
        (["--ways", "x"], "--ways takes a number from 2, all"),
        (["--ways", "1"], "--ways takes a number from 2, all"),
        (["--ways", "p=0"], "--ways takes a number from 2, all"),
        (["--class-names", f"p={names}", "--class-names", f"P={names}"], "--class-names names P twice"),
    ):
        assert words in refusal(farshot(*start, *options))
    told = farshot(*start, "--class-names", f"P={names}", "--ways", "all")
    assert told.code == 0, told.err
    assert "  kind 1: word 1" in told.err.splitlines()


def test_published_pools_keep_their_names(farshot: Farshot, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\n")
    told = farshot(
        *("bench", "--pools", "mini-skin", "--model", "mini", "--store", tmp_path / "r.db"),
        *("--methods", "zero-shot", "--class-names", f"mini-skin={tmp_path / 'names.txt'}"),
    )
    assert "The classes of the pool mini-skin have fixed names" in refusal(told)

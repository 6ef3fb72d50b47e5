"""Which images to label: rules, balance, what is left out, the sheet, and the command that joins them."""

from __future__ import annotations

import csv
import errno
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from farshot import FewShotClassifier
from farshot.data.names import read_names
from farshot.data.readers import unlabelled
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from farshot.images.reading import image_id
from farshot.model.encoder import Encoder
from farshot.pick import pick_first, pick_next
from farshot.pick.balance import balanced
from farshot.pick.rules import FIRST, NEXT, Candidates, cover, distinct, margins, spread, typical, uncertain
from farshot.pick.sheet import FILES, cards, explained, sheet, write_choice
from tests.input_helpers import QUICK, Farshot, class_folders, everything_in, picture, refusal
from tests.pages import Page
from tests.toy import EASY, world_table

E = 6
CLASSES = ("highway", "orchard", "river")


def unit(values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def seen(images: int, seed: int = 0, labelled: int = 0) -> Candidates:
    """Features of random directions, and probabilities of 3 classes."""
    generator = np.random.default_rng(seed)
    p = generator.random((images, 3), dtype=np.float32)
    return Candidates(
        unit(generator.normal(size=(images, E))),
        unit(generator.normal(size=(labelled, E))).reshape(labelled, E),
        p / p.sum(1, keepdims=True),
        seed,
    )


def shuffled(one: Candidates, order: np.ndarray) -> Candidates:
    assert one.probabilities is not None
    return Candidates(one.features[order], one.labelled, one.probabilities[order], one.seed)


# Rules ---------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(0, 4), st.integers(0, 10**6), st.data())
def test_every_rule_gives_as_many_different_rows_as_asked_for(images, labelled, seed, data) -> None:
    count = data.draw(st.integers(1, images))
    one = seen(images, seed, labelled)
    for rule in (FIRST | NEXT).values():
        rows = rule(one, count)
        assert len(set(rows.tolist())) == count
        assert 0 <= rows.min() <= rows.max() < images
        np.testing.assert_array_equal(rows, rule(one, count))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(2, 25), st.integers(0, 3), st.integers(0, 10**6))
def test_the_order_of_images_changes_no_choice(images, labelled, seed) -> None:
    one, order = seen(images, seed, labelled), np.random.default_rng(seed).permutation(images)
    for name, rule in (FIRST | NEXT).items():
        if name not in ("random", "typical", "cover"):  # these two take the first of a lonely pair
            rows = rule(one, images // 2 + 1)
            again = order[rule(shuffled(one, order), images // 2 + 1)]
            assert set(rows.tolist()) == set(again.tolist()), name


def test_spread_takes_what_is_farthest() -> None:
    angles = np.array([0.0, 0.1, 0.2, 1.0])
    one = Candidates(unit(np.stack([np.cos(angles), np.sin(angles)], 1)), np.zeros((0, 2), np.float32))
    assert spread(one, 2).tolist() == [2, 3]  # the most central, then the farthest from it
    labelled = Candidates(one.features, one.features[[3]])
    assert spread(labelled, 1).tolist() == [0]


def test_cover_takes_the_largest_group_first_and_what_labels_leave_over() -> None:
    groups = unit(np.eye(3))[[0, 0, 0, 1, 1, 2]] + 0.01 * np.random.default_rng(0).normal(size=(6, 3))
    one = Candidates(unit(groups), np.zeros((0, 3), np.float32))
    assert [row // 3 + (row == 5) for row in cover(one, 3).tolist()] == [0, 1, 2]
    labelled = Candidates(one.features, one.features[[0]])
    assert cover(labelled, 1)[0] in (3, 4)
    assert typical(labelled, 1)[0] in (3, 4)


def test_cover_is_as_good_as_its_bound_says() -> None:
    one = seen(9, 3)
    alike = one.features @ one.features.T
    worst = alike.min()

    def value(rows) -> float:
        return float((alike[:, list(rows)].max(1) - worst).sum())

    best = max(value((i, j)) for i in range(9) for j in range(i))
    assert value(cover(one, 2)) >= (1 - 1 / np.e) * best


def test_typical_takes_one_of_each_group_from_its_middle() -> None:
    middle = [0, 5, 10]  # of five images along a line in each group
    along = np.array([0.0, -0.1, 0.1, -0.2, 0.2])
    groups = [np.eye(3)[g] + np.outer(along, np.eye(3)[(g + 1) % 3]) for g in range(3)]
    one = Candidates(unit(np.concatenate(groups)), np.zeros((0, 3), np.float32))
    assert sorted(typical(one, 3).tolist()) == middle


def test_uncertain_takes_the_least_margin_first() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.5, 0.5, 0.0]], dtype=np.float32)
    one = Candidates(unit(np.eye(3)), np.zeros((0, 3), np.float32), p)
    assert uncertain(one, 3).tolist() == [2, 1, 0]
    np.testing.assert_allclose(margins(one), [0.7, 0.05, 0.0], atol=1e-6)


@pytest.mark.parametrize("rule", ["uncertain-spread", "gradients"])
def test_uncertain_and_different_takes_no_second_of_two_alike(rule: str) -> None:
    p = np.array([[0.5, 0.5], [0.51, 0.49], [0.7, 0.3]], dtype=np.float32)
    features = unit([[1, 0, 0], [1, 0.02, 0], [0, 0, 1]])
    one = Candidates(features, np.zeros((0, 3), np.float32), p)
    assert set(NEXT[rule](one, 2).tolist()) == {0, 2}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(4, 20), st.integers(0, 10**6))
def test_near_copies_are_not_offered_twice(images, seed) -> None:
    one = seen(images, seed)
    copy = unit(one.features[[1]] + 1e-3)
    kept = distinct(np.concatenate([one.features, copy]), one.labelled)
    assert kept.tolist() == [True] * images + [False]
    assert not distinct(one.features, copy)[1]


# Balance -------------------------------------------------------------------------------------------------


def test_as_many_of_each_guess_and_the_rest_filled_up() -> None:
    one = seen(20, 1)
    guess = np.array([0] * 12 + [1] * 7 + [2])
    rows, first = balanced(one, guess, 4, 3, cover)
    assert len(set(rows.tolist())) == len(rows) == 12
    assert np.bincount(guess[rows[:first]], minlength=4).tolist() == [3, 3, 1, 0]
    assert guess[rows[:3]].tolist() == [0, 1, 2]  # the first of every class first


def test_first_choice_is_balanced_by_the_guess(mini: Encoder) -> None:
    table = world_table(count=60, classes=CLASSES)
    choice = pick_first(mini, table, 2, class_names=CLASSES)
    assert choice.guesses == ("highway", "orchard", "river") * 2
    assert len(set(choice.rows.tolist())) == 6
    assert all(
        reason.startswith("nearest to ") or reason == "near no other image" for reason in choice.reasons
    )
    assert sum(map(len, choice.alike)) == choice.looked_at - 6
    assert not {row for others in choice.alike for row in others} & set(choice.rows.tolist())


@pytest.mark.parametrize("rule", FIRST)
def test_a_choice_does_not_hang_on_the_order_of_files_or_on_copies(mini: Encoder, rule: str) -> None:
    table = world_table(count=50)
    order = np.random.default_rng(1).permutation(len(table))
    again = table.subset(np.concatenate([order, order[:5]]))
    chosen, other = (pick_first(mini, one, 3, ways=2, rule=rule) for one in (table, again))
    assert [table.id(row) for row in chosen.rows.tolist()] == [again.id(row) for row in other.rows.tolist()]
    assert chosen.looked_at == other.looked_at == len(table)


@pytest.mark.parametrize("rule", sorted(set(FIRST) - {"random"}))
def test_brighter_copies_are_not_chosen_beside_their_originals(mini: Encoder, rule: str) -> None:
    table = world_table(count=30)
    copies = tuple(
        np.clip(np.asarray(image).astype(int) + 1, 0, 255).astype(np.uint8) for image in table.images
    )
    both = ImageTable(table.images + copies, None, (), ())
    rows = pick_first(mini, both, len(table) // 2, ways=1, rule=rule).rows
    assert len(set((rows % len(table)).tolist())) == len(rows)


# Next ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[FewShotClassifier, ImageTable, list[int]]:
    """A classifier of two classes, all images, and the rows it was adapted to."""
    table = world_table(count=60)
    support = table.draw(2, 0)[0]
    classifier = FewShotClassifier("mini", "prototypes", device="cpu").fit(table.subset(support))
    return classifier, table, support.tolist()


@pytest.mark.parametrize("rule", NEXT)
def test_what_it_was_adapted_to_is_left_out(fitted, rule: str) -> None:
    classifier, table, support = fitted
    choice = pick_next(classifier, table, len(table) - len(support), rule=rule)
    assert sorted([*choice.rows.tolist(), *support]) == list(range(len(table)))
    assert set(choice.guesses) <= set(EASY)


def test_next_choice_says_what_it_wavers_between(fitted) -> None:
    classifier, table, _ = fitted
    choice = pick_next(classifier, table, 3)
    p = classifier.predict_proba(table.subset(choice.rows))
    for guess, reason, one in zip(choice.guesses, choice.reasons, p, strict=True):
        high, low = (f"{value:.2f}" for value in (one.max(), one.min()))
        other = next(name for name in EASY if name != guess)
        assert reason == f"between {guess} and {other}: score {high} and score {low}"


# Refusals ------------------------------------------------------------------------------------------------


def test_numbers_that_make_no_sense_are_refused(mini: Encoder, fitted) -> None:
    table = world_table(count=20)
    for options, words in [
        ({}, "How many classes are there"),
        ({"ways": 0}, "At least one image must be chosen"),
        ({"ways": 3, "class_names": EASY}, "2 class names but ways is 3"),
        ({"class_names": ("one",)}, "needs at least two"),
        ({"ways": 2, "rule": "best"}, "no rule 'best' for this choice; choose one of: random, typical"),
    ]:
        with pytest.raises(SettingError, match=words):
            pick_first(mini, table, 1, **options)
    with pytest.raises(DataError, match="class_names has two classes of one name"):
        pick_first(mini, table, 1, class_names=("cat", "cat"))
    with pytest.raises(DataError, match="100 images are asked for, but there are"):
        pick_first(mini, table, 50, ways=2)
    with pytest.raises(SettingError, match="At least one image"):
        pick_next(fitted[0], table, 0)
    with pytest.raises(DataError, match="that it was not adapted to; ask for fewer"):
        pick_next(fitted[0], fitted[1], len(fitted[1]))


def test_labels_may_be_numbers(mini: Encoder) -> None:
    table = world_table(count=20)
    found = pick_first(mini, table, 2, class_names={0: "highway", 1: "orchard"})
    assert set(found.guesses) <= {"0", "1"}
    assert (found.prompt_names, found.class_names) == ({"0": "highway", "1": "orchard"}, ("0", "1"))


def test_a_text_is_no_list_of_names(mini: Encoder) -> None:
    with pytest.raises(DataError, match="class_names is 'rust'; give a mapping label -> name, or a list"):
        pick_first(mini, world_table(count=20), 1, class_names="rust")


def test_names_of_classes_in_files(tmp_path: Path) -> None:
    for name, text in {
        "a.txt": "apple scab\nrust\n",
        "b.txt": "1: apple scab\n2: rust\n",
        "c.json": '{"1": "apple scab", "2": "rust"}',
        "d.json": '["apple scab", "rust"]',
    }.items():
        (tmp_path / name).write_text(text)
        found = read_names(tmp_path / name)
        assert found == (("apple scab", "rust") if name[0] in "ad" else {"1": "apple scab", "2": "rust"})


# The command ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images without labels, and a file of class names next to it."""
    place = tmp_path_factory.mktemp("pick")
    table = world_table("mini-land", 40)
    (place / "images").mkdir()
    for i, pixels in enumerate(table.images):
        Image.fromarray(np.asarray(pixels)).save(place / "images" / f"{i:02d}.png")
    (place / "names.txt").write_text("\n".join(EASY))
    return place


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "picked.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_pick_label_adapt_and_pick_again(farshot: Farshot, leaves: Path, tmp_path: Path) -> None:
    first, names = tmp_path / "[b]first", leaves / "names.txt"
    command = ("pick", leaves / "images", "--model", "mini", "--device", "cpu")
    told = farshot(*command, "--shots", 2, "--class-names", names, "--out", first)
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        f"Chose 4 of {len(list((leaves / 'images').iterdir()))} images: {first / 'sheet.png'}",
        f"Fill in the column label of {first / 'picked.csv'}, then: "
        f"farshot adapt '{first / 'picked.csv'}' --model mini --out adapted/",
    ]
    assert everything_in(first) == set(FILES)
    rows = table_of(first)
    assert [row["order"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["guess"] for row in rows] == [*EASY, *EASY]
    assert [row["id"] for row in rows] == [image_id(row["path"]) for row in rows]
    assert "no label; fill it in or remove the row" in refusal(
        farshot("adapt", first / "picked.csv", "--model", "mini", "--out", tmp_path / "no", *QUICK)
    )
    page = (first / "index.html").read_text()
    assert page.count("<figure") == 4
    told = " ".join(Page(page).text.split())
    assert "the number of an image is its place in the order to label them" in told.lower()
    assert "Chosen by the rule cover: always the image that" in told
    assert "A letter in a square is the model's guess, not the truth." in told
    assert (
        "Open picked.csv" in told
        and "farshot adapt '[b]first/picked.csv' --model mini --out adapted/" in told
    )
    assert "http" not in page.split("</head>")[1]
    with (first / "picked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": row["guess"]} for row in rows)
    assert "was filled in, and would be lost" in refusal(farshot(*command, "--count", 3, "--out", first))
    adapt = ("adapt", first / "picked.csv", "--model", "mini", "--method", "prototypes", "--device", "cpu")
    assert farshot(*adapt, "--out", tmp_path / "adapted").code == 0
    again = ("pick", leaves / "images", "--model", tmp_path / "adapted", "--device", "cpu", "--shots", 1)
    told = farshot(*again, "--out", tmp_path / "second")
    assert told.out.endswith(
        f"farshot adapt {tmp_path / 'second' / 'picked.csv'} --from {tmp_path / 'adapted'} "
        f"--out {tmp_path / 'adapted-2'}/\n"
    )
    assert "leave out" in refusal(farshot(*again, "--template", "a {}.", "--out", tmp_path / "third"))
    second = table_of(tmp_path / "second")
    assert len(second) == 2
    assert not {row["path"] for row in rows} & {row["path"] for row in second}
    assert all(row["reason"].startswith("between ") for row in second)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Say how many: --shots K for K images of each class, or --count N"),
        (("--shots", 1, "--count", 2), "Say how many"),
        (("--shots", 1), "How many classes are there? Give --class-names FILE"),
        (("--count", 1, "--ways", 2), "--count is the number of images in all"),
        (("--count", 1, "--class-names", "names.txt"), "give --shots, not --count"),
        (("--shots", 1, "--class-names", "missing.txt"), "missing.txt cannot be read"),
        (("--count", 1, "--rule", "uncertain"), "no rule 'uncertain' for this choice"),
        (("--count", 1, "--base", "mini"), "--base is for an adapted model"),
        (("--count", 1, "--device", "gpu"), "There is no device 'gpu'"),
        (("--count", 999), "999 images are asked for, but there are"),
        (("--shots", 1, "--ways", 0), "At least one image must be chosen"),
        (("--shots", 1, "--class-names", "names.txt", "--template", "leaf"), "'leaf' needs {} exactly once"),
    ],
)
def test_wrong_options_are_one_sentence(
    farshot: Farshot, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options, words: str
) -> None:
    monkeypatch.chdir(leaves)
    told = farshot("pick", "images", "--model", "mini", "--out", tmp_path / "out", *options)
    assert words in refusal(told)
    assert everything_in(tmp_path) == set()


def test_bad_images_and_places_are_one_sentence(farshot: Farshot, leaves: Path, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", ("some",), 3)
    (folder / "some" / "bad.png").write_bytes(b"")
    command = ("pick", folder, "--model", "mini", "--count", 2)
    assert "1 of 4 images cannot be read" in refusal(farshot(*command, "--out", tmp_path / "out"))
    assert farshot(*command, "--skip-unreadable", "--out", tmp_path / "out").code == 0
    assert "exists and is not a choice of images" in refusal(farshot(*command, "--out", folder))
    assert "There is no" in refusal(farshot("pick", folder / "x", "--count", 1, "--out", tmp_path / "o"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_stops_the_writing_leaves_nothing(
    farshot: Farshot, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_arguments) -> None:
        raise error

    monkeypatch.setattr("farshot.pick.sheet.csv.writer", fail)
    told = farshot("pick", leaves / "images", "--model", "mini", "--count", 2, "--out", tmp_path / "out")
    assert told.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert everything_in(tmp_path) == set()


def test_every_rule_is_explained(mini: Encoder) -> None:
    choice = pick_first(mini, world_table("mini-land", 40), 1, ways=2)
    for rule in {*FIRST, *NEXT}:
        assert any(f"by the rule {rule}: " in said for said in explained(replace(choice, rule=rule)))


def test_a_sheet_of_an_earlier_version_is_replaced_unless_it_has_labels(
    mini: Encoder, tmp_path: Path
) -> None:
    class_folders(tmp_path / "in")
    table = unlabelled([tmp_path / "in"])
    choice = pick_first(mini, table, 1, ways=2)
    write_choice(tmp_path / "out", choice, table)
    place = tmp_path / "out" / "picked.csv"
    rows = "1,/a.png,,,why\n", "1,/a.png,mine,,why\n", "1,/a.png,,,why\n,/b.png,rust,,labelled before\n"
    for row, refused in zip(rows, (False, True, True), strict=True):  # it did not keep what it had written
        place.write_text(f"order,path,label,guess,reason\n{row}")
        if refused:
            with pytest.raises(DataError, match="was filled in"):
                write_choice(tmp_path / "out", choice, table)
        else:
            write_choice(tmp_path / "out", choice, table)
            assert "id" in table_of(tmp_path / "out")[0]


def test_labels_of_a_file_of_names_are_the_guesses_and_reach_the_printed_line(
    farshot: Farshot, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(zip("HR", EASY, strict=False))
    (tmp_path / "names.txt").write_text("\n".join(f"{label}: {name}" for label, name in names.items()))
    told = farshot(
        *("pick", leaves / "images", "--model", "mini", "--device", "cpu", "--shots", 1),
        *("--class-names", "names.txt", "--out", "picked"),
    )
    assert told.code == 0, told.err
    assert "--class-names=picked/names.json" in told.out
    assert json.loads(Path("picked/names.json").read_text()) == names
    assert {row["guess"] for row in table_of(Path("picked"))} <= {"H", "R"}


@pytest.mark.parametrize("edit", ["nothing", "a reason", "a label", "a group", "a new row", "a removed row"])
def test_what_a_person_wrote_into_the_table_is_not_overwritten(
    mini: Encoder, tmp_path: Path, edit: str
) -> None:
    class_folders(tmp_path / "in")
    table = unlabelled([tmp_path / "in"])
    choice = replace(pick_first(mini, table, 1, ways=2), grouped=True)
    write_choice(tmp_path / "out", choice, table)
    rows = table_of(tmp_path / "out")
    if edit == "a reason":
        rows[0]["reason"] = "seen"
    elif edit in ("a label", "a group"):
        rows[-1][edit.removeprefix("a ")] = "rust"
    elif edit == "a new row":
        rows.append(rows[-1] | {"path": "/elsewhere.png", "label": "rust"})
    elif edit == "a removed row":
        rows.pop()
    with (tmp_path / "out" / "picked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    if edit in ("nothing", "a reason", "a removed row"):
        write_choice(tmp_path / "out", choice, table)
        return
    with pytest.raises(DataError, match="was filled in, and would be lost"):
        write_choice(tmp_path / "out", choice, table)
    assert table_of(tmp_path / "out") == rows


def test_odd_names_and_shapes_stand_on_the_sheet(mini: Encoder, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("<b>&", "x" * 200, "ä\u202e")):
        picture(number, 5 + 300 * number, 90).save(tmp_path / "in" / f"{name}.png")
    table = unlabelled([tmp_path / "in"])
    choice = pick_first(mini, table, 1, class_names=("<i>one</i>", "two"), template="an {}")
    write_choice(tmp_path / "out", choice, table)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<b>&" not in page
    assert "farshot adapt out/picked.csv --model mini --template &#39;an {}&#39; --out adapted/" in page
    assert "&lt;i&gt;one&lt;/i&gt;" in page
    drawn = cards(choice, table)
    with Image.open(tmp_path / "out" / "sheet.png") as written:
        assert sheet(choice, drawn).size == written.size


def test_real_pictures_are_chosen_too(farshot: Farshot, real_images: Path, tmp_path: Path) -> None:
    folder = real_images / "neu_steel" / "scratches"
    told = farshot(
        "pick", folder, "--model", real_images / "photo-clip", "--count", 4, "--out", tmp_path / "out"
    )
    assert told.code == 0, told.err
    assert all(Path(row["path"]).parent.samefile(folder) for row in table_of(tmp_path / "out"))


# The next command ----------------------------------------------------------------------------------------


def fill_in(folder: Path, labels: list[str]) -> None:
    """Writes labels into the rows of picked.csv that have none."""
    rows, fresh = table_of(folder), iter(labels)
    with (folder / "picked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": row["label"] or next(fresh)} for row in rows)


def next_command(told) -> list[str]:
    """The words of the printed line, as a shell takes it apart."""
    words = shlex.split(told.out.splitlines()[-1].partition(", then: ")[2])
    assert words[0] == "farshot"
    return words[1:]


def test_the_printed_line_adapts_as_before_with_old_and_new_labels(
    farshot: Farshot, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.json").write_text(json.dumps(dict(zip("ab", EASY, strict=True))))
    (tmp_path / "words.json").write_text(json.dumps({EASY[0]: "a wide 'road'"}))
    pick_ = ("pick", leaves / "images", "--device", "cpu", "--shots", 1)
    farshot(*pick_, "--model", "mini", "--class-names", leaves / "names.txt", "--out", "one")
    fill_in(Path("one"), ["a", "b"])
    told = farshot(
        *("adapt", "one/picked.csv", "--model", "mini", "--method", "clap", "--set", "steps=3", "--seed", 4),
        *("--template", "it's a {}.", "--class-names", "names.json", "--descriptions", "words.json"),
        *("--device", "cpu", "--range", -0.5, 1234.5678, "--out", "first model"),
    )
    assert told.code == 0, told.err
    told = farshot(*pick_, "--model", "first model", "--out", "it's two")
    assert told.code == 0, told.err
    fill_in(Path("it's two"), ["a", "b"])
    again = farshot(*next_command(told))
    assert again.code == 0, again.err
    before, after = (
        json.loads((Path(folder) / "farshot.json").read_text()) for folder in ("first model", "first model-2")
    )
    kept = ("base_model", "method", "settings", "classes", "class_names", "descriptions", "template")
    for name in (*kept, "preprocessing", "seed", "precision"):
        assert after[name] == before[name], name
    assert (before["calibrate"], after["calibrate"]) == (False, True)  # one image per class was too few
    assert len(after["support_ids"]) == 4
    old = dict(zip(before["support_ids"], before["support_labels"], strict=True))
    assert old.items() <= dict(zip(after["support_ids"], after["support_labels"], strict=True)).items()


def test_the_next_table_of_a_model_with_groups_asks_for_groups(
    farshot: Farshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    for number, pixels in enumerate(world_table("mini-land", 40).images):
        place = folder / EASY[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels)).save(place / f"plant{number // 2 % 5}-{number}.png")
    by_plant = r"(plant\d)-"
    more = ("--model", "mini", "--method", "prototypes", "--device", "cpu", "--no-calibrate")
    told = farshot("adapt", folder, "--groups", by_plant, *more, "--out", "model")
    assert told.code == 0, told.err
    for image in sorted(folder.rglob("*.png")):
        Image.open(image).rotate(90).save(image.with_name(f"new-{image.name}"))
    told = farshot("pick", folder, "--model", "model", "--device", "cpu", "--count", 2, "--out", "out")
    assert told.code == 0, told.err
    assert "fill in the column group of picked.csv, too, or add --groups with" in told.out
    assert "Fill in the column <b>group</b>" in (tmp_path / "out" / "index.html").read_text()
    assert {row["group"] for row in table_of(tmp_path / "out")} == {""}
    fill_in(tmp_path / "out", list(EASY))
    command = next_command(told)
    assert "no group; name one" in refusal(farshot(*command))
    told = farshot(*command, "--groups", by_plant)
    assert told.code == 0, told.err
    before, after = (
        json.loads((Path(folder) / "farshot.json").read_text())["support_groups"]
        for folder in ("model", "model-2")
    )
    assert set(before) == set(after)


def test_a_model_whose_images_are_gone_has_no_next_command(
    farshot: Farshot, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = class_folders(tmp_path / "data", EASY, 2)
    adapt = ("adapt", folder, "--model", "mini", "--method", "prototypes", "--device", "cpu")
    assert farshot(*adapt, "--out", "model").code == 0
    next(folder.rglob("*.png")).unlink()
    told = farshot(
        "pick", leaves / "images", "--model", "model", "--device", "cpu", "--count", 2, "--out", "out"
    )
    assert told.code == 0, told.err
    assert "which is no longer there or has changed; put it back" in told.out
    assert ", then: " not in told.out
    assert "Adapt a model to them" not in (tmp_path / "out" / "index.html").read_text()


def test_the_next_command_names_the_place_of_a_moved_base(
    farshot: Farshot, checkpoint: Path, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, "clip")
    folder = class_folders(tmp_path / "data", EASY, 2)
    adapt = ("adapt", folder, "--model", "clip", "--method", "prototypes", "--device", "cpu")
    assert farshot(*adapt, "--out", "model-9").code == 0
    Path("clip").rename("moved")
    pick_ = ("pick", leaves / "images", "--model", "model-9/", "--device", "cpu", "--count", 2)
    assert "name its place with --base" in refusal(farshot(*pick_, "--out", "out"))
    told = farshot(*pick_, "--base", "moved", "--out", "out")
    assert told.code == 0, told.err
    fill_in(Path("out"), list(EASY))
    command = next_command(told)
    assert command[2:] == ["--from", "model-9/", "--model", "moved", "--out", "model-10/"]
    told = farshot(*command)
    assert told.code == 0, told.err
    assert len(json.loads(Path("model-10/farshot.json").read_text())["support_ids"]) == 6


def test_the_first_choice_keeps_how_images_are_read(farshot: Farshot, leaves: Path, tmp_path: Path) -> None:
    told = farshot(
        *("pick", leaves / "images", "--model", "mini", "--count", 2, "--out", tmp_path / "out"),
        *("--range", 0, 1000.0625),
    )
    assert told.code == 0, told.err
    words = next_command(told)
    assert words[words.index("--range") :][:3] == ["--range", "0", "1000.0625"]

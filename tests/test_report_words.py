"""The first sentences of reports say what the numbers say, and no more; names stay names."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image

from farshot import FewShotClassifier, load
from farshot.bench.records import Episode, Result
from farshot.bench.results import read_groups
from farshot.bench.store import Store
from farshot.bench.tasks import Shape
from farshot.data.readers import read_table
from farshot.errors import ModelError
from farshot.evaluation.intervals import (
    over_cells,
    paired_difference,
    paired_proportions,
    proportion_interval,
)
from farshot.evaluation.metrics import evaluate
from farshot.images.preprocess import prepare
from farshot.report.seen import Reading
from farshot.report.summary import Quality, day, sentences
from farshot.report.verdict import Verdict, verdict
from farshot.sanitize import plain
from farshot.storage.model_folder import read_folder
from farshot.world import write_folder
from tests.pages import assert_inert
from tests.test_report import HOSTILE, run_of

# Intervals -----------------------------------------------------------------------------------------------


def test_the_interval_of_a_paired_difference_of_shares_covers_the_truth() -> None:
    """Exactly, over all outcomes of 10 images, 50 % right for both and 30 % for the first only."""
    p, n, covered = (0.5, 0.3, 0.1, 0.1), 10, 0.0
    for counts in itertools.product(range(n + 1), repeat=3):
        rest = n - sum(counts)
        if rest >= 0:
            cells = (*counts, rest)
            weight = math.factorial(n) / math.prod(map(math.factorial, cells))
            found = paired_proportions(*cells)
            covered += weight * math.prod(map(pow, p, cells)) * (found.low <= 0.2 <= found.high)
    assert 0.93 < covered < 0.99


@given(st.tuples(*[st.integers(0, 40)] * 4))
@example((5, 0, 0, 0))
@example((0, 0, 0, 5))
def test_a_paired_difference_lies_in_its_interval_and_turns_with_the_order(counts) -> None:
    both, first, second, neither = counts
    found, turned = paired_proportions(*counts), paired_proportions(both, second, first, neither)
    if sum(counts) == 0:
        assert math.isnan(found.mean)
        return
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    assert found.low < found.high  # agreement on a few images proves nothing


def test_over_one_cell_is_that_cell_and_over_several_their_mean() -> None:
    generator = np.random.default_rng(0)
    one, other = (paired_difference(*generator.random((2, n)), draws=2) for n in (9, 14))
    found, p = over_cells([one])
    assert (found.mean, found.low, found.high, p) == pytest.approx((one.mean, one.low, one.high, one.t_p))
    both, _ = over_cells([one, other])
    assert both.mean == pytest.approx((one.mean + other.mean) / 2)
    widest = max(one.high - one.low, other.high - other.low)
    assert 0 < both.high - both.low < widest
    equal = paired_difference(np.ones(4), np.ones(4), draws=2)
    assert over_cells([equal, equal]) == ((0, 0, 0, 0, 8), 1.0)
    always = paired_difference(np.ones(8), np.zeros(8), draws=2)
    assert over_cells([always])[1] == pytest.approx(2 * 0.5**8)


# The summary of a model ----------------------------------------------------------------------------------

NAMES = ("cat", "dog")


def about_of(right: int, zero_shot: int, images: int = 40, **more) -> dict:
    """A farshot.json with an estimate of so many right answers, and those of the base model among them."""
    labels = np.arange(images) % 2
    shown = np.where(np.arange(images) < right, labels, 1 - labels)
    found = evaluate(labels, np.eye(2)[shown], NAMES).to_dict()
    pairs = (min(right, zero_shot), max(0, right - zero_shot), max(0, zero_shot - right))
    compared = paired_proportions(*pairs, images - sum(pairs))
    alone = proportion_interval(zero_shot, images)
    found["zero_shot"] = {
        name: {"value": one.mean, "low": one.low, "high": one.high}
        for name, one in (("accuracy", alone), ("difference", compared))
    }
    about = {"classes": list(NAMES), "support_ids": ["x"] * images, "base_model": "a/clip"}
    return about | {"method": "linear-probe", "estimate": found} | more


def words(about: dict, method: str = "linear-probe") -> str:
    return Markup(" ").join(sentences(about, method, Quality.estimated(about))).striptags()


def test_the_summary_says_how_good_and_against_what() -> None:
    told = words(about_of(38, 20, adapted_on="2026-05-17"))
    assert told == (
        "This model tells 2 classes apart. It was adapted on 17 May 2026 from a/clip to 40 labelled pictures "
        "with linear-probe. Of new pictures like these, expect 95.0 % to be classified right (95 % interval "
        "83.5 to 98.6; cross-validated on the pictures it was adapted to). That is clearly better than "
        "choosing a class by chance, which is right in 50.0 %. The base model without adaptation (zero-shot) "
        "is right in 50.0 % of the same pictures: adaptation made it clearly better (+45.0 points, 95 % "
        "interval +27.3 to +59.8)."
    )


def test_the_summary_does_not_tell_where_the_base_model_lies(tmp_path: Path) -> None:
    clip = tmp_path / "photo-clip"
    assert "from photo-clip to 40" in words(about_of(38, 20, base_model=str(clip)))  # a folder that is gone
    clip.mkdir()
    assert "from photo-clip to 40" in words(about_of(38, 20, base_model=str(clip)))


@pytest.mark.parametrize(
    ("right", "zero_shot", "told"),
    [
        (22, 22, "cannot be told apart from choosing a class by chance"),
        (22, 22, "whether adaptation made it better cannot be told from these pictures (0.0 points"),
        (30, 40, "adaptation made it clearly worse (−25.0 points"),
        (30, 29, "cannot be told from these pictures (+2.5 points"),
        (5, 5, "clearly worse than choosing a class by chance"),
        (40, 40, "clearly better than choosing a class by chance"),
    ],
)
def test_no_more_is_said_than_the_intervals_allow(right: int, zero_shot: int, told: str) -> None:
    assert told in words(about_of(right, zero_shot))


def test_the_most_frequent_class_is_the_measure_where_it_is_more_than_chance() -> None:
    about = about_of(30, 30)
    about["estimate"]["majority"] = {"class": "cat", "accuracy": 0.7}
    assert "cannot be told apart from always answering cat, which is right in 70.0 %" in words(about)


def test_what_was_not_measured_is_said() -> None:
    about = about_of(30, 20)
    del about["estimate"]["zero_shot"]
    assert "zero-shot" not in words(about)
    about["estimate"] = None
    assert "How often it is right was not measured" in words(about)
    assert " on " not in words(about).split(".")[1].split(" from ")[0]  # no day without a day
    about = about_of(30, 20, method="zero-shot")
    assert "It is the base model without adaptation" in words(about, "zero-shot")


@settings(max_examples=12, deadline=None)
@given(
    st.text(),
    st.text(),
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda one: st.dictionaries(
            st.sampled_from(
                ("accuracy", "majority", "zero_shot", "difference", "value", "low", "high", "class")
            ),
            one,
        ),
    ),
)
@example(HOSTILE, HOSTILE, {"accuracy": {"value": "<b>", "low": 0.1, "high": 0.2}})
@example("a", "b", {"accuracy": {"value": float("nan"), "low": 0.1, "high": 0.2}})
@example(
    "a",
    "b",
    {"accuracy": {"value": 0.1, "low": 0.1, "high": 0.2}, "majority": {"class": HOSTILE, "accuracy": 1.0}},
)
def test_names_stay_names_and_wrong_values_count_as_missing(base: str, method: str, estimate) -> None:
    about = about_of(30, 20, base_model=base, estimate=estimate)
    told = Markup(" ").join(sentences(about, method, Quality.estimated(about)))
    found = assert_inert(str(told))
    assert {tag for tag, _ in found.tags} <= {"bdi", "b", "code"}
    assert f"from {plain(base)} to" in found.text
    assert "nan" not in found.text.replace(plain(base), "").replace(plain(method), "")


def test_days_are_written_out() -> None:
    assert day("2026-05-07") == "7 May 2026"


# A model from the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images, and a model adapted to and cross-validated on some of them."""
    place = tmp_path_factory.mktemp("made")
    write_folder("mini-crops", "test", range(40), place / "crops")
    table = read_table(place / "crops")
    support = table.subset(table.draw(2, 5)[0])
    FewShotClassifier("mini", "linear-probe", calibrate=True, seed=5).fit(support).save(place / "adapted")
    return place


def test_the_base_model_is_measured_on_the_images_of_the_estimate_and_of_the_report(
    farshot, made: Path, tmp_path: Path
) -> None:
    table = read_table(made / "crops")
    support = table.subset(table.draw(2, 5)[0])
    alone = FewShotClassifier("mini", "zero-shot").fit(support)
    about, _ = read_folder(made / "adapted")
    expected = float((alone.predict_proba(support).argmax(1) == support.labels).mean())
    assert about["estimate"]["zero_shot"]["accuracy"]["value"] == pytest.approx(expected)
    difference = about["estimate"]["accuracy"]["value"] - expected
    assert about["estimate"]["zero_shot"]["difference"]["value"] == pytest.approx(difference)
    assert load(made / "adapted").about()["zero_shot"] == about["zero_shot"]

    report = ("report", made / "adapted", "--data", made / "crops", "--images", 1)
    assert farshot(*report, "--out", tmp_path / "r.html").code == 0
    page = assert_inert((tmp_path / "r.html").read_text(encoding="utf-8"))
    share = 100 * alone.evaluate(table).accuracy.mean
    assert f"(zero-shot) is right in {share:.1f} % of the same pictures" in " ".join(page.text.split())
    assert f"on {day(about['adapted_on'])} from mini" in page.text
    alts = [str(values["alt"]) for tag, values in page.tags if tag == "img"]
    assert alts.count("what the model saw of it") == sum(alt.startswith("shows ") for alt in alts) > 0


def test_two_reports_of_one_model_are_equal_and_the_day_is_optional(
    farshot, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "adapted", tmp_path / "m")
    file = tmp_path / "m" / "farshot.json"
    about = json.loads(file.read_text())
    pages = []
    for day_ in ("2024-02-29", None, None):
        file.write_text(json.dumps(about | {"adapted_on": day_}))
        assert load(tmp_path / "m").adapted_on_ == day_
        assert farshot("report", tmp_path / "m", "--out", tmp_path / "r.html").code == 0
        pages.append((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert pages[1] == pages[2]
    assert "29 February 2024" in pages[0] and "Adapted on" not in pages[1]
    for wrong in ("<script>", "20240229", 5, "2024-02-30"):
        file.write_text(json.dumps(about | {"adapted_on": wrong}))
        with pytest.raises(ModelError, match="adapted_on"):
            load(tmp_path / "m")
    for wrong in ([0.5], "x", [-1]):
        file.write_text(json.dumps(about | {"zero_shot": wrong}))
        with pytest.raises(ModelError, match="zero_shot"):
            load(tmp_path / "m")
    file.write_text(json.dumps(about | {"zero_shot": [99]}))
    assert load(tmp_path / "m").held_out_.zero_shot is None  # type: ignore[union-attr]


# What a model saw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2048, 24), (24, 2048), (1, 1), (1, 200), (3, 300)])
def test_narrow_and_tiny_pictures_have_what_room_they_have_for_a_frame(size: tuple[int, int]) -> None:
    for reading in ("squash", "centre", "shortest-bicubic"):
        assert Reading(reading, 224).framed(Image.new("RGB", size, "red")).size == size


@pytest.mark.parametrize("reading", ["squash", "centre", "shortest-bicubic", "shortest72-bicubic-floor"])
@pytest.mark.parametrize("size", [(300, 120), (120, 300), (200, 200)])
def test_the_frame_encloses_what_the_model_sees(reading: str, size: tuple[int, int]) -> None:
    """Inside is red and outside blue: then the model sees red alone, and with the frame a bit wider it would
    not."""
    looked = Reading(reading, 64)
    box = looked.box(*size)
    if box is None:
        assert reading == "squash" or (size[0] == size[1] and reading == "shortest-bicubic")
        assert looked.framed(Image.new("RGB", size)).tobytes() == Image.new("RGB", size).tobytes()
        return
    for wider, blue in ((4, False), (-8, True)):
        picture = Image.new("RGB", size, "blue")
        edges = [round(edge + wider * sign) for edge, sign in zip(box, (-1, -1, 1, 1), strict=True)]
        picture.paste("red", tuple(edges))  # type: ignore[arg-type]
        assert bool(prepare(picture, reading, 64)[..., 2].max() > 60) is blue
    plain_picture = Image.new("RGB", size, "red")
    framed = np.asarray(looked.framed(plain_picture))
    middle = size[1] // 2, size[0] // 2
    assert framed[middle].tolist() == [255, 0, 0]
    assert framed[0, 0].tolist() != [255, 0, 0]


# The verdict on a store ----------------------------------------------------------------------------------


def store_of(
    path: Path, accuracies: dict[str, list[list[float]]], shown: dict[str, str] | None = None
) -> Verdict | None:
    """The verdict on a store with these accuracies: method -> pool -> task."""
    labels = np.repeat(np.arange(3), 100).astype(np.uint8)
    with Store(path) as store:
        for method, pools in accuracies.items():
            for number, values in enumerate(pools):
                if not values:
                    continue
                run = run_of("zero-shot", f"pool {number}", label=(shown or {}).get(method, method))
                run = replace(
                    run, shape=Shape(3, 1, 100), settings={**run.settings, "scale": float(len(method))}
                )
                results, episodes = [], []
                for i, share in enumerate(values):
                    found = labels.copy()
                    wrong = round((1 - share) * len(labels))
                    found[:wrong] = (found[:wrong] + 1) % 3
                    p = np.eye(3, dtype=np.float16)[found]
                    results.append(
                        Result(i, found, p, float((found == labels).mean()), None, 1.0, 1, 4, "cpu")
                    )
                    episodes.append(Episode(1, i, ("a", "b", "c"), ("s",), ("q",), labels))
                store.record(store.run_id(run), 1, results, episodes)
    with Store(path, read_only=True) as store:
        (entries,) = read_groups(store).values()
        return verdict(entries)


def told(found: Verdict | None) -> list[str]:
    assert found is not None
    return [sentence.striptags() for sentence in found.sentences]


GOOD, FAIR, POOR = [0.91, 0.88, 0.9, 0.93], [0.8, 0.79, 0.82, 0.81], [0.5, 0.52, 0.49, 0.55]


def test_the_winner_is_named_with_its_lead_and_those_not_told_apart(tmp_path: Path) -> None:
    found = store_of(tmp_path / "r.db", {"a": [FAIR, FAIR], "bb": [GOOD, GOOD], "ccc": [POOR, GOOD]})
    first, second = told(found)
    lead = 100 * (np.mean(GOOD) - np.mean(FAIR))
    assert first.startswith(
        f"bb wins: {100 * np.mean(GOOD):.2f} % of the queries right on average over 2 combinations of pool "
        f"and shots (8 tasks that all methods have done), {lead:.2f} points more than the next best, a (95 % "
        "interval "
    )
    assert second == (
        "All 2 other methods are behind by more than chance explains (p < 0.05 after Holm’s correction for 2 "
        "comparisons)."
    )


def test_equal_methods_and_small_leads_are_no_win(tmp_path: Path) -> None:
    first, second = told(store_of(tmp_path / "r.db", {"a": [GOOD], "bb": [GOOD], "ccc": [POOR]}))
    assert first == (
        "No method clearly wins: a, bb have the same mean accuracy, the highest: 90.50 % of the queries "
        "right on 4 tasks that all methods have done."
    )
    assert second == "Not told apart from a (p ≥ 0.05 after Holm’s correction for 2 comparisons): bb."
    luck = [0.7, 0.95, 0.88, 0.96]
    first, _ = told(store_of(tmp_path / "s.db", {"a": [luck], "bb": [FAIR]}))
    assert first.startswith("No method clearly wins: a ")


def test_a_method_wins_only_if_all_others_are_behind(tmp_path: Path) -> None:
    near, varied = [0.90, 0.87, 0.88, 0.92], [0.99, 0.6, 0.98, 0.7]
    found = store_of(tmp_path / "r.db", {"a": [GOOD], "bb": [near], "ccc": [varied]})
    assert found is not None and [one.is_behind for one in found.rivals] == [True, False]
    first, second = told(found)
    assert first.startswith("No method clearly wins: a has the highest mean accuracy, 90.50 % ")
    assert second == (
        "It is clearly better than bb, but not told apart from ccc (p ≥ 0.05 after Holm’s correction for 2 "
        "comparisons)."
    )


def test_an_equal_accuracy_on_few_tasks_is_no_lead(tmp_path: Path) -> None:
    first, _ = told(store_of(tmp_path / "r.db", {"a": [GOOD[:2]], "bb": [GOOD[1::-1]]}))
    assert first.startswith("Too few tasks to say which method wins: a, bb have the same mean accuracy")
    assert "0.00 points" not in first


def test_holm_can_take_a_win_away(tmp_path: Path) -> None:
    near = [0.90, 0.87, 0.88, 0.92]  # p = 0.016 against GOOD alone
    alone = store_of(tmp_path / "r.db", {"a": [GOOD], "bb": [near]})
    assert told(alone)[0].startswith("a wins")
    many = {"c" * n: [near] for n in range(3, 8)}
    among = store_of(tmp_path / "s.db", {"a": [GOOD], "bb": [near], **many})
    assert alone is not None and among is not None
    assert among.rivals[0].p == pytest.approx(6 * alone.rivals[0].p)  # type: ignore[operator]
    assert told(among)[0].startswith("No method clearly wins")


def test_one_method_few_tasks_and_nothing_in_common(tmp_path: Path) -> None:
    first, second = told(store_of(tmp_path / "1.db", {"a": [GOOD]}))
    assert first == "Only a has results here: 90.50 % of the queries right on 4 tasks."
    assert "before another one has done the same tasks" in second
    first, second = told(store_of(tmp_path / "2.db", {"a": [GOOD[:2]], "bb": [POOR[:2]]}))
    assert first.startswith("Too few tasks to say which method wins: a has the highest mean accuracy")
    assert "interval" not in first and "at least 3 common tasks" in second
    assert store_of(tmp_path / "3.db", {"a": [GOOD, []], "bb": [[], POOR]}) is None


def test_methods_that_lack_a_pool_are_left_out_and_named(tmp_path: Path) -> None:
    found = store_of(tmp_path / "r.db", {"a": [GOOD, FAIR], "bb": [FAIR, POOR], "ccc": [[1.0] * 4, []]})
    assert found is not None and found.winner == "a" and found.cells == 2
    assert told(found)[-1] == "Not ranked, since they lack some of these pools, shots or tasks: ccc."


def test_hostile_names_in_a_verdict_stay_names(tmp_path: Path) -> None:
    shown = {"a": HOSTILE, "bb": "<img src=x>", "ccc": "<b>"}
    found = store_of(tmp_path / "r.db", {"a": [FAIR], "bb": [FAIR], "ccc": [POOR, GOOD]}, shown)
    assert found is not None
    page = assert_inert(" ".join(found.sentences))
    assert {tag for tag, _ in page.tags} == {"bdi"}
    assert "<img src=x>" in page.text


def test_the_report_of_a_store_begins_with_the_verdict(farshot, tmp_path: Path) -> None:
    store_of(tmp_path / "r.db", {"a": [FAIR], "bb": [GOOD]})
    assert farshot("report", tmp_path / "r.db", "--out", tmp_path / "r.html").code == 0
    text = " ".join(assert_inert((tmp_path / "r.html").read_text(encoding="utf-8")).text.split())
    assert "Benchmark report bb wins: " in text
    assert "an interval across zero does not tell the two apart" in text
    store_of(tmp_path / "s.db", {"a": [GOOD, []], "bb": [[], POOR]})
    assert farshot("report", tmp_path / "s.db", "--out", tmp_path / "s.html").code == 0
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "No method can be said to win" in page
    assert "nothing to compare it with" not in page and "Not compared with" in page

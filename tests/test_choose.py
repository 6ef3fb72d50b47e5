"""Choosing between encoders: the rule, the corrected estimate, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from farshot import load, load_encoder
from farshot.choose import choose, compare_two, corrected_estimate, select
from farshot.choose.extrapolation import gain_to_all
from farshot.choose.selection import decide, measure
from farshot.errors import DataError, ModelError, SettingError
from farshot.evaluation.crossval import HeldOut, crossval_interval
from farshot.evaluation.intervals import wilson
from farshot.evaluation.metrics import evaluate
from farshot.methods.base import softmax
from farshot.model.encoder import Encoder
from tests.input_helpers import Farshot
from tests.toy import as_folder, world_table

TABLE = world_table(count=160, classes=("highway", "orchard", "river"))


def shuffled(encoder: Encoder) -> Encoder:
    """An encoder of the same size whose weights mean nothing."""
    generator = torch.Generator().manual_seed(0)
    vision = {
        name: torch.randn(value.shape, generator=generator) * 0.02
        for name, value in encoder.vision.tensors.items()
        if value.ndim > 1
    }
    return encoder.with_tensors({"vision": vision}).from_source("shuffled")


def test_the_better_encoder_wins_and_all_see_the_same_folds(mini: Encoder):
    found = choose(TABLE, {"shuffled": lambda: shuffled(mini), "mini": lambda: mini})
    assert found.winner.model == "mini"
    a, b = found.candidates
    assert a.held_out.fold.tolist() == b.held_out.fold.tolist()
    worse, best = found.differences
    assert (best.mean, best.half) == (0, 0)
    assert worse.high < 0
    expected = a.evaluation.balanced_accuracy.mean - b.evaluation.balanced_accuracy.mean
    assert worse.mean == pytest.approx(expected)
    assert found.estimate.low < b.evaluation.balanced_accuracy.mean < found.estimate.high + 0.1


@pytest.mark.slow
def test_of_equals_the_simplest_wins(mini: Encoder):
    found = choose(
        TABLE, {"b": lambda: mini, "a": lambda: mini}, ("linear-probe", "prototypes", "linear-probe")
    )
    assert len(found.candidates) == 6
    close = [
        one.simplicity
        for one, apart in zip(found.candidates, found.differences, strict=True)
        if apart.mean >= -apart.half / 1.96
    ]
    assert found.winner.simplicity == min(close)


def test_what_cannot_be_compared_is_left_out_with_its_reason(mini: Encoder):
    def missing() -> Encoder:
        raise ModelError("It is not there.")

    found = choose(TABLE, {"missing": missing, "mini": lambda: mini})
    assert found.skipped == (("missing", "It is not there."),)
    with pytest.raises(ModelError, match="It is not there"):
        choose(TABLE, {"missing": missing})
    with pytest.raises(DataError, match="label at least two of every class"):
        choose(TABLE.subset([0, 1, 3]), {"mini": lambda: mini})


@given(st.integers(0, 10_000), st.integers(2, 5))
@example(789, 3)  # two differ by just one standard error
def test_the_choice_is_within_a_standard_error_and_ignores_the_order_of_images(seed: int, candidates: int):
    draws = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [20, 5, 10])
    right = draws.random((len(labels), candidates)) < draws.uniform(0.3, 0.9, candidates)
    order = [(c,) for c in draws.permutation(candidates).tolist()]
    chosen = select(right, labels, order)
    again = draws.permutation(len(labels))
    assert select(right[again], labels[again], order) == chosen

    def balanced(values: np.ndarray) -> float:
        return float(np.mean([values[labels == c].mean() for c in range(3)]))

    best = int(np.argmax([balanced(right[:, c]) for c in range(candidates)]))
    apart = right[:, best].astype(float) - right[:, chosen]
    variances = [apart[labels == c].var() / (labels == c).sum() for c in range(3)]
    assert balanced(apart) <= np.sqrt(sum(variances)) / 3 + 1e-12
    if all(right[:, c].tolist() == right[:, 0].tolist() for c in range(candidates)):
        assert order[chosen] == min(order)


def test_copies_make_no_candidate_better():
    labels = np.repeat([0, 1], 10)
    right = np.ones((20, 2), dtype=bool)
    right[[0, 1, 2, 10, 11, 12], 0] = False
    right[[3, 4, 13, 14], 1] = False  # the second wins three of each class and loses two

    def classifiers(copies: int) -> list[HeldOut]:
        unit, true = np.repeat(np.arange(20), copies), np.repeat(labels, copies)
        said = [np.where(np.repeat(right[:, c], copies), true, 1 - true) for c in (0, 1)]
        return [HeldOut((0, 1), true, np.eye(2, dtype=np.float32)[one], unit % 5, unit=unit) for one in said]

    for copies in (1, 6):
        assert not compare_two(*classifiers(copies)).better
    careless = [replace(one, unit=None) for one in classifiers(6)]
    assert compare_two(careless[0], careless[1]).better


@pytest.mark.slow
def test_the_winner_of_many_coins_is_corrected_to_a_coin():
    draws = np.random.default_rng(0)
    naive, corrected = [], []
    for _ in range(40):
        labels = np.tile([0, 1], 25)
        right = draws.random((50, 12)) < 0.5
        order = [(0,)] * 12
        naive.append(right[:, select(right, labels, order)].mean())
        corrected.append(corrected_estimate(right, labels, np.arange(50), order, draws=100).mean)
    assert np.mean(naive) > 0.6
    assert abs(np.mean(corrected) - 0.5) < 0.03


def test_one_candidate_needs_no_correction_and_copies_are_drawn_together():
    draws = np.random.default_rng(1)
    labels = np.tile([0, 1], 160)
    right = draws.random((320, 1)) < 0.7
    found = corrected_estimate(right, labels, np.arange(320), [(0,)], draws=200)
    naive = np.mean([right[labels == c].mean() for c in (0, 1)])
    assert found.mean == pytest.approx(naive, abs=0.01)
    copied = np.repeat(right[::4], 4, axis=0)
    alone = corrected_estimate(copied, labels, np.arange(320), [(0,)], draws=50)
    together = corrected_estimate(copied, labels, np.repeat(np.arange(80), 4), [(0,)], draws=50)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def as_seen(draws: np.random.Generator, skill: np.ndarray, share: float, per_class: int) -> np.ndarray:
    """Whether candidates are right about images of four classes when each adapts to a share of them: in
    logarithms of that share, accuracy rises by 0.3."""
    chances = np.clip(skill + 0.3 * np.log(share), 0, 1)
    return draws.random((4 * per_class, len(skill))) < chances


@pytest.mark.slow
@pytest.mark.parametrize("per_class", [5, 20])
def test_the_estimate_is_unbiased_and_its_interval_holds_the_truth(per_class: int):
    draws = np.random.default_rng(per_class)
    labels, order = np.repeat(range(4), per_class), [(c,) for c in range(4)]
    errors, plain, covered = [], [], []
    for number in range(200):
        skill = draws.uniform(0.6, 0.85, 4)
        right = as_seen(draws, skill, 0.8, per_class)
        half = np.mean([as_seen(draws, skill, 0.5, per_class) for _ in range(2)], axis=0)
        gain = gain_to_all(right.mean(1), half.mean(1), 5)
        found = corrected_estimate(
            *(right, labels, np.arange(len(labels)), order), gain=gain, draws=25, seed=number
        )
        truth = skill[select(right, labels, order)]
        errors.append(found.mean - truth)
        folds = corrected_estimate(*(right, labels, np.arange(len(labels)), order), draws=25, seed=number)
        plain.append(folds.mean - truth)
        covered.append(found.low <= truth <= found.high)
    error = np.std(errors, ddof=1) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 0.01 + 2 * error
    assert error < 0.012
    assert np.mean(plain) < -0.04  # without the gain
    assert np.mean(covered) > 0.92


def test_the_gain_is_the_rise_between_half_and_the_folds_continued_to_all():
    # 0.1 per doubling: from half of the images to 4/5 of them, and from there to all
    half, folds = np.full(30, 0.6), np.full(30, 0.6 + 0.1 * np.log2(1.6))
    assert gain_to_all(folds, half, 5) == pytest.approx(0.1 * np.log2(1.25))
    assert gain_to_all(half, half, 3) == pytest.approx(0)


def test_the_interval_widens_with_dependence_and_stays_within_0_and_1():
    labels, unit = np.repeat([0, 1, 2], 10), np.arange(30)
    right = np.tile([1.0, 1.0, 0.0], 10)
    found = crossval_interval(2 / 3, right, labels, unit, 5)
    assert found.mean == 2 / 3
    assert found.low < 2 / 3 < found.high
    fewer_folds = crossval_interval(2 / 3, right, labels, unit, 2)
    copies = crossval_interval(2 / 3, right, labels, unit // 2, 5)
    gained = crossval_interval(2 / 3, right, labels, unit, 5, np.tile([0.5, -0.5], 15))
    for wider in (fewer_folds, copies, gained):
        assert wider.high - wider.low > found.high - found.low
    best = crossval_interval(1.2, np.ones(30), labels, unit, 5)
    assert (best.mean, best.high) == (1, 1)
    assert 0.6 < best.low < 0.95


def test_folds_that_see_half_of_the_images_are_counted_in(mini: Encoder):
    rows = [np.flatnonzero(TABLE.labels == c) for c in range(3)]
    four, three = (TABLE.subset(np.concatenate([own[:most] for own in rows])) for most in (4, 3))
    learns, fixed = (measure("mini", mini, name, {}, four, 0) for name in ("linear-probe", "zero-shot"))
    assert learns.gain is not None
    assert fixed.gain is not None
    assert learns.gain.shape == (12,)
    assert not fixed.gain.any()
    assert measure("mini", mini, "linear-probe", {}, three, 0).gain is None
    with_gain = decide([replace(learns, gain=np.full(12, -0.2))], np.arange(12), draws=20)
    without = decide([replace(learns, gain=None)], np.arange(12), draws=20)
    assert with_gain.estimate.mean == pytest.approx(without.estimate.mean - 0.2)


# the command -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return as_folder(TABLE, tmp_path / "images", range(30))


def test_the_command_compares_and_adapts_the_winner(farshot: Farshot, folder: Path, tmp_path: Path):
    told = farshot(
        "choose", folder, "--models", "mini", "--models", "nowhere/at-all", "--out", tmp_path / "m"
    )
    assert told.code == 0, told.err
    assert "* " in told.out
    assert "Corrected for having been chosen" in told.out
    assert "nowhere/at-all is left out" in told.err
    assert load(tmp_path / "m").method == "linear-probe"
    told = farshot(
        "choose", folder, "--models", "mini", "--methods", "zero-shot", "--methods", "prototypes", "--json"
    )
    found = json.loads(told.out)
    assert [one["method"] for one in found["candidates"]] == ["zero-shot", "prototypes"]
    assert "farshot adapt" in told.err
    assert farshot("choose", folder, "--models", "mini", "--methods", "nothing").code == 2


def test_without_names_the_cached_encoders_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from farshot.cli.choose import cached_encoders

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(SettingError, match="name those to compare"):
        cached_encoders()
    place = tmp_path / "hub" / "models--vinid--plip"
    for part in ("blobs", "refs", "snapshots/abc"):
        (place / part).mkdir(parents=True)
    (place / "snapshots" / "abc" / "model.safetensors").write_bytes(bytes(2 << 20))
    (place / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert cached_encoders() == ["vinid/plip"]


def test_an_encoder_without_text_is_compared_from_zero(mini: Encoder):
    images_only = Encoder(
        *(mini.vision, None, None),
        preprocessing=mini.preprocessing,
        log_scale=mini.log_scale,
        origin=mini.origin,
    )
    found = choose(TABLE, {"images": lambda: images_only})
    assert dict(found.winner.settings) == {"start": "zero"}
    assert load_encoder("mini").has_text


def test_few_images_do_not_tell_two_classifiers_apart() -> None:
    labels, fold = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    right = np.eye(2, dtype=np.float32)[labels]
    first, second = (HeldOut((0, 1), labels, logits, fold) for logits in (right[::-1].copy(), right))
    found = compare_two(first, second).difference
    assert found.mean == 1
    assert found.low < 0.5 and found.high == 1


def test_only_the_best_candidate_is_no_interval_from_the_best(mini: Encoder) -> None:
    one = choose(TABLE.subset(range(0, len(TABLE), 4)), {"mini": lambda: mini}, ["zero-shot", "prototypes"])
    assert sorted(apart.half == 0 for apart in one.differences) == [False, True]
    assert all(-1 <= apart.low <= apart.mean <= apart.high <= 1 for apart in one.differences)


def test_the_intervals_of_an_estimate_count_in_that_folds_share_images() -> None:
    labels = np.repeat([0, 1], 20)
    logits = np.where(np.arange(40)[:, None] % 4 == 0, [0, 1], [1, 0]).astype(np.float32)
    found = HeldOut((0, 1), labels, logits, np.arange(40) % 5).evaluation()
    assert found.accuracy.mean == found.balanced_accuracy.mean == 0.5
    # 1 + 5 / 4, as Nadeau and Bengio have it for five folds
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(wilson(0.5, 40 / 2.25))
    assert (found.recall[0].low, found.recall[0].high) == pytest.approx(wilson(0.75, 20 / 2.25))
    independent = evaluate(labels, softmax(logits), (0, 1))
    assert found.balanced_accuracy.low < independent.balanced_accuracy.low - 0.03
    assert found.balanced_accuracy.high > independent.balanced_accuracy.high + 0.03


def test_of_a_table_with_splits_the_images_to_train_on_are_compared(mini: Encoder) -> None:
    own = replace(TABLE, splits=tuple("test" if row % 5 == 0 else "train" for row in range(len(TABLE))))
    found = choose(own, {"mini": lambda: mini}, ["prototypes"], seed=-1)
    alone = choose(TABLE.subset(own.train_rows()), {"mini": lambda: mini}, ["prototypes"], seed=-1)
    assert found.estimate == alone.estimate
    assert len(found.candidates[0].held_out.labels) == len(own.train_rows()) < len(TABLE)


def test_one_method_is_given_in_a_list(mini: Encoder):
    with pytest.raises(SettingError, match=r"such as \['linear-probe'\]"):
        choose(world_table(count=20), {"mini": lambda: mini}, "linear-probe")

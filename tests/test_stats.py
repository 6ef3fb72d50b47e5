"""Intervals, tests and calibration against computations of other hands."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support

from farshot.evaluation import intervals
from farshot.evaluation.calibration import certain_from, expected_calibration_error, negative_log_likelihood
from farshot.evaluation.intervals import (
    holm,
    mean_interval,
    over_cells,
    paired_difference,
    paired_power,
    proportion_interval,
    smallest_effect,
    tasks_to_find,
)
from farshot.evaluation.metrics import evaluate

# Intervals -----------------------------------------------------------------------------------------------


def test_equal_differences_that_are_rounded_prove_no_more_than_their_signs() -> None:
    a, b = np.array([51, 61, 42]) / 75, np.array([50, 60, 41]) / 75
    found = paired_difference(a, b)
    assert found.t_p == found.sign_p == 0.25
    assert found.low == found.high == found.mean == pytest.approx(1 / 75)
    assert over_cells([found])[1] == 0.25


@given(st.integers(1, 500), st.data())
def test_a_share_has_the_wilson_interval(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found = proportion_interval(k, n)
    z, p = scipy_stats.norm.ppf(0.975), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert found.mean == p
    assert found.low == pytest.approx(centre - half, abs=1e-12)
    assert found.high == pytest.approx(centre + half, abs=1e-12)
    assert found.n == n
    assert math.isnan(found.half)


def test_a_textbook_wilson_interval() -> None:
    found = proportion_interval(81, 263)  # Newcombe 1998, table I: 81 of 263
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_a_share_of_nothing_is_no_number() -> None:
    found = proportion_interval(0, 0)
    assert math.isnan(found.mean)
    assert math.isnan(found.low)
    assert found.n == 0


def test_a_mean_has_the_fields_interval() -> None:
    found = mean_interval([0.5, 0.7, 0.9])
    half = 1.96 * 0.2 / math.sqrt(3)
    assert found.mean == pytest.approx(0.7)
    assert found.half == pytest.approx(half)
    assert (found.low, found.high) == (pytest.approx(0.7 - half), pytest.approx(0.7 + half))
    assert mean_interval([0.5]).half == mean_interval([0.5, 0.7]).half == math.inf
    assert math.isnan(mean_interval([]).mean)


# Comparing -----------------------------------------------------------------------------------------------


def accuracies(seed: int, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a = generator.uniform(0.4, 0.9, n)
    return a + generator.normal(shift, 0.05, n), a


@pytest.mark.parametrize(("seed", "n", "shift"), [(0, 10, 0.02), (1, 200, 0.0), (2, 3, 0.1), (3, 40, -0.05)])
def test_a_paired_difference_is_scipys_paired_t_test(seed: int, n: int, shift: float) -> None:
    a, b = accuracies(seed, n, shift)
    found = paired_difference(a, b)
    reference = scipy_stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert found.t_p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.mean == pytest.approx(float(np.mean(a - b)))
    assert found.n == n
    wins = int((a > b).sum())
    assert found.sign_p == pytest.approx(scipy_stats.binomtest(wins, n, 0.5).pvalue)


def test_the_bootstrap_agrees_with_scipys() -> None:
    a, b = accuracies(5, 100, 0.01)
    found = paired_difference(a, b)
    reference = scipy_stats.bootstrap(
        (a - b,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.bootstrap_low == pytest.approx(reference.low, abs=5e-4)
    assert found.bootstrap_high == pytest.approx(reference.high, abs=5e-4)
    assert found == paired_difference(a, b)


def test_ties_and_equal_methods() -> None:
    same = paired_difference([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert (same.mean, same.t_p, same.sign_p, same.low, same.high) == (0, 1, 1, 0, 0)
    shifted = paired_difference([0.75, 0.5, 1.0], [0.5, 0.25, 0.75])
    assert (shifted.mean, shifted.t_p, shifted.sign_p) == (0.25, 0.25, 0.25)
    assert (shifted.smallest_effect, shifted.tasks_to_find) == (0, 3)
    tied = paired_difference([0.5, 0.6, 0.9, 0.8], [0.5, 0.6, 0.7, 0.7])
    assert tied.sign_p == 0.5  # two wins of two
    a = np.array([0.5, 0.6, 0.9, 0.8, 0.7])
    rounded = paired_difference(a + np.array([0, 1e-16, 1e-16, 0.1, 0.1]), a - np.array([2e-16, 0, 0, 0, 0]))
    assert rounded.sign_p == 0.5  # differences of rounding are ties


def test_tasks_for_precision_bring_the_half_width_to_half_a_point() -> None:
    a, b = accuracies(6, 50, 0.0)
    needed = paired_difference(a, b).tasks_for_precision
    spread = float(np.std(a - b, ddof=1))
    assert 1.96 * spread / math.sqrt(needed) <= 0.005 < 1.96 * spread / math.sqrt(needed - 1)


def test_one_task_is_not_enough() -> None:
    for n in (1, 2):
        with pytest.raises(ValueError, match="at least 3 tasks"):
            paired_difference([0.5] * n, [0.4] * n)


@pytest.mark.parametrize(("n", "effect"), [(3, 0.2), (10, 0.05), (40, 0.02), (200, 0.004)])
def test_power_is_that_of_the_noncentral_t_and_of_a_simulation(n: int, effect: float) -> None:
    spread = 0.05
    limit, shift = scipy_stats.t.ppf(0.975, n - 1), effect / spread * math.sqrt(n)
    expected = scipy_stats.nct.sf(limit, n - 1, shift) + scipy_stats.nct.cdf(-limit, n - 1, shift)
    assert paired_power(effect, spread, n) == pytest.approx(expected, abs=1e-6)
    drawn = np.random.default_rng(0).normal(effect, spread, (20_000, n))
    found = (scipy_stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(expected, abs=0.012)


def test_the_smallest_effect_and_the_tasks_to_find_one_belong_together() -> None:
    for spread, n in ((0.05, 3), (0.05, 40), (0.02, 200)):
        effect = smallest_effect(spread, n)
        assert paired_power(effect, spread, n) == pytest.approx(0.8, abs=1e-6)
        assert tasks_to_find(effect * 1.0001, spread) == n
    assert tasks_to_find(0.005, 0.05) == 787  # statsmodels: 786.8
    a, b = accuracies(6, 50, 0.0)
    found, spread = paired_difference(a, b), float(np.std(a - b, ddof=1))
    assert found.smallest_effect == smallest_effect(spread, 50)
    assert found.tasks_to_find == tasks_to_find(0.005, spread)


def test_the_fields_interval_of_three_tasks_covers_80_percent() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, (4000, 3))
    covered = np.mean([abs(found.mean) <= found.half for found in map(mean_interval, drawn)])
    assert covered == pytest.approx(0.81, abs=0.02)


def test_holm_on_a_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    ordered = sorted(p_values)
    for p, found in zip(p_values, holm(p_values), strict=True):
        steps = [(len(ordered) - i) * ordered[i] for i in range(ordered.index(p) + 1)]
        assert found == pytest.approx(min(1.0, max(steps)))
        assert p <= found <= 1


# Calibration ---------------------------------------------------------------------------------------------


def predictions(seed: int, images: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(images, classes)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), generator.integers(0, classes, images)


@pytest.mark.parametrize("seed", range(3))
def test_log_loss_is_scikit_learns(seed: int) -> None:
    probabilities, labels = predictions(seed)
    exact = probabilities.astype(np.float64)
    reference = log_loss(labels, exact / exact.sum(1, keepdims=True))
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(reference, rel=1e-5)


def test_a_probability_of_zero_costs_a_bounded_amount() -> None:
    found = negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert found == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize(("seed", "bins"), [(0, 15), (1, 15), (2, 10), (3, 1)])
def test_calibration_error_bin_by_bin(seed: int, bins: int) -> None:
    probabilities, labels = predictions(seed)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-5)


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 0])) == 1


# Evaluation ----------------------------------------------------------------------------------------------


def test_an_evaluation_agrees_with_scikit_learn() -> None:
    probabilities, labels = predictions(7)
    found = evaluate(labels, probabilities, ["a", "b", "c", "d"])
    predicted = probabilities.argmax(1)
    precision, recall, _, _ = precision_recall_fscore_support(labels, predicted)
    assert found.accuracy.mean == pytest.approx(accuracy_score(labels, predicted))
    assert [p.mean for p in found.precision] == pytest.approx(precision)
    assert [r.mean for r in found.recall] == pytest.approx(recall)
    assert found.confusion.sum() == 300
    assert found.confusion[2, 1] == ((labels == 2) & (predicted == 1)).sum()


def test_a_class_that_is_never_shown_or_predicted_has_no_share() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]], dtype=np.float32)
    found = evaluate(np.array([0, 1]), probabilities, ["a", "b", "c"])
    assert found.precision[0].mean == 0.5
    assert math.isnan(found.precision[1].mean)
    assert math.isnan(found.recall[2].mean)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["images"] == 2
    assert told["accuracy"]["value"] == 0.5
    assert told["classes"][2] == {
        "class": "c",
        "images": 0,
        "precision": {"value": None, "low": None, "high": None},
        "recall": {"value": None, "low": None, "high": None},
    }
    assert told["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


# When to decide ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40), st.floats(0.5, 0.95))
def test_a_threshold_is_the_lowest_whose_predictions_are_right_often_enough(pairs, wanted: float) -> None:
    confidence = np.array([c / 20 for c, _ in pairs])
    right = np.array([r for _, r in pairs])
    found = certain_from(confidence, right, wanted)

    def enough(threshold: float) -> bool:
        reached = right[confidence >= threshold]
        share = (reached.sum() + 1) / (len(reached) + 2)
        assume(share == wanted or abs(share - wanted) > 1e-9)  # closer, rounding decides
        return bool(share >= wanted)

    possible = [t for t in set(confidence.tolist()) if enough(t)]
    assert found.threshold == (min(possible) if possible else math.inf)
    assert found.decided.mean == pytest.approx((confidence >= found.threshold).mean())
    if possible:
        assert found.right.mean == pytest.approx(right[confidence >= found.threshold].mean())
        assert found.right.low <= found.right.mean <= found.right.high
    else:
        assert math.isnan(found.right.mean)


def test_few_images_prove_little():
    assert certain_from(np.array([0.9, 0.8]), [True, True], 0.8).threshold == math.inf  # 3 of 4 at best
    assert certain_from(np.array([0.9, 0.8, 0.7]), [True, True, True], 0.8).threshold == 0.7  # 4 of 5


def test_a_bootstrap_of_many_tasks_is_that_of_drawing_tasks_one_by_one() -> None:
    generator = np.random.default_rng(0)
    d = (generator.binomial(75, 0.7, 900) - generator.binomial(75, 0.69, 900)) / 75
    one_by_one = d[generator.integers(0, 900, (20_000, 900))].mean(1)
    at_once = intervals.bootstrap_means(d, 20_000, np.random.default_rng(1))
    assert at_once.shape == (20_000,)
    for share in (0.025, 0.5, 0.975):
        expected, found = (np.quantile(means, share) for means in (one_by_one, at_once))
        assert abs(expected - found) < 4 * one_by_one.std() * 2.7 / np.sqrt(20_000)
    assert at_once.std() == pytest.approx(one_by_one.std(), rel=0.03)

"""Images unlike the labelled ones, prediction sets, and accuracies with something to compare them with."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from farshot import FewShotClassifier, load
from farshot.classifier.hub import files_to_upload
from farshot.data.independence import scores_of_units
from farshot.data.pools import open_pool
from farshot.errors import ModelError, SettingError
from farshot.evaluation.calibration import tempered
from farshot.evaluation.crossval import HeldOut, fit_temperature
from farshot.evaluation.familiarity import Familiarity, Look, left_out_folds, measure
from farshot.evaluation.hierarchy import Hierarchy
from farshot.evaluation.intervals import paired_proportions, proportion_interval, roc_area
from farshot.evaluation.metrics import balanced_accuracy, evaluate
from farshot.evaluation.sets import prediction_sets, set_threshold
from farshot.export.onnx_file import export_onnx
from farshot.export.predictor import predictor
from farshot.methods.base import softmax
from farshot.model.appearance import TOLERANCE, appearance
from farshot.model.features import image_features
from tests.input_helpers import Farshot, class_folders
from tests.toy import as_folder, toy_task, world_table


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def around(centre: int, count: int, seed: int, width: int = 16) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return unit(np.eye(width)[centre] + 0.2 * draws.normal(size=(count, width)))


@pytest.fixture(scope="module")
def fitted() -> FewShotClassifier:
    table = world_table("mini-land", 200)
    return FewShotClassifier("mini", "linear-probe", calibrate=True).fit(
        table.subset(toy_task(table, shots=10).support)
    )


# Familiarity --------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.integers(0, 100))
def test_p_values_of_images_like_the_labelled_ones_are_not_too_small(count: int, seed: int):
    features = around(0, count + 1, seed)
    known = Familiarity.of(features[:count], np.arange(count))
    assert 1 / (count + 1) <= known.p_values(features[count:])[0] <= 1


def test_a_level_is_kept_on_average():
    """Exchangeable images: at most a share e of them has a p-value of at most e."""
    p = [
        Familiarity.of(features[:40], np.arange(40)).p_values(features[40:])
        for features in (around(0, 60, seed) for seed in range(100))
    ]
    for level in (0.05, 0.1, 0.3):
        share = (np.concatenate(p) <= level).mean()
        assert level - 0.04 < share < level + 0.03


def test_the_interval_of_the_area_under_the_curve_covers_the_truth():
    """Normal values, where the area is known: also where one kind varies more, and for few."""
    draws = np.random.default_rng(0)
    for own, strange, area, spread in (
        (8, 8, 0.9, 1),
        (50, 20, 0.75, 2),
        (200, 15, 0.9, 2),
        (10, 30, 0.97, 1),
    ):
        shift = NormalDist().inv_cdf(area) * math.sqrt(1 + spread**2)
        found = [roc_area(draws.normal(shift, 1, own), draws.normal(0, spread, strange)) for _ in range(600)]
        covered = np.mean([one.low <= area <= one.high for one in found])
        assert 0.92 < covered < 0.99, (own, strange, area, spread)
    all_above = roc_area(np.ones(6), np.zeros(5))
    assert all_above[1] < 0.8 and all_above[0] == all_above[2] == 1
    assert roc_area(np.zeros(5), np.ones(6))[1] == 0 and np.isnan(roc_area(np.ones(3), np.ones(0)).mean)


def test_copies_of_strangers_say_nothing_more():
    draws = np.random.default_rng(0)
    own, strange = draws.integers(1, 20, 30) / 20, draws.integers(1, 12, 20) / 20
    once, units = measure(own, strange, 0.3), np.arange(30)
    thrice = measure(np.tile(own, 3), np.tile(strange, 3), 0.3, np.tile(units, 3), np.tile(units[:20], 3))
    for name in ("flagged", "lost"):
        assert getattr(thrice, name)[:3] == pytest.approx(getattr(once, name)[:3])
    assert thrice.auroc[:3] == pytest.approx(once.auroc[:3], abs=0.01)


def test_strangers_have_small_p_values():
    known = Familiarity.of(around(0, 40, 0), np.arange(40))
    own, strange = known.p_values(around(0, 100, 1)), known.p_values(around(5, 100, 2))
    found = measure(own, strange, 0.05)
    assert found.auroc.mean > 0.95 and found.flagged.mean > 0.95 and found.lost.mean < 0.2


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    draws = np.random.default_rng(0)
    own, strange = draws.integers(1, 20, 50) / 20, draws.integers(1, 12, 70) / 20
    expected = roc_auc_score(np.r_[np.ones(50), np.zeros(70)], np.r_[own, strange])
    assert measure(own, strange, 0.1).auroc.mean == pytest.approx(expected)


def test_copies_do_not_vouch_for_each_other():
    features = around(0, 20, 0)
    twice = np.concatenate([features, features])
    alone = Familiarity.of(features, np.arange(20))
    grouped = Familiarity.of(twice, np.tile(np.arange(20), 2))
    careless = Familiarity.of(twice, np.arange(40))
    assert np.mean(careless.similarity) > np.mean(alone.similarity) + 0.05
    assert np.mean(grouped.similarity) < np.mean(careless.similarity) - 0.05


def looks(count: int, seed: int, shift: float = 0) -> np.ndarray:
    """Numbers of the appearance of images that vary more than the tolerance."""
    return np.random.default_rng(seed).normal(shift, 1, (count, len(TOLERANCE))).astype(np.float32)


def test_a_level_is_kept_on_average_with_the_appearance():
    p = []
    for seed in range(40):
        features, numbers = around(0, 60, seed), looks(60, seed)
        known = Familiarity.of(features[:40], np.arange(40), numbers[:40])
        p.append(known.p_values(features[40:], numbers[40:]))
    for level in (0.05, 0.1, 0.3):
        share = (np.concatenate(p) <= level).mean()
        assert 0.5 * level < share < level + 0.03


def test_images_of_other_looks_have_small_p_values_and_features_still_count():
    known = Familiarity.of(around(0, 40, 0), np.arange(40), looks(40, 0))
    own = known.p_values(around(0, 100, 1), looks(100, 1))
    for features, numbers in (
        (around(0, 100, 2), looks(100, 2, shift=4)),
        (around(5, 100, 3), looks(100, 3)),
    ):
        found = measure(own, known.p_values(features, numbers), 0.05)
        assert found.auroc.mean > 0.95 and found.flagged.mean > 0.9 and found.lost.mean < 0.2


def test_the_distance_of_looks_is_that_of_mahalanobis_from_images_of_other_units():
    numbers, unit = looks(12, 0), np.array([0, 0, *range(1, 11)])
    known = Look.of(numbers, unit)

    def expected(one: np.ndarray, others: np.ndarray) -> float:
        away = one.astype(np.float64) - others.mean(0)
        covariance = np.cov(others.T.astype(np.float64)) + np.diag(np.square(TOLERANCE))
        return float(np.sqrt(away @ np.linalg.solve(covariance, away)))

    by_hand = [expected(numbers[i], numbers[unit != unit[i]]) for i in range(12)]
    np.testing.assert_allclose(known.distance, by_hand, rtol=1e-5)
    other = looks(3, 1)
    np.testing.assert_allclose(known.distances(other), [expected(one, numbers) for one in other], rtol=1e-5)
    assert Look.of(numbers, np.zeros(12, dtype=np.int64)).distance.tolist() == [0] * 12


def test_where_all_labelled_images_look_alike_the_distance_is_finite_and_counts():
    numbers = np.tile(looks(1, 0), (20, 1))
    known = Familiarity.of(around(0, 20, 0), np.arange(20), numbers)
    assert np.array_equal(known.labelled, known.similarity)
    assert known.p_values(around(0, 5, 1), numbers[:5] + 3).max() == 1 / 21


def test_the_appearance_tells_light_from_structure():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(40, 200, (2, 64, 64, 3)).astype(np.uint8))
    brighter, smooth = pixels + 20, pixels.float().mean((1, 2), keepdim=True).expand(-1, 64, 64, -1).byte()
    found, lit, flat = appearance(pixels), appearance(brighter), appearance(smooth)
    assert found.shape == (2, len(TOLERANCE))
    torch.testing.assert_close(lit[:, 0], found[:, 0] + 20 / 255)
    torch.testing.assert_close(lit[:, 1:], found[:, 1:], atol=1e-4, rtol=0)
    assert (flat[:, 3:] < found[:, 3:] - 1).all()
    grey = pixels[..., :1].expand(-1, -1, -1, 3)
    torch.testing.assert_close(appearance(grey)[:, [1, 2]], torch.zeros(2, 2), atol=1e-6, rtol=0)
    half = pixels.clone()
    half[:, :, ::2] = half[:, :, 1::2]  # in pairs of equal columns, half of the changes across are gone
    assert (appearance(half)[:, 6] < found[:, 6] - 0.1).all()
    large = pixels.repeat_interleave(3, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(appearance(large), found, atol=1e-4, rtol=0)
    assert torch.isfinite(appearance(pixels[:, :8, :8])).all()


def test_an_exported_model_gives_the_same_p_values(fitted):
    images = world_table("mini-land", 60)
    pixels = torch.from_numpy(
        np.asarray(images.pixels(range(len(images)), fitted.encoder_.reading("model"), fitted.encoder_.size))
    )
    with torch.no_grad():
        _, similarity = predictor(fitted)(pixels)
    known = np.sort(fitted.familiarity_.labelled)
    p = (1 + np.searchsorted(known, similarity.numpy() + 1e-6, side="right")) / (1 + len(known))
    np.testing.assert_allclose(p, fitted.familiarity(images))


def test_a_model_that_was_saved_without_the_appearance_compares_features_alone(fitted, tmp_path: Path):
    fitted.save(tmp_path / "adapted")
    file = tmp_path / "adapted" / "labelled.safetensors"
    save_file({name: x for name, x in load_file(file).items() if not name.startswith("appearance")}, file)
    again, images = load(tmp_path / "adapted"), world_table("mini-land", 60)
    features = image_features(again.encoder_, images, range(len(images))).numpy()
    alone = Familiarity(fitted.familiarity_.features, fitted.familiarity_.similarity).p_values(features)
    assert np.array_equal(again.familiarity(images), alone)
    assert not np.array_equal(fitted.familiarity(images), alone)
    pixels = torch.from_numpy(
        np.asarray(images.pixels(range(len(images)), again.encoder_.reading("model"), again.encoder_.size))
    )
    with torch.no_grad():
        _, similarity = predictor(again)(pixels)
    np.testing.assert_allclose(similarity.numpy(), again.familiarity_.nearest(features), atol=1e-5)
    again.save(tmp_path / "again")
    assert load_file(tmp_path / "again" / "labelled.safetensors").keys() == load_file(file).keys()


def test_a_level_that_cannot_be_reached_is_refused():
    known = Familiarity.of(around(0, 10, 0), np.arange(10))
    known.check_level(0.1)
    with pytest.raises(SettingError, match="at least 19 labelled images, and this model was adapted to 10"):
        known.check_level(0.05)
    with pytest.raises(SettingError, match="between 0 and 1"):
        known.check_level(0)


@pytest.mark.parametrize("method", ["linear-probe", "clip-lora"])
def test_pictures_of_another_world_are_unlike_those_of_this_one(method: str):
    table = world_table("mini-land", 200)
    support = toy_task(table, shots=10).support
    other = np.setdiff1d(np.arange(len(table)), support)
    settings = {"steps": 2} if method == "clip-lora" else None
    made = FewShotClassifier("mini", method, settings=settings).fit(table.subset(support))
    found = measure(
        made.familiarity(table.subset(other)), made.familiarity(open_pool("mini-xray", images=20).table), 0.1
    )
    assert found.auroc.mean > 0.95 and found.flagged.mean > 0.8 and found.lost.mean < 0.3


def test_a_model_that_was_saved_without_features_says_so(fitted, tmp_path: Path):
    fitted.save(tmp_path / "adapted")
    (tmp_path / "adapted" / "labelled.safetensors").unlink()
    again = load(tmp_path / "adapted")
    again.predict(world_table("mini-land", 5))
    with pytest.raises(ModelError, match="saved without the features"):
        again.familiarity(world_table("mini-land", 5))
    with pytest.raises(SettingError, match="calibrate=True"):
        again.predict_set(world_table("mini-land", 5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kept: kept | {"features": kept["features"][:3]}, "features is"),
        (lambda kept: kept | {"similarity": kept["similarity"] * torch.nan}, "NaN"),
        (lambda kept: kept | {"held_out.fold": kept["held_out.fold"].float()}, "held_out.fold is"),
        (lambda kept: {name: value for name, value in kept.items() if name != "features"}, "one is missing"),
        (lambda kept: {name: x for name, x in kept.items() if name != "appearance"}, "one is missing"),
        (lambda kept: kept | {"appearance": kept["appearance"][:, :3].contiguous()}, "appearance is"),
        (lambda kept: kept | {"more": torch.zeros(2)}, "more is not known"),
    ],
)
def test_damaged_features_are_refused_by_name(fitted, tmp_path: Path, change, words: str):
    fitted.save(tmp_path / "adapted")
    file = tmp_path / "adapted" / "labelled.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(ModelError, match=rf"labelled.safetensors is damaged.*{words}"):
        load(tmp_path / "adapted")


def test_the_features_of_private_pictures_are_not_uploaded(fitted, tmp_path: Path):
    fitted.save(tmp_path / "adapted")
    assert (tmp_path / "adapted" / "labelled.safetensors").is_file()
    assert "labelled.safetensors" not in files_to_upload(tmp_path / "adapted", "mini")


# Prediction sets ----------------------------------------------------------------------------------------


@given(st.integers(20, 80), st.sampled_from([0.5, 0.8, 0.9]), st.integers(0, 50))
def test_sets_hold_the_true_class_of_enough_of_the_images_that_chose_them(n: int, coverage: float, seed: int):
    draws = np.random.default_rng(seed)
    p = draws.dirichlet(np.ones(4), n).astype(np.float32)
    labels = draws.integers(0, 4, n)
    chosen = prediction_sets(p, set_threshold(p, labels, coverage))
    assert chosen[np.arange(n), labels].mean() >= coverage
    assert chosen.any(1).all()


def test_coverage_is_kept_on_new_images():
    covered = []
    for seed in range(60):
        draws = np.random.default_rng(seed)
        p = draws.dirichlet(np.ones(5), 90).astype(np.float32)
        labels = np.array([draws.choice(5, p=row / row.sum()) for row in p.astype(np.float64)])
        chosen = prediction_sets(p[50:], set_threshold(p[:50], labels[:50], 0.9))
        covered.append(chosen[np.arange(40), labels[50:]].mean())
    assert 0.88 < np.mean(covered) < 0.95


def test_a_promise_that_so_few_images_cannot_keep_is_refused():
    p, labels = np.full((5, 2), 0.5, dtype=np.float32), np.array([0, 1, 0, 1, 0])
    set_threshold(p, labels, 0.8)
    with pytest.raises(SettingError, match=r"at least 9 labelled images, and there are 5.*at most 0.83"):
        set_threshold(p, labels, 0.9)


def test_sets_name_classes_the_most_probable_first(fitted):
    images = world_table("mini-land", 40)
    found, best = fitted.predict_set(images, 0.9), fitted.predict(images)
    assert [classes[0] for classes in found] == best.tolist()
    sizes = [np.mean([len(classes) for classes in fitted.predict_set(images, c)]) for c in (0.5, 0.8, 0.95)]
    assert sizes == sorted(sizes)


# Calibration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [5 * np.eye(3), -5 * np.eye(3), np.zeros((3, 3))])
@pytest.mark.parametrize("copies", [1, 4])
def test_no_temperature_collapses(logits: np.ndarray, copies: int) -> None:
    """All right, all wrong, and all of one probability: without a prior 0, infinity and anything."""
    labels = np.arange(3)
    found = fit_temperature(np.tile(logits, (copies, 1)).astype(np.float32), np.tile(labels, copies))
    assert 0.05 < found < 20


def test_with_many_images_the_temperature_is_that_of_the_least_loss() -> None:
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(4000, 4)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([draws.choice(4, p=row / row.sum()) for row in p.astype(np.float64)])
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)


def test_a_calibrated_fit_keeps_estimate_and_cross_validated_predictions(fitted, tmp_path: Path) -> None:
    images = world_table("mini-land", 40)
    fitted.save(tmp_path / "adapted")
    again = load(tmp_path / "adapted")
    assert fitted.estimate_ is not None and fitted.estimate_["calibrated"]
    assert again.estimate_ == fitted.estimate_ and again.calibrated_
    assert np.array_equal(again.held_out_.logits, fitted.held_out_.logits)
    assert again.predict_set(images, 0.5) == fitted.predict_set(images, 0.5)
    assert np.array_equal(again.familiarity(images), fitted.familiarity(images))


# Accuracy and what to compare it with -------------------------------------------------------------------


def test_balanced_accuracy_is_the_mean_recall_and_majority_the_largest_class():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    probabilities = np.eye(3)[[0, 0, 0, 0, 0, 0, 0, 1, 1, 0]]
    found = evaluate(labels, probabilities, ["a", "b", "c"])
    assert found.accuracy.mean == pytest.approx(0.8)
    assert found.balanced_accuracy.mean == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert (found.majority, found.majority_class, found.chance) == (0.6, "a", pytest.approx(1 / 3))
    told = found.to_dict()
    assert told["majority"] == {"class": "a", "accuracy": 0.6}
    assert json.loads(json.dumps(told))["balanced_accuracy"]["low"] < told["balanced_accuracy"]["value"]


def test_the_interval_of_balanced_accuracy_covers_the_truth():
    draws = np.random.default_rng(0)
    truth = np.array([0.9, 0.5, 0.7])
    inside = 0
    for _ in range(300):
        found = balanced_accuracy(draws.binomial([30, 8, 15], truth), np.array([30, 8, 15]))
        inside += found.low <= truth.mean() <= found.high
    assert 0.92 <= inside / 300 <= 0.985


@pytest.mark.parametrize(("classes", "images", "recall"), [(38, 5, 0.9), (100, 2, 0.9), (200, 10, 0.8)])
def test_the_interval_of_balanced_accuracy_covers_the_truth_of_many_classes(classes, images, recall):
    draws, shown = np.random.default_rng(0), np.full(classes, images)
    found = [balanced_accuracy(draws.binomial(images, recall, classes), shown) for _ in range(300)]
    inside = np.mean([one.low <= recall <= one.high for one in found])
    assert 0.91 <= inside <= 0.985
    assert balanced_accuracy(shown, shown).low > 0.97  # all right, of 190 or more


def held_out(copies: int) -> HeldOut:
    """Fifteen pictures, each so many times."""
    rows = np.repeat(np.arange(15), copies)
    logits = np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32)[rows]
    return HeldOut((0, 1, 2), rows % 3, logits, rows % 5, rows % 2, rows)


def test_copies_do_not_make_an_estimate_surer():
    once, often = held_out(1), held_out(6)
    for calibrated in (False, True):
        one, more = (made.evaluation(calibrated=calibrated) for made in (once, often))
        for name in ("accuracy", "balanced_accuracy"):
            assert getattr(more, name)[:3] == pytest.approx(getattr(one, name)[:3], abs=0.02 * calibrated)
    assert more.accuracy.n == 90
    assert one.zero_shot is not None and more.zero_shot is not None
    assert (more.zero_shot.difference.low - one.zero_shot.difference.low) == pytest.approx(0, abs=0.02)
    alone = HeldOut((0, 1, 2), once.labels, once.logits, once.fold)
    assert alone.evaluation().to_dict()["accuracy"] == once.evaluation().to_dict()["accuracy"]


def test_copies_do_not_promise_more():
    with pytest.raises(SettingError, match="need at least 19 labelled images, and there are 15"):
        known = held_out(6)
        set_threshold(known.calibrated, known.labels, 0.95, known.units)
    features = np.eye(15, dtype=np.float32)
    once = Familiarity.of(features, np.arange(15))
    often = Familiarity.of(np.repeat(features, 6, axis=0), np.repeat(np.arange(15), 6))
    new = np.eye(15, dtype=np.float32)[:3] * 0.9
    assert often.p_values(new).tolist() == once.p_values(new).tolist()
    with pytest.raises(
        SettingError, match=r"at least 19 labelled images.* adapted to 15 \(copies and groups count once\)"
    ):
        often.check_level(0.05)


def sites(count: int, seed: int, kind: str) -> HeldOut:
    """Sites with a picture of an easy class and one of a hard class each; or the same with a class per site,
    or without sites. Folders of classes: all of the easy one come first."""
    draws = np.random.default_rng(seed)
    labels, unit = np.repeat([0, 1], count), np.tile(np.arange(count), 2)
    if kind == "within":
        unit = np.concatenate([np.arange(count) // 2, count + np.arange(count) // 2])
    easy = np.where(labels == 0, 2.5, -0.3) + draws.normal(0, 1, 2 * count)
    logits = np.zeros((2 * count, 2), dtype=np.float32)
    logits[np.arange(2 * count), labels] = easy
    return HeldOut(
        ("a", "b"), labels, logits, np.arange(2 * count) % 5, unit=None if kind == "none" else unit
    )


@pytest.mark.parametrize("kind", ["spanning", "within", "none"])
def test_promises_hold_where_groups_span_classes(kind: str):
    """Of new pictures 90 % are in their set, and of those from 90 % on 90 % are right, by Laplace's rule."""
    covered, wrong, sure_right, sure = [], [], [], []
    chain = Hierarchy(("a", "b"), {})
    for seed in range(12):
        known, new = sites(40, seed, kind), sites(100, 1000 + seed, kind)
        p = softmax(new.logits / np.float32(known.temperature()))
        calibrated, labels, unit = known.calibrated, known.labels, known.units
        chosen = prediction_sets(p, set_threshold(calibrated, labels, 0.9, unit))
        covered.append(chosen[np.arange(200), new.labels])
        answers = chain.answers(p, chain.threshold(calibrated, labels, 0.9, unit))
        pairs = zip(answers, new.labels.tolist(), strict=True)
        wrong.append(np.mean([not chain.is_right(one, label) for one, label in pairs]))
        reached = p.max(1) >= known.certainty(0.9).threshold
        sure_right.append((p.argmax(1) == new.labels)[reached].sum())
        sure.append(reached.sum())
    assert 0.88 < np.mean(covered) < 0.95
    assert np.mean(covered, axis=0)[100:].mean() > 0.7  # the hard class; 0.38 if the easy one decides
    assert 0.05 < np.mean(wrong) < 0.12
    assert 0.86 < sum(sure_right) / sum(sure) < 0.96


def test_p_values_hold_for_each_class_where_groups_span_classes():
    """A class of pictures that are all alike, and one that varies, with one of each at every site."""
    lost = []
    for seed in range(20):
        draws = np.random.default_rng(seed)
        means, spread = np.eye(2, 32)[np.repeat([0, 1], 230)] * 4, np.repeat([0.5, 1], 230)[:, None]
        features = (means + draws.normal(0, 1, (460, 32)) * spread).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        known = np.r_[:30, 230:260]
        p = Familiarity.of(features[known], np.tile(np.arange(30), 2)).p_values(np.delete(features, known, 0))
        lost.append([(p <= 0.05).mean(), (p[200:] <= 0.05).mean()])
    assert np.mean(lost, axis=0)[0] < 0.06
    assert np.mean(lost, axis=0)[1] < 0.12  # nearly all if the first class decides


def test_references_are_the_scores_of_units():
    unit, scores = np.array([1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]), np.array([9.0, 5, 1, 1, *[2.0] * 6, 3])
    # of one image of each: 1, 2, 3 in 2/3 * 6/7 = 57 % of draws, so these are the medians of the ranks
    assert scores_of_units(scores, unit).tolist() == [1, 2, 3]
    unit, scores = np.arange(7), np.array([5.0, 1, 2, 2, 2, 9, 3])
    assert scores_of_units(scores, np.arange(7)).tolist() == sorted(scores.tolist())
    assert scores_of_units(np.repeat(scores, 3), np.repeat(np.arange(7), 3)).tolist() == sorted(
        scores.tolist()
    )


@pytest.mark.parametrize(("units", "images", "alike"), [(9, 10, 0.9), (10, 20, 0.9), (19, 10, 0.7)])
def test_sets_keep_their_promise_where_images_of_a_unit_are_alike(units: int, images: int, alike: float):
    draws, unit, held = np.random.default_rng(1), np.repeat(np.arange(units), images), []
    for _ in range(600):
        of_unit = draws.normal(size=(units + 1, 1)) * alike**0.5
        p = 1 / (1 + np.exp(-of_unit - draws.normal(size=(units + 1, images)) * (1 - alike) ** 0.5))
        known = np.stack([p[:-1].ravel(), 1 - p[:-1].ravel()], axis=1)
        threshold = set_threshold(known, np.zeros(len(unit), dtype=np.int64), 0.9, unit)
        held.append((p[-1] >= threshold).mean())
    assert np.mean(held) > 0.9 - 3 * np.std(held) / 600**0.5


def test_the_recall_of_a_class_counts_units_within_the_class():
    labels, unit = np.repeat(np.arange(5), 15), np.tile(np.arange(15), 5)  # each site has all classes
    predicted = np.where(np.arange(75) % 5 == 0, (labels + 1) % 5, labels)
    p = np.eye(5, dtype=np.float32)[predicted]
    spanning, alone = evaluate(labels, p, range(5), unit), evaluate(labels, p, range(5))
    assert spanning.recall == alone.recall
    assert spanning.precision[0].low == pytest.approx(alone.precision[0].low)
    assert spanning.accuracy.low < alone.accuracy.low - 0.1  # all of a site may be wrong together
    assert spanning.balanced_accuracy.low < alone.balanced_accuracy.low - 0.1


def test_the_difference_to_zero_shot_counts_in_that_folds_share_images():
    labels, rows = np.zeros(60, dtype=np.int64), np.arange(60)
    adapted, zero_shot = (rows % 10 < 2).astype(np.int64), (rows % 12 < 5).astype(np.int64)
    logits = np.eye(2, dtype=np.float32)[adapted]
    found = HeldOut(("a", "b"), labels, logits, rows % 5, zero_shot).evaluation().zero_shot
    assert found is not None
    cells = [int(((adapted == a) & (zero_shot == b)).sum()) for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))]
    careless = paired_proportions(*cells)
    # the variance of the adapted side alone is 1 + 5 / 4 times as large
    assert found.difference[:3] == pytest.approx(paired_proportions(*cells, factor=2.25)[:3])
    assert found.difference.low < careless.low - 0.02 and found.difference.high > careless.high + 0.01
    assert found.accuracy.low == pytest.approx(proportion_interval(35, 60).low)


def test_copies_among_the_measured_images_count_once(mini):
    table = world_table(count=200)
    order = np.random.default_rng(0).permutation(len(table))
    classifier = FewShotClassifier(mini, "zero-shot").fit(table.subset(order[:10]))
    rest = table.subset(order[10:])
    assert rest.labels is not None
    often = replace(rest, images=rest.images * 5, labels=np.tile(rest.labels, 5), _ids={}, _contents={})
    once, more = classifier.evaluate(rest), classifier.evaluate(often)
    assert more.confusion.sum() == 5 * once.confusion.sum()
    assert more.accuracy[:3] == pytest.approx(once.accuracy[:3])
    assert more.balanced_accuracy[:3] == pytest.approx(once.balanced_accuracy[:3])
    grouped = replace(often, groups=tuple("abcdefgh"[n % 8] for n in range(len(often))))
    assert classifier.evaluate(grouped).accuracy.low < once.accuracy.low


# The commands -------------------------------------------------------------------------------------------


def test_the_commands_reject_strangers_and_give_sets(farshot, tmp_path: Path):
    class_folders(tmp_path / "own", ("cat", "dog"), images=12)
    done = farshot(
        *("adapt", tmp_path / "own", "--model", "mini", "--method", "prototypes", "--calibrate"),
        *("--shots", 10, "--out", tmp_path / "adapted"),
    )
    assert done.code == 0, done.err
    told = farshot(
        "predict", tmp_path / "adapted", tmp_path / "own", "--reject", 0.05, "--coverage", 0.9, "--json"
    )
    rows = json.loads(told.out)
    assert len(rows) == 24 and all(row["calibrated"] for row in rows)
    for row in rows:
        assert row["class"] is None and row["set"] == [] if row["rejected"] else row["class"] in row["set"]
    assert [row["rejected"] for row in rows] == [row["p_value"] <= 0.05 for row in rows]
    text = farshot("predict", tmp_path / "adapted", tmp_path / "own", "--reject", 0.99).out
    for line in text.splitlines():
        words = line.split("\t")
        assert (words[1] == "none of these") == (words[2] == "-") == (float(words[3].split()[1]) <= 0.99)
    assert "none of these" in text
    refused = farshot("predict", tmp_path / "adapted", tmp_path / "own", "--reject", 0.01)
    assert refused.code == 2 and "at least 99 labelled images" in refused.err
    table = farshot("evaluate", tmp_path / "adapted", tmp_path / "own", "--other", tmp_path / "own" / "cat")
    assert table.code == 0 and "balanced accuracy" in table.out and "rejected at the level 0.05" in table.out
    page = tmp_path / "report.html"
    assert farshot("report", tmp_path / "adapted", "--data", tmp_path / "own", "--out", page).code == 0
    text = page.read_text(encoding="utf-8")
    shown = re.search(r"<dt>Balanced</dt><dd>([\d.]+)", text)
    assert "<dt>Chance</dt><dd>50.0 %" in text
    assert shown and float(shown[1]) == float(re.search(r"balanced accuracy ([\d.]+)", table.out)[1])  # type: ignore[index]


# percentages only where they are calibrated -----------------------------------------------------------


def test_keeping_cross_validated_predictions_calibrates_as_fit_does():
    table = world_table(count=120)
    by_fit = FewShotClassifier("mini", "linear-probe", calibrate=True).fit(table)
    later = FewShotClassifier("mini", "linear-probe").fit(table)
    assert not later.calibrated_
    later.keep_held_out(later.held_out(table))
    assert later.temperature_ == by_fit.temperature_
    assert later.estimate_ == by_fit.estimate_
    assert later.set_threshold(0.8) == by_fit.set_threshold(0.8)
    with pytest.raises(SettingError, match="other images"):
        later.keep_held_out(later.held_out(table.subset(range(20))))


def test_tempered_probabilities_are_those_of_divided_logits():
    logits = np.random.default_rng(0).normal(0, 4, (50, 6)).astype(np.float32)
    for temperature in (0.3, 1.0, 2.5):
        expected = softmax(logits / np.float32(temperature))
        np.testing.assert_allclose(tempered(softmax(logits), temperature), expected, atol=2e-6)


@pytest.mark.parametrize("calibrated", [False, True])
def test_pages_and_reasons_show_percentages_only_if_calibrated(
    farshot: Farshot, tmp_path: Path, calibrated: bool
):
    as_folder(world_table(count=60), tmp_path / "images")
    how = "--calibrate" if calibrated else "--no-calibrate"
    told = farshot(
        "adapt", tmp_path / "images", "--out", tmp_path / "m", "--model", "mini", "--shots", 4, how
    )
    assert told.code == 0, told.err
    told = farshot("explain", tmp_path / "m", tmp_path / "images", "--out", tmp_path / "e")
    assert told.code == 0, told.err
    page = (tmp_path / "e" / "index.html").read_text()
    assert ("score 0." in page) != calibrated
    assert ('<th scope="col">probability</th>' in page) == calibrated
    told = farshot(
        "report", tmp_path / "m", "--data", tmp_path / "images", "--out", tmp_path / "r.html", "--images", 2
    )
    assert told.code == 0, told.err
    assert ("(score " in (tmp_path / "r.html").read_text()) != calibrated
    told = farshot(
        *("pick", tmp_path / "images", "--model", tmp_path / "m", "--count", 2, "--out", tmp_path / "p"),
        *("--rule", "uncertain"),
    )
    assert told.code == 0, told.err
    assert (": score " in (tmp_path / "p" / "picked.csv").read_text()) != calibrated


@pytest.mark.parametrize(("sizes", "told"), [((24, 4), True), ((12, 12), False)])
def test_adapt_says_how_rare_classes_can_count_more(
    farshot: Farshot, tmp_path: Path, sizes: tuple[int, int], told: bool
):
    """A rare class that looks like the frequent one is taken for it."""
    generator = np.random.default_rng(0)
    for name, size, level in (("frequent", sizes[0], 120), ("rare", sizes[1], 126)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(size):
            noise = generator.normal(level, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / "data" / name / f"{number}.png")
    plain = farshot("adapt", tmp_path / "data", "--model", "mini", "--out", tmp_path / "a")
    assert plain.code == 0, plain.err
    assert ("classes have 4 to 24 labelled images" in plain.err) == told
    more = ("--method", "linear-probe", "--set", "class_weight=balanced")
    other = farshot("adapt", tmp_path / "data", "--model", "mini", *more, "--out", tmp_path / "b")
    assert other.code == 0, other.err
    assert "labelled images, and rare ones" not in other.err


@pytest.mark.slow
def test_an_export_and_its_program_write_nothing_into_the_users_home(tmp_path: Path):
    """onnxruntime would give this computer a number, keep it in the cache, and report its use."""
    home = tmp_path / "home"
    home.mkdir()
    table = world_table(count=40)
    support = table.subset(table.draw(2, 0)[0])
    FewShotClassifier("mini", "prototypes").fit(support).save(tmp_path / "adapted")
    support.image(0).save(tmp_path / "a.png")
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USERPROFILE", "LOCALAPPDATA", "FARSHOT_CACHE")
    environment = os.environ | {name: str(home / name) for name in names} | {"HOME": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    out = tmp_path / "out"
    for command in (
        ["-m", "farshot", "export", str(tmp_path / "adapted"), "--format", "onnx", "--out", str(out)],
        [str(out / "predict.py"), str(tmp_path / "a.png")],
    ):
        subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
    assert (out / "model.onnx").is_file()
    written = [file.relative_to(home) for file in home.rglob("*") if file.is_file()]
    assert [file for file in written if "matplotlib" not in file.parts] == []


@pytest.mark.slow
def test_the_program_of_an_export_knows_strangers_and_sets(farshot: Farshot, tmp_path: Path):
    table = world_table(count=160)
    support = table.subset(table.draw(12, 0)[0])
    made = FewShotClassifier("mini", "linear-probe", calibrate=True).fit(support)
    made.save(tmp_path / "adapted")
    about = export_onnx(made, tmp_path / "out")
    assert len(about["labelled_similarity"]) == len(about["held_out_probability"]) == 24
    files = []
    for row in range(6):
        table.image(row).save(tmp_path / f"{row}.png")
        files.append(tmp_path / f"{row}.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    files.append(tmp_path / "noise.png")
    for options in ([], ["--reject", "0.2"], ["--coverage", "0.8"], ["--reject", "0.2", "--coverage", "0.9"]):
        told = subprocess.run(
            [sys.executable, tmp_path / "out" / "predict.py", *options, *files],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == farshot("predict", tmp_path / "adapted", *options, *files).out
    for options, reason in (
        (["--reject", "0.01"], "too little for 24 labelled images"),
        (["--coverage", "0.99"], "too much for 24 labelled images"),
    ):
        told = subprocess.run(
            [sys.executable, tmp_path / "out" / "predict.py", *options, *files],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 1
        assert reason in told.stderr


def test_labelled_images_are_compared_with_those_of_other_folds() -> None:
    unit = np.array([0, 0, 1, 2, 3, 3, *range(4, 30)])
    fold = left_out_folds(unit)
    assert all(len(set(fold[unit == one])) == 1 for one in unit)
    assert len(set(fold)) == 20
    features = np.eye(len(unit), dtype=np.float32)  # none is like another one
    features[1] = features[0]  # but a copy, which is left out together
    p = Familiarity.of(features, unit).left_out(unit)
    assert (p == 1).all()
    odd, near = looks(len(unit), 0), around(0, len(unit), 0)
    odd[[0, 1]] += 9  # look like each other alone
    p = Familiarity.of(near, unit, odd).left_out(unit)
    others = len(set(unit[fold != fold[0]]))  # copies count once
    assert p[0] == p[1] == 1 / (1 + others) and np.median(p) > 0.2
    alone = Familiarity.of(features, unit).left_out(np.arange(len(unit)))
    assert alone.shape == (len(unit),)
    assert ((alone > 0) & (alone <= 1)).all()

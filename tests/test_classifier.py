"""FewShotClassifier: a scikit-learn classifier of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator

from farshot import FewShotClassifier
from farshot.errors import DataError, SettingError
from tests.toy import toy_task, world_table

TABLE = world_table(count=60)
TASK = toy_task(TABLE)
IMAGES = [TABLE.images[row] for row in TASK.support]
LABELS = [TABLE.classes[code] for code in TASK.labels]
QUERIES = [TABLE.images[row] for row in TASK.query[:10]]


@pytest.fixture(scope="module")
def fitted() -> FewShotClassifier:
    return FewShotClassifier("mini", "zero-shot").fit(IMAGES, LABELS)


def test_paths_pictures_and_arrays_give_the_same(fitted, tmp_path: Path):
    pictures = [Image.fromarray(np.asarray(image)) for image in QUERIES]
    paths = [tmp_path / f"{i}.png" for i in range(len(QUERIES))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = fitted.predict_proba(QUERIES)
    assert expected.shape == (10, 2)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-5)
    for given in (pictures, paths, [str(p) for p in paths], np.stack(QUERIES)):
        assert np.array_equal(fitted.predict_proba(given), expected)


def test_labels_come_back_as_they_were_given():
    numbers = [7 if label == "highway" else 3 for label in LABELS]
    names = {7: "highway", 3: "orchard"}
    made = FewShotClassifier("mini", "zero-shot", class_names=names).fit(IMAGES, numbers)
    assert made.classes_.tolist() == [3, 7]
    assert set(made.predict(QUERIES).tolist()) <= {3, 7}
    by_order = FewShotClassifier("mini", "zero-shot", class_names=["orchard", "highway"]).fit(IMAGES, numbers)
    assert np.array_equal(by_order.predict_proba(QUERIES), made.predict_proba(QUERIES))


def test_score_is_the_share_of_right_answers(fitted):
    truth = [TABLE.classes[TABLE.labels[row]] for row in TASK.query[:10]]
    assert fitted.score(QUERIES, truth) == np.mean(fitted.predict(QUERIES) == np.array(truth))
    assert fitted.score(QUERIES, truth) > 0.5


def test_predictions_are_the_most_probable_class(fitted):
    p = fitted.predict_proba(QUERIES)
    assert np.array_equal(fitted.predict(QUERIES), fitted.classes_[p.argmax(1)])


def test_descriptions_and_templates_reach_the_prompt(fitted):
    for change in (
        {"descriptions": {"highway": "a wide straight road"}},
        {"template": "an aerial view of {}."},
    ):
        other = FewShotClassifier("mini", "zero-shot", **change).fit(IMAGES, LABELS)
        assert not np.array_equal(other.predict_proba(QUERIES), fitted.predict_proba(QUERIES))


def test_probabilities_are_calibrated_only_if_asked(fitted):
    assert fitted.temperature_ == 1
    table = world_table(count=60)
    task = toy_task(table, shots=5)
    calibrated = FewShotClassifier("mini", "zero-shot", calibrate=True).fit(table.subset(task.support))
    assert calibrated.temperature_ not in (0, 1)
    logits = calibrated.decision_function(QUERIES) / np.float32(calibrated.temperature_)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(calibrated.predict_proba(QUERIES), expected, rtol=1e-4)


def test_the_estimate_leaves_every_image_out_once():
    table = world_table(count=60)
    task = toy_task(table, shots=3)
    support = table.subset(task.support)
    made = FewShotClassifier("mini", "prompt-lora", settings={"views": "none", "steps": 2})
    found = made.estimate(support)
    assert found.confusion.sum() == 6
    assert found.confusion.sum(1).tolist() == [3, 3]
    assert found.accuracy.low <= found.accuracy.mean <= found.accuracy.high


def test_one_image_per_class_cannot_be_estimated():
    task = toy_task(TABLE, shots=1)
    with pytest.raises(DataError, match="at least two of every class"):
        FewShotClassifier("mini", "zero-shot").estimate(TABLE.subset(task.support))


def test_images_it_was_adapted_to_do_not_count_in_an_evaluation(fitted):
    result, left_out = fitted.evaluate(TABLE)
    assert left_out == len(IMAGES)
    assert result.confusion.sum() == len(TABLE) - len(IMAGES)
    everything, none = fitted.evaluate(TABLE, include_support=True)
    assert (none, everything.confusion.sum()) == (0, len(TABLE))


def test_a_label_it_does_not_know_is_named(fitted):
    other = world_table(classes=("highway", "forest"), count=30)
    with pytest.raises(DataError, match="'forest'"):
        fitted.evaluate(other)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES, LABELS[:-1], "label"),
        ([], [], "image"),
        (IMAGES, ["highway"] * len(IMAGES), "two classes"),
        ([IMAGES[0], "nowhere.png"], ["highway", "orchard"], "nowhere.png"),
    ],
)
def test_what_is_wrong_with_the_data_is_one_sentence(images, labels, words):
    with pytest.raises(DataError, match=words):
        FewShotClassifier("mini", "zero-shot").fit(images, labels)


@pytest.mark.parametrize(
    ("method", "settings"), [("athena", {}), ("atha", {"rhoo": 1}), ("atha", {"rho": "x"})]
)
def test_wrong_settings_name_the_choices(method, settings):
    with pytest.raises(SettingError, match=r"choose one|settings are|must be"):
        FewShotClassifier("mini", method, settings=settings).fit(IMAGES, LABELS)


def test_it_refuses_to_predict_before_it_is_fitted():
    with pytest.raises(NotFittedError):
        FewShotClassifier("mini").predict(QUERIES)


def test_parameters_are_kept_verbatim_and_cloned():
    settings = {"steps": 3}
    made = FewShotClassifier("mini", "atha", settings=settings, seed=5)
    assert made.get_params()["settings"] is settings
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    assert not hasattr(copy, "classes_")


# Checks of scikit-learn that cannot pass, and why.
NUMBERS = "gives rows of numbers to fit, where images are expected"
NOT_FOR_IMAGES = {
    "check_complex_data": NUMBERS,
    "check_classifier_data_not_an_array": NUMBERS,
    "check_classifiers_classes": NUMBERS,
    "check_classifiers_regression_target": NUMBERS,
    "check_classifiers_train": NUMBERS,
    "check_decision_proba_consistency": NUMBERS,
    "check_dict_unchanged": NUMBERS,
    "check_dtype_object": NUMBERS,
    "check_estimator_sparse_array": NUMBERS,
    "check_estimator_sparse_matrix": NUMBERS,
    "check_estimators_dtypes": NUMBERS,
    "check_estimators_nan_inf": NUMBERS,
    "check_estimators_pickle": NUMBERS,
    "check_f_contiguous_array_estimator": NUMBERS,
    "check_fit1d": NUMBERS,
    "check_fit2d_predict1d": NUMBERS,
    "check_fit_idempotent": NUMBERS,
    "check_fit_score_takes_y": NUMBERS,
    "check_methods_sample_order_invariance": NUMBERS,
    "check_methods_subset_invariance": NUMBERS,
    "check_pipeline_consistency": NUMBERS,
    "check_supervised_y_2d": NUMBERS,
    "check_estimators_empty_data_messages": "an empty array of numbers; no image at all is refused above",
    "check_n_features_in": "images of any size are taken, so there is no number of features",
    "check_n_features_in_after_fitting": "images of any size are taken, so there is no number of features",
    "check_fit2d_1sample": "wants other words than ours; one image is refused above",
    "check_requires_y_none": "wants other words than ours; missing labels are refused",
    "check_do_not_raise_errors_in_init_or_set_params": "sets values of wrong types, which these tests refuse",
    "check_array_api_input": "needs SCIPY_ARRAY_API; images are no arrays of an array library",
}


def test_the_checks_of_scikit_learn_that_make_sense_for_images():
    """What the others wish for (unfitted, idempotent, order, subsets) is tested on images in this file."""
    passed, failed = set(), []
    for estimator, check in estimator_checks_generator(FewShotClassifier("mini", "zero-shot"), mark=None):
        name = check.func.__name__
        if name in NOT_FOR_IMAGES:
            continue
        try:
            check(estimator)
            passed.add(name)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    assert not failed
    assert {
        "check_parameters_default_constructible",
        "check_estimators_unfitted",
        "check_set_params",
    } <= passed


def test_order_subsets_and_repetition_change_nothing(fitted):
    everything = fitted.predict_proba(QUERIES)
    np.testing.assert_allclose(fitted.predict_proba(QUERIES[::-1])[::-1], everything, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(QUERIES[3:4]), everything[3:4], atol=1e-6)
    again = clone(fitted).fit(IMAGES, LABELS)
    assert np.array_equal(again.predict_proba(QUERIES), everything)

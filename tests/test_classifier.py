"""FewShotClassifier: a scikit-learn classifier of images."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from farshot import FewShotClassifier, load
from farshot.data.given import image_table
from farshot.errors import DataError, FarshotError, SettingError
from farshot.methods.prompt_lora import PromptLoRA
from farshot.model.find import load_encoder
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
        np.testing.assert_allclose(fitted.predict_proba(given), expected, atol=1e-6)


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


def test_a_score_takes_one_label_per_image(fitted):
    truth = [TABLE.classes[TABLE.labels[row]] for row in TASK.query[:10]]
    assert fitted.score(QUERIES, np.array(truth)[:, None]) == fitted.score(QUERIES, truth)
    for wrong in (truth[:1], truth * 2, [truth] * 10):
        with pytest.raises(DataError, match="10 images but labels of shape"):
            fitted.score(QUERIES, wrong)


@pytest.mark.parametrize(
    ("first", "second", "given"),
    [
        ("0", "1", [0, 1]),
        (0, 1, ["0", "1"]),
        (0, 1, [0.0, 1.0]),
        ("cafe\u0301", "tea", ["caf\xe9", "tea"]),
        (False, True, np.array([False, True], dtype=object)),
    ],
)
def test_a_score_compares_labels_and_not_their_types(first, second, given):
    made = FewShotClassifier("mini", "prototypes").fit(IMAGES[:4], [first, second] * 2)
    guessed = [given[made.classes_.tolist().index(label)] for label in made.predict(QUERIES).tolist()]
    assert made.score(QUERIES, guessed) == 1
    assert made.evaluate(QUERIES, list(map(str, made.predict(QUERIES)))).accuracy.mean == 1


def test_a_text_is_no_list_of_labels_to_choose_between(fitted):
    with pytest.raises(DataError, match="classes is 'highway'; give a list of labels"):
        fitted.predict(QUERIES[:1], classes="highway")


def test_a_label_that_was_not_fitted_counts_as_wrong(fitted):
    guessed = fitted.predict(QUERIES[:4]).tolist()
    assert fitted.score(QUERIES[:4], [*guessed[:3], "forest"]) == 0.75


@pytest.mark.parametrize(
    ("labels", "weights", "words"),
    [
        (["forest"] * 4, None, "None of the labels, such as 'forest', is one of the classes"),
        ([0, 1, 0, 1], None, "None of the labels, such as '0',"),
        (["highway", "orchard", "highway", 3], None, "words and numbers"),
        ([0.0, 1.0, 1.0, float("nan")], None, "Image 4 has no label .nan."),
        (np.array(["highway", "orchard", None, "highway"]), None, "Image 3 has no label .None."),
        (LABELS[:4], [1, 1, 1], r"4 images but sample_weight has the shape \(3,\)"),
        (LABELS[:4], [0, 0, 0, 0], "some are above 0"),
        (LABELS[:4], [1, 1, 1, float("nan")], "some are above 0"),
        (LABELS[:4], ["a", "b", "c", "d"], "something else than numbers"),
    ],
)
def test_a_score_of_labels_or_weights_that_cannot_be_is_refused(fitted, labels, weights, words):
    with pytest.raises(DataError, match=words):
        fitted.score(QUERIES[:4], labels, weights)


def test_images_of_one_class_are_measured_whatever_it_is_called_in_prompts():
    numbers = ["A" if label == "highway" else "a" for label in LABELS]
    made = FewShotClassifier("mini", "zero-shot", class_names={"A": "highway", "a": "orchard"})
    made.fit(IMAGES, numbers)
    assert made.evaluate(QUERIES, ["A"] * 10).confusion.sum() == 10
    assert made.evaluate(QUERIES, ["A", "a"] * 5).accuracy.mean == made.score(QUERIES, ["A", "a"] * 5)


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
    logits = calibrated.logits(QUERIES) / np.float32(calibrated.temperature_)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(calibrated.predict_proba(QUERIES), expected, rtol=1e-4)


def test_calibration_of_too_few_images_is_refused_before_anything_is_adapted():
    steps = []
    made = FewShotClassifier(
        "mini",
        "prompt-lora",
        calibrate=True,
        settings={"views": "none"},
        progress=lambda *at: steps.append(at),
    )
    with pytest.raises(DataError, match="at least two of every class"):
        made.fit(TABLE.subset(toy_task(TABLE, shots=1).support))
    assert not steps


def test_the_estimate_leaves_every_image_out_once_and_folds_are_tasks_of_one_batch(monkeypatch):
    batches = []
    real = PromptLoRA.adapt
    monkeypatch.setattr(
        PromptLoRA, "adapt", lambda self, *a, **k: batches.append(a[1]) or real(self, *a, **k)
    )
    table = world_table(count=60)
    task = toy_task(table, shots=3)
    support = table.subset(task.support)
    made = FewShotClassifier("mini", "prompt-lora", settings={"views": "none", "steps": 2})
    found = made.estimate(support)
    assert found.confusion.sum() == 6
    assert found.confusion.sum(1).tolist() == [3, 3]
    assert found.accuracy.low <= found.accuracy.mean <= found.accuracy.high
    (folds,) = batches
    left_out = [set(fold.query.tolist()) for fold in folds]
    assert [len(rows) for rows in left_out] == [2, 2, 2]
    assert set.union(*left_out) == set(range(6))
    for fold, rows in zip(folds, left_out, strict=True):
        assert not rows & set(fold.support.tolist())


def test_an_estimate_leaves_the_classifier_as_it_is(fitted):
    found = clone(fitted).estimate(IMAGES, [3, 3, 7, 7])
    assert found.classes == (3, 7)
    unfitted = FewShotClassifier("mini", "zero-shot")
    unfitted.estimate(IMAGES, LABELS)
    with pytest.raises(NotFittedError):
        unfitted.predict(QUERIES)
    before = fitted.classes_.tolist()
    fitted.estimate(IMAGES, [3, 3, 7, 7])
    assert fitted.classes_.tolist() == before


def test_a_fit_that_fails_leaves_the_earlier_one(fitted):
    made = clone(fitted).fit(IMAGES, LABELS)
    with pytest.raises(SettingError):
        made.set_params(settings={"scale": "large"}).fit(IMAGES, [3, 3, 7, 7])
    assert np.array_equal(made.predict(QUERIES), fitted.predict(QUERIES))


def test_one_image_per_class_cannot_be_estimated():
    task = toy_task(TABLE, shots=1)
    with pytest.raises(DataError, match="at least two of every class"):
        FewShotClassifier("mini", "zero-shot").estimate(TABLE.subset(task.support))


def test_images_it_was_adapted_to_do_not_count_in_an_evaluation(fitted):
    result = fitted.evaluate(TABLE)
    assert result.left_out == len(IMAGES)
    assert result.confusion.sum() == len(TABLE) - len(IMAGES)
    everything = fitted.evaluate(TABLE, include_support=True)
    assert (everything.left_out, everything.confusion.sum()) == (0, len(TABLE))


def test_images_and_labels_are_evaluated_as_a_table_is(fitted):
    assert TABLE.labels is not None
    labels = [TABLE.classes[code] for code in TABLE.labels]
    by_table, by_labels = fitted.evaluate(TABLE), fitted.evaluate(list(TABLE.images), labels)
    assert by_labels.to_dict() == by_table.to_dict()
    assert by_labels.left_out == by_table.left_out == len(IMAGES)
    with pytest.raises(DataError, match="forest"):
        fitted.evaluate(list(TABLE.images[:1]), ["forest"])


@pytest.mark.parametrize(
    ("last", "says"),
    [(float("nan"), r"Image 4 has no label \(nan\)"), (3, "labels are words and numbers")],
)
def test_a_label_that_would_become_a_word_is_refused(last, says):
    with pytest.raises(DataError, match=says):
        FewShotClassifier("mini", "zero-shot").fit(IMAGES[:4], [*LABELS[:3], last])


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
        (IMAGES, None, "y is None"),
        (IMAGES, [0.5, 0.5, 1.5, 1.5], "continuous .image 1 has 0.5"),
        (IMAGES, [1.0, float("nan"), 2.0, 2.0], "Image 2 has no label .nan."),
        (IMAGES, ["a", None, "b", "b"], "Image 2 has no label .None."),
        (IMAGES[0], ["highway"] * len(IMAGES[0]), "put it in brackets"),
        ("mole.png", ["a"] * 8, "put it in brackets"),
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


@pytest.mark.parametrize(
    ("class_names", "words"),
    [
        ({"highway": "road"}, "no name for the class 'orchard'"),
        (["road"], "1 names but the data has 2 classes"),
        (["road", "Road"], "same name in prompts"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(class_names, words):
    with pytest.raises(DataError, match=words):
        FewShotClassifier("mini", "zero-shot", class_names=class_names).fit(IMAGES, LABELS)


@pytest.mark.parametrize("one", [Image.new("RGB", (4, 4)), Path("mole.png"), b"\x89PNG"])
def test_one_image_is_not_a_list_of_images(one):
    with pytest.raises(DataError, match="Give a list of images, not one"):
        image_table(one)


def test_a_table_may_bring_its_images_only():
    labels = np.array([5 if label == "highway" else 2 for label in LABELS])
    made = FewShotClassifier("mini", "prototypes").fit(TABLE.subset(TASK.support), labels)
    assert made.classes_.tolist() == [2, 5]
    with pytest.raises(DataError, match="no labels"):
        made.fit(image_table(IMAGES))


def test_it_refuses_to_predict_before_it_is_fitted(tmp_path: Path):
    made = FewShotClassifier("mini")
    for ask in (made.predict, made.predict_proba, made.decision_function, made.logits, made.evaluate):
        with pytest.raises(NotFittedError):
            ask(TABLE)
    with pytest.raises(NotFittedError):
        made.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_parameters_are_kept_verbatim_and_cloned():
    settings = {"steps": 3}
    made = FewShotClassifier("mini", "atha", settings=settings, seed=5)
    assert made.get_params()["settings"] is settings
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    assert not hasattr(copy, "classes_")


def test_order_subsets_and_repetition_change_nothing(fitted):
    everything = fitted.predict_proba(QUERIES)
    np.testing.assert_allclose(fitted.predict_proba(QUERIES[::-1])[::-1], everything, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(QUERIES[3:4]), everything[3:4], atol=1e-6)
    again = clone(fitted).fit(IMAGES, LABELS)
    assert np.array_equal(again.predict_proba(QUERIES), everything)


def test_of_two_classes_the_decision_is_one_number_and_scorers_take_it():
    table = world_table(count=60)
    task = toy_task(table, shots=4)
    images, labels = [table.images[row] for row in task.support], [table.classes[c] for c in task.labels]
    made = FewShotClassifier("mini", "zero-shot").fit(images, labels)
    decision, logits = made.decision_function(images), made.logits(images)
    assert np.array_equal(decision, logits[:, 1] - logits[:, 0])
    assert np.array_equal(made.predict(images) == made.classes_[1], decision > 0)
    three = world_table(count=60, classes=("highway", "orchard", "forest"))
    chosen = toy_task(three, shots=1)
    wide = FewShotClassifier("mini", "zero-shot").fit(three.subset(chosen.support))
    assert wide.decision_function(QUERIES).shape == (10, 3)
    for scoring in ("accuracy", "roc_auc", "neg_log_loss"):
        scores = cross_val_score(made, images, labels, cv=2, scoring=scoring)
        assert np.isfinite(scores).all()


def test_methods_can_be_searched_for():
    search = GridSearchCV(
        FewShotClassifier("mini"), {"method": ["zero-shot", "prototypes"]}, cv=2, error_score="raise"
    ).fit(IMAGES, LABELS)
    assert search.best_params_["method"] in ("zero-shot", "prototypes")
    assert set(search.predict(QUERIES)) <= {"highway", "orchard"}


@pytest.mark.parametrize(
    ("method", "settings"), [("prototypes", {}), ("atha", {"views": "none", "steps": 1})]
)
def test_a_fitted_classifier_can_be_pickled(method, settings):
    encoder = load_encoder("mini")  # which keeps no features that were computed next to other images
    made = FewShotClassifier(encoder, method, settings=settings).fit(IMAGES, LABELS)
    again = pickle.loads(pickle.dumps(made))
    assert np.array_equal(again.predict_proba(QUERIES), made.predict_proba(QUERIES))
    # features are kept by this number, and another process counts from 0, too
    assert again.encoder_.serial != made.encoder_.serial


def test_what_is_no_parameter_is_refused_and_numbers_of_numpy_are_saved(tmp_path: Path):
    wrong = FewShotClassifier("mini", "zero-shot").set_params(calibrate="no")
    with pytest.raises(SettingError, match="The parameter calibrate must be True or False, not 'no'"):
        wrong.fit(IMAGES, LABELS)
    made = FewShotClassifier("mini", "prototypes").set_params(calibrate=np.True_, seed=np.int64(3))
    made.fit(IMAGES, LABELS)
    made.save(tmp_path / "adapted")
    again = load(tmp_path / "adapted")
    assert (again.calibrate, again.seed) == (True, 3)
    assert np.array_equal(again.predict_proba(QUERIES), made.predict_proba(QUERIES))


@pytest.mark.parametrize(
    ("method", "settings"),
    [("clap", {"momentum": 1, "lr": 1e9}), ("clip-adapter", {"scale": 1e30})],
)
def test_what_is_no_longer_finite_is_no_model(method: str, settings: dict):
    with pytest.raises(FarshotError, match="no longer finite; lower the learning rates"):
        FewShotClassifier("mini", method, settings=settings).fit(IMAGES, LABELS)


def test_scores_that_are_not_finite_are_no_classes(monkeypatch: pytest.MonkeyPatch):
    made = FewShotClassifier("mini", "prototypes").fit(IMAGES, LABELS)
    monkeypatch.setitem(made.adapted_.state, "means", made.adapted_.state["means"] * np.nan)
    with pytest.raises(FarshotError, match="The scores of these images are not finite"):
        made.predict(QUERIES)

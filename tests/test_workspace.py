"""Pictures, classes and labels on disk; a model made of them, what it says, and what is taken away."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot import load
from farshot.app.workspace import ClassWords, Setup, Workspace, copies, foreign, left_out, more_labels
from farshot.app.workspace.downloads import DOWNLOADS, is_ready, prepare
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.intake import Upload
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.run import adapt, adapted_model, explain, last_run, predict, settings_of
from farshot.app.workspace.suggest import suggest
from farshot.errors import DataError
from farshot.model.encoder import Encoder
from tests.workspaces import CLASSES, drawn, labelled, uploads, zipped


def quiet(_phase: str, _done: int, _total: int) -> None:
    """Nobody looks at the progress."""


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, encoders: Encoders) -> Workspace:
    """Three labelled pictures of each class, two without a label, and a model of them."""
    workspace = labelled(tmp_path_factory.mktemp("adapted"), 3, more=2)
    workspace.choose(Setup("mini", "linear-probe"))
    adapt(workspace, encoders, quiet)
    return workspace


# Pictures and labels -------------------------------------------------------------------------------------


def test_all_is_there_again_after_a_restart(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    workspace.choose(Setup("mini", "clap", quick=True))
    again = Workspace(workspace.folder)
    assert again.pictures == workspace.pictures
    assert again.classes == workspace.classes
    assert again.choice == Setup("mini", "clap", quick=True)
    assert again.counts == dict.fromkeys(CLASSES, 2)
    assert len(again.unlabelled) == 2
    assert again.stamp() == workspace.stamp()


def test_a_zip_of_folders_brings_its_classes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.name_classes([ClassWords(CLASSES[0].upper(), "in other letters")])
    taken, refused = workspace.take([zipped(tmp_path / "z", drawn(2))])
    assert not refused
    assert [picture.label for picture in taken] == [CLASSES[0].upper()] * 2 + [CLASSES[1]] * 2
    assert workspace.class_names == (CLASSES[0].upper(), CLASSES[1])


def test_a_class_for_all_that_is_added_stands_above_folders(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.name_classes([ClassWords("a"), ClassWords("b")])
    taken, _ = workspace.take([zipped(tmp_path / "z", drawn(1))], "b")
    assert {picture.label for picture in taken} == {"b"}
    with pytest.raises(DataError, match="no class 'c'"):
        workspace.take([], "c")


def test_a_new_name_takes_its_pictures_along(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    first, second = CLASSES
    workspace.name_classes([ClassWords(first, "round ones"), ClassWords(second)])
    workspace.rename_class(first, " spots ")
    assert workspace.counts == {"spots": 2, second: 2}
    assert workspace.descriptions() == {"spots": "round ones"}
    workspace.name_classes(
        [ClassWords(second), ClassWords("Spots")]
    )  # neither another class nor another name
    assert workspace.counts == {"Spots": 2, second: 2}
    for old, new, words in (
        ("none", "x", "no class 'none'"),
        ("Spots", second.upper(), "there twice"),
        ("Spots", " ", "needs a name"),
    ):
        with pytest.raises(DataError, match=words):
            workspace.rename_class(old, new)
    assert Workspace(workspace.folder).counts == {"Spots": 2, second: 2}


@pytest.mark.parametrize(
    "wanted", [("a", "b"), ("a", CLASSES[1]), (CLASSES[0], "b", "c"), (CLASSES[0],), (), (CLASSES[1], "a")]
)
def test_no_list_of_classes_takes_labels_away(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    """Two names changed at once, one changed and one added, one left out: nothing is guessed and lost."""
    workspace = labelled(tmp_path, 3)
    before = workspace.pictures, workspace.classes
    with pytest.raises(DataError, match=r"has 3 pictures\. Give it another name with Rename"):
        workspace.name_classes([ClassWords(name) for name in wanted])
    assert (workspace.pictures, workspace.classes) == before
    again = Workspace(workspace.folder)
    assert (again.pictures, again.classes) == before


def test_a_class_without_pictures_may_go(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    workspace.name_classes([*workspace.classes, ClassWords("empty")])
    workspace.name_classes(workspace.classes[:2])
    assert workspace.class_names == CLASSES


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", ""], "needs a name"),
        (["a", "A"], "there twice"),
        (["a" * 61], "too long"),
        ([str(i) for i in range(51)], "50 at most"),
    ],
)
def test_names_that_cannot_be_are_refused_and_change_nothing(
    tmp_path: Path, names: list[str], words: str
) -> None:
    workspace = labelled(tmp_path, 1)
    before = workspace.classes
    with pytest.raises(DataError, match=words):
        workspace.name_classes([ClassWords(name) for name in names])
    assert workspace.classes == before == Workspace(workspace.folder).classes


def test_what_is_removed_is_gone_from_the_disk(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    gone, *kept = workspace.pictures
    workspace.thumbnail(gone.id)
    workspace.remove([gone.id])
    assert workspace.pictures == tuple(kept)
    workspace.forget_removed()
    assert not list(workspace.folder.rglob(f"*{gone.id}*"))
    with pytest.raises(DataError, match="not here any more"):
        workspace.label([kept[0].id, gone.id], None)
    assert workspace.picture(kept[0].id).label is not None  # all or nothing


def test_a_thumbnail_is_small_and_a_jpeg(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    wide = io.BytesIO()
    Image.new("RGBA", (900, 300), (200, 10, 10, 128)).save(wide, "PNG")
    (picture,), _ = workspace.take(uploads(tmp_path / "sent", [("", wide.getvalue())]))
    with Image.open(workspace.thumbnail(picture.id)) as small:
        assert (small.format, small.size) == ("JPEG", (192, 64))


def test_what_a_model_depends_on_is_in_the_stamp(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    stamps = [workspace.stamp()]
    workspace.label([workspace.unlabelled[0].id], CLASSES[0])
    stamps.append(workspace.stamp())
    workspace.choose(Setup("mini", "clap"))
    stamps.append(workspace.stamp())
    workspace.name_classes([ClassWords(CLASSES[0], "in words"), ClassWords(CLASSES[1])])
    stamps.append(workspace.stamp())
    assert len(set(stamps)) == 4
    workspace.remove([workspace.unlabelled[0].id])  # no model was made of it
    assert workspace.stamp() == stamps[-1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "classes": 3}', "\x00"])
def test_a_damaged_state_is_one_sentence(tmp_path: Path, text: str) -> None:
    labelled(tmp_path, 1)
    (tmp_path / "workspace" / "state.json").write_text(text)
    with pytest.raises(DataError, match=r"is damaged .* elsewhere and keep it") as caught:
        Workspace(tmp_path / "workspace")
    assert "remove" not in str(caught.value)  # the pictures are whole


@pytest.mark.parametrize("text", ["", "{", "[]"])
@pytest.mark.parametrize(
    ("file", "read", "what_to_do"),
    [
        ("run.json", last_run, "remove it and train again."),
        ("predictions.json", last_run, "remove it and train again."),
        ("left_out.json", left_out.read, "remove it and train again."),
        ("copies.json", copies.read, "remove it."),
        ("more_labels.json", more_labels.read, "remove it."),
        ("open_set.json", foreign.read, "remove it."),
    ],
)
def test_a_damaged_result_costs_that_file_only(
    tmp_path: Path, file: str, read: Callable[[Workspace], object], what_to_do: str, text: str
) -> None:
    workspace = labelled(tmp_path, 1)
    workspace.adapted.mkdir()
    (workspace.folder / "run.json").write_text("{}")
    (workspace.folder / file).write_text(text)
    with pytest.raises(DataError) as caught:
        read(workspace)
    assert str(caught.value).startswith(f"{workspace.folder / file} is damaged (")
    assert str(caught.value).endswith(f"); {what_to_do}")


def test_a_state_of_a_newer_farshot_is_refused(tmp_path: Path) -> None:
    labelled(tmp_path, 1)
    (tmp_path / "workspace" / "state.json").write_text('{"format": 4}')
    with pytest.raises(DataError, match="newer farshot"):
        Workspace(tmp_path / "workspace")


def test_pictures_whose_files_were_taken_away_are_none(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    workspace.path(workspace.pictures[0]).unlink()
    (workspace.folder / "pictures" / ".incoming-x").write_bytes(b"half")
    again = Workspace(workspace.folder)
    assert again.pictures == workspace.pictures[1:]
    assert not (workspace.folder / "pictures" / ".incoming-x").exists()


# A model of them -----------------------------------------------------------------------------------------


def test_adapting_predicts_the_others_and_measures_itself(adapted: Workspace) -> None:
    run = last_run(adapted)
    assert run is not None
    assert run.stamp == adapted.stamp()
    assert (run.classes, run.pictures) == (tuple(sorted(CLASSES)), 6)
    assert set(run.predictions) == {picture.id for picture in adapted.unlabelled}
    assert run.estimate is not None
    assert run.estimate["images"] == 6
    assert run.certainty is not None
    assert 0 <= run.certainty.decided.low <= run.certainty.decided.high <= 1
    made = load(adapted.adapted, device="cpu")
    assert made.estimate_ == run.estimate
    ids = [picture.id for picture in adapted.unlabelled]
    ours = made.predict_proba([adapted.path(picture) for picture in adapted.unlabelled])
    np.testing.assert_allclose([run.predictions[id] for id in ids], ours, atol=1e-6)


def test_an_answer_is_sure_from_the_threshold_on(adapted: Workspace) -> None:
    run = last_run(adapted)
    assert run is not None
    for id, p in run.predictions.items():
        answer = run.answer(id)
        assert answer is not None
        assert answer.probability == max(p)
        assert answer.sure == (max(p) >= run.certainty.threshold)
    assert run.answer("unknown") is None


def test_a_model_stopped_while_it_is_measured_stays(tmp_path: Path, encoders: Encoders) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    workspace.choose(Setup("mini", "linear-probe"))

    def stop(phase: str, _done: int, _total: int) -> None:
        if phase == "checking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(workspace, encoders, stop)
    run = last_run(workspace)
    assert run is not None
    assert (run.estimate, run.certainty, len(run.predictions)) == (None, None, 2)
    answer = run.answer(workspace.unlabelled[0].id)
    assert answer is not None
    assert answer.sure is None
    assert not encoders.busy


def test_one_picture_of_a_class_is_no_estimate_and_says_why(tmp_path: Path, encoders: Encoders) -> None:
    workspace = labelled(tmp_path, 1)
    workspace.choose(Setup("mini", "zero-shot"))
    run = adapt(workspace, encoders, quiet)
    assert run.estimate is None
    assert run.why_not is not None
    assert "at least two of every class" in run.why_not
    assert last_run(workspace) == run


def test_new_pictures_are_asked_about_and_known_ones_not_again(tmp_path: Path, encoders: Encoders) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    workspace.choose(Setup("mini", "linear-probe"))
    adapt(workspace, encoders, quiet)
    asked: list[int] = []
    predict(workspace, encoders, lambda phase, done, total: asked.append(total) if total else None)
    assert asked == []
    new, _ = workspace.take(uploads(tmp_path / "more", drawn(1, start=2000)))
    run = predict(workspace, encoders, lambda phase, done, total: asked.append(total) if total else None)
    assert set(asked) == {2}
    assert all(picture.id in run.predictions for picture in new)


def test_without_two_classes_or_a_model_nothing_is_begun(tmp_path: Path, encoders: Encoders) -> None:
    workspace = Workspace(tmp_path)
    for what in (adapt, predict):
        with pytest.raises(DataError, match="first"):
            what(workspace, encoders, quiet)
    with pytest.raises(DataError, match="first"):
        prepare(workspace, encoders, "model")
    with pytest.raises(DataError, match="first"):
        explain(workspace, encoders, "x")


def test_an_explanation_has_the_models_own_probabilities(adapted: Workspace, encoders: Encoders) -> None:
    id = adapted.unlabelled[0].id
    run = last_run(adapted)
    assert run is not None
    np.testing.assert_allclose(explain(adapted, encoders, id).probabilities, run.predictions[id], atol=1e-6)


def test_quick_leaves_out_views_where_a_method_has_them() -> None:
    assert settings_of(Setup("mini", "atha", quick=True)) == {"views": "none"}
    assert settings_of(Setup("mini", "atha")) == {}
    assert settings_of(Setup("mini", "clap", quick=True)) == {}


def test_suggestions_are_unlabelled_pictures_with_a_reason(
    tmp_path: Path, adapted: Workspace, encoders: Encoders
) -> None:
    fresh = labelled(tmp_path, 1, more=3)
    for workspace in (fresh, adapted):  # without a model, and with one
        found = suggest(workspace, encoders, quiet)
        assert len(found) == min(4, len(workspace.unlabelled))
        assert set(found) <= {picture.id for picture in workspace.unlabelled}
        assert all(found.values())
    fresh.label([picture.id for picture in fresh.unlabelled], CLASSES[0])
    with pytest.raises(DataError, match="has a class already"):
        suggest(fresh, encoders, quiet)


def test_models_are_loaded_once_and_only_so_many_kept(
    monkeypatch: pytest.MonkeyPatch, mini_encoder: Encoder
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(
        "farshot.app.workspace.encoders.load_encoder", lambda name, **_: loaded.append(name) or mini_encoder
    )
    encoders = Encoders("cpu", most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        encoders.get(name)
    assert loaded == ["a", "b", "c", "b"]
    assert encoders.on_processor


# What is taken away --------------------------------------------------------------------------------------


def test_the_downloaded_model_says_the_same(adapted: Workspace, encoders: Encoders, tmp_path: Path) -> None:
    with zipfile.ZipFile(prepare(adapted, encoders, "model")) as archive:
        archive.extractall(tmp_path)
    made = load(tmp_path / "adapted-model", device="cpu")
    run = last_run(adapted)
    assert run is not None
    for picture in adapted.unlabelled:
        np.testing.assert_allclose(
            made.predict_proba([adapted.path(picture)])[0], run.predictions[picture.id], atol=1e-6
        )


def test_the_predictions_are_a_table_without_formulas(tmp_path: Path, encoders: Encoders) -> None:
    workspace = labelled(tmp_path, 2)
    workspace.rename_class(CLASSES[0], "=1+1")
    path = tmp_path / "p"
    path.write_bytes(drawn(1, start=3000)[0][1])
    workspace.take([Upload("@sum.png", path)])
    workspace.choose(Setup("mini", "prototypes"))
    adapt(workspace, encoders, quiet)
    rows = list(csv.reader(io.StringIO(prepare(workspace, encoders, "predictions").read_text("utf-8-sig"))))
    assert rows[0][:6] == ["image", "label", "class", "sure", "unlike", "adapted_to"]
    assert len(rows) == 6
    cells = [cell for row in rows[1:] for cell in row]
    assert "'@sum.png" in cells
    assert "'=1+1" in cells
    assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_the_report_is_a_page_with_the_estimate(adapted: Workspace, encoders: Encoders) -> None:
    page = prepare(adapted, encoders, "report").read_text()
    assert "cross-validated on the images it was adapted to" in page


def test_a_download_is_out_of_date_once_its_source_changes(tmp_path: Path, encoders: Encoders) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    workspace.choose(Setup("mini", "prototypes"))
    adapt(workspace, encoders, quiet)
    assert not any(is_ready(workspace, name) for name in DOWNLOADS)
    for name in ("model", "predictions"):
        prepare(workspace, encoders, name)
        assert is_ready(workspace, name)
    workspace.label([workspace.unlabelled[0].id], CLASSES[0])
    assert is_ready(workspace, "model")
    assert not is_ready(workspace, "predictions")
    adapt(workspace, encoders, quiet)
    assert not is_ready(workspace, "model")


def test_a_download_that_cannot_be_written_leaves_nothing(
    adapted: Workspace, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    before = (
        sorted((adapted.folder / "downloads").glob("*")) if (adapted.folder / "downloads").exists() else []
    )
    with pytest.raises(DataError, match="No space left"):
        prepare(adapted, encoders, "model")
    assert sorted((adapted.folder / "downloads").glob("*")) == before


def test_a_run_on_disk_is_the_run(adapted: Workspace) -> None:
    run = last_run(adapted)
    assert run is not None
    text = json.loads((adapted.folder / "run.json").read_text())
    assert text["classes"] == list(run.classes)
    assert math.isfinite(run.seconds)


def test_a_run_is_read_once_and_again_after_it_was_written(adapted: Workspace) -> None:
    place, run = adapted.folder / "run.json", last_run(adapted)
    assert run is not None
    assert last_run(adapted) is run
    before = read_json(place)
    try:
        write_json(place, {**before, "seconds": 1234.5})
        after = last_run(adapted)
        assert after == replace(run, seconds=1234.5)
    finally:
        write_json(place, before)
    assert last_run(adapted) == run


def test_percentages_and_strangers_are_told_as_far_as_they_are_known(tmp_path: Path, encoders: Encoders):
    workspace = labelled(tmp_path, 10, more=1)
    workspace.choose(Setup("mini", "linear-probe"))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    ((stranger,), _) = workspace.take([Upload("noise.png", tmp_path / "noise.png")])
    run = adapt(workspace, encoders, quiet)
    assert run.calibrated
    assert set(run.p_values) == set(run.predictions)
    answer = run.answer(stranger.id)
    assert answer is not None
    assert answer.unlike
    assert answer.certain().endswith(" %")
    assert replace(answer, calibrated=False).certain().startswith("score ")
    p = np.asarray(run.predictions[stranger.id])
    loaded = adapted_model(workspace, run, encoders)
    np.testing.assert_allclose(p, loaded.predict_proba(workspace.table([stranger]))[0], atol=1e-5)
    assert repr(last_run(workspace)) == repr(run)  # NaN is not equal to itself

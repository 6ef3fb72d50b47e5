"""How good a model is, as the app shows it: confusions, doubtful labels, the limit, comparisons."""

from __future__ import annotations

import csv
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farshot.app import check_actions
from farshot.app.actions import act_in_order, ask
from farshot.app.check_view import check
from farshot.app.jobs import Stopped
from farshot.app.sessions import Session
from farshot.app.view import answers
from farshot.app.workspace import ClassWords, Setup, downloads, left_out, more_labels, timing
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.journal import write_json
from farshot.app.workspace.left_out import WANTED, LeftOut
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.run import Adaptation, adapt, explain, last_run
from farshot.choose.curve import LearningCurve
from farshot.errors import DataError
from farshot.evaluation.crossval import HeldOut
from farshot.evaluation.intervals import Interval
from farshot.methods.catalogue import FAST, THOROUGH
from tests import app_clients
from tests.workspaces import CLASSES, labelled

pytestmark = app_clients.marks


def quiet(_phase: str, _done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, encoders: Encoders) -> Path:
    """Six pictures of each class, one with the other's label, and two of each without one; trained."""
    place = tmp_path_factory.mktemp("template")
    workspace = labelled(place, count=6, more=2)
    wrong = next(picture for picture in workspace.pictures if picture.label == CLASSES[0])
    workspace.label([wrong.id], CLASSES[1])
    adapt(workspace, encoders, quiet)
    return workspace.folder


@pytest.fixture
def trained(template: Path, tmp_path: Path) -> tuple[Session, Adaptation]:
    """A copy of it."""
    shutil.copytree(template, tmp_path / "workspace")
    session = Session(tmp_path / "workspace", Limits(), Setup())
    run = last_run(session.workspace)
    assert run is not None
    return session, run


def held_out(logits: Any, labels: list[int], classes: tuple[str, ...] = ("a", "b")) -> HeldOut:
    fold = np.arange(len(labels), dtype=np.int64) % 2
    return HeldOut(classes, np.array(labels), np.array(logits, dtype=np.float32), fold)


def kept(session: Session, run: Adaptation) -> LeftOut:
    found = left_out.read(session.workspace, run.stamp)
    assert found is not None
    return found


def test_pictures_are_not_asked_about_twice_where_another_page_was_faster(
    trained: tuple[Session, Adaptation], encoders: Encoders
) -> None:
    session, run = trained
    write_json(session.workspace.folder / "predictions.json", {})
    free = threading.Event()
    job = session.start(lambda _report: free.wait(10))
    assert not ask(session, encoders)
    free.set()
    job.wait(10)
    assert ask(session, encoders)
    assert session.job is not None
    session.job.wait(60)
    found = last_run(session.workspace)
    assert found is not None
    assert set(found.predictions) == set(run.predictions)


def test_pictures_that_lose_their_label_are_asked_about(
    trained: tuple[Session, Adaptation], encoders: Encoders
) -> None:
    session, run = trained
    one, *_ = (picture for picture in session.workspace.pictures if picture.label)

    def asked(number: int, told: dict[str, Any]) -> set[str]:
        """The labelled pictures that have a prediction after an act."""
        act_in_order(session, encoders, {"page": "p", "first": number, "acts": [told]})
        if session.job is not None:
            session.job.wait(60)
        found = last_run(session.workspace)
        assert found is not None
        return found.predictions.keys() - run.predictions.keys()

    assert asked(1, {"do": "label", "ids": [one.id], "value": CLASSES[1]}) == set()
    assert session.job is None
    assert asked(2, {"do": "label", "ids": [one.id], "value": ""}) == {one.id}
    assert "not asked about yet" not in answers(session, last_run(session.workspace))
    session.workspace.undo()
    other = next(p for p in session.workspace.pictures if p.label and p != one)
    session.workspace.label([other.id], None)
    session.workspace.undo()
    assert asked(3, {"do": "redo", "ids": []}) == {one.id, other.id}


def test_the_matrix_counts_what_the_estimate_counted_and_a_cell_shows_its_pictures(
    trained: tuple[Session, Adaptation], encoders: Encoders
):
    session, run = trained
    assert run.estimate is not None
    html = check(session, run)
    cells = {
        tuple(map(int, found)): int(count)
        for *found, count in re.findall(r'data-value="(\d)-(\d)"[^>]*>(\d+)</button>', html)
    }
    confusion = run.estimate["confusion"]
    assert cells == {(i, j): n for i, row in enumerate(confusion) for j, n in enumerate(row) if n}
    found = kept(session, run)
    for cell, count in cells.items():
        check_actions.show_cell(session, encoders, "{}-{}".format(*cell), [])
        shown = check(session, run)
        part = shown[shown.index("fs-found") : shown.index("Labels worth a second look")]
        assert part.count("fs-card") == count + 1  # and the list
        for row in found.cell(*cell):
            assert found.ids[row] in part
    assert "Pictures of the chosen cell" not in html
    with pytest.raises(DataError, match="not known"):
        check_actions.show_cell(session, encoders, "1-x", [])
    check_actions.show_cell(session, encoders, "7-9", [])
    assert "Pictures of the chosen cell" not in check(session, run)


def test_a_wrong_label_is_shown_until_it_is_decided(trained: tuple[Session, Adaptation], encoders: Encoders):
    session, run = trained
    found = kept(session, run)
    assert found.doubts
    first = found.doubts[0]
    id = found.ids[first.row]
    assert session.workspace.picture(id).label == CLASSES[1]
    assert found.classes[first.suggested] == CLASSES[0]

    def doubtful() -> str:
        html = check(session, run)
        return html[html.index("Labels worth a second look") : html.index("Was the last change")]

    assert id in doubtful()
    session.workspace.label([id], CLASSES[0])
    assert id not in doubtful()
    session.workspace.undo()
    assert id in doubtful()
    check_actions.keep_label(session, encoders, "", [id])
    assert id not in doubtful()


def test_the_sure_answers_become_labels_in_one_step(trained: tuple[Session, Adaptation], encoders: Encoders):
    session, run = trained
    workspace = session.workspace
    before = workspace.counts
    sure = check_actions.sure_answers(session, run)
    assert sure
    mark = check_actions.mark_of(sure)
    assert f'data-do="accept" data-value="{mark}"' in answers(session, run)
    with pytest.raises(DataError, match="have changed"):
        check_actions.accept(session, encoders, "other", [])
    assert workspace.counts == before
    check_actions.accept(session, encoders, mark, [])
    assert {id: workspace.picture(id).label for id in sure} == sure
    with pytest.raises(DataError, match="have changed"):  # a second click
        check_actions.accept(session, encoders, mark, [])
    workspace.undo()
    assert workspace.counts == before


def test_a_model_s_answers_follow_the_renaming_of_classes_and_its_undo(
    trained: tuple[Session, Adaptation], encoders: Encoders
):
    session, run = trained
    workspace, before = session.workspace, check_actions.sure_answers(*trained)
    doubts = kept(session, run).doubts
    (wrong,) = (kept(session, run).ids[one.row] for one in doubts[:1])

    def now() -> Adaptation:
        found = last_run(workspace)
        assert found is not None
        return found

    mark = check_actions.mark_of(before)
    for old, new in ((CLASSES[0], "x"), (CLASSES[1], CLASSES[0]), ("x", CLASSES[1])):
        workspace.rename_class(old, new)
    other = dict(zip(CLASSES, CLASSES[::-1], strict=True))
    sure = check_actions.sure_answers(session, now())
    assert sure == {id: other[name] for id, name in before.items()}
    html = check(session, now())
    assert f'data-do="label" data-value="{other[CLASSES[0]]}" data-ids="{wrong}"' in html
    with pytest.raises(DataError, match="have changed"):  # a page that shows the names of before
        check_actions.accept(session, encoders, mark, [])
    check_actions.accept(session, encoders, check_actions.mark_of(sure), [])
    assert {id: workspace.picture(id).label for id in before} == sure
    workspace.undo()
    workspace.redo()
    rows = downloads.prepare(workspace, encoders, "predictions").read_text(encoding="utf-8-sig").splitlines()
    assert rows[0].endswith(",".join(f"p({other[name]})" for name in run.classes))
    told = [row for row in csv.DictReader(rows) if row["label"]]
    assert sum(row["label"] == row["class"] for row in told) >= len(told) - 1
    for _ in range(4):
        workspace.undo()
    opened = Session(workspace.folder, Limits(), Setup())  # from disk
    found = last_run(opened.workspace)
    assert found is not None
    assert check_actions.sure_answers(opened, found) == before
    workspace.rename_class(CLASSES[0], "y")  # and a new class gets the name that is free
    workspace.name_classes([*workspace.classes, ClassWords(CLASSES[0])])
    names = {CLASSES[0]: "y", CLASSES[1]: CLASSES[1]}
    assert check_actions.sure_answers(session, now()) == {id: names[name] for id, name in before.items()}
    shown = explain(workspace, encoders, next(iter(before)))
    assert shown.class_names == now().classes == tuple(names[name] for name in run.classes)


def test_answers_are_told_apart_by_how_sure_they_are(trained: tuple[Session, Adaptation]):
    session, run = trained
    one, other, *more = (picture.id for picture in session.workspace.unlabelled)
    run = Adaptation(
        **{
            **run.__dict__,
            "pictures": 20,  # from 19 on a picture can be unlike them
            "p_values": {one: 0.01},
            "predictions": {one: [0.99, 0.01], other: [0.5, 0.5], **{id: [0.0, 1.0] for id in more}},
        }
    )
    assert run.certainty is not None
    run = Adaptation(**{**run.__dict__, "certainty": run.certainty._replace(threshold=0.9)})
    html = answers(session, run)
    assert "none of these? Nearest:" in html
    assert one not in check_actions.sure_answers(session, run)
    for shown, ids in {"sure": more, "unsure": [other], "none": [one], "all": [one, other, *more]}.items():
        session.view.answers_shown = shown
        found = set(re.findall(r'data-id="([0-9a-f]+)"', answers(session, run)))
        assert found == set(ids), shown


def test_each_limit_of_the_slider_says_what_it_costs(trained: tuple[Session, Adaptation], encoders: Encoders):
    session, run = trained
    found = kept(session, run)
    assert [one.wanted for one in found.limits] == list(WANTED)
    shares = [one.decided.mean for one in found.limits]
    assert shares == sorted(shares, reverse=True)
    assert run.certainty is not None
    same = found.limits[WANTED.index(run.certainty.wanted)]
    assert same.threshold == pytest.approx(run.certainty.threshold)
    assert check(session, run).count("data-wanted") == len(WANTED)
    check_actions.limit(session, encoders, "0.95", [])
    assert session.job is not None
    session.job.wait(60)
    assert session.job.error is None
    after = last_run(session.workspace)
    assert after is not None
    assert after.certainty is not None
    assert after.certainty.wanted == 0.95
    assert f'value="{WANTED.index(0.95)}"' in check(session, after)
    with pytest.raises(DataError, match="not known"):
        check_actions.limit(session, encoders, "0.123", [])


def test_a_model_whose_check_was_stopped_has_no_limit_to_move(
    trained: tuple[Session, Adaptation], encoders: Encoders
):
    session, run = trained
    assert "fs-limit" in check(session, run)

    def stop(phase: str, _done: int, _total: int) -> None:
        if phase == "checking":
            raise Stopped

    with pytest.raises(Stopped):  # trained again with the same labels
        adapt(session.workspace, encoders, stop)
    after = last_run(session.workspace)
    assert after is not None
    assert (after.stamp, after.certainty) == (run.stamp, None)
    html = check(session, after)
    assert "the check did not come to its end" in html
    assert not any(what in html for what in ("fs-limit", "fs-matrix", "Labels worth a second look"))


def test_two_models_are_compared_on_the_pictures_that_both_were_checked_on(
    trained: tuple[Session, Adaptation],
):
    session, run = trained
    workspace = session.workspace
    assert left_out.compare(workspace) is None
    assert "After you have trained once more" in check(session, run)
    ids, labels = ["p", "q", "r", "s"], [0, 0, 1, 1]
    right = [[1, 0], [1, 0], [0, 1], [0, 1]]
    one_wrong = [[1, 0], [0, 1], [0, 1], [0, 1]]
    for stamp, logits in (("first", one_wrong), ("second", right)):
        made = LeftOut.of(held_out(logits, labels), ids, stamp, "mini", stamp)
        left_out.keep(workspace, made)
    found = left_out.compare(workspace)
    assert found is not None
    assert found.same_folds
    assert (found.before, found.now) == ("first, mini, 4 pictures", "second, mini, 4 pictures")
    assert found.difference.mean == pytest.approx(0.25)
    # a picture was removed, another has another label, and a class came before the others
    other = held_out([[0, 1, 0], [0, 0, 1], [0, 0, 1]], [1, 2, 0], ("A", "a", "b"))
    left_out.keep(workspace, LeftOut.of(other, ["p", "r", "s"], "third", "mini", "third"))
    assert left_out.compare(workspace) is None  # two pictures are too few
    other = held_out([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]], [1, 1, 2, 0], ("A", "a", "b"))
    left_out.keep(workspace, LeftOut.of(held_out(right, labels), ids, "fourth", "mini", "fourth"))
    left_out.keep(workspace, LeftOut.of(other, ids, "fifth", "mini", "fifth"))
    found = left_out.compare(workspace)
    assert found is not None
    assert (found.pictures, found.same_folds) == (3, False)
    assert found.difference.mean == pytest.approx(-0.25)  # half of the a, of two classes


def test_training_again_with_another_method_is_compared_on_the_same_folds(
    trained: tuple[Session, Adaptation], encoders: Encoders
):
    session, _ = trained
    session.workspace.choose(Setup(method="prototypes"))
    run = adapt(session.workspace, encoders, quiet)
    html = check(session, run)
    assert "the same 12 pictures and the same folds" in html
    assert "linear-probe, mini, 12 pictures" in html


def test_models_before_and_after_a_renaming_are_compared_on_all_pictures(
    trained: tuple[Session, Adaptation],
):
    workspace = trained[0].workspace
    ids, logits = ["p", "q", "r", "s"], [[1, 0], [0, 1], [0, 1], [0, 1]]
    first, second = workspace.class_names
    made = LeftOut.of(held_out(logits, [0, 0, 1, 1], (first, second)), ids, "first", "mini", "m")
    left_out.keep(workspace, made)
    workspace.rename_class(first, "zebra")
    order = held_out([[0, 1], [0, 1], [1, 0], [1, 0]], [1, 1, 0, 0], (second, "zebra"))
    made = LeftOut.of(order, ids, "second", "mini", "m")
    left_out.keep(workspace, replace(made, renames=len(workspace.state.renamed)))
    found = left_out.compare(workspace)
    assert found is not None
    assert (found.pictures, found.same_folds) == (4, True)
    assert found.difference.mean == pytest.approx(0.25)


def test_what_more_labels_would_bring_is_measured_and_kept(
    trained: tuple[Session, Adaptation], encoders: Encoders, monkeypatch: pytest.MonkeyPatch
):
    session, run = trained
    curve = LearningCurve(
        (1, 2), (Interval(0.5, 0.4, 0.6, 0.1, 9),) * 2, 10, Interval(0.07, 0.01, 0.1, 0, 9), 5
    )
    asked = []

    def measured(method: Any, *_: Any, **__: Any) -> LearningCurve:
        asked.append(method)
        return curve

    monkeypatch.setattr(more_labels, "learning_curve", measured)
    check_actions.measure_more(session, encoders, "", [])
    assert session.job is not None
    session.job.wait(60)
    assert session.job.error is None
    found = more_labels.read(session.workspace)
    assert found is not None
    assert (found.method, found.curve) == (FAST, curve)
    html = check(session, run)
    assert "<b>+7.0 points</b>" in html
    assert "have changed since this was measured" not in html
    assert "measured with <b><bdi>linear-probe, mini</bdi></b>" in html
    workspace = session.workspace
    workspace.choose(Setup(method="prototypes"))  # the model is still the one that was measured
    assert "have changed since this was measured" not in check(session, run)
    more_labels.measure(workspace, encoders, quiet)
    later = adapt(workspace, encoders, quiet)
    assert "have changed since this was measured" in check(session, later)
    more_labels.measure(workspace, encoders, quiet)
    assert "measured with <b><bdi>prototypes, mini</bdi></b>" in check(session, later)
    assert "have changed since this was measured" not in check(session, later)
    workspace.label([workspace.unlabelled[0].id], CLASSES[0])
    assert "have changed since this was measured" in check(session, later)


def test_a_damaged_file_is_named(trained: tuple[Session, Adaptation]):
    session, run = trained
    place = session.workspace.folder / "left_out.json"
    place.write_text('{"stamp": "x"}')
    with pytest.raises(DataError, match=r"left_out\.json is damaged"):
        check(session, run)


def test_a_few_steps_tell_how_long_the_thorough_way_takes(
    trained: tuple[Session, Adaptation], encoders: Encoders
):
    session, _ = trained
    workspace = session.workspace
    before = (workspace.folder / "run.json").read_bytes()
    choice = Setup(method=THOROUGH, quick=True)
    steps: list[tuple[int, int]] = []
    found = timing.time_of(workspace, encoders, choice, lambda _phase, *step: steps.append(step))
    done, total = steps[-1]
    assert 0 < done < total  # it was not trained to the end
    assert found.seconds > 0
    assert (workspace.folder / "run.json").read_bytes() == before
    assert found.seconds_for(choice, found.counts) == found.seconds
    assert found.seconds_for(replace(choice, wanted=0.5), found.counts) == found.seconds
    assert found.seconds_for(choice, (5, 8)) == pytest.approx(found.seconds * 13 / 12)
    assert found.seconds_for(choice, (2, 10)) is None  # fewer folds
    assert found.seconds_for(choice, (30, 30)) is None
    assert found.seconds_for(Setup("other/clip", THOROUGH), found.counts) is None

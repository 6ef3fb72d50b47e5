"""Groups, copies and foreign pictures of the app: said by a person, kept, and used by what is measured."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot.app import actions, check_actions
from farshot.app.check_view import check, groups, open_set
from farshot.app.sessions import Session, Sessions
from farshot.app.workspace import Setup, Workspace, copies, foreign
from farshot.app.workspace.archive import exported, imported
from farshot.app.workspace.copies import Copies
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.groups import MOST_LETTERS, groups_of, hint, preview, suggestions
from farshot.app.workspace.intake import Upload
from farshot.app.workspace.left_out import read as left_out
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.names import shown_folders
from farshot.app.workspace.picture import Picture
from farshot.app.workspace.run import adapt, last_run
from farshot.errors import DataError
from tests import app_clients
from tests.app_clients import HEADER, browser, send, session_of
from tests.test_workspace import quiet
from tests.workspaces import CLASSES, drawn, labelled, uploads, zipped

pytestmark = app_clients.marks


def named(*names: str, label: str | None = None, folder: str = "") -> list[Picture]:
    return [Picture(name, name, name, label, folder) for name in names]


def plants(folder: Path) -> Workspace:
    """Two classes with three plants each, of which there are two pictures each."""
    workspace = Workspace(folder / "workspace")
    sent = uploads(folder / "sent", drawn(6))
    names = [f"photos/{CLASSES[n // 6]}/plant{n // 2}_{n % 2}.png" for n in range(12)]
    taken, refused = workspace.take(
        [Upload(name, one.path) for name, one in zip(names, sent, strict=True)], None
    )
    assert (len(taken), refused) == (12, [])
    return workspace


# Groups -------------------------------------------------------------------------------------------------


def test_a_pattern_finds_groups_in_folders_and_names() -> None:
    pictures = named("plant1_a.png", "plant1_b.png", "x.png", folder="leaf")
    assert groups_of(pictures, r"plant\d+") == {"plant1_a.png": "plant1", "plant1_b.png": "plant1"}
    assert groups_of(pictures, "(.+)/") == dict.fromkeys((one.id for one in pictures), "leaf")
    assert groups_of(pictures, "") == {}
    said = [*pictures, Picture("y", "plant1_c.png", "y", None, "leaf", "plant2")]  # a table said so
    assert groups_of(said, r"plant\d+")["y"] == "plant2"
    found = preview(pictures, r"plant\d+")
    assert (found.groups, found.pictures, found.alone) == (1, 2, 1)
    assert found.examples == (("plant1", 2),)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [("(", "no regular expression"), ("x" * (MOST_LETTERS + 1), "too long"), ("(a|a)*$", "takes too long")],
)
def test_a_pattern_that_cannot_be_used_is_refused(tmp_path: Path, pattern: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        preview(named("a" * 60 + "b.png"), pattern)


def test_what_names_suggest_is_offered_and_warned_of() -> None:
    alike = [
        picture
        for label in ("p", "q")
        for plant in range(4)
        for picture in named(f"{label}{plant}_1.png", f"{label}{plant}_2.png", label=label)
    ]
    assert hint(alike) == ("p0_1.png", "p0_2.png")
    (found,) = suggestions(alike)
    assert (found.groups, found.pictures) == (8, 16)
    assert hint(named("cat.png", "dog.png", label="p")) is None
    assert suggestions(named("cat.png", "dog.png", label="p")) == []


def test_pictures_of_one_group_are_left_out_together_and_the_estimate_says_so(
    tmp_path: Path, encoders: Encoders
) -> None:
    session = Session(plants(tmp_path).folder, Limits(), Setup())
    workspace = session.workspace
    run = adapt(workspace, encoders, quiet)
    assert run.groups == 0
    html = check(session, run)
    assert "<bdi>plant0_0.png</bdi></b> and <b><bdi>plant0_1.png</bdi>" in html
    assert "were left out together" not in html
    with pytest.raises(DataError, match="no regular expression"):
        check_actions.try_groups(session, encoders, "(", [])
    check_actions.try_groups(session, encoders, r"plant\d+", [])
    assert "6 groups, for example <b><bdi>plant0</bdi></b> (2 pictures)" in groups(session)
    assert workspace.state.groups == ""  # it was only tried
    before = workspace.stamp()
    check_actions.set_groups(session, encoders, r"plant\d+", [])
    assert workspace.stamp() != before
    assert "suggest that several pictures show one thing" not in check(session, run)
    run = adapt(workspace, encoders, quiet)
    assert run.groups == 6
    assert "of 6 groups, and pictures of one group were left out together" in check(session, run)
    found = left_out(workspace, run.stamp)
    assert found is not None
    apart = workspace.groups()
    folds: dict[str, set[int]] = {}
    for id, fold in zip(found.ids, found.folds, strict=True):
        folds.setdefault(apart[id], set()).add(fold)
    assert {len(those) for those in folds.values()} == {1}
    assert len({fold for those in folds.values() for fold in those}) == 3  # a class has three plants
    assert len(set(found.units)) == 6
    assert Workspace(workspace.folder).groups() == apart  # it is on disk
    check_actions.set_groups(session, encoders, "", [])
    assert (workspace.groups(), workspace.stamp()) == ({}, before)


def test_a_column_of_a_table_of_labels_says_which_pictures_belong_together(
    tmp_path: Path, sessions: Sessions
) -> None:
    client = browser(sessions)
    for number, (_, data) in enumerate(drawn(2)):
        send(client, f"{number}.png", data)
    workspace = session_of(sessions, client).workspace
    table = f"image,label,group\n0.png,{CLASSES[0]},p1\n1.png,,p1\n2.png,{CLASSES[1]},\n"
    assert "2 pictures in 1 groups" in send(client, "labels.csv", table.encode()).json()["labels"]
    first, second, third, _ = workspace.pictures
    assert workspace.groups() == {first.id: "p1", second.id: "p1"}
    assert [one.label for one in (first, second, third)] == [CLASSES[0], None, CLASSES[1]]
    rows = list(csv.DictReader(io.StringIO(client.get("/farshot/labels.csv").content.decode("utf-8-sig"))))
    assert [row["group"] for row in rows] == ["p1", "p1", "", ""]
    workspace.undo()
    assert workspace.groups() == {}
    torn = "image,group\n0.png,p1\n0.png,p2\n"
    assert "has the group 'p2', but 'p1'" in send(client, "torn.csv", torn.encode()).json()["refused"]
    assert "1 pictures in 1 groups" in send(client, "g.csv", b"image,group\n0.png,p3\n").json()["labels"]


def test_groups_are_exported_and_imported(tmp_path: Path) -> None:
    workspace = plants(tmp_path)
    workspace.group_by(r"plant\d+")
    one, *_ = workspace.pictures
    workspace.label_each({}, groups={one.id: "another plant"})
    file = tmp_path / "plants.zip"
    file.write_bytes(b"".join(exported(workspace, "plants")))
    other = Workspace(tmp_path / "other")
    assert imported(file, other, ["mini"])[1] == []
    assert other.groups() == workspace.groups()
    assert {one.folder for one in other.pictures} == {f"photos/{name}" for name in CLASSES}
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data.replace(rb'"plant\\d+"', b'"("'))
    with pytest.raises(DataError, match="no regular expression"):
        imported(file, Workspace(tmp_path / "third"), ["mini"])


def test_folders_are_cleaned_and_none_leads_out() -> None:
    assert shown_folders("a/b\x00/c.png") == "a/b"
    assert shown_folders("../../etc/passwd") == ""
    assert shown_folders("c.png") == ""


# Copies -------------------------------------------------------------------------------------------------


def smaller(data: bytes) -> bytes:
    """The same picture, resized and compressed."""
    with Image.open(io.BytesIO(data)) as image:
        buffer = io.BytesIO()
        image.convert("RGB").resize((image.width * 3 // 2, image.height * 3 // 2)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_copies_are_listed_until_one_or_both_are_kept(sessions: Sessions, encoders: Encoders) -> None:
    client = browser(sessions)
    pictures = drawn(4)
    for number, (_, data) in enumerate(pictures):
        send(client, f"{number}.png", data)
    send(client, "again.jpg", smaller(pictures[0][1]))
    session = session_of(sessions, client)
    workspace = session.workspace
    first, again = workspace.pictures[0].id, workspace.pictures[-1].id
    assert "Compare all 9 pictures" in check(session, None)
    check_actions.look_for_copies(session, encoders, "", [])
    session.job.wait(60)
    assert session.job.error is None
    html = check(session, None)
    assert (html.count('data-do="only"'), "again.jpg" in html, "Keep both" in html) == (2, True, True)
    told = {"page": "p", "first": 1, "acts": [{"do": "only", "ids": [again]}]}
    assert client.post("/farshot/act", json=told, headers=HEADER).status_code == 200
    assert (session.note.text, session.note.undo) == ("1 copy is removed.", True)
    assert first not in workspace.state.pictures
    assert "Keep both" not in check(session, None)
    workspace.undo()
    assert "Keep both" in check(session, None)
    check_actions.keep_all(session, encoders, "", [first])
    assert "Keep both" not in check(session, None)
    assert "None among the 9 pictures" in check(session, None)
    with pytest.raises(DataError, match="not listed as copies"):
        check_actions.keep_one(session, encoders, "", [first])


def test_training_compares_the_labelled_pictures_and_keeps_other_sets(
    tmp_path: Path, encoders: Encoders
) -> None:
    workspace = labelled(tmp_path, 3, more=1)
    adapt(workspace, encoders, quiet)
    found = copies.read(workspace)
    assert found is not None
    ids = [picture.id for picture in workspace.pictures]
    asked = {picture.id for picture in workspace.pictures if picture.label}
    assert (set(found.looked), found.sets) == (asked, ())
    other = Copies(tuple(ids), ((ids[0], ids[3]),))  # of a labelled picture and one without a class
    copies.write_json(workspace.folder / "copies.json", vars(other))
    adapt(workspace, encoders, quiet)
    assert copies.read(workspace) == other
    (workspace.folder / "copies.json").write_text("{}")
    with pytest.raises(DataError, match=r"copies\.json is damaged"):
        copies.read(workspace)


def test_copies_of_a_set_that_training_finds_in_part_are_listed_once(
    tmp_path: Path, encoders: Encoders
) -> None:
    workspace = labelled(tmp_path, 3)
    first = workspace.pictures[0]
    data = workspace.path(first).read_bytes()
    for name, again in (("a.jpg", smaller(data)), ("b.jpg", smaller(smaller(data)))):
        (tmp_path / name).write_bytes(again)
        workspace.take([Upload(name, tmp_path / name)])
    one, other = workspace.pictures[-2:]
    workspace.label([one.id], first.label)
    found = copies.look(workspace, encoders, quiet)
    assert [set(ids) for ids in found.sets] == [{first.id, one.id, other.id}]
    found = copies.keep(workspace, workspace.support(), quiet)
    ((*listed,),) = copies.open_sets(workspace, found)
    assert {picture.id for picture in listed} == {first.id, one.id, other.id}
    assert copies.keep_one(workspace, other.id) == 2
    assert copies.open_sets(workspace, found) == []


# Pictures of something else -----------------------------------------------------------------------------


def noise(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    found = []
    for seed in range(start, start + count):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(("", buffer.getvalue()))
    return found


def given(session: Session, place: Path, name: str, data: bytes) -> tuple[int, list[str]]:
    """Add a foreign picture; returns how many are new, and why others are not."""
    place.write_bytes(data)
    new, refused = session.take_foreign(Upload(name, place))
    return new, [one.reason for one in refused]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory, encoders: Encoders) -> Path:
    """Twelve labelled pictures of each of two classes, trained."""
    workspace = labelled(tmp_path_factory.mktemp("twenty"), 12)
    adapt(workspace, encoders, quiet)
    return workspace.folder


def test_foreign_pictures_are_measured_and_are_no_part_of_the_board(
    twenty: Path, tmp_path: Path, encoders: Encoders
) -> None:
    shutil.copytree(twenty, tmp_path / "workspace")
    session, sent = Session(tmp_path / "workspace", Limits(), Setup()), tmp_path / "sent"
    before = [picture.id for picture in session.workspace.pictures]
    for number, (_, data) in enumerate(noise(5)):
        assert given(session, sent, f"{number}.png", data) == (1, [])
    assert "already here" in given(session, sent, "0.png", noise(1)[0][1])[1][0]
    own = session.workspace.path(session.workspace.pictures[0]).read_bytes()
    assert "one of your own pictures" in given(session, sent, "own.png", own)[1][0]
    assert [picture.id for picture in session.workspace.pictures] == before
    actions.received(session, encoders)  # measures at once
    assert session.job is not None
    session.job.wait(60)
    assert session.job.error is None
    run = last_run(session.workspace)
    assert run is not None
    found = foreign.read(session.workspace)
    assert found is not None
    assert (found.found.flagged.n, found.found.lost.n, found.found.level) == (5, 24, 0.05)
    assert found.found.flagged.mean == 1  # noise is nothing that the mini world draws
    assert found.found.auroc.mean > 0.9
    html = open_set(session, run)
    assert "Of 5 pictures that show none of your classes, 100.0 %" in html
    assert "has changed" not in html
    given(session, sent, "more.png", noise(1, 50)[0][1])
    assert "of something else have changed since" in open_set(session, run)
    later = adapt(session.workspace, encoders, quiet)
    assert "The model has changed since" in open_set(session, later)
    assert not any(b"foreign" in piece for piece in exported(session.workspace, "x"))
    check_actions.forget_foreign(session, encoders, "", [])
    assert foreign.files(session.workspace) == []
    with pytest.raises(DataError, match="Add pictures first"):
        foreign.measure(session.workspace, encoders, quiet)


def test_foreign_pictures_that_come_to_the_board_later_are_left_out(
    twenty: Path, tmp_path: Path, encoders: Encoders
) -> None:
    shutil.copytree(twenty, tmp_path / "workspace")
    session, sent = Session(tmp_path / "workspace", Limits(), Setup()), tmp_path / "sent"
    workspace = session.workspace
    for number, (_, data) in enumerate(noise(3)):
        assert given(session, sent, f"{number}.png", data) == (1, [])
    assert foreign.measure(workspace, encoders, quiet).found.flagged.n == 3
    sent.write_bytes(noise(1)[0][1])
    session.take(Upload("0.png", sent))
    html = open_set(session, last_run(workspace))
    assert "of something else have changed since" in html
    assert "1 of the pictures of something else is among your own by now and is left out" in html
    assert "Test again with 2 pictures" in html
    found = foreign.measure(workspace, encoders, quiet)
    assert found.found.flagged.n == 2
    assert not set(found.pictures) & set(workspace.state.pictures)
    for _, data in noise(2, 1):
        sent.write_bytes(data)
        session.take(Upload("more.png", sent))
    with pytest.raises(DataError, match="Add pictures first"):
        foreign.measure(workspace, encoders, quiet)
    assert "Remove these pictures" in open_set(session, last_run(workspace))


def test_a_page_sends_foreign_pictures_to_a_place_apart(sessions: Sessions) -> None:
    client = browser(sessions)
    told = {"params": {"name": "x.png", "kind": "foreign"}, "headers": HEADER}
    assert client.post("/farshot/upload", content=noise(1)[0][1], **told).json()["new"] == 1
    assert client.post("/farshot/upload", content=b"image,label", **told).json()["refused"]
    workspace = session_of(sessions, client).workspace
    assert (len(workspace.pictures), len(foreign.files(workspace))) == (0, 1)


def test_few_labelled_pictures_are_said_to_be_too_few(tmp_path: Path, encoders: Encoders) -> None:
    session = Session(labelled(tmp_path, 3).folder, Limits(), Setup())
    assert "There is no model yet" in open_set(session, None)
    run = adapt(session.workspace, encoders, quiet)
    html = open_set(session, run)
    assert "This test needs 20 labelled pictures" in html
    with pytest.raises(DataError, match="needs 20 labelled pictures"):
        check_actions.start_open_set(session, encoders)
    assert session.job is None


def test_the_number_of_foreign_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MOST", 3)
    workspace = labelled(tmp_path, 1)
    new, refused = foreign.take(workspace, [zipped(tmp_path / "x.zip", noise(5))])
    assert new == 3
    assert any("this box holds at most 3 images" in one.reason for one in refused)
    assert len(foreign.files(workspace)) == 3


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    (workspace.folder / "open_set.json").write_text('{"stamp": "x"}')
    with pytest.raises(DataError, match=r"open_set\.json is damaged"):
        foreign.read(workspace)

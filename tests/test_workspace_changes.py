"""Changes of a workspace: what they cost on disk, what a killed program leaves, how they are taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from farshot.app.workspace import ClassWords, Setup, Workspace, journal
from farshot.app.workspace import undo as undoing
from farshot.app.workspace.intake import Upload
from farshot.errors import DataError
from tests.workspaces import CLASSES, drawn, labelled, many, uploads, zipped


def contents(workspace: Workspace) -> tuple[object, ...]:
    return workspace.pictures, workspace.classes, workspace.choice


def log(folder: Path) -> Path:
    (found,) = folder.glob("changes-*.jsonl")
    return found


# On disk -------------------------------------------------------------------------------------------------


def test_the_state_of_an_earlier_farshot_is_read(tmp_path: Path) -> None:
    workspace = many(tmp_path, 3)
    assert [picture.name for picture in workspace.pictures] == ["0.png", "1.png", "2.png"]
    assert workspace.class_names == CLASSES
    assert workspace.choice == Setup("mini", "clap", quick=True)
    workspace.label([workspace.pictures[1].id], CLASSES[0])
    assert contents(Workspace(workspace.folder)) == contents(workspace)


def test_a_change_costs_the_same_in_a_large_workspace(tmp_path: Path) -> None:
    costs = []
    for count in (10, 1000):
        workspace = many(tmp_path / str(count), count)
        workspace.choose(Setup("mini", "clap"))  # the new format
        workspace.label([workspace.pictures[0].id], CLASSES[0])
        before = [(file.name, file.stat().st_ino, file.stat().st_size) for file in workspace.state_files()]
        workspace.label([workspace.pictures[1].id], CLASSES[0])
        after = [(file.name, file.stat().st_ino, file.stat().st_size) for file in workspace.state_files()]
        assert [one[:2] for one in before] == [one[:2] for one in after]  # nothing was written again
        costs.append(sum(one[2] for one in after) - sum(one[2] for one in before))
        assert Workspace(workspace.folder).pictures[1].label == CLASSES[0]
    assert costs[0] == costs[1] > 0


def test_a_log_that_outgrows_the_state_becomes_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SMALLEST_LOG", 500)
    workspace = labelled(tmp_path, 2)
    sizes = []
    for turn in range(60):
        workspace.label([workspace.pictures[turn % 4].id], CLASSES[turn // 4 % 2])
        workspace.remove([workspace.pictures[3].id]) if turn % 7 == 0 else None
        workspace.undo() if turn % 7 == 0 else None
        sizes.append(sum(file.stat().st_size for file in workspace.state_files()))
        assert contents(Workspace(workspace.folder)) == contents(workspace)
    assert max(sizes) < 6000
    assert len(list(workspace.folder.glob("changes-*.jsonl"))) <= 1


def test_a_line_that_was_not_finished_is_dropped_wherever_it_was_cut(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    before = contents(workspace)
    start = log(workspace.folder).stat().st_size
    workspace.label([workspace.pictures[0].id, workspace.pictures[1].id], None)
    whole = log(workspace.folder).read_bytes()
    place = log(workspace.folder)
    for end in range(start, len(whole)):
        place.write_bytes(whole[:end])
        assert contents(Workspace(workspace.folder)) == before
    again = Workspace(workspace.folder)
    again.choose(Setup("mini", "clap"))
    assert contents(Workspace(workspace.folder)) == contents(again) == (*before[:2], Setup("mini", "clap"))


def test_a_snapshot_that_was_not_finished_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = labelled(tmp_path, 2)
    before = contents(workspace)
    assert log(workspace.folder).stat().st_size > 2 * (workspace.folder / journal.STATE).stat().st_size
    monkeypatch.setattr(journal, "SMALLEST_LOG", 0)  # so that the next change makes a snapshot

    def full(*_args: object) -> None:
        raise DataError("full")

    monkeypatch.setattr(journal, "write_json", full)
    with pytest.raises(DataError, match="full"):
        workspace.label([workspace.pictures[0].id], None)
    assert contents(workspace) == contents(Workspace(workspace.folder)) == before


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = labelled(tmp_path, 2)
    before, written = contents(workspace), log(workspace.folder).read_bytes()
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if bytes(data).startswith(b'{"pictures"'):
            return write(handle, bytes(data)[:7])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DataError, match="free some space"):
            workspace.label([workspace.pictures[0].id], None)
    assert contents(workspace) == before
    assert log(workspace.folder).read_bytes() == written
    workspace.label([workspace.pictures[0].id], None)
    assert contents(Workspace(workspace.folder)) == contents(workspace)


def test_a_damaged_log_is_one_sentence(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    for text in (b"{]\n", b"[]\n", b'{"pictures": 3}\n', b'{"pictures": {"a": {"id": 3}}}\n'):
        log(workspace.folder).write_bytes(text)
        with pytest.raises(DataError, match="damaged"):
            Workspace(workspace.folder)


KILLED = """
import sys
from pathlib import Path
from farshot.app.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
ids, names = [picture.id for picture in workspace.pictures], workspace.class_names
turn = 0
while True:
    for id in ids:
        workspace.label([id], names[turn % 2])
        print(id, turn % 2, flush=True)
    turn += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_program_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 3)
    for patience in (40, 7):
        command = [sys.executable, "-c", KILLED, str(workspace.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            told = [program.stdout.readline() for _ in range(patience)]
            program.kill()
            told += program.stdout.readlines()
        told = [line for line in told if line.endswith("\n")]  # the last one may have been cut off
        labels = dict(line.split() for line in told)
        found = {picture.id: picture.label for picture in Workspace(workspace.folder).pictures}
        last, turn = told[-1].split()
        order = list(found)
        for id, number in labels.items():
            # the one after the last may have been written and not told any more
            after = order[(order.index(last) + 1) % len(order)]
            assert found[id] == CLASSES[int(number)] or id == after, (last, turn)


# Taken back ----------------------------------------------------------------------------------------------


def test_what_was_removed_comes_back_to_its_place_with_its_class(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2, more=1)
    before = contents(workspace)
    data = workspace.path(workspace.pictures[1]).read_bytes()
    ids = [workspace.pictures[1].id, workspace.pictures[4].id]
    workspace.remove(ids)
    assert workspace.undoable == "the removal of 2 pictures"
    assert len(Workspace(workspace.folder).pictures) == 4
    # an earlier program's removals are final, so the test goes on in the one that removed
    workspace = labelled(tmp_path / "other", 2, more=1)
    workspace.remove(ids)
    assert workspace.undo() == "the removal of 2 pictures"
    assert contents(workspace) == before
    assert contents(Workspace(workspace.folder)) == before
    assert workspace.path(workspace.pictures[1]).read_bytes() == data
    assert workspace.thumbnail(ids[0]).is_file()


def test_labels_come_back_step_by_step(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    states = [contents(workspace)]
    ids = [picture.id for picture in workspace.pictures]
    for changed, name in ((ids[:2], CLASSES[1]), (ids, None), (ids[3:], CLASSES[0])):
        workspace.label(changed, name)
        states.append(contents(workspace))
    for state in reversed(states[:-1]):
        workspace.undo()
        assert contents(workspace) == state
    assert contents(Workspace(workspace.folder)) == states[0]


def test_a_label_that_changes_nothing_cannot_be_taken_back(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    before = workspace.undoable
    picture = workspace.pictures[0]
    workspace.label([picture.id], picture.label)
    assert workspace.undoable == before
    workspace.forget_removed()
    assert workspace.undoable is None
    with pytest.raises(DataError, match="nothing to take back"):
        workspace.undo()


def test_edits_of_classes_are_taken_back_and_done_again(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    workspace.forget_removed()
    first = workspace.pictures[0]
    one, two = workspace.classes
    states = [contents(workspace)]
    steps: list[Callable[[], object]] = [
        lambda: workspace.name_classes([one, two, ClassWords("third", "in words")]),
        lambda: workspace.label([first.id], "third"),
        lambda: workspace.rename_class("third", "spots"),
        lambda: workspace.label([first.id], None),
        lambda: workspace.name_classes([two, replace(one, description="other words")]),
        lambda: workspace.name_classes([replace(two, name=two.name.upper()), one]),
    ]
    for step in steps:
        step()
        states.append(contents(workspace))
    workspace.name_classes(workspace.classes)  # nothing to take back
    for _ in range(2):
        for state in reversed(states[:-1]):
            workspace.undo()
            assert contents(workspace) == state
        assert workspace.undoable is None
        for state in states[1:]:
            workspace.redo()
            assert contents(workspace) == state
    assert contents(Workspace(workspace.folder)) == states[-1]


def test_what_is_added_after_an_edit_of_the_classes_keeps_its_class_when_the_edit_is_taken_back(
    tmp_path: Path,
) -> None:
    """An upload is not taken back."""
    workspace = Workspace(tmp_path / "workspace")
    workspace.name_classes([ClassWords("a")])
    workspace.name_classes([ClassWords("a"), ClassWords("b"), ClassWords("empty")])
    workspace.rename_class("a", "spots")
    pictures = drawn(2)
    for name, one in zip(("spots", "b"), pictures, strict=False):
        workspace.take(uploads(tmp_path / name, [one]), name)
    workspace.take([zipped(tmp_path / "z", pictures[2:3])])  # a new class
    assert workspace.undo() == "the name 'spots' of the class 'a'"
    assert workspace.undo() == "the change of the classes"
    assert workspace.counts == {"a": 1, "b": 1, CLASSES[1]: 1}
    assert contents(Workspace(workspace.folder)) == contents(workspace)
    workspace.redo()
    workspace.redo()
    assert workspace.counts == {"spots": 1, "b": 1, "empty": 0, CLASSES[1]: 1}


def test_removed_files_go_when_nothing_can_bring_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undoing, "MOST", 2)
    workspace = labelled(tmp_path, 2)
    first, second, third, _ = workspace.pictures
    aside = workspace.folder / "removed"
    for picture in (first, second, third):
        workspace.remove([picture.id])
    assert {file.name for file in aside.iterdir()} == {second.file, third.file}
    workspace.undo()
    assert {file.name for file in aside.iterdir()} == {second.file}
    assert third in workspace.pictures
    Workspace(workspace.folder)
    assert not list(aside.iterdir())


def test_a_picture_that_was_removed_and_added_again_is_there_once(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    first = workspace.pictures[0]
    workspace.remove([first.id])
    workspace.take(uploads(tmp_path / "again", drawn(1)[:1]))
    workspace.remove([first.id])
    workspace.undo()
    workspace.undo()
    assert [picture.id for picture in workspace.pictures].count(first.id) == 1
    assert workspace.path(workspace.picture(first.id)).is_file()


def test_removed_pictures_whose_files_are_gone_are_said_not_to_come_back(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    first, second, third, _ = workspace.pictures
    aside = workspace.folder / "removed"
    workspace.remove([first.id])
    workspace.remove([second.id, third.id])
    (aside / first.file).unlink()
    (aside / second.file).unlink()
    with pytest.raises(DataError, match=r"^1 removed picture cannot be brought back: its file is gone\."):
        workspace.undo()
    assert third in workspace.pictures
    assert workspace.redoable == "the removal of 1 picture"
    workspace.redo()
    workspace.undo()
    assert len(workspace.pictures) == 2
    with pytest.raises(DataError, match=r"^1 removed picture cannot be brought back"):
        workspace.undo()
    assert workspace.redoable == "the removal of 1 picture"  # of the third
    assert len(workspace.pictures) == 2


def test_what_was_taken_back_is_done_again_step_by_step(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 2)
    ids = [picture.id for picture in workspace.pictures]
    workspace.forget_removed()
    states = [contents(workspace)]
    steps: list[Callable[[], object]] = [
        lambda: workspace.label(ids[:2], CLASSES[1]),
        lambda: workspace.remove([ids[1], ids[3]]),
        lambda: workspace.label([ids[0]], None),
    ]
    for step in steps:
        step()
        states.append(contents(workspace))
    for _ in range(2):
        for state in reversed(states[:-1]):
            workspace.undo()
            assert contents(workspace) == state
        assert workspace.undoable is None
        for state in states[1:]:
            workspace.redo()
            assert contents(workspace) == state
        assert workspace.redoable is None
    with pytest.raises(DataError, match="nothing to do again"):
        workspace.redo()
    assert {file.name for file in (workspace.folder / "removed").iterdir()} == {
        file.name for file in (workspace.folder / "removed").iterdir() if file.stem in (ids[1], ids[3])
    }
    assert contents(Workspace(workspace.folder)) == states[-1]


def test_after_another_change_nothing_is_done_again(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    first, second = workspace.pictures
    workspace.label([first.id], None)
    workspace.undo()
    assert workspace.redoable is not None
    workspace.label([second.id], None)
    assert workspace.redoable is None
    workspace.undo()
    workspace.rename_class(CLASSES[1], "spots")
    assert workspace.redoable is None
    assert workspace.picture(second.id).label == "spots"


# Brought again -------------------------------------------------------------------------------------------


def test_a_picture_that_is_brought_again_with_a_class_gets_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.take(uploads(tmp_path / "first", drawn(1)))
    assert {picture.label for picture in workspace.pictures} == {None}
    _, said = workspace.take([zipped(tmp_path / "z", drawn(1))])
    assert [picture.label for picture in workspace.pictures] == list(CLASSES)
    assert [one.reason for one in said] == [
        f"the same image is already here; its class is now {name!r}." for name in CLASSES
    ]
    assert contents(Workspace(workspace.folder)) == contents(workspace)
    _, said = workspace.take(uploads(tmp_path / "second", drawn(1)), CLASSES[1])
    assert {picture.label for picture in workspace.pictures} == {CLASSES[1]}
    assert "nothing to do" in said[1].reason
    workspace.undo()
    assert [picture.label for picture in workspace.pictures] == list(CLASSES)
    _, said = workspace.take(uploads(tmp_path / "third", drawn(1)))  # without a class nothing changes
    assert [picture.label for picture in workspace.pictures] == list(CLASSES)


# Removed while files are used ----------------------------------------------------------------------------


class Arriving(list[Upload]):
    """Uploads that do something once a file was stored again."""

    def __init__(self, sent: list[Upload], file: Path, do: Callable[[], object]) -> None:
        super().__init__(sent)
        self._file, self._do, self._before = file, do, file.stat().st_ino

    def __iter__(self) -> Iterator[Upload]:
        for upload in super().__iter__():
            yield upload
            if self._file.stat().st_ino != self._before:
                self._do()


def test_a_removed_picture_that_is_refused_when_it_is_added_again_comes_back(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    picture = workspace.pictures[0]
    (upload,) = uploads(tmp_path / "again", drawn(1))[:1]
    with workspace.read_by_job():
        workspace.remove([picture.id])
        new, (refused,) = workspace.take([replace(upload, name=f"x/{'c' * 70}/0.png", wrapped=True)])
        assert not new
        assert "too long" in refused.reason
        with pytest.raises(DataError):  # the class is gone
            workspace.take([upload], "no class")
    assert not workspace.path(picture).exists()
    workspace.undo()
    assert workspace.pictures[0] == picture
    assert workspace.path(picture).read_bytes() == drawn(1)[0][1]


def test_a_removed_picture_that_cannot_be_added_again_comes_back(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    picture = workspace.pictures[0]
    with workspace.read_by_job():
        workspace.remove([picture.id])
        written = log(workspace.folder).read_bytes()
        log(workspace.folder).unlink()
        place = workspace.folder / "changes-0.jsonl"
        place.mkdir()
        with pytest.raises(DataError, match="cannot be written"):
            workspace.take(uploads(tmp_path / "again", drawn(1)))
        place.rmdir()
        place.write_bytes(written)
    workspace.undo()
    assert workspace.pictures[0] == picture
    assert workspace.path(picture).is_file()


def test_a_picture_that_is_added_again_while_a_job_ends_is_kept(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    picture = workspace.pictures[0]
    with ExitStack() as job:
        job.enter_context(workspace.read_by_job())
        workspace.remove([picture.id])
        sent = uploads(tmp_path / "again", drawn(1))
        new, _ = workspace.take(Arriving(sent, workspace.path(picture), job.close))
    assert [one.id for one in new] == [picture.id]
    assert workspace.path(picture).is_file()
    assert len(Workspace(workspace.folder).pictures) == 2


def test_a_picture_that_is_removed_during_a_job_is_deleted_when_the_app_ends(tmp_path: Path) -> None:
    workspace = labelled(tmp_path, 1)
    picture = workspace.pictures[0]
    with workspace.read_by_job():
        workspace.remove([picture.id])
        workspace.forget_removed()
        assert not list(workspace.folder.rglob(picture.file))

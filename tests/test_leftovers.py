"""Killed at every step that changes the disk, a replacement leaves the old or the new, and the next one
removes what is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from farshot.errors import DataError
from farshot.storage import atomic
from farshot.storage.atomic import check_file, check_folder, replaced, whole_file, whole_folder
from farshot.storage.leftovers import held, made, sweep
from farshot.storage.locks import take
from tests.input_helpers import everything_in, subprocess_environment

posix = pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")

KILLED = '''
import atexit, os, signal, sys, traceback
from pathlib import Path
from farshot.errors import DataError
from farshot.storage import atomic
what, exchanges, root = sys.argv[1], sys.argv[2] == "exchange", Path(sys.argv[3])
how = signal.Signals[sys.argv[4]]
if not exchanges:
    atomic.exchange = lambda a, b: False
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "open"}

def write(value):
    place = root / "place"
    if what == "folder":
        check = lambda folder: atomic.check_folder(folder, "ours", lambda _: ("a", "b"))
        with atomic.whole_folder(place, check) as staging:
            (staging / "a").write_text(value)
            (staging / "b").write_text(value)
    elif what == "file":
        check = lambda file: atomic.check_file(file, "ours", lambda _: True)
        with atomic.whole_file(place, check) as staging:
            staging.write_text(value)
    else:
        with atomic.replaced(place) as staging:
            staging.write_text(value)

def written(value):
    """By a process that has not written here before, and so removes what a killed one left."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write(value)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0

def content():
    place = root / "place"
    files = [place / "a", place / "b"] if what == "folder" else [place]
    return {file.read_text() if file.exists() else None for file in files}

def killed_at(step):
    """Whether a child that replaces old by new was killed at its step-th change."""
    child = os.fork()
    if child == 0:
        left = [step]
        def hook(event, arguments):
            if event in CHANGES and str(root) in str(arguments[:2]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), how)
        sys.addaudithook(hook)
        code = 3
        try:
            write("new")
            code = 0 if left[0] > 0 else 3
        except KeyboardInterrupt:
            atexit._run_exitfuncs()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0

for step in range(1, 1000):
    written("old")
    assert content() == {"old"}, content()
    if not killed_at(step):
        break
    found = content()
    if exchanges or what != "folder":
        assert found in ({"old"}, {"new"}), (step, found)
    if how == signal.SIGINT:
        assert os.listdir(root) == ["place"], (step, os.listdir(root))
    written("newer")
    assert content() == {"newer"}, (step, content())
    assert sorted(os.listdir(root)) == ["place"], (step, os.listdir(root))
print(step)
'''


@posix
@pytest.mark.parametrize("how", ["exchange", "aside"])
@pytest.mark.parametrize("what", ["folder", "file", "own"])
@pytest.mark.parametrize("stop", ["SIGKILL", "SIGINT"])
def test_a_stop_at_every_change_loses_nothing_and_leaves_nothing(
    tmp_path: Path, stop: str, what: str, how: str
) -> None:
    command = [sys.executable, "-c", KILLED, what, how, str(tmp_path), stop]
    done = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > (3 if what == "own" else 8)  # steps that it was killed at


TIDIED = """
import os, signal, sys
from pathlib import Path
from farshot.storage import leftovers
folder = leftovers.new_name(Path(sys.argv[1]) / "place")
folder.mkdir()
(folder / "a").touch()
def hook(event, arguments):
    if event in ("os.remove", "os.rmdir"):
        os.kill(os.getpid(), signal.Signals[sys.argv[2]])
sys.addaudithook(hook)
"""


@posix
@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_a_process_ends_does_not_stop_its_clean_up(tmp_path: Path, stop: str) -> None:
    command = [sys.executable, "-c", TIDIED, str(tmp_path), stop]
    done = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, everything_in(tmp_path)) == (0, "", set())


@posix
def test_a_folder_that_was_moved_aside_is_put_back(tmp_path: Path) -> None:
    old = tmp_path / ".farshot-0123abcd-old"
    old.mkdir()
    (old / "a").write_text("kept", encoding="utf-8")
    (tmp_path / ".farshot-0123abcd-name").write_bytes(b"place")
    sweep(tmp_path, again=True)
    assert everything_in(tmp_path) == {"place", "place/a"}


@posix
def test_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / ".farshot-0123abcd").mkdir()
    (tmp_path / ".farshot-0123abcd" / "x").touch()
    for name in (".farshot-notes", ".farshot-0123abcd-old.d.tar.gz", "farshot-0123abcd"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    before = everything_in(tmp_path)
    with held(tmp_path / ".farshot-0123abcd"):
        sweep(tmp_path, again=True)
        assert everything_in(tmp_path) == before
    sweep(tmp_path, again=True)
    assert before - everything_in(tmp_path) == {".farshot-0123abcd", ".farshot-0123abcd/x"}


@posix
def test_what_a_sweep_removed_before_it_was_marked_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / ".farshot-0123abcd"
    times = []

    def make(path: Path) -> None:
        path.mkdir()
        times.append(path.stat().st_ino)
        if len(times) < 3:
            sweep(tmp_path, again=True)
            assert not path.exists()  # of a process that was killed here nothing is left, however soon

    with made(path, make):
        sweep(tmp_path, again=True)
        assert path.exists()
    assert len(times) == 3


@posix
def test_writers_and_sweeps_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    ended = threading.Event()

    def write(name: str) -> None:
        for number in range(30):
            try:
                with whole_folder(tmp_path / name, lambda _: None) as staging:
                    (staging / "a").write_text(str(number), encoding="utf-8")
                with replaced(tmp_path / f"{name}.txt") as file:
                    file.write_text(str(number), encoding="utf-8")
            except BaseException as error:
                faults.append(error)
                return

    def clean() -> None:
        while not ended.is_set():
            sweep(tmp_path, again=True)

    writers = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    sweeps = [threading.Thread(target=clean) for _ in range(2)]
    for thread in (*sweeps, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    for thread in sweeps:
        thread.join()
    assert not faults
    assert everything_in(tmp_path) == {"x", "y", "x/a", "y/a", "x.txt", "y.txt"}
    assert {(tmp_path / file).read_text() for file in ("x/a", "y/a", "x.txt", "y.txt")} == {"29"}


@posix
def test_a_trial_of_a_place_whose_folders_are_missing_leaves_nothing(tmp_path: Path) -> None:
    left = tmp_path / ".farshot-0123abcd"
    left.mkdir()
    (left / "new").mkdir()
    atomic.check_writable(tmp_path / "new" / "deep", "choose another")
    assert everything_in(tmp_path) == set()


@posix
def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".farshot-0123abcd").symlink_to(mine)
    (tmp_path / "here" / ".farshot-89abcdef-name").write_bytes(b"../mine/y")
    (tmp_path / "here" / ".farshot-89abcdef-old").mkdir()
    sweep(tmp_path / "here", again=True)
    assert everything_in(mine) == {"x"}


def test_a_folder_that_changed_meanwhile_is_put_back(tmp_path: Path) -> None:
    place = tmp_path / "place"

    def check(folder: Path) -> None:
        check_folder(folder, "ours", lambda _: ("a",))

    with whole_folder(place, check) as staging:
        (staging / "a").write_text("old", encoding="utf-8")
    exchange = atomic.exchange

    def exchange_and_add(a: Path, b: Path) -> bool:
        if (b / "a").read_text(encoding="utf-8") == "old":
            (b / "of the user").touch()
        return exchange(a, b)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "exchange", exchange_and_add)
        with (
            pytest.raises(DataError, match=r"place holds more than ours \(of the user\)"),
            whole_folder(place, check) as staging,
        ):
            (staging / "a").write_text("new", encoding="utf-8")
    assert (place / "a").read_text(encoding="utf-8") == "old"
    assert everything_in(tmp_path) == {"place", "place/a", "place/of the user"}


def test_a_file_of_our_own_is_replaced_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replaced(path) as staging:
        staging.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), replaced(path) as staging:
        staging.write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    with (
        pytest.raises(KeyboardInterrupt),
        whole_file(path, lambda file: check_file(file, "ours", lambda _: True)),
    ):
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old"
    assert everything_in(tmp_path) == {"a.json"}


@posix
def test_a_lock_that_a_sweep_holds_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".farshot-0123abcd"
    path.mkdir()
    (path / "x").touch()
    number = os.open(path, os.O_RDONLY)
    assert take(number)
    threading.Timer(0.1, os.close, [number]).start()
    with held(path):
        sweep(tmp_path, again=True)
        assert (path / "x").exists()

"""Commands that are killed at system calls lose nothing, and the tool that says so sees what goes wrong.
`python -m benchmarks.stress commands` does this with every command that writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.calls import Call, of_each_kind, spread
from benchmarks.disk_state import after_kill, after_rerun, listing, state_of
from benchmarks.stress import share_of

from farshot.bench.store import Store
from tests.input_helpers import subprocess_environment
from tests.test_bench_table import fill, run_of, shares

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    for name in ("out", "tmp", "cache", "home"):
        (tmp_path / "w" / name).mkdir(parents=True)
    return tmp_path / "w"


def kinds(found: list[tuple[str, str]]) -> list[str]:
    return [kind for kind, _ in found]


def test_a_half_written_file_is_found(watched: Path) -> None:
    file = watched / "out" / "a.txt"
    before = state_of(watched / "out")
    file.write_text("new")
    after, files = state_of(watched / "out"), listing(watched)
    assert kinds(after_kill(watched, before, after, (), killed=True)) == []
    file.write_text("ne")
    assert kinds(after_kill(watched, before, after, (), killed=True)) == ["partial"]
    assert kinds(after_kill(watched, {"a.txt": "old"}, after, (), killed=True)) == ["lost"]
    assert kinds(after_rerun(watched, after, files, 0, "")) == ["lost"]
    file.unlink()
    assert kinds(after_kill(watched, before, after, (), killed=True)) == []
    assert kinds(after_kill(watched, {"a.txt": "old"}, after, (), killed=True)) == ["lost"]


def test_leftovers_are_found(watched: Path) -> None:
    files = listing(watched)
    (watched / "tmp" / "x").touch()
    (watched / "out" / ".farshot-0123abcd").mkdir()
    assert kinds(after_kill(watched, {}, {}, (), killed=True)) == []
    assert kinds(after_kill(watched, {}, {}, (), killed=False)) == ["leftovers"] * 2
    assert kinds(after_rerun(watched, {}, files, 0, "")) == ["leftovers"] * 2


def test_a_refusal_is_right_only_where_all_is_there(watched: Path) -> None:
    (watched / "out" / "a.csv").write_text("a\n1\n")
    after, files = state_of(watched / "out"), listing(watched)
    assert after_rerun(watched, after, files, 2, "is there") == []
    assert kinds(after_rerun(watched, {**after, "b": "x"}, files, 2, "is there")) == ["lost", "lost"]
    (watched / "out" / "a.csv").write_text("a\n1\n1\n")
    assert kinds(after_rerun(watched, after, files, 0, "")) == ["doubled"]


def test_rows_of_a_store_may_grow_and_nothing_else(watched: Path) -> None:
    path = watched / "out" / "r.db"
    states = []
    for tasks in (2, 4):
        with Store(path) as store:
            fill(store, run_of("atha"), shares(0, 4)[:tasks])
        states.append(state_of(watched / "out"))
    few, many = states
    assert after_kill(watched, few, many, ("r.db",), killed=True) == []
    assert after_kill(watched, {}, many, ("r.db",), killed=True) == []
    assert kinds(after_kill(watched, many, few, (), killed=True)) == []
    with Store(path) as store:
        fill(store, run_of("prompt-lora"), shares(0, 4))
    assert kinds(after_kill(watched, few, many, ("r.db",), killed=True)) == ["lost"]
    assert kinds(after_rerun(watched, many, listing(watched), 0, "")) == ["doubled"]
    path.write_bytes(path.read_bytes()[:5000])
    assert kinds(after_kill(watched, {}, many, ("r.db",), killed=True)) == ["partial"]


def test_numbers_that_may_differ_are_not_compared_and_damage_is(watched: Path) -> None:
    file = watched / "out" / "p.csv"
    file.write_text("image,p\na.png,0.5\n")
    after, files = state_of(watched / "out", rounded=True), listing(watched)
    file.write_text("image,p\na.png,0.6\n")
    assert after_rerun(watched, after, files, 0, "", rounded=True) == []
    assert kinds(after_rerun(watched, after, files, 0, "")) == ["lost"]
    file.write_text("image,p\na.p")
    assert kinds(after_rerun(watched, after, files, 0, "", rounded=True)) == ["lost"]
    page = watched / "out" / "a.html"
    page.write_text("<html></html>")
    whole = state_of(watched / "out", rounded=True)["a.html"]
    page.write_text("<html></ht")
    assert state_of(watched / "out", rounded=True)["a.html"] != whole


def test_times_in_an_export_are_not_compared_and_its_facts_are(watched: Path) -> None:
    file = watched / "out" / "o" / "export.json"
    file.parent.mkdir()

    def state(**facts: object) -> object:
        file.write_text(json.dumps({"student": {"size": "small", "speed": {"student_ms": 1}} | facts}))
        return state_of(watched / "out")

    assert state() == state(speed={"student_ms": 2})
    assert state() != state(size="large")
    assert state() != state(speed={})
    before = state()
    file.write_text(file.read_text()[:-1])
    assert before != state_of(watched / "out")


def test_shares_of_the_trials_are_all_of_them() -> None:
    assert [share_of(text) for text in ("1/1", "2/3")] == [(1, 1), (2, 3)]
    for text in ("0/2", "3/2"):
        with pytest.raises(ValueError, match=text):
            share_of(text)


def test_an_even_sample_has_both_ends() -> None:
    calls = [Call("write", number, "") for number in range(101)]
    assert [call.number for call in spread(calls, 5)] == [0, 25, 50, 75, 100]
    assert spread(calls[:3], 5) == calls[:3]


def table_of(program: str) -> tuple[dict[str, list[int]], str]:
    """The numbers of each line of the table that a program prints, and all that it said."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=subprocess_environment(),
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    rows = re.findall(r"^\| (.+?) \| (\d.*) \|$", done.stdout, re.MULTILINE)
    return {name: list(map(int, numbers.split(" | "))) for name, numbers in rows}, done.stdout + done.stderr


RUN = """
import sys
from benchmarks import stress
sys.argv = ["stress", "commands", "--only", *{only!r}, "--most", "{most}", "--signals", "{signals}"]
stress.main()
"""


@pytest.mark.slow
@needs_strace
def test_commands_that_are_killed_lose_nothing() -> None:
    only = ["evaluate --out", "predict --out", "bench", "adapt"]
    table, said = table_of(RUN.format(only=only, most=6, signals=1))
    assert list(table) == only, said
    for calls, kills, signals, *wrong in table.values():
        assert calls > 15
        assert kills >= 6
        assert signals >= 3
        assert wrong == [0, 0, 0, 0], said


@pytest.mark.slow
@needs_strace
def test_an_export_with_a_kept_graph_makes_the_same_calls_and_files(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from benchmarks import killed
from benchmarks.disk_state import state_of
from benchmarks.writing_commands import COMMANDS

killer, words = killed.Killer(Path({str(tmp_path)!r})), COMMANDS["export onnx"].words
killer.prepare([COMMANDS["export onnx"]])
keep, found = killed.keep_exports, []
for keeping in (lambda *_: None, keep, keep):
    killed.keep_exports = keeping
    killer.reset(None)
    ran = killer.run(words, traced=True)
    calls = [(call.name, call.places) for call in ran.calls]
    found.append((ran.code, calls, state_of(killer.watched / "out")))
assert found[0] == found[1] == found[2], found
assert found[0][0] == 0 and len(found[0][1]) > 40, found[0]
print("the same")
"""
    assert "the same" in table_of(program)[1]


@pytest.mark.slow
@needs_strace
def test_a_demo_with_kept_embeddings_makes_the_same_calls_and_files(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from benchmarks import killed
from benchmarks.disk_state import state_of
from benchmarks.writing_commands import COMMANDS

demo = COMMANDS["demo, 64 pictures"]
killer = killed.Killer(Path({str(tmp_path)!r}))
killer.small = demo.small
killer.import_for(demo.words)  # learns the embeddings
keep, found = killed.keep_features, []
for keeping in (lambda: None, keep):
    killed.keep_features = keeping
    killer.reset(None)
    ran = killer.run(demo.words, traced=True)
    calls = [(call.name, call.places) for call in ran.calls]
    found.append((ran.code, calls, state_of(killer.watched / "out", rounded=True)))
(code, calls, files), (_, others, again) = found
assert [one for one in zip(calls, others) if one[0] != one[1]][:3] == [] and len(calls) == len(others)
assert [name for name in files if files[name] != again.get(name)] == []
assert code == 0 and len(calls) > 700, found[0]
print("the same")
"""
    assert "the same" in table_of(program)[1]


@pytest.mark.slow
@needs_strace
def test_a_command_that_writes_in_place_is_found() -> None:
    in_place = """
import contextlib
from farshot.cli import tables

@contextlib.contextmanager
def whole_file(path, check, way=""):
    check(path)
    path.write_bytes(b"")
    yield path

tables.whole_file = whole_file
"""
    table, said = table_of(in_place + RUN.format(only=["evaluate --out"], most=40, signals=0))
    lost, _, partial, _ = table["evaluate --out"][3:]
    assert lost + partial > 0, said


def test_calls_of_one_kind_differ_in_numbers_only() -> None:
    written = [
        Call("write", i, f'7</w/out/.farshot-0123456{i % 10}/{i:05}.png>, ""..., 10) = 10') for i in range(30)
    ]
    other = Call("write", 30, '7</w/out/a.csv>, ""..., 10) = 10')
    assert [call.number for call in of_each_kind([*written, other], 3)] == [0, 14, 29, 30]
    assert of_each_kind([other, *written[:2]], 3) == [other, *written[:2]]


def test_random_parts_of_names_are_not_compared() -> None:
    one, other = (
        Call("ftruncate", 3, f"8</w/out/.farshot-{ours}/.tmp{theirs}>, 4176) = 0")
        for ours, theirs in (("0123abcd", "ndemUc"), ("89ab4567", "Xy0Zab"))
    )
    assert one.like(other) and one.kind == other.kind
    assert not one.like(Call("ftruncate", 3, "8</w/out/a/.tmpndemUc>, 4176) = 0"))

"""`farshot reproduce` goes from images to the report in one command, goes on where it was killed, and says
how long it will take."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from farshot.bench.calibration import Part, Seconds, calibrate, small_pool
from farshot.bench.grid import Grid, parse_method
from farshot.bench.reproduce import RECIPES, deviations, images_needed, stages
from farshot.bench.store import Store
from farshot.data.pools import open_pool
from farshot.methods.prompt_lora import PromptLoRA
from farshot.model.find import load_encoder
from farshot.report.reproduction import FILES, write_results
from tests.bench_helpers import folder_pool, stand_ins, tiny_checkpoint
from tests.input_helpers import Farshot, everything_in, refusal, subprocess_environment
from tests.same_rows import difference
from tests.test_bench_table import fill, run_of, shares

RECIPE = Path(__file__).parent.parent / "benchmarks" / "paper-table" / "run.sh"
PROGRAM = """
from dataclasses import replace
from farshot.methods.prompt_lora import PromptLoRA
whole = PromptLoRA.recipe
PromptLoRA.recipe = lambda *a: replace(whole(*a), steps=2)
from farshot.cli.root import main
main()
"""
"""The command, with two steps of training in place of a hundred."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four pools at toy size, and a small model."""
    folder = tmp_path_factory.mktemp("reproduce")
    stand_ins(folder / "data", images=4)
    tiny_checkpoint(folder / "clip")
    return folder


def command(data: Path, place: Path, *more: str) -> list[str]:
    words = ["reproduce", "bscd", "--quick", "--data-root", str(data / "data"), "--model", str(data / "clip")]
    words += ["--tasks", "4", "--queries", "2", "--tasks-per-batch", "2", "--device", "cpu", *more]
    words += ["--cache", str(place / "cache"), "--store", str(place / "r.db"), "--out", str(place / "out")]
    return [*words, "--calibrate", "0"]


def results(store: Path) -> int:
    if not store.is_file() or not store.stat().st_size:
        return 0
    with Store(store, read_only=True) as filled:
        return int(filled.query("SELECT COUNT(*) AS n FROM results")[0]["n"])


@pytest.mark.slow
def test_the_first_answer_from_images_to_report(
    data: Path, tmp_path: Path, farshot: Farshot, monkeypatch: pytest.MonkeyPatch
):
    whole = PromptLoRA.recipe
    monkeypatch.setattr(PromptLoRA, "recipe", lambda *a: replace(whole(*a), steps=2))
    told = farshot(*command(data, tmp_path), "--estimate")
    assert told.code == 0, told.err
    assert "the first answer: " in told.err and "All that is left: " in told.err
    assert "Reading " in told.err and "isic: DIFFERS: 28 images" in told.err
    assert everything_in(tmp_path) == set()
    told = farshot(*command(data, tmp_path))
    assert told.code == 0, told.err
    assert "Over all 4 cells" in told.out and str(tmp_path / "out" / "report.html") in told.out
    assert set(FILES) == everything_in(tmp_path / "out")
    about = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert (about["complete"], about["results"], about["recipe"]) == (False, 4 * 2 * 4, "bscd")
    assert "prompt-lora" in (tmp_path / "out" / "table.txt").read_text()
    with Store(tmp_path / "r.db", read_only=True) as store:
        assert {row["seed"] for row in store.query("SELECT DISTINCT seed FROM results")} == {1000}
        before = [row["created"] for row in store.query("SELECT created FROM results ORDER BY created")]
    told = farshot(*command(data, tmp_path))
    assert told.code == 0 and "Nothing is left to compute." in told.err
    with Store(tmp_path / "r.db", read_only=True) as store:
        after = [row["created"] for row in store.query("SELECT created FROM results ORDER BY created")]
    assert after == before
    told = farshot("verify", tmp_path / "out" / "results.zip")
    assert told.code == 0 and "all 32 results of 8 runs" in told.out


def test_what_is_missing_is_named_at_once(data: Path, tmp_path: Path, farshot: Farshot):
    told = farshot(*command(data, tmp_path, "--pool-path", f"isic={tmp_path}"))
    assert told.code == 2
    assert "1 of 4 pools cannot be used (isic)" in told.err
    told = farshot("reproduce", "bscd", "--data-root", tmp_path)
    assert "4 of 4 pools cannot be used (isic, eurosat, cropdiseases, chestx)" in told.err
    assert "There is nothing called 'imagenet'" in refusal(farshot("reproduce", "imagenet"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "exists and is not a folder of farshot reproduce" in refusal(farshot(*command(data, tmp_path)))
    assert everything_in(tmp_path) == {"out", "out/mine.txt"}


def test_the_recipe_is_that_of_the_paper_table():
    text = RECIPE.read_text(encoding="utf-8")
    methods = re.search(r"METHODS:-([^}]+)}", text)
    pools = re.search(r"--pools ([a-z ]+) --shots ([\d ]+) ", text)
    assert methods and pools
    recipe = RECIPES["bscd"]
    assert tuple(methods[1].split()) == recipe.methods
    assert (tuple(pools[1].split()), tuple(map(int, pools[2].split()))) == (recipe.pools, recipe.shots)
    assert f"MODEL:-{recipe.model}" in text


def test_a_part_of_a_recipe_is_not_complete(tmp_path: Path):
    recipe = RECIPES["bscd"]
    assert deviations(recipe) == deviations(recipe, model=recipe.model, shots=[1, 5, 10]) == {}
    assert deviations(recipe, methods=["zero-shot", *recipe.methods]) == {}
    found = deviations(
        recipe, model=str(tmp_path), precision="bf16", tasks=3, queries=1, methods=["atha"], shots=[1]
    )
    rest = {"precision": "bf16", "tasks": 3, "queries": 1, "methods": ["atha"], "shots": [1]}
    assert found == {"model": tmp_path.name, **rest}
    with Store(tmp_path / "r.db") as store:
        fill(store, run_of("atha"), shares(0))
        for others in ({}, found):
            write_results(
                store, tmp_path / "out", "bscd", [], complete=True, deviations=others, published=True
            )
            about = json.loads((tmp_path / "out" / "reproduction.json").read_text())
            assert about["complete"] is (not others) and about["deviations"] == others


def test_the_whole_table_holds_the_first_answer(tmp_path: Path):
    pool = open_pool(f"p={folder_pool(tmp_path / 'p', images=21)}")
    first, whole = stages(RECIPES["bscd"], [pool])
    assert [cell.tasks for cell in first.grid.cells] == [100, 100]
    assert sorted({cell.tasks for cell in whole.grid.cells}) == [400, 800]
    assert {str(cell) for cell in first.grid.cells} <= {str(cell) for cell in whole.grid.cells}
    assert whole.comparisons == (("atha", "prompt-lora"), ("atha[variant=released]", "prompt-lora"))
    assert len(stages(RECIPES["bscd"], [pool], quick=True)) == 1


def test_only_images_of_the_tasks_are_decoded(data: Path, tmp_path: Path):
    pool = open_pool(f"p={folder_pool(tmp_path / 'p', images=40)}")
    (stage, _) = stages(RECIPES["bscd"], [pool], tasks=3, queries=2)
    needed = images_needed(stage, load_encoder(data / "clip"))
    assert list(needed["p"]) == ["squash"]
    assert 15 <= len(needed["p"]["squash"]) <= 3 * 15 < len(pool.table)


@pytest.mark.slow
def test_trials_time_what_is_left_with_a_range(data: Path, tmp_path: Path):
    pool = open_pool(f"p={folder_pool(tmp_path / 'p', classes=6, images=9)}")
    methods = [parse_method("zero-shot"), parse_method("prompt-lora[steps=8]")]
    grid = Grid([pool], [1], methods, 5, 1, 5, 2)
    few = small_pool(pool, grid)
    assert few.sizes == (7,) * 5 and set(few.ids) < set(pool.ids)
    left = [(cell, 4) for cell in grid.cells]
    encoder = load_encoder(data / "clip")
    for seconds, source in ((4, "trials"), (0, "forward passes")):
        parts = calibrate(grid, left, encoder, seconds, {}).parts(left)
        assert {part.method: part.source for part in parts} == {
            "zero-shot": source,
            "prompt-lora[steps=8]": source,
        }
        assert all(0 < part.each.low < part.each.mid < part.each.high for part in parts)
    assert [part.left for part in parts] == [4, 4]
    known = {("zero-shot", 1): Seconds(1, 2, 3), ("prompt-lora[steps=8]", 1): Seconds(4, 5, 6)}
    parts = calibrate(grid, left, encoder, 0, known).parts(left)
    assert parts[1] == Part("prompt-lora[steps=8]", 1, 4, Seconds(4, 5, 6), "the store")
    assert parts[1].total == Seconds(16, 20, 24)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_point_the_same_command_goes_on(data: Path, tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
    run(data, whole)
    store = killed / "r.db"
    points: list[tuple[str, Callable[[], bool]]] = [
        ("while images are looked over", lambda: (killed / "cache").exists()),
        ("when pixels are decoded", lambda: any((killed / "cache").glob("*/squash-*.u8"))),
        ("after the first tasks", lambda: results(store) >= 2),
        ("in the middle", lambda: results(store) >= 14),
        ("when results are written", lambda: any(killed.glob(".farshot-*"))),
    ]
    reached = sum(kill_when(data, killed, reached) for _, reached in points)
    assert reached >= 3
    run(data, killed)
    with Store(whole / "r.db", read_only=True) as one, Store(store, read_only=True) as other:
        found = difference(one, other)
    assert found.same and found.tasks == 32, str(found)
    assert set(FILES) == everything_in(killed / "out")
    # SQLite's files next to a store belong to those who read it here
    assert {path.name.partition("-")[0] for path in killed.iterdir()} == {"cache", "out", "r.db"}


def run(data: Path, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command(data, place)],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr


def kill_when(data: Path, place: Path, reached: Callable[[], bool]) -> bool:
    """Start the command and kill it as soon as a point is reached; whether it was."""
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command(data, place)],
        env=subprocess_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while running.poll() is None:
            if reached():
                running.send_signal(signal.SIGKILL)
                return running.wait() == -signal.SIGKILL
            time.sleep(0.005)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    return False

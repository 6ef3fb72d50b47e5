"""The commands as a person types them; the recipe of the paper's table runs whole at toy size."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farshot.bench.store import Store
from farshot.cli import console
from farshot.cli.bench import spread
from farshot.cli.console_bench import GridProgress, in_words
from farshot.cli.root import app
from farshot.methods.prompt_lora import PromptLoRA
from tests.bench_helpers import folder_pool, isic, picture, stand_ins, tiny_checkpoint

RECIPE = Path(__file__).parent.parent / "benchmarks" / "paper-table" / "run.sh"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def farshot(capsys, monkeypatch, tmp_path):
    """Runs a command line; gives exit code, output and errors."""
    monkeypatch.setattr(console, "out", type(console.out)(highlight=False, soft_wrap=True, width=200))
    monkeypatch.setattr(console, "err", type(console.err)(stderr=True, highlight=False, soft_wrap=True))
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farshot", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def recipe_commands() -> list[str]:
    text = RECIPE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("farshot ")]


@pytest.mark.slow
def test_the_paper_tables_commands_run_at_toy_size(farshot, tmp_path: Path, model: Path, monkeypatch) -> None:
    settings = {
        "FARSHOT_DATA": stand_ins(tmp_path / "data", images=7),
        "STORE": tmp_path / "r.db",
        "MODEL": model,
        "METHODS": "zero-shot prompt-lora atha atha[variant=released]",
        "MORE": "--device cpu --tasks 3 --queries 2",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    # the methods as in the recipe, with two steps in place of a hundred
    whole = PromptLoRA.recipe
    monkeypatch.setattr(PromptLoRA, "recipe", lambda *a: replace(whole(*a), steps=2))
    commands = recipe_commands()
    assert len(commands) == 12
    said = ""
    for command in commands:
        code, out, err = farshot(*shlex.split(os.path.expandvars(command))[1:])
        assert code == 0, (command, out, err)
        said += out + err
    assert "isic differs from the published pool: 49 images of 7 classes" in said
    assert "isic: 49 images of 7 classes; the published pool has 10015 of 7; its numbers are marked" in said
    assert "Published by others (not measured here)" in said
    assert "atha[variant=released]" in said
    assert "Over all 8 cells" in said
    with Store(tmp_path / "r.db", read_only=True) as store:
        assert len(store.runs()) == 4 * 2 * 4
        assert {row["seed"] for row in store.query("SELECT DISTINCT seed FROM results")} == {1000}


def test_every_number_of_a_command_can_follow_one_flag() -> None:
    many = {"--shots", "--pools"}
    said = spread(["--pools", "a", "b", "--tasks", "4", "--shots", "1", "5", "--report"], many)
    assert said == [
        "--pools",
        "a",
        "--pools",
        "b",
        "--tasks",
        "4",
        "--shots",
        "1",
        "--shots",
        "5",
        "--report",
    ]
    assert spread(["--pools=a", "--shots", "1"], many) == ["--pools=a", "--shots", "1"]


def test_refusals_are_one_sentence_and_exit_code_two(farshot, tmp_path: Path, model: Path) -> None:
    pool = f"p={folder_pool(tmp_path / 'p')}"
    start = ["bench", "--pools", pool, "--model", model, "--store", tmp_path / "r.db", "--methods"]
    for arguments, sentence in (
        ([*start, "zero-shot", "--seed", "1000"], "need --report"),
        ([*start, "zero-shot", "--seed", "7", "--report"], "seeds from 1000"),
        ([*start, "none-such"], "There is no method 'none-such'"),
        ([*start, "zero-shot", "--tasks", "2"], "the smallest has 8"),
        ([*start, "zero-shot", "--pool-path", "x"], "--pool-path takes NAME=PATH"),
        (["table", "--store", tmp_path / "nothing.db"], "There is no store"),
        (["data", "prepare", "mini-crops"], "nothing to prepare"),
    ):
        code, _, err = farshot(*arguments)
        assert code == console.EXIT_REFUSED, arguments
        assert sentence in err and "Traceback" not in err, err
    assert farshot("bench", "--nonsense")[0] == 2


def test_ctrl_c_says_that_the_same_command_goes_on(farshot, tmp_path: Path, model: Path, monkeypatch) -> None:
    def stop(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("farshot.bench.worker.run_tasks", stop)
    pool = f"p={folder_pool(tmp_path / 'p')}"
    code, _, err = farshot(
        *("bench", "--pools", pool, "--model", model, "--store", tmp_path / "r.db", "--methods", "zero-shot"),
        *("--shots", "1", "--queries", "2"),
    )
    assert code == console.EXIT_INTERRUPTED
    assert "the same command goes on" in err


def test_a_small_grid_from_the_command_line(farshot, tmp_path: Path, model: Path) -> None:
    pool = folder_pool(tmp_path / "p", images=6)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"kind {c}: word {c}" for c in range(5)))
    arguments = ["bench", "--pools", f"p={pool}", "--class-names", f"p={names}", "--shots", "1", "2"]
    arguments += ["--methods", "zero-shot", "zero-shot[scale=5]", "--tasks", "3", "--queries", "2"]
    code, _, err = farshot(*arguments, "--model", model, "--store", tmp_path / "r.db")
    assert code == 0, err
    assert "p, 2 shots, zero-shot[scale=5.0]:" in err
    code, out, _ = farshot("store", "list", tmp_path / "r.db")
    assert code == 0 and out.count("zero-shot") == 4
    with Store(tmp_path / "r.db", read_only=True) as store:
        assert next(iter(store.runs().values())).class_names[0] == "word 0"
    assert farshot("store", "export", tmp_path / "r.db", tmp_path / "r.jsonl")[0] == 0
    assert len((tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()) == 12
    code, out, _ = farshot("table", "--store", tmp_path / "r.db", "--format", "markdown")
    assert code == 0 and "| zero-shot[scale=5.0] |" in out


def test_check_lists_findings_and_refuses(farshot, tmp_path: Path) -> None:
    path = isic(tmp_path / "isic", images=3)
    code, out, _ = farshot("data", "check", "isic", path)
    assert code == 0 and "DIFFERS: 21 images of 7 classes" in out
    picture(path / "ISIC2018_Task3_Training_Input" / "extra.jpg", 1)
    next((path / "ISIC2018_Task3_Training_Input").glob("ISIC*.jpg")).unlink()
    code, out, _ = farshot("data", "check", "isic", path)
    assert code == 2 and "WRONG: 1 of 21 images listed" in out and "is refused until" in out
    code, out, _ = farshot("data", "list", "--data-root", tmp_path)
    assert code == 0 and str(tmp_path / "isic") in out and "mini-xray" in out


def test_time_left_is_for_the_whole_grid() -> None:
    now = [0.0]
    progress = GridProgress(clock=lambda: now[0])
    progress.begin(1000.0, 400.0)
    assert progress.time_left() == ""
    now[0] = 30.0
    progress.stored(100.0)  # 100 of 600 in 30 s
    assert progress.time_left() == "2 min"
    assert progress.time_left(work=100.0) == "1 min"
    assert [in_words(s) for s in (0.2, 59, 61, 3600, 12_000)] == [
        "1 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "3 h 20 min",
    ]

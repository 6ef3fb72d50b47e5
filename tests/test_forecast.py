"""How long adapting will take, and what `--minutes` does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from farshot import load
from farshot.choose import compare_two
from farshot.cli import adapt as command
from farshot.training import forecast
from farshot.training.forecast import Forecast, TooLong, peak_memory, spoken
from tests.input_helpers import Farshot
from tests.toy import as_folder, world_table

TABLE = world_table(count=100, classes=("highway", "orchard", "river"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: now[0])
    return now


def test_the_first_step_is_not_what_all_take(clock: list[float]):
    told: list[float] = []
    seen: list[tuple[int, int]] = []
    job = Forecast(lambda done, total: seen.append((done, total)), told=told.append)
    for step, at in enumerate((10.0, 12.0, 14.0, 16.0), start=1):
        clock[0] = at
        job(step, 100)
    assert told == [10 + 99 * 2]
    assert seen == [(step, 100) for step in range(1, 5)]


def test_a_job_that_takes_too_long_is_stopped(clock: list[float]):
    job = Forecast(seconds=100)
    for step in (1, 2):
        clock[0] += 2
        job(step, 100)
    clock[0] += 2
    with pytest.raises(TooLong, match="about 3 min") as error:
        job(3, 100)
    assert error.value.seconds == 200
    clock[0] = 0
    short = Forecast(seconds=100)
    for step in range(1, 11):
        clock[0] += 2
        short(step, 10)


def test_steps_that_count_more_are_no_fewer_timed(clock: list[float]):
    told: list[float] = []
    job = Forecast(told=told.append)
    for done, at in ((5, 10.0), (10, 12.0), (15, 16.0), (20, 20.0)):
        clock[0] = at
        job(done, 100)
    assert told == [16 + 85 * 6 / 10]


def test_times_are_spoken_with_their_unit():
    assert [spoken(s) for s in (3.2, 89, 95, 5300, 6480)] == ["3 s", "89 s", "2 min", "88 min", "1.8 h"]
    assert (peak_memory() or 0) > 50 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return as_folder(TABLE, tmp_path / "images", range(30))


def test_without_a_method_the_fast_one_is_taken_and_the_other_named(
    farshot: Farshot, folder: Path, tmp_path: Path
):
    told = farshot("adapt", folder, "--out", tmp_path / "m", "--model", "mini")
    assert told.code == 0, told.err
    assert "--minutes 30 also tries atha" in told.err
    assert load(tmp_path / "m").method == "linear-probe"


@pytest.mark.parametrize(
    ("fast", "thorough", "kept"), [("zero-shot", "linear-probe", 1), ("linear-probe", "zero-shot", 0)]
)
def test_with_time_both_are_compared_and_the_better_is_kept(
    fast: str,
    thorough: str,
    kept: int,
    farshot: Farshot,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(command, "FAST", fast)
    monkeypatch.setattr(command, "THOROUGH", thorough)
    wrong = tmp_path / "names.txt"  # names that say nothing, so that zero-shot is no better than chance
    wrong.write_text("highway: apple\norchard: bicycle\nriver: guitar\n")
    told = farshot(
        "adapt", folder, "--out", tmp_path / "m", "--model", "mini", "--minutes", 5, "--class-names", wrong
    )
    assert told.code == 0, told.err
    assert f"{thorough} minus {fast}, cross-validated on the same images: " in told.out
    made = load(tmp_path / "m")
    assert made.method == (fast, thorough)[kept]
    assert made.estimate_ is not None
    assert made.calibrated_


@pytest.mark.slow
def test_no_time_keeps_the_fast_one_or_refuses_what_was_asked_for(
    farshot: Farshot, folder: Path, tmp_path: Path
):
    told = farshot(
        "adapt", folder, "--out", tmp_path / "m", "--model", "mini", "--minutes", 0.001, "--shots", 2
    )
    assert told.code == 0, told.err
    assert "linear-probe is kept: atha would take about" in told.out
    assert load(tmp_path / "m").method == "linear-probe"
    told = farshot(
        "adapt",
        folder,
        "--out",
        tmp_path / "n",
        "--model",
        "mini",
        "--minutes",
        0.001,
        "--method",
        "atha",
        "--shots",
        2,
    )
    assert told.code == 2
    assert "longer than --minutes 0.001" in told.err
    assert not (tmp_path / "n").exists()


def test_only_predictions_for_the_same_images_are_compared():
    from farshot import FewShotClassifier

    a, b = FewShotClassifier("mini", "prototypes"), FewShotClassifier("mini", "zero-shot")
    found = compare_two(a.held_out(TABLE), b.held_out(TABLE))
    assert found.difference.low < found.difference.mean < found.difference.high
    with pytest.raises(ValueError, match="other images"):
        compare_two(a.held_out(TABLE), b.held_out(TABLE.subset(range(40))))

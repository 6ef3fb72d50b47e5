"""The verdict of docs/does-atha-work.md, and pages that several commands write."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.atha_verdict import BASES, Kind, corrected, read, specs, text, verdict
from benchmarks.page_parts import replace_part

from farshot.bench.compare import CellComparison
from farshot.bench.results import Calibration, Column
from farshot.bench.store import Store
from farshot.evaluation.intervals import mean_interval, over_cells, paired_difference
from farshot.methods import create
from tests.test_bench_table import fill, run_of, shares

RECIPE = "steps=1,views=none"


def cell(pool: str, gain: float, seed: int, tasks: int = 100, shots: int = 1) -> CellComparison:
    """ATHA better by a gain, with noise of mean zero."""
    drawn = np.random.default_rng(seed)
    base = drawn.uniform(0.4, 0.6, tasks)
    noise = drawn.normal(0, 0.02, tasks)
    atha = base + gain + noise - noise.mean()
    none = Calibration(0.0, 0.0, ())
    parts = (mean_interval(atha), mean_interval(base), none, none, paired_difference(atha, base), 1.0, 1.0)
    return CellComparison(Column(pool, pool, pool, ()), shots, *parts, "fine-tuned", "fine-tuned")


def measured(*gains: float) -> dict[Kind, list[CellComparison]]:
    """One base after another, three pools each."""
    return {
        Kind(base, "paper", 1): [cell(f"pool {k}", gain, 10 * i + k) for k in range(3)]
        for i, (base, gain) in enumerate(zip(BASES, gains, strict=False))
    }


@pytest.mark.parametrize(
    ("gains", "begins", "counts"),
    [
        ((0.0, 0.0), "**ATHA does not gain here**, and", "surely gains in 0 and surely loses in 0 of 6"),
        ((0.05, 0.0), "**ATHA gains**, on prompt-lora, paper, 1 shot.", "gains in 3 and surely loses in 0"),
        (
            (0.0, -0.05),
            "**ATHA does not gain here, and loses** on clip-lora",
            "gains in 0 and surely loses in 3",
        ),
        ((0.05, -0.05), "**It depends.** ATHA gains on prompt-lora", "gains in 3 and surely loses in 3"),
    ],
)
def test_the_verdict_says_what_the_numbers_say(gains: tuple[float, ...], begins: str, counts: str) -> None:
    said = verdict(corrected(measured(*gains)))
    assert said.startswith(begins)
    assert counts in said


def test_too_little_is_said_to_be_too_little() -> None:
    few = {Kind("vtt", "paper", 1): [cell("a pool", 0.05, 0), cell("other", 0.05, 1)]}
    assert verdict(corrected(few)).startswith("**Nothing can be said yet**")
    short = {Kind("vtt", "paper", 1): [cell(f"{k}", 0.05, k, tasks=99) for k in range(3)]}
    assert verdict(corrected(short)).startswith("**Provisional**, as some cells")
    both = text(corrected(measured(0.0) | few), 60, "command")
    assert "| vtt | paper | 1 | a pool |" in both and "| vtt | paper | 1 | 2 |" not in both


def test_p_values_are_corrected_for_all_comparisons_and_all_means() -> None:
    def by_hand(raw: list[float]) -> list[float]:
        ranked = sorted(raw)
        return [min(1, max((len(raw) - k) * q for k, q in enumerate(ranked) if q <= p)) for p in raw]

    found = measured(0.01, 0.005, 0.0)
    tables = corrected(found)
    raw = [one.difference.t_p for cells in found.values() for one in cells]
    means = [over_cells([one.difference for one in cells]) for cells in found.values()]
    assert [p for one in tables.values() for p in one.p] == pytest.approx(by_hand(raw))
    expected = by_hand([p for _, p in means])
    assert [one.mean_p for one in tables.values()] == pytest.approx(expected)
    assert [one.mean for one in tables.values()] == [interval for interval, _ in means]


def test_the_page_lists_every_cell() -> None:
    page = text(corrected(measured(0.01, 0.0)), 7200, "command")
    assert "2.0 hours" in page
    rows = [line for line in page.splitlines() if line.startswith("| prompt-lora")]
    assert len(rows) == 1 + 3
    assert rows[0].startswith("| prompt-lora | paper | 1 | 3 | 100 | +")


@pytest.mark.parametrize("base", BASES)
def test_specs_are_settings_of_the_base(base: str) -> None:
    plain, atha = specs(base, "released", RECIPE)
    assert ("views" in plain) == ("views" in create(base).settings())
    assert atha.startswith(f"atha[base={base},variant=released,steps=1")


def test_comparisons_are_read_from_stores(tmp_path: Path) -> None:
    a, b = shares(1, mean=0.7), shares(2)
    for name, variant in (("one.db", "paper"), ("two.db", "released")):
        plain, atha = specs("prompt-lora", variant, RECIPE)
        with Store(tmp_path / name) as store:
            fill(store, run_of(plain), b)
            fill(store, run_of(atha), a)
    found, seconds = read([tmp_path / "one.db", tmp_path / "two.db"], RECIPE)
    assert list(found) == [Kind("prompt-lora", "paper", 1), Kind("prompt-lora", "released", 1)]
    for cells in found.values():
        assert [one.difference.mean for one in cells] == pytest.approx([(a - b).mean()])
    assert seconds == 4 * len(a)  # one second each


def test_a_part_of_a_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    replace_part(page, "one", "first")
    replace_part(page, "two", "second")
    before = page.read_text()
    replace_part(page, "one", "other\n")
    assert page.read_text() == before.replace("first", "other")
    assert page.read_text().startswith("# Title\n\n<!-- part: one -->\n\nother\n\n<!-- end: one -->\n")

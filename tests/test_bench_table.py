"""Comparisons are scipy's numbers; tables say what is compared with what, and whose numbers they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from farshot.bench.compare import compare, comparison_block
from farshot.bench.export import runs_block
from farshot.bench.imbalance import Imbalance
from farshot.bench.records import Episode, Result, Run
from farshot.bench.render import FORMATS, Block, number, render, signed
from farshot.bench.results import Calibrations, read_groups
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.bench.tasks import Shape
from farshot.data.bscd import CHESTX, EUROSAT, ISIC
from farshot.errors import DataError, SettingError
from farshot.methods import create
from farshot.report.benchmark import store_report
from farshot.report.commands import bench_commands
from farshot.report.figure import draw_results
from farshot.report.verdict import verdict
from tests.input_helpers import Farshot, everything_in, picture, refusal

POOLS = ("eurosat", "isic", "chestx", "cropdiseases")


def run_of(spec: str, pool: str = "isic", shots: int = 1, **more) -> Run:
    name, _, settings = spec.partition("[")
    method = create(name, dict(pair.split("=") for pair in settings.rstrip("]").split(",") if pair))
    values = {
        "method": name,
        "revision": method.revision,
        "settings": method.settings(),
        "precision": "float32",
        "model_fingerprint": "0123456789",
        "pool": pool,
        "pool_fingerprint": f"images of {pool}",
        "class_names": ("a", "b"),
        "template": "a photo of a {}.",
        "shape": Shape(2, shots, 10),
        "label": spec,
        "kind": method.kind,
        "model": "a/clip",
    }
    return Run(**(values | more))


def fill(store: Store, run: Run, accuracy: np.ndarray, seed: int = 1) -> None:
    """Tasks of 20 queries with these shares right, all at confidence 0.8."""
    labels = np.repeat([0, 1], 10).astype(np.uint8)
    results, episodes = [], []
    for i, share in enumerate(accuracy):
        predictions = labels.copy()
        wrong = 20 - round(20 * float(share))
        predictions[:wrong] = 1 - predictions[:wrong]
        probabilities = np.where(np.arange(2) == predictions[:, None], 0.8, 0.2).astype(np.float16)
        mean = float((predictions == labels).mean())
        results.append(Result(i, predictions, probabilities, mean, None, 1.0, 1, 1, "cpu"))
        episodes.append(Episode(seed, i, ("a", "b"), ("a", "b"), tuple(map(str, range(20))), labels))
    store.record(store.run_id(run), seed, results, episodes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "r.db") as made:
        yield made


def shares(key: int, tasks: int = 40, mean: float = 0.6) -> np.ndarray:
    return np.random.default_rng(key).binomial(20, mean, tasks) / 20


def test_a_comparison_is_what_scipy_says(store: Store) -> None:
    a = {pool: shares(i, mean=0.65) for i, pool in enumerate(POOLS)}
    b = {pool: shares(10 + i) for i, pool in enumerate(POOLS)}
    for pool in POOLS:
        fill(store, run_of("atha", pool), a[pool])
        fill(store, run_of("prompt-lora", pool), b[pool][:35])  # five tasks are not common
    ((group, cells),) = compare(store, "atha", "prompt-lora").items()
    assert [cell.pool for cell in cells] == ["isic", "eurosat", "cropdiseases", "chestx"]
    p_values = []
    for cell in cells:
        x, y = a[cell.pool][:35], b[cell.pool][:35]
        test = stats.ttest_rel(x, y)
        low, high = test.confidence_interval(0.95)
        found = cell.difference
        assert found.n == 35
        assert (found.mean, found.low, found.high) == pytest.approx(((x - y).mean(), low, high))
        assert found.t_p == pytest.approx(test.pvalue)
        wins, losses = int((x > y).sum()), int((x < y).sum())
        assert found.sign_p == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)
        p_values.append(test.pvalue)
        boot = stats.bootstrap((x - y,), np.mean, method="percentile", rng=np.random.default_rng(1))
        assert found.bootstrap_low == pytest.approx(boot.confidence_interval.low, abs=0.005)
        # at confidence 0.8, calibration is the gap to the accuracy, and the likelihood follows from it
        right = x.mean()
        assert cell.a_calibration.error == pytest.approx(abs(0.8 - right), abs=1e-3)
        assert cell.a_calibration.nll == pytest.approx(
            -right * np.log(0.8) - (1 - right) * np.log(0.2), abs=1e-3
        )
    order = np.argsort(p_values)
    corrected = np.minimum(1, np.maximum.accumulate(np.array(p_values)[order] * np.arange(4, 0, -1)))
    assert [cells[i].t_holm for i in order] == pytest.approx(corrected.tolist())
    words = render([comparison_block(group, cells, "atha", "prompt-lora")], "text")
    assert "tasks for +-0.5" in words and "smallest found" in words and "Over all 4 cells" in words


def test_equal_differences_give_no_interval(store: Store) -> None:
    fill(store, run_of("atha"), np.array([0.9, 0.8, 0.7]))
    fill(store, run_of("prompt-lora"), np.array([0.8, 0.7, 0.6]))
    ((group, cells),) = compare(store, "atha", "prompt-lora").items()
    block = comparison_block(group, cells, "atha", "prompt-lora")
    row = dict(zip(block.header, block.sections[0][1][0], strict=True))
    assert row["A - B"] == "+10.00" and row["p t"] == row["p sign"] == "0.25"
    for name in ("t 95 %", "bootstrap 95 %", "smallest found", "tasks to find 0.5", "tasks for +-0.5"):
        assert row[name] == "-"
    (record,) = block.records
    assert record["difference"] == pytest.approx(10)
    for key in ("low", "high", "bootstrap_low", "bootstrap_high", "smallest_found"):
        assert record[key] is None
    words = " ".join(block.notes)
    assert "+10.00 points." in words and "all tasks differ by as much" in words
    found = verdict(read_groups(store)[group])
    assert found is not None and "all tasks differ by as much" in " ".join(found.sentences)
    assert "0.0 to" not in " ".join(found.sentences)


def test_a_probability_of_zero_does_not_make_the_loss_infinite(store: Store) -> None:
    run = store.run_id(run_of("atha"))
    sure = np.array([[1.0, 0.0]] * 2, np.float16)
    result = Result(0, np.zeros(2, np.uint8), sure, 0.5, None, 1.0, 1, 1, "cpu")
    labels = np.array([0, 1], np.uint8)
    store.record(run, 1, [result], [Episode(1, 0, ("a", "b"), ("a", "b"), ("c", "d"), labels)])
    found = Calibrations(store).of(run, [(1, 0)])
    assert found.nll == pytest.approx(-np.log(2.0**-24) / 2, rel=1e-3)
    assert found.error == pytest.approx(0.5)


def test_what_cannot_be_compared_is_refused(store: Store) -> None:
    fill(store, run_of("atha"), shares(0))
    with pytest.raises(SettingError, match="no results of prompt-lora; it has: atha"):
        compare(store, "atha", "prompt-lora")
    fill(store, run_of("prompt-lora", class_names=("A", "B")), shares(1))
    with pytest.raises(SettingError, match="fewer than 3 tasks of a cell that both"):
        compare(store, "atha", "prompt-lora")
    fill(store, run_of("prompt-lora"), shares(1), seed=1000)
    with pytest.raises(SettingError, match="fewer than 3 tasks of a cell that both"):
        compare(store, "atha", "prompt-lora")
    with pytest.raises(SettingError, match="same method"):
        compare(store, "atha", "atha[rho=0.1]")


def test_the_revision_of_a_method_is_that_of_its_base(store: Store) -> None:
    """`atha` has the revision of its base method, which is not the one of its class."""
    extended = run_of("atha[base=coop]", revision=create("atha", {"base": "coop"}).revision)
    before = replace(extended, revision=extended.revision - 1)
    fill(store, before, shares(0, mean=0.2))
    fill(store, run_of("coop"), shares(1))
    name = re.escape(extended.label)
    message = rf"no results of {name} \(revision 2\); it has: {name} \(revision 1\), coop"
    with pytest.raises(SettingError, match=message):
        compare(store, "atha[base=coop]", "coop")
    fill(store, extended, shares(2, mean=0.9))
    ((_, (cell,)),) = compare(store, "atha[base=coop]", "coop").items()
    assert cell.difference.mean == pytest.approx(float((shares(2, mean=0.9) - shares(1)).mean()))


def test_published_numbers_are_only_in_tables_of_their_tasks(store: Store) -> None:
    for shape in (
        Shape(5, 1, 15),
        Shape(3, 1, 15),
        Shape(5, 1, 10),
        Shape(5, 2, 15, Imbalance("long-tail", 4000)),
    ):
        fill(store, run_of("atha", "eurosat", shape=shape), shares(0))
    blocks = table_blocks(store, with_published=True)
    with_others = [block for block in blocks if len(block.sections) > 1]
    assert len(blocks) == 4 and len(with_others) == 1
    assert "5-way" in with_others[0].title
    rows = [record for block in blocks for record in block.records if record["source"] == "published"]
    assert rows and {(row["model"], row["fingerprint"], row["ways"]) for row in rows} == {
        ("CLIP ViT-B/16", "", 5)
    }


def test_different_models_and_seeds_never_share_a_table(store: Store) -> None:
    fill(store, run_of("atha"), shares(0))
    fill(store, run_of("zero-shot"), shares(1))
    fill(store, run_of("zero-shot", model_fingerprint="9876543210"), shares(2))
    fill(store, run_of("zero-shot", precision="bf16"), shares(2))
    fill(store, run_of("zero-shot"), shares(3), seed=1000)
    groups = read_groups(store)
    assert sorted(len(entries) for entries in groups.values()) == [1, 1, 1, 2]
    assert len(table_blocks(store)) == 4
    assert len({block.title for block in table_blocks(store)}) == 4


def test_a_table_has_the_papers_layout(store: Store) -> None:
    with pytest.raises(DataError, match="no results yet"):
        table_blocks(store)
    for shots in (1, 5):
        for i, pool in enumerate(POOLS):
            shape = Shape(5, shots, 15)
            fill(store, run_of("atha", pool, shots, shape=shape), shares(i))
            tasks = 30 if i == 3 else 40
            fill(store, run_of("zero-shot", pool, shots, shape=shape), shares(i + 10, tasks=tasks))
    one, five = table_blocks(store, with_published=True)
    assert one.title.startswith("1 shot: a/clip") and five.title.startswith("5 shots")
    assert list(one.header) == ["method", "isic", "eurosat", "cropdiseases", "chestx", "average"]
    (measured, rows), (others, published) = one.sections
    assert measured == "Measured" and others == "Published by others (not measured here), with CLIP ViT-B/16"
    assert rows[0][0] == "atha"
    mean = 100 * shares(1).mean()  # isic
    assert rows[0][1].startswith(f"{mean:.2f} +- ")
    assert rows[1][3].endswith("‡") and any("fewer tasks" in note for note in one.notes)
    expected = np.mean([100 * shares(i).mean() for i in range(4)])
    assert rows[0][5].startswith(f"{expected:.2f} +- ")
    assert next(r for r in published if r[0] == "StepSPT")[1:] == [
        "32.97",
        "70.01",
        "84.84",
        "22.84",
        "52.68",
    ]
    assert "StepSPT" not in [row[0] for row in five.sections[1][1]]
    assert any("not measured here" in note for note in one.notes)
    assert "Other class names than those of the published pool: isic, eurosat, chestx." in one.notes


def test_own_class_names_of_published_pools_are_not_called_others(store: Store) -> None:
    names = {"isic": tuple(ISIC.values()), "chestx": CHESTX, "eurosat": (*list(EUROSAT.values())[1:], "farm")}
    for pool, words in names.items():
        fill(store, run_of("atha", pool, shape=Shape(5, 1, 15), class_names=words), shares(0))
    (block,) = table_blocks(store, with_published=True)
    assert [note for note in block.notes if "Other class" in note] == [
        "Other class names than those of the published pool: eurosat."
    ]


def test_transductive_methods_stand_in_a_section_of_their_own(store: Store) -> None:
    fill(store, run_of("zero-shot"), shares(0))
    fill(store, run_of("zero-shot[scale=3]", kind="transductive"), shares(1))
    (block,) = table_blocks(store)
    assert [heading for heading, _ in block.sections] == [
        "Measured",
        "Transductive: sees all queries of a task together",
    ]
    for form in set(FORMATS) - {"csv"}:
        words = render([block], form)
        assert words.index("Measured") < words.index("Transductive: sees all") < words.rindex("zero-shot")


def test_a_transductive_method_is_marked_wherever_it_stands_beside_others(store: Store) -> None:
    fill(store, run_of("transclip"), shares(1))
    fill(store, run_of("zero-shot"), shares(0))
    ((group, cells),) = compare(store, "transclip", "zero-shot").items()
    block = comparison_block(group, cells, "transclip", "zero-shot")
    assert block.header[3:5] == ["A: transclip (transductive)", "B: zero-shot"]
    assert "sees all queries of a task together" in block.notes[-1]
    assert [row[3] for row in runs_block(store).sections[0][1]] == ["transclip (transductive)", "zero-shot"]
    name = "transclip (revision 2) (transductive)"  # as in the table
    (told,) = store_report(store)["groups"]
    assert told["baseline"] == "zero-shot"
    assert [one["name"] for one in told["comparisons"]] == [name]
    assert [row["name"] for row in told["times"]] == ["zero-shot", name]
    (chart,) = told["calibration"]
    assert [row["name"] for row in chart["rows"]] == ["zero-shot", name]
    fill(store, run_of("prototypes"), shares(2))
    ((group, cells),) = compare(store, "zero-shot", "prototypes").items()
    plain = comparison_block(group, cells, "zero-shot", "prototypes")
    assert not any("transductive" in words for words in (*plain.header, *plain.notes))


def test_reported_settings_without_development_are_marked(store: Store) -> None:
    fill(store, run_of("atha[rho=0.2]"), shares(0), seed=1000)
    fill(store, run_of("atha"), shares(0), seed=1000)
    rows = {row[0]: row[1] for _, section in table_blocks(store)[0].sections for row in section}
    assert rows["atha[rho=0.2]"].endswith("†") and not rows["atha"].endswith("†")
    fill(store, run_of("atha[rho=0.2]"), shares(0), seed=7)  # too late: the reporting tasks were seen
    assert any("†" in render([block], "text") for block in table_blocks(store))
    fill(store, run_of("atha[rho=0.3]", shots=5), shares(0), seed=7)
    fill(store, run_of("atha[rho=0.3]"), shares(0), seed=1000)
    block = next(block for block in table_blocks(store) if "reporting" in block.title)
    rows = {row[0]: row[1] for _, section in block.sections for row in section}
    assert not rows["atha[rho=0.3]"].endswith("†")


def test_pools_that_are_not_the_published_ones_are_marked(store: Store) -> None:
    fill(store, run_of("atha", notes=("toy",)), shares(0))
    fill(store, run_of("atha", pool_fingerprint="another copy"), shares(1))
    (block,) = table_blocks(store)
    assert list(block.header) == ["method", "isic", "isic (2)", "average"]
    assert block.sections[0][1][0][1].endswith("*")
    assert not block.sections[0][1][0][2].endswith("*")


def test_one_pool_under_two_class_names_counts_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for names in (("a", "b"), ("a", "spots of b")):
        fill(store, run_of("prototypes", class_names=names), shares(1, mean=0.9))
        fill(store, run_of("zero-shot", class_names=names), shares(2))
    (block,) = table_blocks(store)
    assert list(block.header) == ["method", "isic", "isic (2)", "average"]
    assert [row[-1] for row in block.sections[0][1]] == ["-", "-"]
    same = "isic and isic (2) are the same tasks with other class names ('b' or 'spots of b')"
    assert f"{same}, so there is no average." in block.notes
    ((group, cells),) = compare(store, "prototypes", "zero-shot").items()
    notes = comparison_block(group, cells, "prototypes", "zero-shot").notes
    assert f"{same}, so there is no mean over all cells." in notes
    assert not any("Over all" in note for note in notes)
    ((entries),) = read_groups(store).values()
    found = verdict(entries)
    assert found is not None and (found.cells, found.tasks) == (1, 40)
    told = "isic (2) does not count: it is the same tasks as isic with other class names."
    assert found.sentences[-1].striptags() == told
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_results(read_groups(store), tmp_path / "f.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["isic", "isic (2)"]


def test_versions_of_a_pool_count_once(store: Store, tmp_path: Path) -> None:
    """As a folder before and after images were added: most of the pictures are the same."""
    for version in ("before", "after"):
        fill(store, run_of("prototypes", "mine", pool_fingerprint=version), shares(1, mean=0.9))
        fill(store, run_of("zero-shot", "mine", pool_fingerprint=version), shares(2))
    (block,) = table_blocks(store)
    assert [row[-1] for row in block.sections[0][1]] == ["-", "-"]
    same = "mine and mine (2) are versions of one pool with different images"
    assert f"{same}, so there is no average." in block.notes
    ((group, cells),) = compare(store, "prototypes", "zero-shot").items()
    notes = comparison_block(group, cells, "prototypes", "zero-shot").notes
    assert f"{same}, so there is no mean over all cells." in notes
    assert not any("Over all" in note for note in notes)
    (entries,) = read_groups(store).values()
    found = verdict(entries)
    assert found is not None and (found.cells, found.tasks) == (1, 40)
    assert "mine (2) does not count: it and mine are versions" in found.sentences[-1].striptags()
    assert not any("--descriptions" in line for line in bench_commands(entries))
    draw_results(read_groups(store), tmp_path / "f.svg")
    assert "average" not in (tmp_path / "f.svg").read_text(encoding="utf-8")


def test_methods_of_other_tasks_are_marked_and_not_ranked(
    farshot: Farshot, store: Store, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    same = "Every method met the same tasks"
    for key, method in enumerate(("zero-shot", "prototypes")):
        fill(store, run_of(method), shares(key))
    assert farshot("report", tmp_path / "r.db", "--out", page).code == 0
    assert same in page.read_text(encoding="utf-8")
    fill(store, run_of("lp++"), shares(3), seed=2)
    fill(store, run_of("atha"), shares(4, tasks=39))
    (block,) = table_blocks(store)
    assert [row[1][-1] in "‡§" and row[1][-1] for row in block.sections[0][1]] == [False, False, "§", "‡"]
    assert [row["other_tasks"] for row in block.records] == [0, 0, 1, 0]
    assert [row["fewer_tasks"] for row in block.records] == [0, 0, 0, 1]
    assert any(note.startswith("§ other tasks") for note in block.notes)
    assert "§" not in render([block], "latex").split("bottomrule")[0]
    (entries,) = read_groups(store).values()
    found = verdict(entries)
    assert found is not None and found.left_out == ("lp++",) and len(found.rivals) == 2 and found.tasks == 39
    said = " ".join(found.sentences)
    assert "39 tasks that all ranked methods have done" in said
    assert "Not ranked, since they lack some of these pools, shots or tasks: " in said
    assert farshot("report", tmp_path / "r.db", "--out", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert same not in text and "no task in common" not in text


def test_methods_are_ranked_where_two_share_a_pool_and_a_third_none(store: Store) -> None:
    for key, method in enumerate(("zero-shot", "prototypes")):
        fill(store, run_of(method), shares(key))
    fill(store, run_of("lp++", "eurosat"), shares(3))
    (entries,) = read_groups(store).values()
    found = verdict(entries)
    assert found is not None and found.left_out == ("lp++",) and found.tasks == 40


def test_the_list_of_runs_keeps_seeds_revisions_and_shapes_apart(store: Store) -> None:
    fill(store, run_of("atha"), np.array([0.5, 0.6, 0.7]))
    fill(store, run_of("atha"), np.array([0.9, 0.8, 1.0, 0.9]), seed=1000)
    block = runs_block(store)
    assert block.header[4:] == ["model", "precision", "seeds", "tasks", "accuracy"]
    rows = block.sections[0][1]
    half = 196 * np.std([0.9, 0.8, 1.0, 0.9], ddof=1) / 2
    assert [list(row[-3:]) for row in rows] == [
        ["development 1", "3", f"60.00 +- {196 * 0.1 / np.sqrt(3):.2f}"],
        ["reporting 1000", "4", f"90.00 +- {half:.2f}"],
    ]
    fill(store, run_of("atha", revision=9), shares(1))
    fill(store, run_of("atha", shape=Shape(2, 1, 5)), np.array([]))
    block = runs_block(store)
    assert list(block.header[4:6]) == ["revision", "queries"]
    assert [list(row[4:6]) for row in block.sections[0][1]][-2:] == [["9", "10"], ["1", "5"]]


def test_older_settings_of_one_name_are_another_row(store: Store) -> None:
    old = run_of("atha")
    fill(store, replace(old, settings=old.settings | {"steps": 50}), shares(0))
    fill(store, old, shares(1))
    fill(store, replace(run_of("zero-shot"), label="zero-shot[reading=views]"), shares(1))
    (block,) = table_blocks(store)
    assert [row[0] for row in block.sections[0][1]] == ["atha[steps=50]", "atha", "zero-shot"]
    ((_, (cell,)),) = compare(store, "atha", "zero-shot").items()
    assert cell.difference.mean == 0
    for settings in ({"steps": 50}, {"steps": 60}):  # the defaults of another revision are not known
        fill(store, replace(old, revision=9, settings=old.settings | settings), shares(0))
    rows = [row[0] for row in table_blocks(store)[0].sections[0][1]]
    assert rows[2:] == ["zero-shot", "atha (revision 9)", "atha (revision 9), settings 2"]


def test_every_format_holds_the_same_cells() -> None:
    block = Block("T", ["m", "a_b"], [("One & two", [["x|y[z=1]", "1.00 +- 0.10†"]])], ["note", "* n"])
    assert render([block], "text").splitlines()[3:] == [
        "",
        "One & two",
        "x|y[z=1]  1.00 +- 0.10†",
        "",
        "note",
        "* n",
    ]
    assert r"| x\|y[z=1] | 1.00 +- 0.10† |" in render([block], "markdown")
    assert "\nnote  \n\\* n  \n" in render([block], "markdown")  # not an item of a list
    latex = render([block], "latex")
    assert r"a\_b" in latex and r"1.00 $\pm$ 0.10$^\dagger$ \\" in latex and r"One \& two" in latex
    with pytest.raises(SettingError, match="text, markdown, latex, csv"):
        render([block], "html")


def test_numbers_in_words() -> None:
    assert [number(x) for x in (1.005, float("nan"), float("inf"))] == ["1.00", "-", "inf"]
    assert [signed(x) for x in (1.0, -1.0, 0.0, float("nan"))] == ["+1.00", "-1.00", "+0.00", "-"]


def test_a_figure_has_a_line_per_method_and_panels_for_pools_and_average(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shots in (1, 5):
        for key, pool in enumerate(POOLS[:2]):
            fill(store, run_of("zero-shot", pool, shots), shares(key + shots))
            fill(store, run_of("atha", pool, shots), shares(9 + key + shots, mean=0.7))
    fill(store, run_of("lp++", POOLS[0], 1), shares(3))  # on one pool: not in the average
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    groups = read_groups(store)
    draw_results(groups, tmp_path / "f.png")
    (figure,) = drawn
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["isic", "eurosat", "average of 2 pools"]
    (entries,) = groups.values()
    for name, axes in panels.items():
        for line, method in zip(axes.containers, ("zero-shot", "atha"), strict=False):
            pools = [name] if name in POOLS else POOLS[:2]
            mine = [one for one in entries if one.run.method == method and one.column.name in pools]
            expected = [
                100 * np.mean([one.score.mean for one in mine if one.run.shape.shots == shots])
                for shots in (1, 5)
            ]
            assert line.lines[0].get_ydata() == pytest.approx(expected)
    assert [len(axes.containers) for axes in panels.values()] == [2, 3, 2]
    assert [text.get_text() for text in figure.legends[0].texts] == ["zero-shot", "atha", "lp++"]


def test_averages_and_figures_keep_the_marks(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, pool in enumerate(POOLS[:2]):
        toy = ("toy",) if pool == "isic" else ()
        fill(store, run_of("zero-shot", pool, notes=toy), shares(key))
        fill(store, run_of("atha", pool, notes=toy), shares(9 + key, tasks=40 if toy else 39))
        fill(store, run_of("lp++", pool, 5), shares(key, tasks=2 if toy else 40))
    one, _ = table_blocks(store)
    ends = [[cell.lstrip("0123456789.+- ") for cell in row[1:]] for row in one.sections[0][1]]
    assert ends == [["*", "", "*"], ["*", "‡", "*‡"]]
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_results(read_groups(store), tmp_path / "f.png")
    hollow = {
        axes.get_title(): sum(
            len(line.get_xdata()) for line in axes.lines if line.get_markerfacecolor() == "white"
        )
        for axes in drawn[0].axes
    }
    assert hollow == {"isic": 3, "eurosat": 1, "average of 2 pools": 3}
    assert drawn[0].legends[0].texts[-1].get_text().startswith("hollow: marked in the table")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_is_written_whole(store: Store, tmp_path: Path, suffix: str) -> None:
    fill(store, run_of("zero-shot"), shares(1))
    draw_results(read_groups(store), tmp_path / "new" / f"f{suffix}")
    begin = (tmp_path / "new" / f"f{suffix}").read_bytes()[:5]
    assert begin == (b"\x89PNG\r" if suffix == ".png" else b"<?xml")


def test_a_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results to draw"):
        draw_results({}, tmp_path / "f.png")
    assert not everything_in(tmp_path)


def test_a_figure_replaces_only_a_figure(farshot: Farshot, store: Store, tmp_path: Path) -> None:
    fill(store, run_of("zero-shot"), shares(1))
    command = ("table", "--store", tmp_path / "r.db", "--figure")
    for suffix in (".png", ".svg"):
        for _ in range(2):
            assert farshot(*command, tmp_path / f"f{suffix}").code == 0
        mine = tmp_path / f"leaf{suffix}"
        picture(1).save(mine, "PNG")
        assert f"leaf{suffix} exists and is not a chart of farshot; choose another --figure" in refusal(
            farshot(*command, mine)
        )
    assert "--figure f.pdf: charts are drawn as .png or .svg" in refusal(farshot(*command, "f.pdf"))

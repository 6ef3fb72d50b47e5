"""A report says what the store and the model say, number for number, with any names."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from scipy import stats

from farshot import FewShotClassifier, load
from farshot.bench.records import Episode, Result, Run
from farshot.bench.store import Store
from farshot.bench.tasks import Shape
from farshot.data.readers import read_table
from farshot.evaluation.calibration import calibration_bins, expected_calibration_error
from farshot.methods import create
from farshot.model.find import bundled_folder
from farshot.report import benchmark
from farshot.report.page import write_page
from farshot.report.svg import Chart, padded, ticks
from farshot.storage.model_folder import read_folder
from farshot.world import write_folder
from tests import browsing
from tests.input_helpers import class_folders
from tests.pages import Page, assert_inert
from tests.same_rows import difference

WAYS, QUERIES = 3, 6


def run_of(method: str, pool: str = "isic", shots: int = 1, **more) -> Run:
    made = create(method)
    values = {
        "method": method,
        "revision": made.revision,
        "settings": made.settings(),
        "precision": "float32",
        "model_fingerprint": "0123456789",
        "pool": pool,
        "pool_fingerprint": f"images of {pool}",
        "class_names": ("a", "b", "c", "d"),
        "template": "a photo of a {}.",
        "shape": Shape(WAYS, shots, QUERIES),
        "label": method,
        "kind": made.kind,
        "model": "a/clip",
    }
    return Run(**(values | more))


def fill(store: Store, run: Run, key: int, tasks: int = 12, seed: int = 1, skill: float = 1.0) -> None:
    """Tasks with random probabilities that lean to the true class."""
    labels = np.repeat(np.arange(WAYS), QUERIES).astype(np.uint8)
    results, episodes = [], []
    for i in range(tasks):
        generator = np.random.default_rng([key, i])
        logits = generator.normal(size=(len(labels), WAYS)) + skill * np.eye(WAYS)[labels]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        found = p.argmax(1).astype(np.uint8)
        right, seconds = float((found == labels).mean()), float(generator.uniform(1, 3))
        results.append(Result(i, found, p.astype(np.float16), right, None, seconds, 1, 4, "cpu"))
        episodes.append(Episode(seed, i, ("a", "b", "c"), ("s",), ("q",), labels))
    store.record(store.run_id(run), seed, results, episodes)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path: Path) -> None:
    """Images read here are kept here."""
    monkeypatch.setenv("FARSHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Three methods on two pools."""
    with Store(tmp_path / "r.db") as store:
        for p, pool in enumerate(("isic", "eurosat")):
            for m, method in enumerate(("zero-shot", "prompt-lora", "atha")):
                fill(store, run_of(method, pool), 10 * p + m, skill=1 + 0.3 * m)
    return tmp_path / "r.db"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a model adapted to some of them by the command line's road."""
    place = tmp_path_factory.mktemp("model")
    write_folder("mini-crops", "test", range(60), place / "crops")
    table = read_table(place / "crops")
    support = table.subset(table.draw(2, 5)[0])
    classifier = FewShotClassifier("mini", "atha", settings={"steps": 3, "views": "none"}, seed=5)
    classifier.fit(support).save(place / "adapted")
    return place


# A store ----------------------------------------------------------------------------------------------


def read(path: Path) -> Page:
    return assert_inert(path.read_text(encoding="utf-8"))


def test_every_number_of_the_table_is_the_stores(farshot, filled: Path, tmp_path: Path) -> None:
    code, out, err = farshot("report", filled, "--out", tmp_path / "r.html")
    assert (code, out) == (0, f"{tmp_path / 'r.html'}\n"), err
    table = read(tmp_path / "r.html").tables[0]
    assert table[0] == ["method", "isic", "eurosat", "average"]
    with Store(filled, read_only=True) as store:
        for number, run in store.runs().items():
            accuracy = 100 * store.series(number).accuracy
            half = 1.96 * accuracy.std(ddof=1) / np.sqrt(len(accuracy))
            (row,) = [row for row in table if row[0] == run.label]
            assert row[table[0].index(run.pool)] == f"{accuracy.mean():.2f} ± {half:.2f}"


def test_every_difference_is_that_of_the_tasks(farshot, filled: Path, tmp_path: Path) -> None:
    farshot("report", filled, "--out", tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    numbers = [table for table in page.tables if table[0][0] == ""]
    descriptions = [part.split("</desc>")[0] for part in page.source.split("<desc>")[1:]]
    with Store(filled, read_only=True) as store:
        series = {(run.label, run.pool): store.series(n).accuracy for n, run in store.runs().items()}
    for method, table in zip(("zero-shot", "atha"), numbers, strict=True):
        rows = {row[0]: row[1:] for row in table}
        for column, pool in enumerate(("isic", "eurosat")):
            assert table[0][column + 1] == f"{pool}, 1 shot"
            d = 100 * (series[method, pool] - series["prompt-lora", pool])
            low, high = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d))
            assert rows["A - B"][column] == f"{d.mean():+.2f}"
            assert rows["t 95 %"][column] == f"{low:+.2f} to {high:+.2f}"
            assert rows["tasks"][column] == "12"
            told = f"{pool}, 1 shot: {d.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
            assert any(told in description for description in descriptions)  # the forest plot's own words
        both = [series[m, p] for p in ("isic", "eurosat") for m in (method, "prompt-lora")]
        better = int((both[0] > both[1]).sum() + (both[2] > both[3]).sum())
        assert any(f"{method} is better on {better} tasks" in description for description in descriptions)


def test_calibration_and_time_are_the_stores(farshot, filled: Path, tmp_path: Path) -> None:
    farshot("report", filled, "--out", tmp_path / "r.html")
    values = read(tmp_path / "r.html").values
    expected = []
    with Store(filled, read_only=True) as store:
        runs = sorted(store.runs().items(), key=lambda item: item[1].pool == "eurosat")
        for number, _ in runs:
            series = store.series(number)
            p, labels = store.predictions(number, series.keys)
            true = labels.astype(np.int64)
            nll = -np.log(p[np.arange(len(true)), true].astype(np.float64)).mean()
            expected += [expected_calibration_error(p, true), nll]
        for number, _ in runs:
            seconds = store.series(number).seconds
            expected += [seconds.mean(), np.median(seconds), seconds.sum()]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_bins_of_the_reliability_diagram_add_up_to_the_calibration_error() -> None:
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.ones(4), size=500).astype(np.float32)
    labels = generator.integers(0, 4, 500)
    bins = calibration_bins(p, labels)
    assert sum(b.images for b in bins) == 500
    gap = sum(b.images * abs(b.confidence - b.accuracy) for b in bins) / 500
    assert gap == pytest.approx(expected_calibration_error(p, labels), abs=1e-6)


def test_two_revisions_of_a_method_are_two_rows_everywhere(farshot, tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        for revision, skill in ((1, -9.0), (2, 9.0)):
            fill(store, run_of("atha", revision=revision), revision, skill=skill)
        fill(store, run_of("zero-shot"), 3)
        (told,) = benchmark.store_report(store)["groups"]
    names = ["atha", "atha (revision 2)", "zero-shot"]
    assert [row["name"] for row in told["times"]] == names
    assert [row["name"] for row in told["calibration"][0]["rows"]] == names
    assert told["verdict"][0].striptags().startswith("atha (revision 2) wins: ")
    assert told["baseline"] == "atha (revision 2)"
    old, other = told["comparisons"]
    assert (old["name"], other["name"]) == ("atha", "zero-shot")
    captions = [one["scatters"][0]["caption"] for one in (old, other)]
    assert "atha is better on 0 tasks, atha (revision 2) on 12, equal on 0" in captions[0]
    assert "zero-shot is better on 0 tasks, atha (revision 2) on 12, equal on 0" in captions[1]
    for name in ("atha", "atha (revision 2)"):
        report = ("report", tmp_path / "r.db", "--out", tmp_path / "r.html", "--baseline", name)
        assert farshot(*report)[0] == 0


def test_another_baseline_and_refusals(farshot, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert farshot("report", filled, "--out", out, "--baseline", "zero-shot")[0] == 0
    assert "atha minus zero-shot" in read(out).text
    code, _, err = farshot("report", filled, "--out", out, "--baseline", "clip-lora")
    assert code == 2
    assert "no results of clip-lora; choose --baseline of: zero-shot, prompt-lora, atha" in err
    code, _, err = farshot("report", filled, "--out", out, "--data", "x")
    assert code == 2
    assert "--data is for an adapted model" in err
    assert "atha minus zero-shot" in read(out).text  # the page before is still there
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = farshot("report", filled, "--out", tmp_path / "notes.txt")
    assert code == 2
    assert "is not a report of farshot" in err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with Store(tmp_path / "empty.db"):
        pass
    code, _, err = farshot("report", tmp_path / "empty.db", "--out", tmp_path / "e.html")
    assert code == 2
    assert "has no results yet" in err
    assert not (tmp_path / "e.html").exists()
    assert not list(tmp_path.glob(".*html*"))


def test_one_method_and_development_seeds_are_said(farshot, tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        fill(store, run_of("zero-shot"), 0)
        fill(store, run_of("zero-shot"), 0, seed=1000)
    assert farshot("report", tmp_path / "r.db", "--out", tmp_path / "r.html")[0] == 0
    text = read(tmp_path / "r.html").text
    assert text.count("There is only zero-shot here: nothing to compare it with.") == 2
    assert text.count("These are development seeds") == 1


HOSTILE = "<script>alert('x')</script>\"\u202e & " + "long" * 60


def test_a_model_that_was_read_from_a_folder_is_called_by_its_name(farshot, tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        for key, method in enumerate(("zero-shot", "prototypes")):
            fill(store, run_of(method, model=f"{tmp_path}/models/my-clip"), key)
    assert farshot("report", tmp_path / "r.db", "--out", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert "--model my-clip" in page and "my-clip (01234567, float32)" in page


def test_hostile_names_in_a_store_stay_names(farshot, tmp_path: Path) -> None:
    more = {"model": HOSTILE, "template": HOSTILE + "{}", "class_names": (HOSTILE, "b"), "notes": (HOSTILE,)}
    with Store(tmp_path / "r.db") as store:
        for i, method in enumerate(("prompt-lora", "atha")):
            fill(store, run_of(method, HOSTILE, **more), i)
    assert farshot("report", tmp_path / "r.db", "--out", tmp_path / "r.html")[0] == 0
    page = read(tmp_path / "r.html")
    assert HOSTILE in page.text
    assert "<script" not in page.source


def test_the_command_on_the_page_fills_the_same_store(farshot, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder("mini-crops", "test", range(60), tmp_path / "crops")
    grid = ("--shots", 1, 2, "--methods", "zero-shot", "zero-shot[scale=3]", "--tasks", 2, "--ways", 3)
    more = ("--queries", 2, "--model", "mini", "--template", "my {} picture", "--seed", 4)
    first = ("bench", "--pools", f"own={tmp_path / 'crops'}", *grid, *more, "--store", "first.db")
    assert farshot(*first)[0] == 0
    assert farshot("report", "first.db", "--out", "r.html")[0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    command = Page(page.split("<pre>")[1].split("</pre>")[0]).text
    words = [word.replace("own=PATH", f"own={tmp_path / 'crops'}") for word in shlex.split(command)]
    assert words[:2] == ["farshot", "bench"]
    assert farshot(*words[1:])[0] == 0
    with Store(Path("first.db"), read_only=True) as a, Store(Path("results.db"), read_only=True) as b:
        found = difference(a, b)
    assert found.tasks and found.same, found


def test_the_commands_on_the_page_keep_class_descriptions(farshot, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.json").write_text('{"rust": "orange rust spots on a leaf"}')
    first = ("bench", "--pools", "mini-crops", "--model", "mini", "--methods", "zero-shot", "--tasks", 2)
    more = ("--shots", 1, "--queries", 2, "--store", "first.db")
    assert farshot(*first, *more)[0] == 0
    assert farshot(*first, *more, "--descriptions", "words.json")[0] == 0
    assert farshot("report", "first.db", "--out", "r.html")[0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    commands = [Page(part.split("</pre>")[0]).text for part in page.split("<pre>")[1:]]
    assert ["--descriptions descriptions.json" in command for command in commands] == [False, True]
    assert (
        'descriptions.json holds the words for the classes of mini-crops: {"rust": "orange rust spots on a '
        'leaf"}.' in read(Path("r.html")).text
    )
    Path("descriptions.json").write_text(Path("words.json").read_text())
    for command in commands:
        assert farshot(*shlex.split(command)[1:])[0] == 0
    with Store(Path("first.db"), read_only=True) as a, Store(Path("results.db"), read_only=True) as b:
        found = difference(a, b)
    assert found.tasks == 4 and found.same, found


def test_descriptions_of_own_images_are_told_where_a_store_has_several(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        fill(store, run_of("zero-shot", "leaves"), 0)
        (told,) = benchmark.store_report(store)["groups"]
        assert told["descriptions"] == [] and "--descriptions" not in told["commands"][0]
        fill(store, run_of("zero-shot", "leaves", class_names=("a", "b", "c", "spots of d")), 0)
        (told,) = benchmark.store_report(store)["groups"]
    assert [line.split("--descriptions ")[1].split()[0] for line in told["commands"]] == [
        "descriptions.json",
        "descriptions-2.json",
    ]
    assert "names that are listed for leaves (2) below" in told["descriptions"][1]


# An adapted model -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(crops: Path):
    """The classifier's own evaluation of the data."""
    classifier, table = load(crops / "adapted"), read_table(crops / "crops")
    rows, labels = classifier.unseen(table)
    return classifier, table.subset(rows), labels, classifier.evaluate(table)


def test_a_models_page_has_its_numbers(farshot, crops: Path, measured, tmp_path: Path) -> None:
    code, _, err = farshot(
        "report", crops / "adapted", "--data", crops / "crops", "--out", tmp_path / "m.html", "--images", 3
    )
    assert code == 0, err
    page = read(tmp_path / "m.html")
    classifier, seen, labels, evaluation = measured
    for value in (evaluation.accuracy.mean, evaluation.calibration_error, evaluation.nll):
        assert any(found == pytest.approx(value) for found in page.values)
    matrix = page.table("true class")
    assert [[int(cell) for cell in row[1:]] for row in matrix[1:]] == evaluation.confusion.tolist()
    quality = page.table("class")
    for row, recall, precision in zip(quality[1:], evaluation.recall, evaluation.precision, strict=True):
        assert row[2].startswith(f"{100 * recall.mean:.1f} [")
        assert row[3].startswith("-" if np.isnan(precision.mean) else f"{100 * precision.mean:.1f} [")
    p = classifier.predict_proba(seen)
    wrong = np.flatnonzero(p.argmax(1) != labels)
    surest = wrong[np.argsort(-p[wrong].max(1), kind="stable")][:3]
    words = [
        f"shows {seen.names[labels[row]]}, taken for {seen.names[int(p[row].argmax())]}" for row in surest
    ]
    alts = [str(a["alt"]) for tag, a in page.tags if tag == "img"]
    assert [alt for alt in alts if alt.startswith("shows ")] == words
    assert sum(alt.startswith("adapted to: ") for alt in alts) == 16
    assert sum("the image as it was given" in alt for alt in alts) == 3  # token maps
    pull = read_folder(crops / "adapted")[1]["alignment.pull"][0]
    shown = [float(row[1]) for row in page.table("before block")[1:]]
    np.testing.assert_allclose(shown, pull, atol=5e-5)


def test_the_command_on_the_page_makes_the_same_model(
    farshot, crops: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    farshot("report", crops / "adapted", "--data", crops / "crops", "--out", "m.html", "--images", 0)
    source = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "Checked: this draw of 2 per class gives the very images it was adapted to." in source
    command = Page(source.split("<pre>")[1].split("</pre>")[0]).text
    assert farshot(*shlex.split(command)[1:])[0] == 0
    (_, first), (_, again) = read_folder(crops / "adapted"), read_folder(tmp_path / "adapted")
    assert first.keys() == again.keys()
    assert all(bool((first[name] == again[name]).all()) for name in first)


def test_data_with_copies_or_other_labels_is_measured(farshot, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 5)
    for folder in (data / "cat", data / "dog"):
        for file in sorted(folder.iterdir()):
            shutil.copy(file, folder / f"copy of {file.name}")
    adapt = ("adapt", data, "--shots", 3, "--model", "mini", "--method", "prototypes", "--no-calibrate")
    assert farshot(*adapt, "--out", tmp_path / "m")[0] == 0
    code, _, err = farshot("report", tmp_path / "m", "--data", data, "--out", tmp_path / "m.html")
    assert code == 0, err
    assert "this draw of 3 per class gives the very images" in (tmp_path / "m.html").read_text(
        encoding="utf-8"
    )
    other = class_folders(tmp_path / "other", ("cat", "dog"), 2, start=5000)
    assert farshot("report", tmp_path / "m", "--data", other, "--out", tmp_path / "o.html")[0] == 0
    counts = [row[2:] for row in read(tmp_path / "o.html").table("class in prompts")[1:]]
    assert counts == [["3", "2"], ["3", "2"]]  # those adapted to are not among these
    used = [Path(str(place["path"])) for place in load(tmp_path / "m").support_places_]
    rows = [f"{file},{'bird' if file == used[0] else file.parent.name},train" for file in used]
    rows += [f"{file},{file.parent.name},test" for file in data.rglob("*.png") if file not in used]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    code, _, err = farshot(
        "report", tmp_path / "m", "--data", tmp_path / "l.csv", "--out", tmp_path / "m.html"
    )
    assert code == 0, err
    assert "adapted to: bird" in (tmp_path / "m.html").read_text(encoding="utf-8")


def test_the_page_has_no_path_of_the_base_model(farshot, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 3)
    shutil.copytree(bundled_folder("mini"), tmp_path / "places" / "my-clip")
    adapt = ("adapt", data, "--model", tmp_path / "places" / "my-clip", "--method", "zero-shot")
    assert farshot(*adapt, "--out", tmp_path / "m")[0] == 0
    assert farshot("report", tmp_path / "m", "--out", tmp_path / "m.html")[0] == 0
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert "--model my-clip" in page and "In place of my-clip name where the base model lies" in page


def test_the_command_on_the_page_keeps_groups(farshot, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", ("cat", "dog"), 4)
    by = ".+"  # each picture is a group
    adapt = (
        "adapt",
        data,
        "--shots",
        2,
        "--groups",
        by,
        "--model",
        "mini",
        "--method",
        "prototypes",
        "--no-calibrate",
    )
    assert farshot(*adapt, "--out", tmp_path / "m")[0] == 0
    for options, named, noted in (
        ((), "GROUPS", True),
        (("--data", data), "GROUPS", True),
        (("--data", data, "--groups", by), by, False),
    ):
        page = tmp_path / f"{len(options)}.html"
        code, _, err = farshot("report", tmp_path / "m", *options, "--out", page, "--images", 0)
        assert code == 0, err
        source = page.read_text(encoding="utf-8")
        command = shlex.split(Page(source.split("<pre>")[1].split("</pre>")[0]).text)
        assert command[command.index("--groups") + 1] == named
        assert ("It was adapted with groups" in source) is noted


def test_without_data_the_page_says_what_is_missing(farshot, crops: Path, tmp_path: Path) -> None:
    assert farshot("report", crops / "adapted", "--out", tmp_path / "m.html")[0] == 0
    page = read(tmp_path / "m.html")
    assert "--data adds accuracy" in page.text
    assert "Name the images it was adapted to in place of DATA" in page.text
    assert "before block" in page.text
    code, _, err = farshot("report", crops / "adapted", "--out", tmp_path / "m.html", "--baseline", "atha")
    assert code == 2
    assert "--baseline is for a store" in err
    code, _, err = farshot("report", tmp_path, "--out", tmp_path / "n.html")
    assert code == 2
    assert "is not an adapted model" in err


def test_hostile_names_in_a_model_stay_names(farshot, crops: Path, tmp_path: Path) -> None:
    shutil.copytree(crops / "adapted", tmp_path / "adapted")
    about = json.loads((tmp_path / "adapted" / "farshot.json").read_text())
    about["class_names"][0] = HOSTILE
    about["descriptions"] = {HOSTILE: "<b>bold</b>"}
    (tmp_path / "adapted" / "farshot.json").write_text(json.dumps(about))
    out = tmp_path / "m.html"
    code, _, err = farshot("report", tmp_path / "adapted", "--data", crops / "crops", "--out", out)
    assert code == 0, err
    page = read(out)
    assert HOSTILE in page.text
    assert "<b>bold</b>" in page.text
    assert "<script" not in page.source


# Charts -----------------------------------------------------------------------------------------------


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(-0.31, 0.29) == [-0.3, -0.2, -0.1, 0, 0.1, 0.2]
    assert padded([2.0], around=0)[0] < 0 < 2 < padded([2.0], around=0)[1]
    assert padded([float("nan"), 1.0, 1.0]) == (0.5, 1.5)
    assert padded([]) == (-0.06, 1.06)


def test_text_in_charts_is_escaped() -> None:
    chart = Chart((0, 1), (0, 1), "<x>", "y & z")
    chart.text(10, 10, "</svg><script>")
    drawn = chart.render("<title>", '"quoted"')
    assert "<script>" not in drawn
    assert "&lt;x&gt;" in drawn
    assert "<title>&lt;title&gt;</title>" in drawn


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="undefined"):
        write_page(tmp_path / "r.html", "store.html", {"title": "x"})
    assert list(tmp_path.iterdir()) == []


# In a browser -----------------------------------------------------------------------------------------

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# what a person would call broken: a page wider than the screen, a picture that is not there, things on top
# of each other
_LOOK = """<iframe id=f style="width:%dpx;height:900px;border:0" srcdoc="%s"></iframe><pre id=o></pre><script>
f.onload = () => {
  const d = f.contentDocument, bad = [];
  d.querySelectorAll('details').forEach(one => { one.open = true; });
  if (d.documentElement.scrollWidth > f.clientWidth) bad.push('wider: ' + d.documentElement.scrollWidth);
  for (const i of d.images) if (!i.naturalWidth) bad.push('picture missing: ' + i.alt);
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const check = (all, what) => all.forEach((e, i) => all.slice(i + 1).forEach(g => {
    if (over(e.getBoundingClientRect(), g.getBoundingClientRect()))
      bad.push(what + ': ' + e.textContent.slice(0, 40) + ' / ' + g.textContent.slice(0, 40)); }));
  for (const s of d.querySelectorAll('svg')) check([...s.querySelectorAll('text')], 'text');
  for (const g of d.querySelectorAll('.charts, .panels, .pictures, .thumbs'))
    check([...g.children], 'figure');
  check([...d.body.querySelectorAll('h1, h2, h3, p, pre, dl, .wide, .charts, .panels')].filter(
    e => !e.parentElement.closest('.charts, .panels, .wide, dl')), 'part');
  o.textContent = 'RES' + 'ULT ' + JSON.stringify(bad) + ' E' + 'ND';
};
</script>"""


def look(page: Path, width: int) -> list[str]:
    """Opens a page in a headless browser and says what is broken."""
    wrapper = page.with_name(f"look-{width}.html")
    source = page.read_text(encoding="utf-8").replace(' loading="lazy"', "").replace(' decoding="async"', "")
    wrapper.write_text(_LOOK % (width, source.replace("&", "&amp;").replace('"', "&quot;")), encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={page.parent / 'profile'}", "--window-size=1400,1000",
        "--virtual-time-budget=20000", "--dump-dom", wrapper.as_uri(),
    ]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(Page(told.split("RESULT ")[-1].split(" END")[0]).text)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overlaps(
    farshot, filled: Path, crops: Path, tmp_path: Path, width: int
) -> None:
    farshot("report", filled, "--out", tmp_path / "store.html")
    farshot("report", crops / "adapted", "--data", crops / "crops", "--out", tmp_path / "model.html")
    farshot("explain", crops / "adapted", crops / "crops" / "rust", "--out", tmp_path / "explained")
    for page in (tmp_path / "store.html", tmp_path / "model.html", tmp_path / "explained" / "index.html"):
        assert look(page, width) == []


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_fault_for_axe_and_no_table_that_is_cut_off(
    farshot, filled: Path, crops: Path, tmp_path: Path, scheme: Any
) -> None:
    """axe measures contrast, too; a table may be wider than its box only where the box scrolls."""
    one = crops / "crops" / "rust"
    assert farshot("report", filled, "--out", tmp_path / "store.html")[0] == 0
    assert (
        farshot("report", crops / "adapted", "--data", crops / "crops", "--out", tmp_path / "model.html")[0]
        == 0
    )
    assert farshot("explain", crops / "adapted", one, "--out", tmp_path / "explained")[0] == 0
    assert (
        farshot("pick", one, "--model", crops / "adapted", "--count", 2, "--out", tmp_path / "picked")[0] == 0
    )
    assert farshot("check", crops / "crops", "--model", "mini", "--out", tmp_path / "check.html")[0] == 0
    folders = (tmp_path / "explained" / "index.html", tmp_path / "picked" / "index.html")
    pages = [*(tmp_path / f"{name}.html" for name in ("store", "model", "check")), *folders]
    cut = """[...document.querySelectorAll('table')].filter(t => {
        const box = t.closest('.wide') || t.parentElement;
        return t.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX != 'auto'; }).length"""
    with browsing.browser() as browser:
        for size in (browsing.DESKTOP, browsing.PHONE):
            session = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
            for place in pages:
                page = session.new_page()
                page.goto(place.as_uri())
                paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
                found = Axe().run(page).response["violations"]
                serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
                assert serious == [], f"{place.name} {size}"
                assert page.evaluate(cut) == 0
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
                page.emulate_media(media="print")
                assert (
                    page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
                )


def test_a_chart_of_many_tasks_is_rounded_until_it_has_few_marks() -> None:
    generator = np.random.default_rng(0)
    few = [generator.integers(0, 76, (100, 2)) / 75]
    many = [generator.integers(40, 70, (5000, 2)) / 75 for _ in range(3)]
    assert benchmark.rounding_step(few) == 0
    step = benchmark.rounding_step(many)
    assert step > 0
    assert sum(len(benchmark.distinct_pairs(pairs, step)[0]) for pairs in many) <= benchmark.MOST_MARKS
    values, counts = benchmark.distinct_pairs(many[0], step)
    assert counts.sum() == 5000
    np.testing.assert_allclose(values / step, np.round(values / step), atol=1e-9)
    mean = (values * counts[:, None]).sum(0) / 5000
    np.testing.assert_allclose(mean, many[0].mean(0), atol=step / 2)

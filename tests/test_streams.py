"""What is printed for programs is whole in every encoding; readers that go, and Ctrl-C, end it quietly."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from farshot import FewShotClassifier
from farshot.bench.export import rows as stored_rows
from farshot.bench.store import Store
from farshot.cli import running
from farshot.cli.console import Stopped
from farshot.report.model import measure, model_report
from farshot.report.page import write_page
from farshot.storage.model_folder import read_folder
from tests.bench_helpers import tiny_checkpoint
from tests.input_helpers import PROGRAM, Farshot, class_folders, subprocess_environment
from tests.toy import world_table

NAMES = ("été", "中文", "\U0001f33b")
ENCODINGS = (
    "ascii",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("utf-8", "latin-1", "cp1252")),
)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three classes with names in several scripts, next to its images."""
    place = tmp_path_factory.mktemp("streams")
    tiny_checkpoint(place / "clip")
    class_folders(place / "data", NAMES)
    files = sorted((place / "data").rglob("*.png"))
    classifier = FewShotClassifier(place / "clip", "zero-shot", device="cpu")
    classifier.fit([str(file) for file in files], [file.parent.name for file in files])
    classifier.save(place / "adapted")
    return place / "adapted"


def told(
    *arguments: str | Path, encoding: str = "utf-8", shell: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """The real program, whose streams have this encoding; `shell` follows the command in a line of bash."""
    environment = subprocess_environment(PYTHONIOENCODING=encoding)
    command = [*PROGRAM, *map(str, arguments)]
    if shell:
        command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *command]
    return subprocess.run(command, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_json_in_every_encoding(adapted: Path, encoding: str) -> None:
    found = told("predict", adapted, adapted.parent / "data", "--json", encoding=encoding)
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout.decode("utf-8"))
    assert set(rows[0]["probabilities"]) == set(NAMES)
    assert {Path(row["image"]).parent.name for row in rows} == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("evaluate", "--include-support")])
def test_json_of_other_commands_is_json_too(adapted: Path, command: tuple[str, ...]) -> None:
    name, *options = command
    found = told(name, adapted, adapted.parent / "data", "--json", *options, encoding="latin-1")
    assert json.loads(found.stdout)["classes"], found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_values_separated_by_commas_or_tabs_are_utf8(adapted: Path, encoding: str) -> None:
    as_csv = told("predict", adapted, adapted.parent / "data", "--csv", encoding=encoding)
    header, *rows = csv.reader(io.StringIO(as_csv.stdout.decode("utf-8")))
    assert set(header[2:-1]) == set(NAMES) and header[-1] == "p_value"
    as_tabs = told("predict", adapted, adapted.parent / "data", encoding=encoding)
    lines = [line.split("\t") for line in as_tabs.stdout.decode("utf-8").splitlines()]
    assert [line[:2] for line in lines] == [row[:2] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["csv", *(pytest.param(form, marks=pytest.mark.slow) for form in ("markdown", "latex"))]
)
def test_tables_for_programs_are_utf8(tmp_path: Path, form: str) -> None:
    class_folders(tmp_path / "pool", tuple("abcde"), images=4)
    tiny_checkpoint(tmp_path / "clip")
    store = tmp_path / "r.db"
    pool = f"été={tmp_path / 'pool'}"
    bench = ("bench", "--pools", pool, "--methods", "zero-shot", "--shots", "1", "--tasks", "2", "--queries")
    done = told(*bench, "2", "--model", tmp_path / "clip", "--store", store, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = told("table", "--store", store, "--format", form, encoding="latin-1")
    assert "été" in found.stdout.decode("utf-8")


# Streams that are closed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("--help",), ("methods",), ("methods", "--json"), ("encoders",), ("data", "list"), ("adapt", "--help")],
)
def test_a_reader_that_goes_ends_a_command_without_a_word(command: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(
        [*PROGRAM, *command], stdout=write, stderr=subprocess.PIPE, env=subprocess_environment(), check=False
    )
    os.close(write)
    assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.slow
def test_predictions_whose_reader_goes_end_without_a_word(adapted: Path) -> None:
    for option in ("--json", "--csv"):
        read, write = os.pipe()
        os.close(read)
        command = [*PROGRAM, "predict", str(adapted), str(adapted.parent / "data"), option]
        found = subprocess.run(
            command, stdout=write, stderr=subprocess.PIPE, env=subprocess_environment(), check=False
        )
        os.close(write)
        assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.slow
def test_an_error_stream_whose_reader_went_ends_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*PROGRAM, "predict", "/no/such/model", "/no/such/image"]
    found = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=write, env=subprocess_environment(), check=False
    )
    os.close(write)
    assert (found.returncode, found.stdout) == (141, b"")


@pytest.mark.parametrize(
    "closed", [">&-", *(pytest.param(closed, marks=pytest.mark.slow) for closed in ("2>&-", ">&- 2>&-"))]
)
def test_a_closed_stream_keeps_nothing_and_breaks_nothing(adapted: Path, closed: str) -> None:
    for command in (("methods",), ("predict", adapted, adapted.parent / "data", "--json"), ("--help",)):
        found = told(*command, shell=closed)
        assert (found.returncode, found.stderr) == (0, b""), (command, found)


@pytest.mark.slow
def test_no_file_takes_the_number_of_a_closed_stream(adapted: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "data")
    out = tmp_path / "out"
    options = ("--model", adapted.parent / "clip", "--method", "zero-shot", "--device", "cpu")
    found = told("adapt", tmp_path / "data", "--out", out, *options, shell=">&-")
    assert found.returncode == 0, found.stderr
    assert json.loads((out / "farshot.json").read_text())["classes"] == ["cat", "dog", "owl"]


# Ctrl-C --------------------------------------------------------------------------------------------------


def test_a_stopped_benchmark_says_farewell_once(
    farshot: Farshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(tmp_path / "pool", tuple("abcde"), images=4)
    tiny_checkpoint(tmp_path / "clip")
    monkeypatch.setattr("farshot.cli.grids.run_grid", lambda *_a, **_k: os.kill(os.getpid(), signal.SIGINT))
    bench = ("bench", "--pools", f"p={tmp_path / 'pool'}", "--methods", "zero-shot", "--shots", "1")
    store = tmp_path / "r.db"
    found = farshot(*bench, "--tasks", "2", "--queries", "2", "--model", tmp_path / "clip", "--store", store)
    farewell = f"farshot: stopped; {store} holds all finished tasks, and the same command goes on.\n"
    assert (found.code, found.err) == (130, farewell)


def test_ctrl_c_ends_the_app_with_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.threading.Event, "wait", _stop)
    with pytest.raises(Stopped, match=r"^ended\.$"):
        running.until_stopped()


def test_ctrl_c_while_the_command_line_is_read_is_one_farewell(
    farshot: Farshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.core.TyperCommand.parse_args", _stop)
    found = farshot("methods")
    assert (found.code, found.err) == (130, "farshot: stopped; nothing half-written is left behind.\n")


def _interrupt(*_arguments: object, **_more: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _stop(*_arguments: object, **_more: object) -> None:
    raise KeyboardInterrupt


# CSV of tables and stores --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on one pool at 1 and 2 shots."""
    place = tmp_path_factory.mktemp("store")
    class_folders(place / "pool", tuple("abcde"), images=5)
    tiny_checkpoint(place / "clip")
    bench = ("bench", "--pools", f"p={place / 'pool'}", "--methods", "zero-shot", "prototypes", "--shots")
    more = ("--tasks", "3", "--queries", "2", "--model", place / "clip", "--store", place / "r.db")
    done = told(*bench, "1", "2", *more, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return place / "r.db"


def test_a_table_as_csv_is_one_row_per_cell_of_plain_numbers(farshot: Farshot, store: Path) -> None:
    pandas = pytest.importorskip("pandas")
    found = pandas.read_csv(io.StringIO(farshot("table", "--store", store, "--format", "csv").out))
    assert len(found) == 4
    assert set(found.method) == {"zero-shot", "prototypes"}
    assert set(found.pool) == {"p"}
    for name in ("mean", "ci95", "low", "high", "n", "shots"):
        assert np.issubdtype(found[name].dtype, np.number), name
    assert np.allclose(found["high"] - found["mean"], found["ci95"], atol=1e-3)
    assert (found.n == 3).all()


def test_a_comparison_as_csv_is_one_row_per_cell_of_plain_numbers(farshot: Farshot, store: Path) -> None:
    told = farshot("compare", "prototypes", "zero-shot", "--store", store, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [row["shots"] for row in rows] == ["1", "2"]
    for row in rows:
        assert abs(float(row["a_mean"]) - float(row["b_mean"]) - float(row["difference"])) < 1e-3
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])


@pytest.mark.parametrize(("name", "options"), [("out.csv", ()), ("out", ("--format", "csv"))])
def test_a_store_as_csv_has_a_row_per_task(
    farshot: Farshot, store: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    told = farshot("store", "export", store, tmp_path / name, *options)
    assert told.code == 0, told.err
    with (tmp_path / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with Store(store, read_only=True) as filled:
        plain = list(stored_rows(filled))
    assert len(rows) == len(plain) == 12
    assert set(rows[0]) == set(plain[0])
    for row, there in zip(rows, plain, strict=True):
        assert json.loads(row["classes"]) == there["classes"]
        assert float(row["accuracy"]) == pytest.approx(there["accuracy"])
        assert json.loads(row["settings"]) == there["settings"]
        assert np.allclose(json.loads(row["probabilities"]), there["probabilities"], rtol=1e-3)


def test_a_format_that_is_none_is_refused(farshot: Farshot, store: Path, tmp_path: Path) -> None:
    for command in (
        ("store", "export", store, tmp_path / "x.csv", "--format", "xlsx"),
        ("store", "export", store, tmp_path / "x.xlsx"),
        ("table", "--store", store, "--format", "html"),
    ):
        assert farshot(*command).code == 2
    assert list(tmp_path.iterdir()) == []


# The wording of a report ---------------------------------------------------------------------------------


def test_a_report_never_takes_a_class_for_itself(tmp_path: Path) -> None:
    table = world_table(count=60)
    classifier = FewShotClassifier("mini", "zero-shot", device="cpu").fit(table.subset(range(4)))
    classifier.save(tmp_path / "model")
    about, tensors = read_folder(tmp_path / "model")
    write_page(tmp_path / "r.html", "model.html", model_report(about, tensors, classifier, table))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(measure(classifier, table).right)
    assert "recognised (" in page
    for name in table.names:
        bold = f"Shows <bdi>{name}</bdi>, taken for <b><bdi>{name}</bdi></b>"
        assert bold not in page


def test_the_paper_table_of_one_method_ends_well(tmp_path: Path) -> None:
    """run.sh with a program in place of farshot: comparisons only where both methods are stored."""
    stub = tmp_path / "farshot"
    stub.write_text(
        '#!/bin/bash\necho "$*" >> calls\n'
        'if [ "$1" = compare ]; then echo "has no results" >&2; exit 2; fi\n'
        'if [ "$1" = store ]; then printf "run  pool  shots         method  model\\n'
        '1234  isic      1           atha  m\\n"; fi\n'
    )
    stub.chmod(0o755)
    script = Path(__file__).parent.parent / "benchmarks" / "paper-table" / "run.sh"
    environment = subprocess_environment(PATH=f"{tmp_path}:{os.environ['PATH']}", METHODS="atha")
    done = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" not in (tmp_path / "calls").read_text()

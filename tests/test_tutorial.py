"""docs/tutorial.ipynb runs from its first cell to its last, and says what its committed outputs say."""

import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from tools.notebook import as_markdown, code_cells, read, record, recorded, run

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.ipynb"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
# Other processors round otherwise. By the decimals of a committed number: counts are exact, points may differ
# by two pictures in a hundred and a little, losses by two hundredths.
POINTS, LOSS = 2.5, 0.02


def tolerance(number: str) -> float:
    decimals = len(number.partition(".")[2])
    return 0.0 if decimals == 0 else POINTS if decimals == 1 else LOSS


def assert_agrees(said: str, found: str) -> None:
    """The same words, and numbers within the tolerance of what is said."""
    assert " ".join(NUMBER.sub("#", found).split()) == " ".join(NUMBER.sub("#", said).split())
    for expected, number in zip(NUMBER.findall(said), NUMBER.findall(found), strict=True):
        assert abs(float(number) - float(expected)) <= tolerance(expected), f"{found!r}, not {said!r}"


def size(picture: bytes | None) -> tuple[int, int] | None:
    return None if picture is None else Image.open(io.BytesIO(picture)).size


@pytest.mark.slow
def test_every_cell_runs_and_says_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    notebook = read(TUTORIAL)
    for cell, found in zip(code_cells(notebook), run(notebook), strict=True):
        said = recorded(cell)
        assert_agrees(said.text, found.text)
        assert size(found.picture) == size(said.picture)


@pytest.mark.parametrize(
    ("variable", "installs"),
    [("COLAB_RELEASE_TAG", True), ("KAGGLE_KERNEL_RUN_TYPE", True), ("HOME", False)],
)
def test_the_first_cell_installs_farshot_on_hosted_notebooks_only(
    variable: str, installs: bool, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []
    monkeypatch.setenv(variable, "set")
    monkeypatch.setattr("subprocess.run", lambda command, check: asked.append(command))
    first, *_ = code_cells(read(TUTORIAL))
    list(run({"cells": [first]}))
    expected = [sys.executable, "-m", "pip", "install", "--quiet", "farshot"]
    assert asked == ([expected] if installs else [])


def test_the_committed_outputs_come_from_one_run_in_order():
    cells = code_cells(read(TUTORIAL))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert TUTORIAL.stat().st_size < 400_000


def test_what_disagrees_is_found():
    assert_agrees("77.6 % of 98\nloss 0.784", "78.9 % of 98\nloss  0.791\n")
    for said, found in (
        ("77.6 %", "80.2 %"),
        ("of 98", "of 97"),
        ("loss 0.784", "loss 0.811"),
        ("predicted blight", "predicted vein"),
        ("+7.1", "+7.1 +7.1"),
    ):
        with pytest.raises(AssertionError):
            assert_agrees(said, found)


def test_an_error_names_its_cell():
    notebook = {"cells": [{"cell_type": "code", "source": [line], "metadata": {}} for line in ("1", "1 / 0")]}
    with pytest.raises(ZeroDivisionError) as raised:
        list(run(notebook))
    assert raised.traceback[-1].path == Path("<cell 2>") or "<cell 2>" in str(raised.traceback[-1])


def test_outputs_are_kept_and_read_as_markdown():
    source = ["from PIL import Image\n", "print('one')\n", "Image.new('RGB', (4, 3))"]
    cell = {"cell_type": "code", "source": source, "metadata": {"alt": "a black field"}}
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# Title\n"], "metadata": {}}, cell]}
    (shown,) = run(notebook)
    record(cell, shown, 1)
    assert recorded(cell).printed == "one\n"
    assert size(recorded(cell).picture) == (4, 3)
    markdown, pictures = as_markdown(notebook, "page")
    assert markdown == (
        "# Title\n\n```python\n"
        + "".join(source)
        + "\n```\n\n```text\none\n```\n\n![a black field](page-1.png)\n"
    )
    assert size(pictures["page-1.png"]) == (4, 3)

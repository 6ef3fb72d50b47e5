"""Which modules a command imports: those that are slow to import only where it needs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from farshot.cli.root import app
from tests.toy import world_table

SLOW = {
    "fastapi",
    "uvicorn",
    "transformers",
    "sklearn",
    "pandas",
    "matplotlib",
    "gradio",
    "ray",
    "datasets",
    "onnx",
    "jinja2",
}
HEAVY = SLOW | {"torch", "scipy", "huggingface_hub"}

PROGRAM = """
import json, sys
from farshot.cli.root import main
sys.argv = ["farshot", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported(*arguments: str | Path) -> set[str]:
    """The packages that a command has imported when it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(map(str, arguments)))],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on three tasks."""
    file = tmp_path_factory.mktemp("start") / "store.sqlite"
    grid = ["--pools", "mini-land", "--methods", "prototypes", "zero-shot", "--shots", "1", "--tasks", "3"]
    ended = CliRunner().invoke(app, ["bench", *grid, "--model", "mini", "--store", str(file)])
    assert ended.exit_code == 0, ended.output
    return file


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["adapt", "--help"],
        ["bench", "--help"],
        ["serve", "--help"],
        ["label-studio", "--help"],
        ["methods"],
        ["methods", "*lora*", "--json"],
        ["encoders"],
        ["data", "list"],
    ],
    ids=" ".join,
)
def test_a_command_that_lists_imports_nothing_heavy(arguments: list[str]):
    assert not imported(*arguments) & HEAVY


def test_looking_into_a_store_imports_nothing_heavy(store: Path):
    assert not imported("store", "list", store) & HEAVY
    assert not imported("table", "--store", store) & HEAVY
    assert not imported("compare", "prototypes", "zero-shot", "--store", store) & (HEAVY - {"scipy"})


def test_converting_labels_imports_nothing_heavy(tmp_path: Path):
    (tmp_path / "l.xml").write_text('<annotations><image name="a"><tag label="x"/></image></annotations>')
    assert not imported("convert", tmp_path / "l.xml", tmp_path / "o.json", "--to", "coco") & HEAVY


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_adapting_and_predicting_import_nothing_slow_beside_torch(tmp_path: Path):
    table = world_table("mini-land", 12)
    for row, pixels in enumerate(table.images):
        folder = tmp_path / "images" / table.classes[table.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    adapted = tmp_path / "adapted"
    found = imported(
        "adapt", tmp_path / "images", "--model", "mini", "--method", "tip-adapter", "--out", adapted
    )
    assert "torch" in found and not found & (SLOW | {"scipy", "huggingface_hub"})
    one = next((tmp_path / "images").rglob("*.png"))
    assert not imported("predict", adapted, one) & (SLOW | {"scipy", "huggingface_hub"})

"""The commands and the code of README.md run unchanged, on drawn images and with few steps."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from farshot.cli.root import app
from farshot.world import class_names, generate
from tests.pages import ROOT, is_there

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    farshot ([^#\n]*)", README, flags=re.MULTILINE)
NAMES = {"scab": "apple scab", "rust": "apple rust", "vein": "healthy leaf"}
PER_CLASS = 7  # five to adapt to, and some to evaluate on
QUICK = "[views=none,steps=2]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """leaves/ and new-pictures/, as the README has them."""
    place = tmp_path_factory.mktemp("readme")
    images = generate("mini-crops", "test", range(100))
    for noun, name in NAMES.items():
        (place / "leaves" / name).mkdir(parents=True)
        for i in np.flatnonzero(images.labels == class_names("mini-crops").index(noun))[:PER_CLASS]:
            Image.fromarray(images.pixels[i]).save(place / "leaves" / name / f"{i}.jpg")
    (place / "new-pictures").mkdir()
    for i, name in enumerate(("a", "b", "c", "d", "new")):
        Image.fromarray(images.pixels[i]).save(place / f"{name}.jpg")
        Image.fromarray(images.pixels[1 + i]).save(place / "new-pictures" / f"{name}.jpg")
        noun = tuple(NAMES.values())[i % 2]
        (place / "new-labelled" / noun).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[50 + i]).save(place / "new-labelled" / noun / f"{name}.jpg")
    return place


def quick(command: str, model: Path) -> list[str]:
    """The command's words with a small model where it names none, and short."""
    words = shlex.split(command.split(">")[0])
    if words[0] == "adapt":
        words = [word for word in words if word != "steps=50"]
        words = [
            w
            for i, w in enumerate(words)
            if not (w == "--set" and (i + 1 == len(words) or "=" not in words[i + 1]))
        ]
        short = ["--set", "views=none", "--set", "steps=2"] if "--method" in words else []
        return words if "--from" in words else [*words, "--model", str(model), *short]
    if words[0] == "app":
        return [*words, "--no-browser"]
    if words[0] in ("pick", "check", "curve"):
        return [*words, "--model", str(model)]
    if words[0] == "choose":
        return [str(model) if i and words[i - 1] == "--models" else word for i, word in enumerate(words)]
    if words[0] == "push":
        return [*words, "--model", "ada/clip"]  # a folder of this machine is no model that others have
    if words[0] == "bench":
        words += ["--queries", "3"]
    return [{"20": "3"}.get(word, word.replace("[views=none]", QUICK)) for word in words]


def test_the_readme_has_commands_of_every_kind():
    kinds = {command.split()[0] for command in COMMANDS}
    assert kinds == {
        "check",
        "choose",
        "curve",
        "adapt",
        "app",
        "predict",
        "evaluate",
        "pick",
        "explain",
        "report",
        "export",
        "push",
        "methods",
        "bench",
        "table",
        "compare",
    }


class Hub:
    """A fake hub, since tests do not reach the real one."""

    def file_exists(self, repo: str, path: str) -> bool:
        return False

    def create_repo(self, repo: str, **options: bool) -> str:
        return repo

    def create_commit(self, repo: str, operations: list, **options: str) -> None:
        assert {"README.md", "farshot.json"} <= {operation.path_in_repo for operation in operations}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of what Gradio leaves behind
@pytest.mark.usefixtures("gradio_leftovers")
def test_the_commands_run_in_the_order_of_the_readme(folder: Path, checkpoint: Path, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("farshot.cli.app.until_stopped", lambda: None)  # nobody is there to press Ctrl-C
    for command in COMMANDS:
        run = CliRunner().invoke(app, quick(command, checkpoint))
        assert run.exit_code == 0, f"{command}\n{run.output}\n{run.exception!r}"
    assert (folder / "explained" / "index.html").is_file()
    assert (folder / "line-3" / "model.onnx").is_file()


def test_the_code_runs(folder: Path, monkeypatch):
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    code = code.replace('"openai/clip-vit-base-patch16", method="atha"', f'"mini", settings={ {"steps": 2} }')
    code = code.replace("adapted/", "from-python/")
    names: dict[str, object] = {}
    exec(code, names)
    assert names["clf"].predict(["new.jpg"]).tolist()[0] in ("apple scab", "apple rust")  # type: ignore[attr-defined]


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert is_there(ROOT / target), target

"""docs/add-a-method.md: its code is a method, in under 40 lines, known by decorator or by entry point."""

import re
import sys
import tomllib
from importlib import import_module, invalidate_caches
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from farshot import FewShotClassifier, load
from farshot.cli.root import app
from farshot.errors import SettingError
from farshot.methods import available, create, registry
from farshot.model.encoder import Encoder
from tests.toy import toy_task, world_table

PAGE = (Path(__file__).parents[1] / "docs/add-a-method.md").read_text(encoding="utf-8")
TABLE = world_table("mini-land", 60)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page's code as an installed package, forgotten afterwards; gives the name of its module."""
    points = tomllib.loads(block("toml"))["project"]["entry-points"]["farshot.methods"]
    ((method, module),) = points.items()
    folder, _, name = module.partition(".")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "__init__.py").touch()
    (tmp_path / folder / f"{name}.py").write_text(block("python"))
    about = tmp_path / f"{folder}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[farshot.methods]\n{method} = {module}\n")
    monkeypatch.setattr(registry, "REGISTERED", available())
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    for known in (folder, module):
        monkeypatch.delitem(sys.modules, known, raising=False)
    return module


def test_the_code_is_under_40_lines():
    assert len(block("python").splitlines()) < 40


def test_an_installed_package_is_found_by_its_entry_point(package: str, mini: Encoder):
    assert "text-means" in available("text-*")
    told = CliRunner().invoke(app, ["methods", "text-means"])
    assert told.exit_code == 0 and "share=0.5" in told.output and " 0 trained parameters" in told.output
    with pytest.raises(SettingError, match="share of text-means must lie in 0 to 1"):
        create("text-means", {"share": 2})


def test_running_the_code_is_enough(package: str, mini: Encoder):
    module = import_module(package)
    task = toy_task(TABLE, shots=2)
    texts, means = (
        create(name).adapt(mini, [task])[0].logits(TABLE, task.query) for name in ("zero-shot", "prototypes")
    )
    for share, expected in ((1.0, texts), (0.0, means)):
        found = module.TextMeans(share=share).adapt(mini, [task])[0].logits(TABLE, task.query)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_it_can_be_used_saved_and_loaded(package: str, tmp_path: Path):
    task = toy_task(TABLE, shots=2)
    made = FewShotClassifier("mini", "text-means").fit(TABLE.subset(task.support))
    made.save(tmp_path / "adapted")
    images = [TABLE.images[row] for row in task.query[:6]]
    assert np.array_equal(load(tmp_path / "adapted").predict_proba(images), made.predict_proba(images))

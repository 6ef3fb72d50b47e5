"""Methods of other packages: their settings and names; packages that are broken or missing."""

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farshot import FewShotClassifier, load, plugins
from farshot.bench.grid import label, parse_method
from farshot.cli.root import app
from farshot.data import pools
from farshot.errors import ModelError, SettingError
from farshot.methods import available, create, registry
from farshot.methods.catalogue import catalogue, own_methods
from farshot.model import find
from tests.toy import toy_task, world_table

CODE = """
from dataclasses import dataclass
from typing import Literal, Optional

from torch.nn import functional as F

from farshot.methods import register
from farshot.methods.frozen import Fitted, FrozenMethod


@register
@dataclass(frozen=True)
class Plugged(FrozenMethod):
    name = "{name}"
    reference = "a test"
    doc = "class means"

    norm: Literal["l2", "none"] = "l2"
    power: Literal[1, 2] = 1
    share: Optional[float] = None
    sizes: tuple[int, ...] = (1, 2)
    words: dict[str, int] | None = None

    def fit(self, support):
        return Fitted({{"classes": F.normalize(support.class_means, dim=-1)}})

    def scores(self, images, state, scale):
        return scale * images @ F.normalize(state["classes"], dim=-1).mT
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package with one entry point; forgotten after the test."""
    monkeypatch.setattr(registry, "REGISTERED", available())
    monkeypatch.setattr(plugins, "BROKEN", {})
    pools.generated_pools.cache_clear()
    find.bundled.cache_clear()
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(
        code: str,
        module: str = "plugged_methods",
        point: str = "plugged",
        group: str = plugins.METHODS,
        what: str = "",
    ) -> None:
        (site / f"{module}.py").write_text(code)
        about = site / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{group}]\n{point} = {module}{what}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        invalidate_caches()

    yield install
    pools.generated_pools.cache_clear()
    find.bundled.cache_clear()


def test_the_catalogue_says_what_the_methods_say():
    assert catalogue() == own_methods(), "run python -m farshot.methods.catalogue"


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("norm", "none", "none"),
        ("power", "2", 2),
        ("share", "0.25", 0.25),
        ("share", "none", None),
        ("sizes", "[3,4,5]", (3, 4, 5)),
        ("sizes", "3,4", (3, 4)),
        ("words", '{"a": 1}', {"a": 1}),
    ],
)
def test_settings_of_any_type_are_read_from_text(install: Install, setting: str, text: str, value: object):
    install(CODE.format(name="plugged"))
    assert getattr(create("plugged", {setting: text}), setting) == value


@pytest.mark.parametrize(
    ("setting", "text", "words"),
    [
        ("norm", "l3", "norm of plugged must be one of l2, none, not 'l3'"),
        ("power", "3", "power of plugged must be one of 1, 2"),
        ("share", "much", "share of plugged must be a number or none"),
        ("sizes", "[1.5]", "sizes of plugged must be of the type tuple"),
        ("words", "few", "words of plugged must be of the type dict"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(install: Install, setting: str, text: str, words: str):
    install(CODE.format(name="plugged"))
    with pytest.raises(SettingError, match=words):
        create("plugged", {setting: text})


def test_a_label_with_a_tuple_is_read_back(install: Install):
    install(CODE.format(name="plugged"))
    method = create("plugged", {"sizes": (7, 8), "norm": "none"})
    assert label(method) == "plugged[norm=none,sizes=[7,8]]"
    assert parse_method(label(method)) == method


def test_a_model_with_such_settings_is_saved_and_loaded(install: Install, tmp_path: Path):
    install(CODE.format(name="plugged"))
    table = world_table("mini-land", 60)
    task = toy_task(table, shots=2)
    made = FewShotClassifier("mini", "plugged", settings={"sizes": "[4]"}).fit(table.subset(task.support))
    made.save(tmp_path / "adapted")
    assert load(tmp_path / "adapted").settings["sizes"] == [4]
    assert load(tmp_path / "adapted").method_.sizes == (4,)


def test_a_missing_package_is_named(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(CODE.format(name="plugged"))
    table = world_table("mini-land", 60)
    support = table.subset(toy_task(table, shots=2).support)
    FewShotClassifier("mini", "plugged").fit(support).save(tmp_path / "adapted")
    methods = {name: method for name, method in available().items() if name != "plugged"}
    monkeypatch.setattr(registry, "REGISTERED", methods)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.startswith(str(tmp_path))])
    with pytest.raises(ModelError, match=r"'plugged' of the package plugged_methods.*pip install plugged"):
        load(tmp_path / "adapted")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_package_that_nobody_has", "ModuleNotFoundError"),
        ("raise RuntimeError('no')\n", "RuntimeError: no"),
        ("def broken(:\n", "SyntaxError"),
        (CODE.format(name="atha"), "has this name already"),
    ],
)
def test_a_broken_package_is_one_warning(install: Install, code: str, reason: str):
    install(code)
    with pytest.warns(plugins.PluginWarning, match=rf"package plugged_methods.*{reason}") as caught:
        assert "atha" in available() and available()["atha"].__module__ == "farshot.methods.atha"
        assert "prototypes" in available()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert create("zero-shot").name == "zero-shot"  # our own need no other package
    with pytest.raises(SettingError, match="plugged_methods cannot be used"):
        create("plugged")


def test_a_broken_package_does_not_break_the_command(install: Install):
    install("raise RuntimeError('no')\n")
    with pytest.warns(plugins.PluginWarning, match="plugged_methods"):
        found = CliRunner().invoke(app, ["methods", "*lora"])
    assert found.exit_code == 0 and "prompt-lora" in found.output


def test_a_taken_name_is_refused(install: Install):
    class Other(available()["prototypes"]):  # type: ignore[misc]
        name = "linear-probe"

    with pytest.raises(SettingError, match=r"'linear-probe'.*LinearProbe has this name already"):
        registry.register(Other)
    assert available()["linear-probe"] is not Other


def test_a_class_that_is_defined_again_replaces_itself(install: Install):
    def define() -> type:
        class Mine(available()["prototypes"]):  # type: ignore[misc]
            name = "mine"

        return registry.register(Mine)

    first, second = define(), define()
    assert first is not second and available()["mine"] is second


POOLS = """
from farshot.world.pools import POOLS as worlds

pools = {{"{name}": worlds["mini-land"]}}
"""


@pytest.mark.parametrize("group", [plugins.POOLS, plugins.ENCODERS])
def test_a_broken_package_of_pools_or_encoders_is_one_warning(install: Install, group: str):
    install("raise RuntimeError('no')\n", group=group, what=":pools")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "mini-land" in pools.generated_pools()
        with pytest.raises(ModelError, match="plugged"):
            find.load_encoder("plugged")
        assert find.load_encoder("mini").embed_dim
    found = [str(one.message) for one in caught if one.category is plugins.PluginWarning]
    assert len(found) == 1 and "package plugged_methods cannot be used (RuntimeError: no)" in found[0]


def test_a_pool_of_another_package_is_found(install: Install):
    install(POOLS.format(name="mini-mine"), group=plugins.POOLS, what=":pools")
    assert len(pools.open_pool("mini-mine", images=20).table.classes) > 1


@pytest.mark.parametrize("name", ["mini-land", "eurosat", "EuroSAT"])
def test_a_pool_whose_name_is_taken_is_not_used(install: Install, name: str):
    before = pools.generated_pools()
    pools.generated_pools.cache_clear()
    install(POOLS.format(name=name), group=plugins.POOLS, what=":pools")
    with pytest.warns(plugins.PluginWarning, match=f"pool '{name}' of the package .* is not used"):
        assert pools.generated_pools() == before


def test_an_encoder_whose_name_is_taken_is_not_used(install: Install):
    install("def folder():\n    return 'elsewhere'\n", point="mini", group=plugins.ENCODERS, what=":folder")
    with pytest.warns(plugins.PluginWarning, match="the package farshot has one of this name"):
        assert "world" in str(find.bundled_folder("mini"))


def test_pools_that_are_no_mapping_are_not_used(install: Install):
    install("pools = ['mini-mine']\n", group=plugins.POOLS, what=":pools")
    with pytest.warns(plugins.PluginWarning, match="package plugged_methods are not used.*not a mapping"):
        assert "mini-land" in pools.generated_pools()


def test_an_encoder_whose_function_fails_is_one_sentence(install: Install):
    install("def pools():\n    raise OSError('gone')\n", group=plugins.ENCODERS, what=":pools")
    with pytest.raises(
        ModelError, match=r"'plugged' of the package plugged_methods cannot be found \(.*gone"
    ):
        find.load_encoder("plugged")

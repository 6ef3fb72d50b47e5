"""The layout of docs/architecture.md: imports go one way, and only few modules import the world."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import farshot

ROOT = Path(farshot.__file__).parent
LAYERS = (
    ("arrays", "randomness", "sanitize"),
    ("errors", "plugins"),
    ("images",),
    ("storage",),
    ("data",),
    ("annotations",),
    ("task", "world"),  # and data.readers
    ("model",),
    ("parts",),
    ("training",),
    ("methods",),
    ("evaluation",),
    ("estimator",),  # and storage.model_folder, storage.model_check
    ("workers",),
    ("classifier",),
    ("bench",),
    ("trackers",),
    ("explain", "export"),
    ("pick",),
    ("report",),
    ("check", "choose"),
    ("web",),
    ("app", "serve"),
    ("label_studio",),
    ("cli",),
    ("__main__",),
)
"""From the lowest to the highest: a module imports from its own package and from lower layers."""

FILES = sorted(ROOT.rglob("*.py"))


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def layer_of(module: str) -> tuple[int, str]:
    if module in ("storage.model_folder", "storage.model_check"):
        return layer_of("estimator")[0], "storage"
    if module == "data.readers":
        return layer_of("task")[0], "data"
    for prefix in (".".join(module.split(".")[:2]), module.split(".")[0]):
        for number, names in enumerate(LAYERS):
            if prefix in names:
                return number, prefix
    raise AssertionError(f"{module} is in no layer")


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("farshot."):
            whole = str(node.module).removeprefix("farshot.")
            submodules = {f"{whole}.{alias.name}" for alias in node.names}
            files = {ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in submodules}
            found |= {name_of(file) for file in files if file.exists()} or {whole}
    return found


@pytest.mark.parametrize("file", [f for f in FILES if f != ROOT / "__init__.py"], ids=name_of)
def test_a_module_imports_from_its_package_and_from_lower_layers(file: Path):
    layer, package = layer_of(name_of(file))
    for other in imported(file):
        below, of = layer_of(other)
        assert below < layer or of == package, f"{name_of(file)} imports {other}"


def test_only_what_shows_the_mini_world_imports_it():
    users = {name_of(f) for f in FILES if any(m.split(".")[0] == "world" for m in imported(f))}
    assert {user for user in users if not user.startswith("world.")} == {"cli.demo", "explain.truth"}


def test_the_root_of_the_package_has_at_most_ten_modules():
    assert len([file for file in FILES if file.parent == ROOT]) <= 10


def test_every_layer_exists():
    for name in (name for names in LAYERS for name in names):
        place = ROOT.joinpath(*name.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


def test_shapes_are_given_to_an_array_type_that_every_numpy_supports():
    direct = [
        file
        for file in FILES
        if "from jaxtyping" in (text := file.read_text(encoding="utf-8"))
        and re.search(r"from numpy\.typing import .*\bNDArray\b", text)
    ]
    assert direct == [], "import NDArray from farshot.arrays"


# Tests use public names ----------------------------------------------------------------------------------

FOREIGN = {
    "atexit._run_exitfuncs",  # as at the end of a process
    "certainty._replace",  # public, of a NamedTuple
    "config._attn_implementation",  # of transformers: the attention of a model that is loaded already
    "image._size",  # of Pillow: an image whose header declares this size
    "logging._tqdm_active",  # of datasets: whether it shows progress
    "os._exit",  # public
    "shutil._use_fd_functions",  # what Windows lacks
    "torch._C",
}
"""Names that are not farshot's, with what they are taken from."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def program(node: ast.AST) -> ast.Module | None:
    """The program in a text that mentions farshot, which another Python runs; None where it is none."""
    if not isinstance(node, ast.JoinedStr | ast.Constant):
        return None
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
    try:
        return ast.parse(textwrap.dedent(text)) if "farshot" in text and "import" in text else None
    except (ValueError, SyntaxError):
        return None


def called(node: ast.Call) -> str:
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def taken(tree: ast.AST) -> Iterator[str]:
    """Private names that a program takes from something other than `self` and `cls`, and from what.

    By an attribute, an import, or a text given to `monkeypatch.setattr`, `getattr` and the like.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if is_private(node.attr) and not own:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and called(node) in ("setattr", "delattr", "getattr", "hasattr"):
            for place, text in enumerate(node.args[:2]):
                if isinstance(text, ast.Constant) and is_private(str(text.value).rpartition(".")[2]):
                    yield f"{ast.unparse(node.args[0])}.{text.value}" if place else str(text.value)
        elif (inner := program(node)) is not None:
            yield from taken(inner)


def private_names(code: str) -> list[str]:
    return [name for name in taken(ast.parse(code)) if ".".join(name.split(".")[-2:]) not in FOREIGN]


@pytest.mark.parametrize(
    "code",
    [
        "page.PRIVATE()",
        "page.train.PRIVATE = 3",
        "from farshot.storage.hub import fetch, PRIVATE",
        "monkeypatch.setattr('farshot.data.urls.PRIVATE', 1)",
        "monkeypatch.setattr(urls, 'PRIVATE', 1)",
        "run(f'''\n  from farshot import task\n  task.PRIVATE({path!r})\n''')",
    ],
)
def test_a_private_name_is_noticed(code: str):
    (found,) = private_names(code.replace("PRIVATE", "_name"))
    assert found.endswith("._name")
    assert private_names(code.replace("PRIVATE", "name")) == []


@pytest.mark.parametrize("code", ["self._name = 3", "cls._name", "page.__dict__", "atexit._run_exitfuncs()"])
def test_what_is_a_tests_own_or_foreign_is_allowed(code: str):
    assert private_names(code) == []


def test_tests_use_public_names_only():
    files = sorted(Path(__file__).parent.rglob("*.py"))
    used = {file.name: private_names(file.read_text(encoding="utf-8")) for file in files}
    assert {name: found for name, found in used.items() if found} == {}, "test what is public, or make it so"

"""What is published: the distributions, the man page, the conda recipe and the workflow that releases."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tools.conda_recipe import recipe
from tools.man_page import commands, man_page

from farshot.cli.root import app

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch", "huggingface-hub": "huggingface_hub", "matplotlib": "matplotlib-base"}
MOST_BYTES = 10_000_000
MAN_PAGE = "share/man/man1/farshot.1"


def run(*command: str | Path, **options: Any) -> str:
    """The standard output of a command that must succeed without a warning."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def files_of(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}


def build(source: Path, out: Path, *what: str) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *what, source)


def data_files(package: Path) -> set[str]:
    """Every file of the package that is not Python code, as a wheel names it."""
    return {
        file.relative_to(package.parent).as_posix()
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }


def described() -> Iterator[tuple[str, list[str]]]:
    """Each command, and its arguments and options as `--help` lists them."""
    root = typer.main.get_command(app)
    context = root.make_context("farshot", [], resilient_parsing=True)
    for command, inner in [(root, context), *commands(root, context)]:
        names = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
        yield inner.command_path, names


def sections(page: str) -> dict[str, str]:
    """The parts of a man page by the command they describe."""
    plain = page.replace("\\-", "-").replace("\\&", "")
    start, *rest = re.split(r'^\.SS "(.*)"\n', plain, flags=re.MULTILINE)
    return {"farshot": start} | {
        f"farshot {name}": text for name, text in zip(rest[::2], rest[1::2], strict=True)
    }


def test_the_man_page_has_every_command_and_option():
    found = sections(man_page())
    expected = dict(described())
    assert list(found) == list(expected)
    assert {"farshot adapt", "farshot data check", "farshot serve"} <= set(expected)
    for command, names in expected.items():
        for name in names:
            # Typer before 0.29 writes an argument in capitals and an optional one in brackets
            shown = re.escape(name) if name.startswith("-") else rf"(?:{name}|\[?{name.upper()})"
            assert re.search(rf"^\\fB(?:.*[ ,])?{shown}\b", found[command], re.MULTILINE), (command, name)


def test_the_man_page_says_what_the_help_says():
    page = man_page()
    assert f'"farshot {PROJECT["version"]}"' in page.splitlines()[0]
    assert "atha[variant=released" in page and "\\[" not in page
    # a line that begins with a full stop or an apostrophe is an instruction to roff
    known = ("TH", "SH", "SS", "PP", "TP", "nh", "ad l")
    assert all(line[1:].startswith(known) for line in page.splitlines() if line[:1] in (".", "'"))


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff")
def test_groff_sets_the_man_page_without_a_warning():
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c"], input=man_page(), capture_output=True, text=True
    )
    assert done.stderr == ""
    assert "farshot data prepare" in re.sub(".\b", "", done.stdout)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("farshot ad", "adapt"), ("farshot adapt --meth", "--method"), ("farshot store ex", "export")],
)
def test_the_shell_completes_commands_and_options(words: str, expected: str):
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_FARSHOT_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['farshot']; from farshot.cli.root import main; main()"
    assert run(sys.executable, "-c", code, env=os.environ | asked).split() == [expected]


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]


def test_conda_installs_what_pip_installs():
    text = recipe(b"an archive").replace("${{ python_min }}", "3.11")
    found = yaml.safe_load(text)
    run_needs = {need.replace(" ", "") for need in found["requirements"]["run"]}
    pip_needs = {"python" + PROJECT["requires-python"]}
    for need in PROJECT["dependencies"]:
        name, limits = re.fullmatch(r"([\w-]+)(.*)", need).groups()  # type: ignore[union-attr]
        pip_needs.add(CONDA_NAMES.get(name, name) + limits)
    assert run_needs == pip_needs
    system = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    host = {need.replace(" ", "") for need in found["requirements"]["host"]}
    assert host == {"python3.11.*", "pip", *system}
    assert found["build"]["python"]["entry_points"] == [
        f"{name} = {place}" for name, place in PROJECT["scripts"].items()
    ]
    assert found["context"]["version"] == PROJECT["version"]
    assert re.fullmatch("[0-9a-f]{64}", found["context"]["sha256"])
    assert (
        found["about"]["license"] == PROJECT["license"]
        and found["about"]["summary"] == PROJECT["description"]
    )
    assert all((ROOT / name).is_file() for name in found["about"]["license_file"])


def release() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))


@pytest.mark.skipif(os.name == "nt", reason="the workflow runs on Linux")
@pytest.mark.parametrize(
    ("tag", "same"), [(f"v{PROJECT['version']}", True), ("v99.0", False), ("main", False)]
)
def test_a_tag_of_another_version_is_not_released(tag: str, same: bool, tmp_path: Path):
    (step,) = [step for step in release()["jobs"]["build"]["steps"] if "tag" in step.get("name", "")]
    (tmp_path / "python").symlink_to(sys.executable)
    done = subprocess.run(
        ["bash", "-ec", step["run"]],
        cwd=ROOT,
        env=os.environ | {"GITHUB_REF_NAME": tag, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is same, done.stderr
    assert same or f"The tag is {tag}" in done.stdout


def test_only_the_job_that_publishes_has_an_identity_and_only_after_the_tests():
    jobs = release()["jobs"]
    assert release()["permissions"] == {}
    assert {name for name, job in jobs.items() if "id-token" in job["permissions"]} == {"publish"}
    assert (
        jobs["publish"]["permissions"] == {"id-token": "write"} and jobs["publish"]["environment"] == "pypi"
    )
    assert [jobs[name]["needs"] for name in ("test", "publish", "release")] == ["build", "test", "publish"]
    assert not any("run" in step for step in jobs["publish"]["steps"])


def test_every_data_file_is_in_the_wheel(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=unwanted)
    (source / "man").mkdir()
    (source / "man/farshot.1").write_text(man_page(), encoding="utf-8")
    build(source, tmp_path, "--wheel")
    (wheel,) = tmp_path.glob("*.whl")
    names = files_of(wheel)
    expected = data_files(source / "src/farshot")
    assert "farshot/world/mini/model.safetensors" in expected
    assert expected - names == set()
    assert any(name.endswith(".data/data/" + MAN_PAGE) for name in names)
    assert wheel.stat().st_size < MOST_BYTES


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel built from it, from a copy of what git keeps."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    place = tmp_path_factory.mktemp("distributions")
    source = place / "source"
    for name in run("git", "ls-files", cwd=ROOT).splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for unwanted in ("demo/leaf.png", "site/index.html", "src/farshot/__pycache__/task.cpython-311.pyc"):
        (source / unwanted).parent.mkdir(parents=True, exist_ok=True)
        (source / unwanted).touch()
    (source / "man").mkdir()
    (source / "man/farshot.1").write_text(man_page(), encoding="utf-8")
    build(source, place)
    (archive,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return archive, wheel


@pytest.mark.slow
def test_the_source_distribution_has_what_git_has_but_the_pictures_of_the_pages(
    distributions: tuple[Path, Path],
):
    archive, _ = distributions
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames() if opened.getmember(name).isfile()}
    kept = {
        name
        for name in run("git", "ls-files", cwd=ROOT).splitlines()
        if not re.fullmatch(r"docs/[^/]+\.png", name)
    }
    made = {"PKG-INFO", "setup.cfg", "man/farshot.1"}
    assert kept - names == set()
    assert {name for name in names - kept - made if not name.startswith("src/farshot.egg-info/")} == set()
    assert archive.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_the_distributions_pass_the_checks_of_the_package_index(distributions: tuple[Path, Path]):
    archive, wheel = distributions
    run(sys.executable, "-m", "twine", "check", "--strict", archive, wheel)
    run(sys.executable, "-m", "check_wheel_contents", wheel)


@pytest.mark.slow
def test_the_wheel_works_where_nothing_of_the_clone_is(distributions: tuple[Path, Path], tmp_path: Path):
    place = tmp_path / "fresh"
    venv.create(place, with_pip=True)
    binaries = place / ("Scripts" if os.name == "nt" else "bin")
    (library,) = place.glob("lib/python*/site-packages") if os.name != "nt" else [place / "Lib/site-packages"]
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    unset = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    clean["FARSHOT_CACHE"] = str(tmp_path / "cache")
    python = binaries / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", distributions[1], env=clean)
    where = run(python, "-c", "import farshot; print(farshot.__file__)", cwd=tmp_path, env=clean)
    assert Path(where.strip()).is_relative_to(library)
    assert (place / MAN_PAGE).read_text(encoding="utf-8") == man_page()
    farshot = binaries / "farshot"
    assert run(farshot, "--version", cwd=tmp_path, env=clean) == f"farshot {PROJECT['version']}\n"
    run(farshot, "demo", "--out", "demo", "--tasks", "3", cwd=tmp_path, env=clean)
    adapted = str(next(tmp_path.glob("demo/**/farshot.json")).parent)
    run(farshot, "report", adapted, "--out", "report.html", cwd=tmp_path, env=clean)
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    pages = """
from jinja2 import Environment, PackageLoader
for package in ("app", "check", "explain", "pick", "report", "serve"):
    names = Environment(loader=PackageLoader(f"farshot.{package}")).list_templates()
    assert names, package
"""
    run(python, "-c", pages, cwd=tmp_path, env=clean)

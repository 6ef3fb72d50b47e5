"""What the Dockerfile promises: who runs in it, what it copies and what it opens."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from farshot.serve.options import PORT
from tests.input_helpers import Farshot

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, lines joined."""
    text = "\n".join(
        line
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def only(name: str) -> str:
    (found,) = [arguments for instruction, arguments in last_stage() if instruction == name]
    return found


def test_nobody_is_root_when_the_service_runs():
    names = [name for name, _ in last_stage()]
    user, _, group = only("USER").partition(":")
    assert int(user) > 0 and int(group) > 0
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]


def test_no_secret_is_built_in():
    for name, arguments in instructions():
        assert name != "ARG"
        if name == "ENV":
            for pair in shlex.split(arguments):
                assert not re.search("key|token|secret|password", pair.partition("=")[0], re.IGNORECASE), pair
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src"}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_what_is_copied_is_there_and_sent_to_the_builder():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        source
        for name, arguments in instructions()
        if name == "COPY"
        for source in shlex.split(arguments)[:-1]
    ]
    assert set(sources) == sent
    assert all((ROOT / source).exists() for source in sources)


def test_the_base_image_has_a_version():
    for name, arguments in instructions():
        if name == "FROM":
            assert re.match(r"python:3\.\d+-slim( |$)", arguments)


def test_the_port_is_the_one_that_is_asked_for_its_health():
    command = json.loads(only("ENTRYPOINT"))
    assert command[:2] == ["farshot", "serve"]
    port = command[command.index("--port") + 1]
    assert int(port) == int(only("EXPOSE")) == PORT
    options, _, check = only("HEALTHCHECK").partition("CMD")
    assert "--interval" in options
    program = json.loads(check)
    assert program[:2] == ["python", "-c"]
    compile(program[2], "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{port}/health" in program[2]


def test_the_command_is_one_that_farshot_knows(farshot: Farshot):
    command = json.loads(only("ENTRYPOINT"))[1:]
    told = farshot("serve", "--help").out
    assert all(option in told for option in command if option.startswith("--"))
    without_key = farshot(*command, *json.loads(only("CMD")))
    assert without_key.code == 2 and "must bring a key" in without_key.err


def test_versions_are_those_of_the_constraints_and_files_are_not_kept():
    runs = [arguments for name, arguments in instructions() if name == "RUN"]
    for step in (
        step for run in runs for step in run.split("&&") if re.search(r"\bpip (install|wheel)\b", step)
    ):
        assert "--no-cache-dir" in step
        assert "--no-deps" in step or "-c /tmp/constraints.txt" in step

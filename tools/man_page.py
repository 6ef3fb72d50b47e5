"""The man page of the `farshot` command, from the same descriptions as `farshot --help`.

    python -m tools.man_page man/farshot.1

writes one page with every command and option. click-man does not do: typer has a copy of click inside, whose
options click-man does not recognise.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from farshot.cli.root import app

ROOT = Path(__file__).parents[1]


def man_page() -> str:
    """The page in roff, as `man` reads it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    root = typer.main.get_command(app)
    context = root.make_context("farshot", [], resilient_parsing=True)
    lines = [
        f'.TH FARSHOT 1 "" "farshot {version}" "User Commands"',
        ".nh",  # what is typed is not hyphenated
        ".ad l",
        ".SH NAME",
        f"farshot \\- {escaped(lowered(str(root.help).rstrip('.')))}",
        ".SH SYNOPSIS",
        *usage(root, context),
        ".SH OPTIONS",
        *parameters(root, context),
        ".SH COMMANDS",
    ]
    for command, inner in commands(root, context):
        words = inner.command_path.split()[1:]
        lines += [f'.SS "{escaped(" ".join(words))}"', *usage(command, inner)]
        for paragraph in str(command.help or "").split("\n\n"):
            lines += [".PP", escaped(" ".join(paragraph.split()))]
        lines += parameters(command, inner)
    return "\n".join(lines) + "\n"


def commands(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Each command below a group with its context, groups included, as `--help` lists them."""
    for name in group.list_commands(context):
        command = group.commands[name]
        if not command.hidden:
            inner = command.make_context(name, [], parent=context, resilient_parsing=True)
            yield command, inner
            if hasattr(command, "commands"):
                yield from commands(command, inner)


def usage(command: Any, context: Any) -> list[str]:
    """How a command is called."""
    pieces = " ".join(command.collect_usage_pieces(context))
    return [f"\\fB{escaped(context.command_path)}\\fP {escaped(pieces)}"]


def parameters(command: Any, context: Any) -> list[str]:
    """A command's arguments and options, except `--help`, which all have."""
    lines = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and (parameter.name != "help" or context.parent is None):
            names, text = record
            # help texts are written for rich, which takes a bare bracket for markup
            lines += [".TP", f"\\fB{escaped(names)}\\fP", escaped(" ".join(text.replace("\\[", "[").split()))]
    return lines


def escaped(text: str) -> str:
    """Text that roff takes for nothing else."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith(".") else text


def lowered(text: str) -> str:
    """As a man page's name line has it: without a capital."""
    return text[:1].lower() + text[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the man page of the farshot command.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(man_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

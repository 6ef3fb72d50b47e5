"""A notebook without Jupyter: its cells run in order, what they print and show becomes their outputs, and the
whole reads as Markdown.

    python -m tools.notebook docs/tutorial.ipynb

runs every code cell in a new, empty folder and writes the outputs into the file. A notebook is a JSON file
and its cells here are plain Python, so nothing needs to be installed for it; Jupyter opens the same file.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
"""As nbformat 4.5 has it."""


@dataclass(frozen=True)
class Shown:
    """What a code cell left behind.

    Attributes:
        printed: what it wrote to the standard output.
        value: its last expression, as Python writes it; empty for a picture, or where there is none.
        picture: the last expression as a PNG, where it is a picture.
    """

    printed: str = ""
    value: str = ""
    picture: bytes | None = None

    @property
    def text(self) -> str:
        """All there is to read."""
        return self.printed + (self.value + "\n" if self.value else "")


def read(path: Path) -> Notebook:
    """The notebook in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(notebook: Notebook, path: Path) -> None:
    """Writes it as Jupyter would, so that saving it there changes nothing."""
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """The cells that run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source_of(cell: dict[str, Any]) -> str:
    """A cell's text; the format allows a list of lines as well."""
    return "".join(cell["source"])


def run(notebook: Notebook) -> Iterator[Shown]:
    """Runs the code cells in order, in one namespace and in the working folder; an error names its cell."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), start=1):
        yield _run_cell(source_of(cell), f"<cell {number}>", names)


def _run_cell(source: str, where: str, names: dict[str, Any]) -> Shown:
    body = ast.parse(source, where).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    if value is None:
        return Shown(printed.getvalue())
    if hasattr(value, "_repr_png_"):  # how a value tells a notebook that it is a picture
        return Shown(printed.getvalue(), picture=value._repr_png_())
    return Shown(printed.getvalue(), repr(value))


def recorded(cell: dict[str, Any]) -> Shown:
    """What the outputs in the file say."""
    printed, value, picture = "", "", None
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            printed += "".join(output["text"])
        elif "image/png" in output["data"]:
            picture = base64.b64decode("".join(output["data"]["image/png"]))
        else:
            value += "".join(output["data"]["text/plain"])
    return Shown(printed, value, picture)


def record(cell: dict[str, Any], shown: Shown, number: int) -> None:
    """Writes what a cell left behind into its outputs."""
    outputs: list[dict[str, Any]] = []
    if shown.printed:
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(shown.printed)})
    if shown.picture is not None or shown.value:
        data: dict[str, Any] = {"text/plain": _lines(shown.value or _alt(cell))}
        if shown.picture is not None:
            data = {"image/png": base64.b64encode(shown.picture).decode()} | data
        outputs.append(
            {"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"}
        )
    cell["execution_count"], cell["outputs"] = number, outputs


def as_markdown(notebook: Notebook, name: str) -> tuple[str, dict[str, bytes]]:
    """The notebook with its outputs as a page, and its pictures by file name.

    Args:
        name: what the pictures' names begin with.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(source_of(cell).strip())
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{source_of(cell).rstrip()}\n```")
            shown = recorded(cell)
            if shown.text:
                parts.append(f"```text\n{shown.text.rstrip()}\n```")
            if shown.picture is not None:
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = shown.picture
                parts.append(f"![{_alt(cell)}]({file})")
    return "\n\n".join(parts) + "\n", pictures


def _alt(cell: dict[str, Any]) -> str:
    """A cell's picture in words, for those who do not see it: `alt` in the cell's metadata."""
    return str(cell["metadata"].get("alt", "a picture"))


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs a notebook and writes its outputs into the file.")
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook.resolve()
    notebook = read(path)
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, shown in enumerate(run(notebook), start=1):
                record(code_cells(notebook)[number - 1], shown, number)
                print(shown.text, end="")
        finally:
            os.chdir(home)
    write(notebook, path)


if __name__ == "__main__":
    main()

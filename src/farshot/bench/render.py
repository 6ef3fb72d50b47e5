"""Tables as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farshot.errors import SettingError
from farshot.sanitize import cell

Value = str | int | float | None
FORMATS = ("text", "markdown", "latex", "csv")

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^\S$",
    "*": r"$^*$",
}

_MARKER = re.compile(r"^([*+-])(?=\s)")  # would make a line of Markdown an item of a list


@dataclass(frozen=True)
class Block:
    """A table with sections.

    Attributes:
        title: above the table.
        header: one word per column.
        sections: (heading, rows); a heading may be empty.
        notes: below the table.
        records: the same for programs, one per cell and every number in a separate column; all of a table
            have the same columns. CSV holds these alone.
    """

    title: str
    header: Sequence[str]
    sections: Sequence[tuple[str, Sequence[Sequence[str]]]]
    notes: Sequence[str] = ()
    records: Sequence[Mapping[str, Value]] = ()


def check_format(form: str) -> None:
    """Refuse a format that is not one of FORMATS.

    Raises:
        SettingError: it is not.
    """
    if form not in FORMATS:
        raise SettingError(f"There is no format {form!r}; choose one of {', '.join(FORMATS)}.")


def render(blocks: Sequence[Block], form: str) -> str:
    """All blocks in one of FORMATS.

    Raises:
        SettingError: there is no such format.
    """
    check_format(form)
    if form == "csv":
        return _csv(blocks)
    writers = {"text": _text, "markdown": _markdown, "latex": _latex}
    return "\n".join(writers[form](block) for block in blocks)


def number(value: float) -> str:
    """Format with two decimals; "-" for NaN, "inf" for infinity."""
    return "-" if value != value else "inf" if value in (float("inf"), float("-inf")) else f"{value:.2f}"


def signed(value: float) -> str:
    """The same with its sign."""
    plain = number(value)
    return plain if plain in ("-", "inf") or value < 0 else f"+{plain}"


def _text(block: Block) -> str:
    rows = [row for _, section in block.sections for row in section]
    widths = [max(map(len, column)) for column in zip(block.header, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *others = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    out = [block.title, "", line(block.header)]
    for heading, section in block.sections:
        if heading:
            out += ["", heading]
        out += map(line, section)
    return "\n".join([*out, "", *block.notes]) + "\n"


def _markdown(block: Block) -> str:
    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"

    out = [
        f"**{block.title}**",
        "",
        line(block.header),
        line(["---", *["---:"] * (len(block.header) - 1)]),
    ]
    for heading, section in block.sections:
        if heading:
            out.append(line([f"*{heading}*", *[""] * (len(block.header) - 1)]))
        out += map(line, section)
    notes = (_MARKER.sub(r"\\\1", note) for note in block.notes)
    return "\n".join([*out, "", *(f"{note}  " for note in notes)]) + "\n"


def _latex(block: Block) -> str:
    columns = len(block.header)

    def line(row: Sequence[str]) -> str:
        return " & ".join(_escaped(cell).replace("+-", r"$\pm$") for cell in row) + r" \\"

    out = [
        f"% {block.title}",
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        line(block.header),
        r"\midrule",
    ]
    for i, (heading, section) in enumerate(block.sections):
        if heading:
            out += [r"\midrule"] * (i > 0)
            out.append(rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_escaped(heading)}}}}} \\")
        out += map(line, section)
    out += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*out, *(f"% {note}" for note in block.notes)]) + "\n"


def _csv(blocks: Sequence[Block]) -> str:
    """One header and the records of all blocks; NaN is an empty cell."""
    records = [record for block in blocks for record in block.records]
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(dict.fromkeys(key for row in records for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in records)
    return out.getvalue()


def _plain(value: Value) -> str | int:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, str):
        return cell(value)
    return "" if value is None else value


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)

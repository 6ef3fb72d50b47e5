"""Names of files and classes steer neither a terminal nor a spreadsheet."""

from __future__ import annotations

import csv
import io
import pickle
import shutil
from pathlib import Path

import pytest

from farshot.errors import DataError, FarshotError, ModelError
from farshot.sanitize import cell, path_cell, short, visible
from tests.input_helpers import Farshot, class_folders, picture

ESCAPE = "\x1b]0;owned\x07\x1b[31mred\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("apple rust", "apple rust"),
        ("Äpfel 苹果 \u200d\u202f🍎", "Äpfel 苹果 \u200d\u202f🍎"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("a\u202egnp", r"a\u202egnp"),
        ("a\x9b31m\u2028", r"a\x9b31m\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_stay_where_there_are_lines() -> None:
    assert visible("a\nb\x1b", lines=True) == "a\nb\\x1b"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-0.25", "-0.25"),
        ("+1e-3", "+1e-3"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, written: str) -> None:
    assert cell(text) == written


def test_a_path_that_begins_like_a_formula_still_names_its_file() -> None:
    assert path_cell("=1.png") == "./=1.png"
    assert path_cell("/data/=1.png") == "/data/=1.png"


def test_names_reach_the_terminal_and_the_spreadsheet_as_text(
    farshot: Farshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As predictions, as CSV, and in an error."""
    folder = class_folders(tmp_path / "data")
    shutil.move(folder / "cat", folder / "=cmd|cat")
    made = farshot("adapt", folder, "--model", "mini", "--out", tmp_path / "adapted")
    assert made.code == 0, made.err
    monkeypatch.chdir(tmp_path)
    places = [Path("=1+1.png"), Path(f"{ESCAPE}.png"), Path("two\nlines.png")]
    for number, place in enumerate(places):
        picture(number, 64, 64).save(place)
    told = farshot("predict", tmp_path / "adapted", *map(str, places))
    assert told.code == 0, told.err
    assert len(told.out.splitlines()) == 3
    assert "\x1b" not in told.out + told.err and "\u202e" not in told.out + told.err
    assert r"\x1b]0;owned" in told.out
    table = list(
        csv.reader(io.StringIO(farshot("predict", tmp_path / "adapted", *map(str, places), "--csv").out))
    )
    assert table[0][2:4] == ["'=cmd|cat", *table[0][3:4]]
    assert table[1][0] == "./=1+1.png"
    assert not [value for row in table for value in row if value[:1] in "=+@" and value]
    (tmp_path / f"{ESCAPE}.txt").write_text("no image")
    refused = farshot("predict", tmp_path / "adapted", f"{ESCAPE}.txt")
    assert refused.code == 2
    assert "\x1b" not in refused.out + refused.err


def test_tables_of_the_terminal_and_of_checks_are_text_too(farshot: Farshot, tmp_path: Path) -> None:
    """A class that is called like a command, and a file like a formula."""
    folder = class_folders(tmp_path / "data")
    shutil.move(folder / "cat", folder / ESCAPE)
    assert farshot("adapt", folder, "--model", "mini", "--out", tmp_path / "adapted").code == 0
    for command in (("evaluate", tmp_path / "adapted", folder, "--include-support"), ("check", folder)):
        told = farshot(*command, *(("--model", "mini") if command[0] == "check" else ()))
        assert told.code == 0, told.err
        assert "\x1b" not in told.out + told.err and "\u202e" not in told.out + told.err


def test_a_refusal_is_one_line_with_any_name_in_it() -> None:
    assert str(DataError("no file a\nfarshot: well\x1b[2J.")) == r"no file a\x0afarshot: well\x1b[2J."
    assert str(FarshotError("one:\n  a\r\n  b", lines=True)) == "one:\n  a\\x0d\n  b"
    assert str(pickle.loads(pickle.dumps(ModelError("é\t.")))) == "é\\x09."


def test_what_a_message_quotes_of_foreign_input_is_short() -> None:
    assert short("cat") == "'cat'"
    assert short(["x" * 1000]) == "['" + "x" * 55 + "..."
    assert len(short("x" * 1000, 20)) == 20

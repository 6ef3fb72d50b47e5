"""The project's English is plain: words of an older, quirky style do not come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TICS = re.compile(
    r"\b(mend(s|ed|ing)?|anew|says of|(is|are) told|beside|stands?|stood|of one's own|manners|"
    r"what becomes of|whatever|of (its|their|one's|his) own)\b",
    re.IGNORECASE,
)
TEXT = {".py", ".md", ".html", ".js", ".css", ".toml", ".yml", ".yaml", ".cff", ".sh", ".ipynb", ""}


def written_files() -> list[Path]:
    """Every text file of the repository that people wrote."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith("tests/fixtures/")]
    english = "src/farshot/app/languages/en.json"  # the texts of the app
    return [
        ROOT / name for name in names if name == english or (Path(name).suffix in TEXT and name != "LICENSE")
    ]


def test_no_tic_is_left():
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in written_files()
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if TICS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Mend the file and run it again.", True),
        ("A table stands beside it.", True),
        ("Fix the file; besides, see the standard output.", False),
        ("Each number has a column of its own.", True),
        ("Name a folder of your own images.", False),
        ("recommended, amended, understand", False),
    ],
)
def test_the_search_finds_words_and_not_their_parts(line: str, expected: bool):
    assert bool(TICS.search(line)) is expected

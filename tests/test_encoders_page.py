"""`farshot encoders` and docs/encoders.md say the same, and at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from farshot.model.catalogue import ENCODERS
from tests.input_helpers import Farshot


def test_the_page_has_every_row_of_the_list() -> None:
    page = (Path(__file__).parent.parent / "docs" / "encoders.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in page.splitlines()
        if line.startswith("| `") and line.rstrip().endswith(tuple(f"{e.checked} |" for e in ENCODERS))
    ]
    wanted = [f"| `{entry.model}` | {entry.format} | {entry.checked} |" for entry in ENCODERS]
    assert rows == wanted


def test_the_command_prints_every_name(farshot: Farshot) -> None:
    told = farshot("encoders")
    assert told.code == 0
    assert all(entry.model in told.out for entry in ENCODERS)
    assert json.loads(farshot("encoders", "--json").out)[0]["model"] == ENCODERS[0].model


def test_the_list_needs_no_pytorch() -> None:
    code = (
        "import sys; sys.argv = ['farshot', 'encoders']; from farshot.cli.root import main\n"
        "try: main()\nfinally: print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr

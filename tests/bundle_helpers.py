"""Bundles that somebody changed, with hashes that fit what they changed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = dict[str, list[dict[str, Any]]]
"""Name of a file in a bundle without its ending -> its rows."""


def rows_of(bundle: Path) -> Rows:
    """All rows of a bundle."""
    with zipfile.ZipFile(bundle) as archive:
        return {
            name.partition(".")[0]: [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
        }


def written(rows: Rows, out: Path) -> Path:
    """A bundle of these rows; counts and hashes are those of what it holds."""
    about = rows["bundle"][0]
    texts = {
        f"{name}.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows[name])
        for name in ("episodes", "runs", "results")
    }
    about["sha256"] = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    about["results"] = len(rows["results"])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.writestr("bundle.json", json.dumps(about) + "\n")
    return out


def forged(bundle: Path, out: Path, change: Callable[[Rows], None]) -> Path:
    """A copy in which `change` has changed rows."""
    rows = rows_of(bundle)
    change(rows)
    return written(rows, out)

"""A report as one file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farshot.errors import DataError
from farshot.explain.html import environment
from farshot.explain.page import common
from farshot.report.calibration import BINS

_OURS = 'name="generator" content="farshot'


def write_page(path: str | Path, template: str, words: Mapping[str, Any]) -> None:
    """Renders a template and writes it, whole or not at all.

    Raises:
        DataError: the place is taken by something that is no report, or cannot be written.
    """
    path = Path(path).expanduser()
    check_page(path)
    page = environment("farshot.report").get_template(template).render(**common(), bins=BINS, **words)
    staging = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            staging = Path(file.name)
            file.write(page)
        staging.chmod(0o644)  # a temporary file is private
        staging.replace(path)
        staging = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be written ({reason}); choose another --out.") from error
    finally:
        if staging is not None:
            staging.unlink(missing_ok=True)


def check_page(path: Path) -> None:
    """Refuses a place taken by something else than a report, before any work is done for it."""
    path = path.expanduser()
    if not path.exists():
        return
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            if _OURS in file.read(2000):
                return
    raise DataError(f"{path} exists and is not a report of farshot; choose another --out, or remove it.")

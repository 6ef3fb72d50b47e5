"""A report as one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farshot.evaluation.calibration import BINS
from farshot.explain.html import common, environment
from farshot.storage.atomic import check_file, whole_file

_OURS = 'name="generator" content="farshot'


def write_page(
    path: str | Path, template: str, words: Mapping[str, Any], package: str = "farshot.report"
) -> None:
    """Renders a template and writes it, whole or not at all.

    Args:
        package: that has the template.

    Raises:
        DataError: the place is taken by something that is no report, or cannot be written.
    """
    page = environment(package).get_template(template).render(**common(), bins=BINS, **words)
    with whole_file(Path(path), check_page) as staging:
        staging.write_text(page, encoding="utf-8", errors="replace")


def check_page(path: Path) -> None:
    """Refuses a place taken by something else than a report, before any work is done for it."""
    check_file(path, "a report of farshot", _is_ours)


def _is_ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return _OURS in file.read(2000)

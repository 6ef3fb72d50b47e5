"""The folder of a reproduction: tables, comparisons, the report, and a bundle of the results, written
whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from farshot.bench.bundle import write_bundle
from farshot.bench.compare import compare, comparison_block
from farshot.bench.render import Block, render
from farshot.bench.store import Store
from farshot.bench.table import table_blocks
from farshot.report.benchmark import store_report
from farshot.report.page import write_page
from farshot.storage.atomic import check_folder, whole_folder
from farshot.storage.json_text import read_object

ABOUT, PAGE, BUNDLE = "reproduction.json", "report.html", "results.zip"
_ENDINGS = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv"}
FILES = (
    *(ABOUT, PAGE, BUNDLE),
    *(f"{name}.{ending}" for name in ("table", "comparison") for ending in _ENDINGS.values()),
)
_FORMAT = "farshot reproduction"


def check_results_folder(folder: Path) -> None:
    """Refuse a place that is taken by anything else, before any work is done for it."""
    check_folder(folder, "a folder of farshot reproduce", _known)


def comparisons(store: Store, pairs: Sequence[tuple[str, str]]) -> list[Block]:
    """The paired comparisons as tables."""
    return [
        comparison_block(group, cells, a, b)
        for a, b in pairs
        for group, cells in compare(store, a, b).items()
    ]


def write_results(
    store: Store,
    folder: Path,
    recipe: str,
    pairs: Sequence[tuple[str, str]],
    *,
    complete: bool,
    deviations: Mapping[str, object],
    published: bool,
) -> None:
    """Write the folder, in place of an earlier one.

    Args:
        recipe: its name.
        pairs: methods that are compared.
        complete: whether all that was asked for is computed.
        deviations: what was asked for otherwise than the recipe has it, by name; with any, the reproduction
            is not complete.
        published: add other people's numbers to the table.
    """
    tables = table_blocks(store, with_published=published)
    compared = comparisons(store, pairs)
    page = store_report(store)
    with whole_folder(folder, check_results_folder) as staging:
        for name, blocks in (("table", tables), ("comparison", compared)):
            for form, ending in _ENDINGS.items():
                (staging / f"{name}.{ending}").write_text(render(blocks, form), encoding="utf-8")
        write_page(staging / PAGE, "store.html", page)
        write_bundle(store, staging / BUNDLE)
        about = {
            "format": _FORMAT,
            "recipe": recipe,
            "complete": complete and not deviations,
            "deviations": dict(deviations),
            "results": page["tasks"],
            "farshot": version("farshot"),
        }
        (staging / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _known(folder: Path) -> Collection[str] | None:
    try:
        about = read_object(folder / ABOUT)
    except (OSError, ValueError):
        return None
    return FILES if about.get("format") == _FORMAT else None

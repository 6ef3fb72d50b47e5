"""The findings of `farshot check` as rows, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from farshot.check.findings import Checked
from farshot.data.table import path_of
from farshot.explain.html import data_uri
from farshot.images.reading import UnreadableImage
from farshot.report import page
from farshot.sanitize import path_cell

COLUMNS = ("problem", "image", "label", "detail", "score")
_THUMBNAIL = 160
_MOST_SHOWN = 60


def rows(found: Checked) -> Iterator[tuple[str, str, str, str, str]]:
    """One row per image and problem: the problem, the image, its label, what to know, and a number where
    there is one: how many times more probable the other class is, or how often the right one of two is
    chosen."""
    table = found.table
    assert table.labels is not None
    label = [table.classes[code] for code in table.labels.tolist()]

    def name(row: int) -> str:
        return path_cell(path_of(table.images[row]))

    for fault in found.unreadable:
        yield "unreadable", path_cell(fault.name), "", fault.reason, ""
    for one in found.wrong:
        problem = "likely wrong label" if one.is_likely else "doubtful label"
        detail = f"{one.ratio:.1f} times more like {table.classes[one.suggested]}"
        yield problem, name(one.row), label[one.row], detail, f"{one.ratio:.1f}"
    for copies in found.copies:
        kind = "copy" if copies.exact else "near copy"
        problem = "one picture, several labels" if len(copies.labels) > 1 else kind
        if len(copies.splits) > 1 and len(copies.labels) == 1:
            problem = f"{kind} in several splits"
        for row in copies.rows:
            others = "; ".join(name(other) for other in copies.rows if other != row)
            yield problem, name(row), label[row], f"{kind} of {others}", ""
    for pair in found.pairs:
        a, b = (table.classes[c] for c in pair.classes)
        right = [f"{100 * share:.1f}" for share in (pair.right.mean, pair.right.low, pair.right.high)]
        detail = f"and {b}: the right one in {right[0]} [{right[1]}, {right[2]}] %"
        yield "classes not told apart", "", a, detail, f"{pair.right.mean:.4f}"
    for c in found.small:
        yield "few images", "", table.classes[c], f"{found.sizes[c]} different pictures", ""
    for dim in found.dim:
        yield "poor picture", name(dim.row), label[dim.row], dim.what, ""


def as_json(found: Checked) -> dict[str, Any]:
    """All findings as plain values."""
    return {
        "images": len(found.table),
        "classes": [
            {"class": name, "pictures": size}
            for name, size in zip(found.table.classes, found.sizes, strict=True)
        ],
        "evaluation": None if found.evaluation is None else found.evaluation.to_dict(),
        "labels_not_judged": found.not_judged or None,
        "near_copies_compared": not found.alike,
        "problems": [
            dict(zip(COLUMNS, row, strict=True)) | {"score": float(row[-1]) if row[-1] else None}
            for row in rows(found)
        ],
    }


def write_page(path: Path, found: Checked, title: str) -> None:
    """Write a page with the pictures of the findings, whole or not at all.

    Raises:
        DataError: the place is taken by something that is no report of farshot.
    """
    table = found.table
    assert table.labels is not None

    def picture(row: int) -> dict[str, str]:
        try:
            shown = table.image(row)
        except UnreadableImage:
            shown = Image.new("RGB", (_THUMBNAIL, _THUMBNAIL))
        shown.thumbnail((_THUMBNAIL, _THUMBNAIL))
        assert table.labels is not None
        label = table.classes[int(table.labels[row])]
        return {"source": data_uri(shown), "name": Path(path_of(table.images[row])).name, "label": label}

    words = {
        "title": title,
        "found": found,
        "classes": table.classes,
        "most": _MOST_SHOWN,
        "likely": sum(one.is_likely for one in found.wrong),
        "wrong": [
            {
                **picture(one.row),
                "suggested": table.classes[one.suggested],
                "ratio": one.ratio,
                "likely": one.is_likely,
            }
            for one in found.wrong[:_MOST_SHOWN]
        ],
        "copies": [
            {"copies": one, "pictures": [picture(row) for row in one.rows[:6]]}
            for one in found.copies[:_MOST_SHOWN]
        ],
        "dim": [{**picture(one.row), "what": one.what} for one in found.dim[:_MOST_SHOWN]],
    }
    page.write_page(path, "check.html", words, "farshot.check")

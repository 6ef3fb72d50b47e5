"""farshot's own tables: a CSV file with the columns path and label, and perhaps score, by, split and group.

The files of `farshot predict --out` and the app's predictions.csv are read, too; their classes are labels
that a model gave.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farshot.annotations.files import check_unicode, new_file
from farshot.annotations.rows import Labelled
from farshot.data.found import GROUP_COLUMN, SPLIT_COLUMN
from farshot.data.rows import (
    BY_COLUMN,
    given_by,
    image_column,
    in_words,
    is_blank,
    label_column,
    of_model,
    one_column,
    read_rows,
)
from farshot.errors import DataError
from farshot.sanitize import cell, path_cell, short

_APP = ["image", "label", "class", "sure", "unlike", "adapted_to"]
"""How the header of the app's predictions.csv begins."""


def read(path: Path) -> list[Labelled]:
    """The rows of a CSV file, or of a Parquet file with the same columns.

    Raises:
        DataError: names the line.
    """
    rows = read_rows(path)
    frame: Any = rows.frame
    header = [str(column).strip() for column in frame.columns]
    cells = [list(map(_text, row)) for row in frame.itertuples(index=False, name=None)]
    places = [f"{path}, {place}" for place in rows.places]
    if header[: len(_APP)] == _APP:
        return _of_app(header, cells, places)
    if of_model(rows):
        return [_predicted(header, row, where) for row, where in zip(cells, places, strict=True)]
    columns: dict[str, Any] = {
        "image": image_column(frame, str(path)),
        "label": label_column(frame, str(path)),
        **{
            name: one_column(frame, (name,), name, str(path), needed=False)
            for name in ("score", BY_COLUMN, SPLIT_COLUMN, GROUP_COLUMN)
        },
    }
    at = {name: list(frame.columns).index(column) for name, column in columns.items() if column is not None}
    return [
        _labelled({name: row[number] for name, number in at.items()}, where)
        for row, where in zip(cells, places, strict=True)
    ]


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write a CSV file; columns that would be empty are left out, and no cell is a formula.

    Raises:
        DataError: `path` is taken or not writable, or a row could not be read again.
    """
    check_unicode(rows, path)
    high = next((row for row in rows if row.score is not None and not 0 <= row.score <= 1), None)
    if high is not None:
        raise DataError(
            f"{path}: the score {high.score:g} of {high.image} is not from 0 to 1, as tables have scores; "
            "change or remove the scores first."
        )
    by_models = any(row.by == "model" for row in rows)
    more: dict[str, list[str | None]] = {
        "score": [None if row.score is None else f"{row.score:.6f}" for row in rows],
        BY_COLUMN: [row.by if by_models else None for row in rows],
        SPLIT_COLUMN: [row.split for row in rows],
        GROUP_COLUMN: [row.group for row in rows],
    }
    kept = {name: values for name, values in more.items() if any(value is not None for value in values)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *kept])
    for number, row in enumerate(rows):
        values = [row.label, *(column[number] for column in kept.values())]
        writer.writerow([path_cell(row.image), *(cell(value or "") for value in values)])
    with new_file(path) as staging:
        staging.write_bytes(text.getvalue().encode("utf-8"))


def _text(value: Any) -> str | None:
    """What a cell holds; words are as written, since some are paths."""
    if is_blank(value):
        return None
    return value.strip() if isinstance(value, str) else in_words(value)


def _labelled(cells: dict[str, str | None], where: str) -> Labelled:
    return Labelled(
        _image(cells["image"], where),
        cells["label"],
        _number(cells.get("score"), where),
        given_by(cells.get(BY_COLUMN), where),
        cells.get(SPLIT_COLUMN),
        cells.get(GROUP_COLUMN),
    )


def _predicted(header: list[str], row: list[str | None], where: str) -> Labelled:
    label = row[1]
    score = None if label is None else _number(row[header.index(label, 2)], where)
    return Labelled(_image(row[0], where), label, score, "model")


def _of_app(header: list[str], cells: list[list[str | None]], places: list[str]) -> list[Labelled]:
    found, known = [], set[str]()
    for row, where in zip(cells, places, strict=True):
        image, label, predicted = _image(row[0], where), row[1], row[2]
        if image in known:
            raise DataError(
                f"{where}: a second picture called {image}; the app names pictures without their folders, "
                "so give each file another name and add it to the app again."
            )
        known.add(image)
        if label is not None:
            found.append(Labelled(image, label))
        column = f"p({predicted})"
        score = _number(row[header.index(column)], where) if column in header else None
        found.append(Labelled(image, predicted, score, "model"))
    return found


def _image(value: str | None, where: str) -> str:
    if value is None:
        raise DataError(f"{where}: no image; fill in its path or remove the row.")
    return value


def _number(value: str | None, where: str) -> float | None:
    if value is None:
        return None
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not 0 <= found <= 1:
        raise DataError(f"{where}: the score {short(value)} must be a number from 0 to 1; fix or empty it.")
    return found

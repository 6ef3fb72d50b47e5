"""Labelled images of a table: a CSV or Parquet file with a column of paths and one of labels."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from farshot.data.found import (
    BY_COLUMN,
    GROUP_COLUMN,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    URL_COLUMN,
    Found,
    split_called,
)
from farshot.data.names import in_class_order, nfc
from farshot.data.text import first_line, read_text
from farshot.errors import DataError
from farshot.images.reading import ImageSource
from farshot.sanitize import short, uncovered
from farshot.storage.paths import ordinary

_MARKS = ",;\t"
_SAID = re.compile(rf'"?sep=([{_MARKS}])"?\r?(\n|$)', re.IGNORECASE)  # the first line of some files of Excel

Lookup = Callable[[Any, str], ImageSource]
"""Gives the image that a cell names; its second argument is the place of the cell, for messages."""


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        name: of its file.
        frame: a pandas.DataFrame.
        places: the place of each row in the file, in words.
    """

    name: str
    frame: Any
    places: Sequence[str]


def read_rows(path: Path) -> Rows:
    """The rows of a CSV or Parquet file.

    Raises:
        DataError: a file that cannot be read; names the line.
    """
    return csv_rows(str(path), read_text(path)) if path.suffix.lower() == ".csv" else _read_parquet(path)


def has_columns(rows: Rows) -> bool:
    """Whether a table has a column of paths and one of labels."""
    names = {str(column).strip().lower() for column in rows.frame.columns}
    return bool(names & set(IMAGE_COLUMNS)) and bool(names & set(LABEL_COLUMNS))


def from_rows(rows: Rows, groups: str | None, image: Lookup) -> Found:
    """The labelled images of a table.

    Args:
        groups: the column that names the group of each image, `group` by default.

    Raises:
        DataError: names the row and what is missing in it.
    """
    path = rows.name
    rows, left_out = by_people(rows)
    frame, places = rows.frame, rows.places
    image_at, label_at = image_column(frame, path), label_column(frame, path)
    split_column = one_column(frame, (SPLIT_COLUMN,), "splits", path, needed=False)
    wanted = (GROUP_COLUMN if groups is None else groups.strip().lower(),)
    group_column = one_column(frame, wanted, "groups", path, needed=False)
    images: list[ImageSource] = []
    labels: list[str] = []
    for place, file, label in zip(places, frame[image_at], frame[label_at], strict=True):
        where = f"{path}, {place}"
        if is_blank(label):
            raise DataError(f"{where}: no label; fill it in or remove the row.")
        if is_blank(file):
            raise DataError(f"{where}: no image; fill in its path or remove the row.")
        images.append(image(file, where))
        labels.append(in_words(label))
    if not images:
        raise DataError(f"{path} has no rows; add one per image.")
    splits = None if split_column is None else _splits(frame[split_column], places, path)
    found = None if group_column is None else _groups(frame[group_column], places, path)
    notes = (*left_out, *shared_groups(splits, found))
    return Found(images, labels, in_class_order(set(labels)), splits, found, notes)


def image_column(frame: Any, path: str) -> Any:
    """The column of images: of paths, or if there is none of URLs."""
    names = {str(column).strip().lower() for column in frame.columns}
    only_urls = URL_COLUMN in names and not names & set(IMAGE_COLUMNS)
    return one_column(frame, (URL_COLUMN,) if only_urls else IMAGE_COLUMNS, "image paths", path)


def label_column(frame: Any, path: str) -> Any:
    """The column of labels."""
    return one_column(frame, LABEL_COLUMNS, "labels", path)


def by_people(rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """The rows without those whose label a model gave, where a column says so, and a note on these.

    Raises:
        DataError: all labels are a model's.
    """
    column = one_column(rows.frame, (BY_COLUMN,), "who gave the label", rows.name, needed=False)
    if column is None and of_model(rows):
        raise DataError(
            f"{rows.name}: all labels are a model's; remove the columns of its scores to take them as labels."
        )
    kept = []
    for value, place in zip([] if column is None else rows.frame[column], rows.places, strict=False):
        kept.append(given_by(None if is_blank(value) else str(value), f"{rows.name}, {place}") == "person")
    if all(kept):
        return rows, ()
    if not any(kept):
        raise DataError(
            f"{rows.name}: all labels are a model's; remove the column {BY_COLUMN!r} to take them as labels."
        )
    places = [place for place, keep in zip(rows.places, kept, strict=True) if keep]
    count = len(kept) - len(places)
    kept_rows = replace(rows, frame=rows.frame[kept], places=places)
    return kept_rows, (f"{count} labels that a model gave are left out",)


def of_training(rows: Rows) -> Rows:
    """The rows of the split "train" or of none, or all where no column names splits.

    Raises:
        DataError: a cell of that column is no split.
    """
    column = one_column(rows.frame, (SPLIT_COLUMN,), "splits", rows.name, needed=False)
    if column is None:
        return rows
    cells = ["train" if is_blank(cell) else cell for cell in rows.frame[column]]
    kept = [split == "train" for split in _splits(cells, rows.places, rows.name)]
    places = [place for place, keep in zip(rows.places, kept, strict=True) if keep]
    return replace(rows, frame=rows.frame[kept], places=places)


def given_by(value: str | None, where: str) -> Literal["person", "model"]:
    """Who gave a label, from a cell of the column `by`; a person where it is empty.

    Raises:
        DataError: any other word.
    """
    word = (value or "").strip().lower()
    if word not in ("", "person", "model"):
        raise DataError(f"{where}: {BY_COLUMN} is {short(str(value).strip())}; write person or model.")
    return "model" if word == "model" else "person"


def of_model(rows: Rows) -> bool:
    """Whether this is a file of `farshot predict`: image, class, and a column of scores for each class."""
    header = [str(column).strip() for column in rows.frame.columns]
    if header[:2] != ["image", "class"] or not header[2:]:
        return False
    classes = (None if is_blank(value) else str(value).strip() for value in rows.frame.iloc[:, 1])
    return set(classes) - {None} <= set(header[2:])


def shared_groups(splits: Sequence[str] | None, groups: Sequence[str] | None) -> tuple[str, ...]:
    """A note on groups that are in both the training and the test split, if there are any."""
    by_split: dict[str, set[str]] = defaultdict(set)
    for split, group in zip(splits or (), groups or (), strict=False):
        by_split[split].add(group)
    shared = sorted(by_split["train"] & (by_split["test"] or by_split["val"]))
    if not shared:
        return ()
    more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
    return (
        f"the groups {', '.join(shared[:3])}{more} are in the split train and in the one to measure on; "
        "their images are not measured once a model was adapted to others of theirs",
    )


def _splits(cells: Iterable[Any], places: Sequence[str], path: str) -> list[str]:
    found = []
    for place, cell in zip(places, cells, strict=True):
        split = None if is_blank(cell) else split_called(str(cell))
        if split is None:
            wrong = "no split" if is_blank(cell) else f"{short(str(cell).strip())} is not a split"
            raise DataError(
                f"{path}, {place}: {wrong}; write train, val or test, or give the column another name than "
                f"{SPLIT_COLUMN!r}."
            )
        found.append(split)
    return found


def _groups(cells: Iterable[Any], places: Sequence[str], path: str) -> list[str]:
    found = []
    for place, cell in zip(places, cells, strict=True):
        if is_blank(cell):
            raise DataError(
                f"{path}, {place}: no group; name one, a new one if the image belongs to no other, or "
                "give the column another name."
            )
        found.append(in_words(cell))
    return found


def csv_rows(path: str, text: str) -> Rows:
    """The rows of a CSV file's text; apostrophes in front of what a spreadsheet would run are taken away.

    Raises:
        DataError: names the line.
    """
    import pandas as pd  # slow to import, and a folder needs none

    said = _SAID.match(text)
    text, above = (text, 0) if said is None else (text[said.end() :], 1)
    separator = _separator(text.partition("\n")[0]) if said is None else said[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, places = [], []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue  # spreadsheets leave empty rows behind
            rows.append([uncovered(cell) for cell in row])
            places.append(f"line {reader.line_num + above}")
            if len(row) != len(rows[0]):
                raise DataError(
                    f"{path}, {places[-1]}: {len(row)} cells, but the header has {len(rows[0])}; put names "
                    f"with '{separator}' in them in double quotes."
                )
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num + above}: {first_line(error)}; fix the quotes there."
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; its first line names the columns, such as path,label.")
    return Rows(path, pd.DataFrame(rows[1:], columns=rows[0], dtype=object), places[1:])


def _separator(header: str) -> str:
    """What separates the cells of a first line, which differs by the country of a spreadsheet: the first
    mark that gives a column of images, as a comma may be part of a name; else the first that is there."""
    marks = [mark for mark in _MARKS if mark in header]
    for mark in marks:
        try:
            cells = next(csv.reader([header], delimiter=mark), [])
        except csv.Error:  # whoever reads all lines says what is wrong
            continue
        if {uncovered(cell).strip().lower() for cell in cells} & {*IMAGE_COLUMNS, URL_COLUMN}:
            return mark
    return marks[0] if marks else ","


def _read_parquet(path: Path) -> Rows:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"Reading {path} needs the parquet extra: pip install 'farshot[parquet]'.") from error
    faults = (OSError, ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException)
    try:
        table = parquet.read_table(ordinary(path))
        table.validate(full=True)  # text that is no UTF-8
        frame = table.to_pandas(ignore_metadata=True)
    except faults as error:
        raise DataError(f"{path} cannot be read as Parquet ({first_line(error)}); write it again.") from error
    return Rows(str(path), frame, [f"row {number}" for number in range(1, len(frame) + 1)])


def one_column(frame: Any, wanted: Sequence[str], what: str, path: str, *, needed: bool = True) -> Any:
    """The column with one of these names, in any case; None where there is none and it is not needed.

    Raises:
        DataError: there are several, or none.
    """
    found = [column for column in frame.columns if str(column).strip().lower() in wanted]
    if not found and not needed:
        return None
    if len(found) != 1:
        trouble = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path} has {trouble} of {what}; name exactly one of its columns {' or '.join(wanted)}."
        )
    return found[0]


def in_words(value: Any) -> str:
    """The name of a class or group that a cell holds; whole numbers have no decimals, as a table that was
    joined or has empty cells keeps them as 1.0."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return nfc(str(value).strip())


def is_blank(value: Any) -> bool:
    """Whether a cell of a table holds nothing: null, not a number, or white space."""
    if value is None or isinstance(value, str):
        return not (value or "").strip()
    import pandas as pd  # slow to import, and most cells are text

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))

"""How `farshot predict` writes its rows, as they come: to the standard stream, or to a file that an
interrupted run goes on with."""

from __future__ import annotations

import csv
import io
import json
import os
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from farshot.cli import console, streams
from farshot.errors import DataError
from farshot.sanitize import path_cell, visible
from farshot.storage.atomic import check_file, reason, replaced
from farshot.storage.json_text import read_object
from farshot.storage.locks import take
from farshot.storage.paths import home, quoted

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable

NONE = "none of these"
"""Printed in place of a class that is rejected."""

UNSURE = "not sure"
"""Printed behind a class below the model's limit."""

ANY = "any class"
"""Printed where nothing below the top of a hierarchy is certain enough."""

_CELLS = {
    "sure": lambda v: "yes" if v else "no",
    "p_value": lambda v: f"{v:.4f}",
    "rejected": lambda v: str(v).lower(),
    "set": "|".join,
    "answer": lambda v: v or "",
    "answer_probability": lambda v: "" if v is None else f"{v:.6f}",
}


class Rows(ABC):
    """A place for rows; a context that is left at the end, or on an error."""

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End; what was written is whole."""
        streams.flush()

    @abstractmethod
    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, seen at once by who reads."""


def columns(
    classes: list[str], sure: bool, p_value: bool, rejected: bool, set_: bool, answer: bool = False
) -> list[str]:
    """The header of the comma-separated values."""
    more = {"sure": sure, "p_value": p_value, "rejected": rejected and p_value, "set": set_}
    more |= dict.fromkeys(("answer", "answer_probability"), answer)
    return ["image", "class", *classes, *(name for name, there in more.items() if there)]


def printed(form: str, header: list[str]) -> Rows:
    """Rows on the standard stream, as "text", "csv" or "json"."""
    return Lines() if form == "text" else Json() if form == "json" else Csv(header)


class Lines(Rows):
    """One line of text per image."""

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:  # rich would make spaces of tabs
        """Print them."""
        _print("".join(map(_line, rows)))


class Csv(Rows):
    """Comma-separated, a set as one cell with its classes separated by "|"."""

    def __init__(self, header: list[str]) -> None:
        self._header, self._begun = header, False

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Print them."""
        cells = [_cells(row) for row in rows]
        first = [self._header] if cells and not self._begun else []
        self._begun |= bool(cells)
        _print(streams.csv_text([*first, *cells]))


class Json(Rows):
    """A list of objects."""

    def __init__(self) -> None:
        self._before = "["

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the list, which is complete even where some images could not be read."""
        if self._before == "," and (kind is None or issubclass(kind, DataError)):
            _print("\n]\n")

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Print them."""
        for row in rows:
            _print(f"{self._before}\n{textwrap.indent(streams.json_text(row), '  ')}")
            self._before = ","


def check_rows(path: Path) -> None:
    """Refuse a place for `CsvFile`, before any work.

    Raises:
        DataError: it is taken by something else, or not writable.
    """
    check_file(path, "an unfinished list of predictions", lambda _: _note_of(path).is_file())


class CsvFile(Rows):
    """A file of comma-separated values that grows. While it is not complete, a note next to it
    (NAME.unfinished.json) says which model and options its rows are from. Rows of a transductive method,
    which depend on each other, are not gone on from: the file is written from its start.

    Args:
        options: that decide what is in a row.

    Raises:
        DataError: the file is there and complete, or was begun with another model or other options.
    """

    def __init__(
        self, path: Path, header: list[str], classifier: FewShotClassifier, options: Mapping[str, Any]
    ) -> None:
        from farshot.classifier.answers import identity

        self._path = home(path)
        self._note = _note_of(path)
        self._begun = {"model": identity(classifier), **options, "header": header}
        self._said, self._from_start = path, classifier.method_.kind == "transductive"
        begun = self._is_begun()
        with self._failing():
            if not begun:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with replaced(self._note) as staging:
                    staging.write_text(json.dumps(self._begun, indent=2) + "\n", encoding="utf-8")
                self._path.touch()
            self._file = _alone(self._path, path)
            go_on = begun and not self._from_start
            self._done, size = _whole(self._file.read()) if go_on else (set[str](), 0)
            self._file.seek(size)
            self._file.truncate()
        if not size:
            self._add(streams.csv_text([header]))
        elif self._done:
            what = "row was" if len(self._done) == 1 else "rows were"
            console.err.print(f"{len(self._done)} {what} in {path} already.", markup=False)

    def left(self, table: ImageTable) -> ImageTable:
        """The images that are not in the file yet."""
        rows = [
            row
            for row, image in enumerate(table.images)
            if streams.encoded(path_cell(str(image))).decode() not in self._done
        ]
        return table.subset(rows)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append them."""
        self._add(streams.csv_text(map(_cells, rows)))

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the file; the note stays unless all rows are there."""
        with self._failing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if kind is None:
                self._note.unlink()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            raise console.Stopped(
                f"stopped; the rows so far are in {quoted(self._said)}, and the same command {self._next}."
            )

    def _is_begun(self) -> bool:
        """Whether there are rows to go on from; refuses a place that is not to be written to."""
        check_rows(self._said)
        if not self._note.is_file():
            return False
        try:
            known = read_object(self._note)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self._note} is damaged ({reason(error)}); remove it and {self._said}, or choose another "
                "--out."
            ) from error
        if known != json.loads(json.dumps(self._begun)):
            raise DataError(
                f"{self._said} was begun with another model or other options; give the same ones, choose "
                f"another --out, or remove it and {self._note.name}."
            )
        return self._path.is_file()

    def _add(self, text: str) -> None:
        with self._failing():
            self._file.write(streams.encoded(text))
            self._file.flush()

    @property
    def _next(self) -> str:
        """What the same command would do."""
        if self._from_start:
            return "begins again, since the method classifies all images together"
        return "goes on from there"

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn an OSError into one sentence about the file."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._said} cannot be written ({reason(error)}); free some space or choose another "
                f"--out. The rows that are there stay, and the same command {self._next}."
            ) from error


def _note_of(path: Path) -> Path:
    """What says which model and options unfinished rows are from."""
    path = home(path)
    return path.with_name(f"{path.name}.unfinished.json")


def _alone(path: Path, said: Path) -> BinaryIO:
    """Open a file to read and write; refuses one that another process is writing, where the system can
    tell."""
    file = path.open("r+b")
    if take(file.fileno()) is False:
        file.close()
        raise DataError(f"Another farshot is writing {said}; wait for it, or choose another --out.")
    return file


def _cells(row: Mapping[str, Any]) -> list[Any]:
    """A row of comma-separated values."""
    values = [f"{value:.6f}" for value in row["probabilities"].values()]
    more = [write(row[name]) for name, write in _CELLS.items() if name in row]
    return [path_cell(row["image"]), row["class"], *values, *more]


def _whole(data: bytes) -> tuple[set[str], int]:
    """Images of the complete rows of an unfinished file, and the bytes that these rows and the header take;
    a name may hold ends of lines."""
    images, size, begun = list[str](), 0, ""
    for line in io.StringIO(data.decode("utf-8", errors="surrogateescape"), newline="\n"):
        begun += line
        if begun.endswith("\n") and begun.count('"') % 2 == 0:
            images += [row[0] for row in csv.reader(io.StringIO(begun, newline="")) if row]
            size, begun = size + len(begun.encode("utf-8", errors="surrogateescape")), ""
    return set(images[1:]), size


def _line(row: Mapping[str, Any]) -> str:
    """One line of text."""
    from farshot.evaluation.calibration import certain_in_words

    best = max(row["probabilities"].values())
    certain = certain_in_words(best, row["calibrated"])
    words = [row["image"], *((NONE, "-") if row["class"] is None else (row["class"], certain))]
    if row.get("sure") is False and row["class"] is not None:
        words.append(UNSURE)
    if "p_value" in row:
        words.append(f"p {row['p_value']:.3f}")
    if "set" in row:
        words.append("{" + ", ".join(row["set"]) + "}")
    if "answer" in row and row["class"] is not None:
        words.append(
            f"{row['answer'] or ANY} {certain_in_words(row['answer_probability'], row['calibrated'])}"
        )
    return "\t".join(map(visible, words)) + "\n"


def _print(text: str) -> None:
    streams.write_data(text)
    streams.flush()

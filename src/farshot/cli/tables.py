"""Tables of images as commands use them: readable, with a note on what was passed over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farshot.cli import console, streams
from farshot.storage.atomic import check_file, whole_file

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier
    from farshot.data.table import ImageTable


def readable(
    table: ImageTable, skip_unreadable: bool, by: FewShotClassifier | tuple[str, int] | None
) -> ImageTable:
    """The images that can be read, decoded as a model, or a reading and size, will ask for them; None where
    several will."""
    for note in table.notes:
        console.err.print(f"Note: {note}.", markup=False)
    if by is not None and not isinstance(by, tuple):
        table = table.with_options(by.read_options_)
        by = by.adapted_.reading, by.encoder_.size
    with console.progress("reading images") as progress:
        readable = table.check_readable(skip_unreadable, progress, keep=by)
    print_left_out(len(table) - len(readable))
    return readable


def print_left_out(images: int) -> None:
    """How many images were skipped because they cannot be read; nothing for none."""
    if images:
        what = "image is" if images == 1 else "images are"
        console.err.print(f"{images} unreadable {what} left out.", markup=False)


def check_csv(path: Path) -> None:
    """Refuse a place for `write_csv`, before any work.

    Raises:
        DataError: it is taken by something else, or not writable.
    """
    check_file(path, "a CSV file of recall and precision", _is_ours)


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows, a header first, completely or not at all; no cell is a formula."""
    with whole_file(path, check_csv) as staging:
        staging.write_bytes(streams.encoded(streams.csv_text(rows)))


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(200).startswith(b"class,images,recall")


def note_on(classifier: FewShotClassifier, images: int) -> str:
    """Prints and returns what to know of a transductive method's predictions; empty for other methods."""
    from farshot.classifier.answers import transductive_note

    note = transductive_note(classifier, images)
    if note:
        console.err.print(f"Note: {note}", markup=False)
    return note

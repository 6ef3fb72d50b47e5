"""Tables of images as commands use them: readable, with a note on what was passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farshot.cli import console

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
    if left := len(table) - len(readable):
        console.err.print(
            f"{left} unreadable {'image is' if left == 1 else 'images are'} left out.", markup=False
        )
    return readable


def note_on(classifier: FewShotClassifier, images: int) -> str:
    """Prints and returns what to know of a transductive method's predictions; empty for other methods."""
    if classifier.method_.kind != "transductive":
        return ""
    note = (
        f"{classifier.method_.name} is transductive: the {images} images were classified together, and with "
        "others an image may get another label."
    )
    console.err.print(f"Note: {note}", markup=False)
    return note

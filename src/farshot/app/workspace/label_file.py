"""Labels as a CSV file: written for other programs, and read back to label the pictures that are here.

    image,label,id      as the app writes it; the id is the picture's content hash
    path,label          or any other column of images and of labels that farshot reads

An image is found by its id, else by its file name without folders. A row without a label changes nothing.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farshot.app.texts import Fault, Text
from farshot.app.workspace.classes import ClassWords, cleaned
from farshot.app.workspace.names import parts_of, shown_name
from farshot.app.workspace.state import Workspace
from farshot.data.found import IMAGE_COLUMNS, LABEL_COLUMNS
from farshot.data.rows import Rows, csv_rows, is_blank, one_column
from farshot.data.text import first_line
from farshot.sanitize import cell, plain

SUFFIX = ".csv"
MOST_BYTES = 5_000_000
_MOST_NAMED = 5  # images that are listed in a message


def written(workspace: Workspace) -> str:
    """The labels of all pictures; those without a class have an empty label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "id"])
    for picture in workspace.pictures:
        writer.writerow([cell(picture.name), cell(picture.label or ""), picture.id])
    return text.getvalue()


def take_labels(workspace: Workspace, path: Path, name: str) -> str:
    """Label pictures as a CSV file says, as one change.

    Args:
        path: the file; untrusted.
        name: what it was called, for messages.

    Returns:
        How many labels were set, and which images are not here.

    Raises:
        DataError: it is no table of images and labels, an image has two labels, or a class cannot be added;
            nothing is changed.
    """
    rows = csv_rows(name, _text(path, name))
    names = {str(one).strip().lower() for one in rows.frame.columns}
    # the app's predictions have a label and a predicted class; the label is meant
    labels = ("label",) if "label" in names else LABEL_COLUMNS
    wanted: dict[str, tuple[str, str]] = {}
    unknown: dict[str, None] = {}
    several: dict[str, None] = {}
    found = _Pictures(workspace)
    for place, image, id, label in _cells(rows, labels):
        here = found.ids(image, id)
        if not here:
            unknown[image] = None
        elif len(here) > 1:
            several[image] = None
        elif here[0] in wanted and wanted[here[0]][0] != label:
            other = wanted[here[0]]
            raise Fault(
                "labels.two", name=name, place=place, image=image, label=label, other=other[0], where=other[1]
            )
        else:
            wanted[here[0]] = (label, place)
    classes = {words.name.casefold(): words.name for words in workspace.classes}
    new: list[ClassWords] = []
    for label, _ in wanted.values():
        if label.casefold() not in classes:
            classes[label.casefold()] = label
            new.append(ClassWords(label))
    told = {id: classes[label.casefold()] for id, (label, _) in wanted.items()}
    changed = workspace.label_each(told, new, Text("change.labels_of_file", name=name))
    said = [Text("labels.set", n=changed)]
    if len(told) > changed:
        said.append(Text("labels.as_before", n=len(told) - changed))
    for images, key in ((unknown, "labels.unknown"), (several, "labels.of_several")):
        if images:
            said.append(Text(key, n=len(images), names=_listed(list(images))))
    return Text("labels.taken", name=name, said=tuple(said))


class _Pictures:
    """The pictures of a workspace by id and by name."""

    def __init__(self, workspace: Workspace) -> None:
        self._ids = {picture.id for picture in workspace.pictures}
        self._named = defaultdict(list)
        for picture in workspace.pictures:
            self._named[picture.name].append(picture.id)

    def ids(self, image: str, id: str) -> list[str]:
        """Those that a row means; several where their names are the same."""
        if id in self._ids:
            return [id]
        name = shown_name(image)
        return self._named.get(name) or self._named.get(_uncovered(name), [])


def _cells(rows: Rows, labels: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Place, image without folders, id and label of each row with a label."""
    frame = rows.frame
    images = frame[one_column(frame, IMAGE_COLUMNS, "images", rows.name)]
    texts = frame[one_column(frame, labels, "labels", rows.name)]
    key = one_column(frame, ("id",), "ids", rows.name, needed=False)
    ids: Any = [""] * len(frame) if key is None else frame[key]
    out = []
    for place, image, id, label in zip(rows.places, images, ids, texts, strict=True):
        if is_blank(label):
            continue
        file = plain(parts_of(str(image).strip())[-1])
        name = cleaned(ClassWords(_uncovered(str(label).strip()))).name
        out.append((place, file, str(id).strip(), name))
    return out


def _uncovered(text: str) -> str:
    """What `cell` protected from spreadsheets."""
    return text[1:] if text.startswith("'") and cell(text[1:]) == text else text


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    listed = ", ".join(names[:_MOST_NAMED])
    return Text("labels.and_more", names=listed, n=more) if more > 0 else listed


def _text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Fault("labels.too_large", name=name, size=MOST_BYTES // 1_000_000)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault("labels.not_utf8", name=name) from error
    except OSError as error:
        raise Fault("labels.cannot_read", name=name, why=first_line(error)) from error

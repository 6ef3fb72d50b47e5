"""Labels as a CSV file: written for other programs, and read back to label the pictures that are here.

    image,label,id      as the app writes it; the id is the picture's content hash
    path,label          or any other column of images and of labels that farshot reads
    group               where there is such a column: what the picture was taken of, as a patient or a plant

An image is found by its id; without one, or where the ids are another program's, by its file name without
folders. A row without a label keeps the class of its picture, one without a group its group. Labels that a
model gave, by a column `by`, and of other splits than train, by a column `split`, are left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from farshot.app.texts import Fault, Text
from farshot.app.workspace.classes import ClassWords, cleaned
from farshot.app.workspace.groups import MOST_LETTERS
from farshot.app.workspace.names import parts_of, shown_name
from farshot.app.workspace.state import Workspace
from farshot.data.found import GROUP_COLUMN, IMAGE_COLUMNS, LABEL_COLUMNS
from farshot.data.rows import Rows, by_people, csv_rows, is_blank, of_training, one_column
from farshot.data.text import first_line
from farshot.pick.sheet import COLUMNS
from farshot.sanitize import cell, plain, uncovered

SUFFIX = ".csv"
MOST_BYTES = 5_000_000
_OUR_ID = re.compile("[0-9a-f]{32}")  # as `image_id` makes them, and MD5, too
_WITH_IDS = ({"image", "label", "id"}, set(COLUMNS))  # columns of the app's tables and of pick sheets
_MOST_NAMED = 5  # images that are listed in a message


def written(workspace: Workspace) -> str:
    """The labels of all pictures; those without a class have an empty label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    groups = workspace.groups()
    writer.writerow(["image", "label", "id", *([GROUP_COLUMN] if groups else [])])
    for picture in workspace.pictures:
        group = [cell(groups.get(picture.id, ""))] if groups else []
        writer.writerow([cell(picture.name), cell(picture.label or ""), picture.id, *group])
    return text.getvalue()


def take_labels(workspace: Workspace, path: Path, name: str) -> str:
    """Label pictures as a CSV file says, as one change.

    Args:
        path: the file; untrusted.
        name: what it was called, for messages.

    Returns:
        How many labels were set, and which images are not here.

    Raises:
        DataError: it is no table of images and labels, all labels are a model's, an image has two labels, or
            a class cannot be added; nothing is changed.
    """
    whole = csv_rows(name, _text(path, name))
    labelled, _ = by_people(whole)
    rows = of_training(labelled)
    names = {str(one).strip().lower() for one in rows.frame.columns}
    # the app's predictions have a label and a predicted class; the label is meant
    labels = ("label",) if "label" in names else LABEL_COLUMNS
    wanted: dict[str, tuple[str, str]] = {}
    groups: dict[str, tuple[str, str]] = {}
    unknown: dict[str, None] = {}
    several: dict[str, None] = {}
    ids = _ids(whole)
    found = _Pictures(workspace, names - {GROUP_COLUMN} in _WITH_IDS, ids)
    for place, image, id, label, group in _cells(whole, labels, ids, set(rows.frame.index)):
        here = found.ids(image, id)
        if not here:
            unknown[image] = None
        elif len(here) > 1:
            several[image] = None
        else:
            for what, told_of, value in (("label", wanted, label), ("group", groups, group)):
                other = told_of.setdefault(here[0], (value, place)) if value else (value, place)
                if other[0] != value:
                    raise Fault(
                        f"labels.two_{what}",
                        name=name,
                        place=place,
                        image=image,
                        value=value,
                        other=other[0],
                        where=other[1],
                    )
    classes = {words.name.casefold(): words.name for words in workspace.classes}
    new: list[ClassWords] = []
    for label, _ in wanted.values():
        if label.casefold() not in classes:
            classes[label.casefold()] = label
            new.append(ClassWords(label))
    told = {id: classes[label.casefold()] for id, (label, _) in wanted.items()}
    before = {picture.id: picture.label for picture in workspace.pictures}
    apart = {id: group for id, (group, _) in groups.items()}
    workspace.label_each(told, new, Text("change.labels_of_file", name=name), apart)
    changed = sum(label != before.get(id) for id, label in told.items())
    said = [Text("labels.set", n=changed)]
    if len(told) > changed:
        said.append(Text("labels.as_before", n=len(told) - changed))
    if apart:
        said.append(Text("labels.groups", pictures=len(apart), groups=len(set(apart.values()))))
    left_out = (len(whole.places) - len(labelled.places), len(labelled.places) - len(rows.places))
    said += [
        Text(key, n=n) for key, n in zip(("labels.of_model", "labels.of_test"), left_out, strict=True) if n
    ]
    for images, key in ((unknown, "labels.unknown"), (several, "labels.of_several")):
        if images:
            said.append(Text(key, n=len(images), names=_listed(list(images))))
    return Text("labels.taken", name=name, said=tuple(said))


class _Pictures:
    """The pictures of a workspace by id and by name.

    Args:
        by_id: whether ids of a table with these columns are those of pictures; else that one of them is here
            tells.
        ids: of the table.
    """

    def __init__(self, workspace: Workspace, by_id: bool, ids: Sequence[str]) -> None:
        self._ids = {picture.id for picture in workspace.pictures}
        self._by_id = by_id or not self._ids.isdisjoint(ids)
        self._named = defaultdict(list)
        for picture in workspace.pictures:
            self._named[picture.name].append(picture.id)

    def ids(self, image: str, id: str) -> list[str]:
        """Those that a row means; several where their names are the same."""
        if id in self._ids:
            return [id]
        if self._by_id and _OUR_ID.fullmatch(id):  # of another picture
            return []
        name = shown_name(image)
        return self._named.get(name) or self._named.get(uncovered(name), [])


def _ids(rows: Rows) -> list[str]:
    """The id of each row; empty where there is none."""
    key = one_column(rows.frame, ("id",), "ids", rows.name, needed=False)
    return [""] * len(rows.frame) if key is None else [str(id).strip() for id in rows.frame[key]]


def _cells(
    rows: Rows, labels: Sequence[str], ids: Sequence[str], labelling: Collection[int]
) -> list[tuple[str, str, str, str, str]]:
    """Place, image without folders, id, label and group of each row with a label or a group.

    Args:
        labels: the names of a column of labels.
        ids: of the rows.
        labelling: the rows whose label counts.
    """
    frame = rows.frame
    images = frame[one_column(frame, IMAGE_COLUMNS, "images", rows.name)]
    group_column = one_column(frame, (GROUP_COLUMN,), "groups", rows.name, needed=False)
    label_column = one_column(frame, labels, "labels", rows.name, needed=group_column is None)
    nothing = [""] * len(frame)
    texts, groups = (nothing if one is None else frame[one] for one in (label_column, group_column))
    told = [label if row in labelling else "" for row, label in enumerate(texts)]
    out = []
    for place, image, id, label, group in zip(rows.places, images, ids, told, groups, strict=True):
        name, apart = (
            "" if is_blank(cell) else cleaned(ClassWords(uncovered(str(cell).strip()))).name
            for cell in (label, group)
        )
        if name or apart:
            file = plain(parts_of(str(image).strip())[-1])
            out.append((place, file, id, name, apart[:MOST_LETTERS]))
    return out


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

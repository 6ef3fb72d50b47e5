"""Datumaro's JSON (version 1.0, which CVAT writes and reads, too), annotations of the type `label`.

The name of a file is its split, as Datumaro has it ("train.json"), unless an item says otherwise. `split` and
`group` are attributes of items; `score` and `by` are attributes of labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from farshot.annotations.files import (
    by_of,
    check_names,
    in_order,
    list_of_objects,
    new_file,
    optional_text,
    read_json_object,
    score_of,
    size_of,
    text_of,
    write_json,
)
from farshot.annotations.rows import Labelled
from farshot.data.found import split_called
from farshot.errors import DataError
from farshot.sanitize import short

_IMAGE = 2  # as Datumaro numbers kinds of media


def read(path: Path) -> list[Labelled]:
    """The labels of a file: one row for each label of an item, and one for an item without.

    Raises:
        DataError: names the item.
    """
    content = read_json_object(path)
    names = _names(content, path)
    found = []
    used: dict[int, str] = {}
    for number, item in enumerate(list_of_objects(content, "items", path)):
        where = f"{path}, items[{number}]"
        image = _object(item, "image")
        name = text_of(image.get("path") or item.get("id"), where, "the path of the image")
        about = _object(item, "attr")
        split, group = (optional_text(about.get(key), where, key) for key in ("split", "group"))
        split = split or split_called(path.stem)
        labels = [
            one
            for one in (list_of_objects(item, "annotations", path) if "annotations" in item else [])
            if one.get("type") == "label"
        ]
        for one in labels or [{}]:
            label = _label(one, names, where) if one else None
            if label is not None:
                used[one["label_id"]] = label
            more = _object(one, "attributes")
            score = score_of(more.get("score"), where)
            by = by_of(score, more.get("by"))
            found.append(Labelled(name, label, score, by, split, group))
    check_names(used.values(), path)
    return found


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write a file.

    Raises:
        DataError: `path` is taken or not writable.
    """
    names = sorted(in_order(row.label for row in rows))
    items: dict[str, dict[str, Any]] = {}
    stems = Counter(str(PurePosixPath(image).with_suffix("")) for image in {row.image for row in rows})
    for row in rows:
        if row.image not in items:
            size = size_of(row.image, path.parent)
            stem = str(PurePosixPath(row.image).with_suffix(""))
            items[row.image] = {
                "id": stem if stems[stem] == 1 else row.image,
                "annotations": [],
                "attr": _given(split=row.split, group=row.group),
                "image": {"path": row.image, **({} if size is None else {"size": [size[1], size[0]]})},
            }
        if row.label is not None:
            annotations = items[row.image]["annotations"]
            by = "model" if row.by == "model" else None
            more = {"attributes": _given(score=row.score, by=by), "group": 0}
            one = {"id": len(annotations), "type": "label", "label_id": names.index(row.label)}
            annotations.append({**one, **more})
    labels = [{"name": name, "parent": "", "attributes": []} for name in names]
    content = {
        "dm_format_version": "1.0",
        "media_type": _IMAGE,
        "infos": {},
        "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
        "items": list(items.values()),
    }
    with new_file(path) as staging:
        write_json(staging, content)


def _object(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under a key; an empty one where there is something else."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _names(content: dict[str, Any], path: Path) -> list[str]:
    """The names of the labels by number."""
    categories = content.get("categories")
    known = categories.get("label") if isinstance(categories, dict) else None
    labels = list_of_objects(known, "labels", path) if isinstance(known, dict) else []
    return [text_of(one.get("name"), f"{path}, labels[{n}]", "its name") for n, one in enumerate(labels)]


def _label(one: dict[str, Any], names: list[str], where: str) -> str:
    number = one.get("label_id")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(names):
        raise DataError(f"{where}: there is no label with the number {short(number)}; export it again.")
    return names[number]

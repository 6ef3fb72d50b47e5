"""COCO's JSON with a category for each image: the lists images, categories and annotations.

Files of object detection are read, too: the categories of an image's boxes are its labels. An annotation with
a score, or with `by`, was made by a model. `split` and `group` are keys of images that other programs ignore.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
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
from farshot.errors import DataError
from farshot.sanitize import short


def read(path: Path) -> list[Labelled]:
    """The labels of a file: one row for each different label of an image, and one for an image without.

    Raises:
        DataError: names the entry.
    """
    content = read_json_object(path)
    names = _by_id(content, "categories", path)
    images = _by_id(content, "images", path)
    labels: dict[Any, list[Labelled]] = defaultdict(list)
    used: dict[Any, str] = {}
    for number, one in enumerate(list_of_objects(content, "annotations", path)):
        where = f"{path}, annotations[{number}]"
        image = _known(one, "image_id", images, where)
        category = _known(one, "category_id", names, where)
        label = text_of(names[category].get("name"), f"{path}, category {short(category)}", "its name")
        used[category] = label
        score = score_of(one.get("score"), where)
        labels[image].append(Labelled("", label, score, by_of(score, one.get("by"))))
    check_names(used.values(), path)
    found: list[Labelled] = []
    for identity, image in images.items():
        where = f"{path}, image {short(identity)}"
        name = text_of(image.get("file_name"), where, "file_name")
        split, group = (optional_text(image.get(key), where, key) for key in ("split", "group"))
        found += [
            replace(one, image=name, split=split, group=group)
            for one in _different(labels.get(identity, [Labelled("", None)]))
        ]
    return found


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write a file; a model's label says so in a key `by` that other programs ignore.

    Raises:
        DataError: `path` is taken or not writable.
    """
    names = in_order(row.label for row in rows)
    numbers = {name: number for number, name in enumerate(sorted(names), 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for row in rows:
        if row.image not in images:
            images[row.image] = {"id": len(images) + 1, "file_name": row.image}
            if (size := size_of(row.image, path.parent)) is not None:
                images[row.image] |= {"width": size[0], "height": size[1]}
            of_image = {"split": row.split, "group": row.group}
            images[row.image] |= {key: value for key, value in of_image.items() if value is not None}
        if row.label is None:
            continue
        one = {"image_id": images[row.image]["id"], "category_id": numbers[row.label]}
        more = {"score": row.score, "by": "model" if row.by == "model" else None}
        known = {key: value for key, value in more.items() if value is not None}
        annotations.append({"id": len(annotations) + 1, **one, **known})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    content = {"images": list(images.values()), "categories": categories, "annotations": annotations}
    with new_file(path) as staging:
        write_json(staging, content)


def _by_id(content: dict[str, Any], key: str, path: Path) -> dict[Any, dict[str, Any]]:
    """The entries of a list by their id."""
    found: dict[Any, dict[str, Any]] = {}
    for number, one in enumerate(list_of_objects(content, key, path)):
        identity = one.get("id")
        where = f"{path}, {key}[{number}]"
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            raise DataError(f"{where}: the id must be a number or text, not {short(identity)}.")
        if identity in found:
            raise DataError(f"{where}: the id {short(identity)} is there twice; give each its own.")
        found[identity] = one
    return found


def _known(one: dict[str, Any], key: str, ids: dict[Any, Any], where: str) -> Any:
    """A reference to another entry."""
    value = one.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in ids:
        raise DataError(f"{where}: there is no entry with the {key} {short(value)}; add it or remove this.")
    return value


def _different(labels: list[Labelled]) -> list[Labelled]:
    """The labels without repetitions, as of several boxes; the first of each person's and of each model's."""
    found: dict[tuple[str | None, str], Labelled] = {}
    for one in labels:
        found.setdefault((one.label, one.by), one)
    return list(found.values())

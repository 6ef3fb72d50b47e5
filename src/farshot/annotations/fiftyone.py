"""The formats of FiftyOne: a folder with samples.json (FiftyOneDataset, LegacyFiftyOneDataset), and
labels.json next to a folder data (FiftyOneImageClassificationDataset).

In samples.json every Classification is a label; one with a confidence was made by a model. Of the tags of a
sample train, val or test is its split, and the text or the Group in the field `group` is its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from farshot.annotations.files import (
    in_order,
    list_of_objects,
    new_file,
    new_folder,
    optional_text,
    read_json_object,
    score_of,
    text_of,
    write_json,
)
from farshot.annotations.rows import Labelled
from farshot.data.files import image_files
from farshot.data.found import split_called
from farshot.errors import DataError
from farshot.images.member import has_scheme
from farshot.sanitize import short

_PERSON, _MODEL, _GROUP = "ground_truth", "predictions", "group"
_FOLDER = "data"


def labels_file(folder: Path) -> Path | None:
    """The file with the labels in a folder of FiftyOne; None for other folders."""
    if (folder / "samples.json").is_file():
        return folder / "samples.json"
    if (folder / "labels.json").is_file() and (folder / _FOLDER).is_dir():
        return folder / "labels.json"
    return None


def read(path: Path) -> list[Labelled]:
    """The labels of a folder, or of its samples.json or labels.json.

    Raises:
        DataError: names the sample.
    """
    file = labels_file(path) if path.is_dir() else path
    if file is None:
        raise DataError(
            f"{path} is no folder of FiftyOne: it has neither samples.json nor labels.json and {_FOLDER}; "
            "export it as FiftyOneDataset or FiftyOneImageClassificationDataset."
        )
    content = read_json_object(file)
    return list((_from_samples if "samples" in content else _from_labels)(content, file))


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write labels.json where `path` ends in .json, else a folder with samples.json. Pictures are not copied.

    Raises:
        DataError: `path` is taken or not writable, or labels.json cannot hold a row.
    """
    if path.suffix.lower() == ".json":
        content = _as_labels(rows, path)
        with new_file(path) as staging:
            write_json(staging, content)
        return
    samples: dict[str, dict[str, Any]] = {}
    for row in rows:
        more = {} if row.group is None else {_GROUP: row.group}
        tags = [] if row.split is None else [row.split]
        sample = samples.setdefault(row.image, {"filepath": row.image, "tags": tags, **more})
        if row.label is not None:
            score = {} if row.score is None else {"confidence": row.score}
            field = _PERSON if row.by == "person" else _MODEL
            sample[field] = {"_cls": "Classification", "tags": [], "label": row.label, **score}
    with new_folder(path) as folder:
        write_json(folder / "metadata.json", {"media_type": "image", "info": {}})
        write_json(folder / "samples.json", {"samples": list(samples.values())})


def _from_samples(content: dict[str, Any], path: Path) -> Iterator[Labelled]:
    for number, sample in enumerate(list_of_objects(content, "samples", path)):
        where = f"{path}, samples[{number}]"
        image = text_of(sample.get("filepath"), where, "filepath")
        tags = sample.get("tags")
        words = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        splits = in_order(map(split_called, words))
        if len(splits) > 1:
            raise DataError(f"{where}: it has the tags of two splits, {' and '.join(splits)}; keep one.")
        split = splits[0] if splits else None
        group = optional_text(_without_class(sample.get(_GROUP)), where, _GROUP)
        labels: list[tuple[str | None, float | None, bool]] = [
            label
            for name, value in sample.items()
            for label in _labels(value, f"{where}.{name}", name == _MODEL)
        ]
        for label, score, by_model in labels or [(None, None, False)]:
            yield Labelled(image, label, score, "model" if by_model else "person", split, group)


def _without_class(group: Any) -> Any:
    """The id of a Group of FiftyOne; everything else as it is."""
    if isinstance(group, dict) and group.get("_cls") == "Group":
        identity = group.get("_id", group.get("id"))
        return identity.get("$oid") if isinstance(identity, dict) else identity
    return group


def _labels(value: Any, where: str, by_model: bool) -> Iterator[tuple[str, float | None, bool]]:
    """The labels in a field of a sample: one, several, or none where it holds something else.

    Args:
        by_model: whether the field is that of a model, so that labels without a confidence are, too.
    """
    kind = value.get("_cls") if isinstance(value, dict) else None
    if kind == "Classifications":
        for number, one in enumerate(list_of_objects(value, "classifications", Path(where))):
            yield from _labels({"_cls": "Classification", **one}, f"{where}[{number}]", by_model)
    elif kind == "Classification" and value.get("label") is not None:
        score = score_of(value.get("confidence"), where)
        yield text_of(value.get("label"), where, "label"), score, by_model or score is not None


def _from_labels(content: dict[str, Any], path: Path) -> Iterator[Labelled]:
    classes, labels = content.get("classes"), content.get("labels")
    if not isinstance(labels, dict):
        raise DataError(f"{path} has no object 'labels'; export it as FiftyOneImageClassificationDataset.")
    files = _by_key(path.parent / _FOLDER)
    for key, target in labels.items():
        where = f"{path}, {short(key)}"
        image = key if Path(key).is_absolute() or has_scheme(key) else files.get(key)
        if image is None:
            raise DataError(f"{where}: there is no image of this name in {path.parent / _FOLDER}; add it.")
        found = [_target(one, classes, where) for one in (target if isinstance(target, list) else [target])]
        for label, score in found or [(None, None)]:
            yield Labelled(image, label, score, "person" if score is None else "model")


def _target(target: Any, classes: Any, where: str) -> tuple[str | None, float | None]:
    """Label and confidence of an entry of labels.json."""
    score = None
    if isinstance(target, dict):
        target, score = target.get("label"), score_of(target.get("confidence"), where)
    if target is None:
        return None, None
    if isinstance(target, int) and not isinstance(target, bool):
        if not isinstance(classes, list) or not 0 <= target < len(classes):
            count = len(classes) if isinstance(classes, list) else 0
            raise DataError(f"{where}: the label {target} is no index into the {count} classes.")
        target = classes[target]
    return text_of(target, where, "label"), score


def _by_key(folder: Path) -> dict[str, str]:
    """Images in a folder by what labels.json calls them: the path without extension."""
    found: dict[str, str] = {}
    for file in image_files(folder) if folder.is_dir() else ():
        inside = PurePosixPath(Path(file).relative_to(folder).as_posix())
        key = str(inside.with_suffix(""))
        if key in found:
            raise DataError(f"{folder} has two images called {key}; labels.json cannot tell them apart.")
        found[key] = f"{_FOLDER}/{inside}"
    return found


def _as_labels(rows: Sequence[Labelled], path: Path) -> dict[str, Any]:
    classes = sorted(in_order(row.label for row in rows))
    labels: dict[str, Any] = {}
    for row in rows:
        if has_scheme(row.image):
            raise DataError(f"{path}: labels.json of FiftyOne holds no URLs ({row.image}); choose a folder.")
        if row.by == "model" and row.label is not None and row.score is None:
            raise DataError(
                f"{path}: labels.json of FiftyOne cannot say that a model gave a label without a score, as "
                f"that of {row.image}; choose a folder, or --by person."
            )
        place = PurePosixPath(Path(row.image).as_posix())
        inside = len(place.parts) > 1 and place.parts[0] == _FOLDER
        key = (
            str(place.relative_to(_FOLDER).with_suffix("")) if inside else str(path.absolute().parent / place)
        )
        if key in labels:
            raise DataError(
                f"{path}: labels.json of FiftyOne holds one label for each image, and {row.image} has two; "
                "choose a folder, or --by person."
            )
        named = None if row.label is None else classes.index(row.label)
        scored = row.score is not None and row.label is not None
        labels[key] = {"label": row.label, "confidence": row.score} if scored else named
    return {"classes": classes, "labels": labels}

"""Label Studio's JSON: exports (JSON and JSON_MIN) are read, tasks to import are written.

Of a task with several annotations the last one that was not cancelled (skipped) counts: by `updated_at`, of
equal times the one with the higher id, then the later in the file. A task without one has the label of its
last prediction, by the same order, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from farshot.annotations.files import optional_text, write_json
from farshot.annotations.rows import Labelled
from farshot.errors import DataError
from farshot.sanitize import short
from farshot.storage.atomic import check_file, reason, whole_file
from farshot.storage.json_text import parse
from farshot.storage.paths import ordinary

MOST_BYTES = 256 << 20
"""Of an export."""

MODEL = "farshot"
"""How the model versions of our predictions begin: only their scores are known to be calibrated."""

_CONTROL, _OBJECT = "choice", "image"  # names in the tasks that are written
_COLUMNS = ("split", "group")
_LABELS = (_CONTROL, "label", "class", "choices")  # columns of JSON_MIN that are surely labels
_RESERVED = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments"),
    *_COLUMNS,
}
"""Columns of JSON_MIN that are neither an image nor a label."""

_IMAGE = re.compile(
    r"data:image/|/data/(upload|local-files)/|.*\.(jpe?g|png|webp|gif|bmp|tiff?|ppm|jp2|heic|dcm)(\?.*)?$",
    re.IGNORECASE | re.DOTALL,
)
_WAY = "export the project again as JSON"


def read(path: Path) -> list[Labelled]:
    """Read an export, full JSON or JSON_MIN.

    Raises:
        DataError: the file cannot be read, or a task has no certain image, or several labels.
    """
    try:
        with ordinary(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MB")
        tasks = parse(data)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError("it is no list of tasks")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no export of Label Studio ({reason(error)}); {_WAY} or JSON_MIN."
        ) from error
    if not tasks:
        raise DataError(f"{path} has no tasks; {_WAY}.")
    full = [isinstance(task.get("data"), dict) for task in tasks]
    if all(full):
        return [_row(task, f"{path}: task {number}") for number, task in _numbered(tasks)]
    if any(full):
        number = tasks[full.index(False)].get("id", full.index(False) + 1)
        raise DataError(f"{path}: task {short(number)} has no `data`, but others have; {_WAY}.")
    return _rows_of_minimal(tasks, path)


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write tasks that Label Studio imports: a person's labels as annotations, a model's as predictions.

    The project needs a labelling configuration with an Image named `image` and Choices named `choice`.

    Raises:
        DataError: the place is taken by something else or cannot be written.
    """
    images: dict[str, list[Labelled]] = {}
    for row in rows:
        images.setdefault(row.image, []).append(row)
    tasks = [_task(of_image) for of_image in images.values()]
    with whole_file(
        path, lambda place: check_file(place, "a list of tasks of Label Studio", _is_tasks)
    ) as new:
        write_json(new, tasks)


def counted(annotations: Iterable[Any]) -> Mapping[str, Any] | None:
    """The one that counts of a task's annotations or predictions; None if all were cancelled."""
    found = [one for one in annotations if isinstance(one, dict) and not _is_cancelled(one)]
    return max(enumerate(found), key=lambda pair: (*_age(pair[1]), pair[0]))[1] if found else None


def _is_cancelled(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("was_cancelled") or annotation.get("skipped"))


def choice(annotation: Mapping[str, Any], control: str | None = None) -> str | None:
    """The class that an annotation or prediction gives to the whole picture; None where it gives none.

    Args:
        control: name of the Choices; by default there may be one only.

    Raises:
        DataError: several classes, or several Choices; the sentence follows the name of a task and a colon.
    """
    results = annotation.get("result")
    found: dict[str, list[Any]] = {}
    for one in results if isinstance(results, list) else []:
        if (
            not isinstance(one, dict)
            or one.get("type") != "choices"
            or not isinstance(one.get("value"), dict)
        ):
            continue
        name, chosen = str(one.get("from_name")), one["value"].get("choices")
        if control in (None, name) and isinstance(chosen, list):
            found.setdefault(name, []).extend(chosen)
    if len(found) > 1:
        raise DataError(
            f"it has labels of several Choices ({', '.join(map(short, sorted(found)))}); keep one of them in "
            "the project, or delete the others from the file."
        )
    chosen = next(iter(found.values()), [])
    return _one_class(chosen) if chosen else None


def _one_class(chosen: Sequence[Any]) -> str:
    if len(chosen) > 1:
        raise DataError(
            f"it has {len(chosen)} classes ({', '.join(map(short, chosen[:3]))}); give every picture one."
        )
    if not isinstance(chosen[0], str) or not chosen[0].strip():
        raise DataError(
            f"its class is {short(chosen[0])}; a class is a word, and nested choices are not read."
        )
    return chosen[0]


def _numbered(tasks: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((short(task.get("id", number)), task) for number, task in enumerate(tasks, start=1))


def _row(task: Mapping[str, Any], where: str) -> Labelled:
    data = task["data"]
    image = _image(data, where)
    more = _more(data, where)
    try:
        annotation = counted(_listed(task, "annotations") or _listed(task, "completions"))
        if annotation is not None and (label := choice(annotation)) is not None:
            return Labelled(image, label, **more)
        prediction = counted(_listed(task, "predictions")) if annotation is None else None
        if prediction is not None and (label := choice(prediction)) is not None:
            return Labelled(image, label, _score(prediction), "model", **more)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return Labelled(image, None, **more)


def _rows_of_minimal(tasks: Sequence[Mapping[str, Any]], path: Path) -> list[Labelled]:
    """Of JSON_MIN: one entry per annotation."""
    by_task: dict[Any, list[Mapping[str, Any]]] = {}
    for number, task in enumerate(tasks):
        identity = task.get("id")
        by_task.setdefault(identity if isinstance(identity, int | str) else f"row {number}", []).append(task)
    candidates = _label_columns(tasks, path)
    rows = []
    for identity, entries in by_task.items():
        where = f"{path}: task {short(identity)}"
        entry = counted(entries)
        assert entry is not None or all(map(_is_cancelled, entries))
        task = entries[-1] if entry is None else entry
        image_column, image = _image_column(task, where)
        more = _more(task, where)
        columns = [
            name
            for name in candidates
            if name != image_column
            and (isinstance(task.get(name), str | dict) or (name in _LABELS and task.get(name) is not None))
        ]
        if entry is None or not columns:
            rows.append(Labelled(image, None, **more))
            continue
        _check_one(columns, where)
        found = task[columns[0]]
        chosen = found.get("choices") if isinstance(found, dict) else [found]
        try:
            label = _one_class(chosen) if isinstance(chosen, list) and chosen else None
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        rows.append(Labelled(image, label, **more))
    return rows


def _label_columns(tasks: Sequence[Mapping[str, Any]], path: Path) -> set[str]:
    """The columns of JSON_MIN that hold labels, those of the whole file: an entry without a label may have a
    column of the data alone. They are those of certain names or kinds; in a file without such, those of text,
    of which an entry may have one.

    Raises:
        DataError: any of several columns of an entry may hold its label.
    """
    sure = set[str]()
    possible: list[tuple[str, list[str]]] = []
    for number, task in _numbered(tasks):
        if _is_cancelled(task):
            continue
        where = f"{path}: task {number}"
        values = {name: value for name, value in task.items() if name not in _RESERVED}
        values.pop(_image_column(task, where)[0])
        sure |= {
            name
            for name, value in values.items()
            if name in _LABELS or (isinstance(value, dict) and "choices" in value)
        }
        possible.append((where, [name for name, value in values.items() if isinstance(value, str | dict)]))
    if sure:
        return sure
    for where, names in possible:
        _check_one(names, where)
    return {name for _, names in possible for name in names}


def _check_one(columns: Sequence[str], where: str) -> None:
    if len(columns) > 1:
        names = ", ".join(map(short, sorted(columns)[:4]))
        raise DataError(f"{where}: several columns may be its label ({names}); {_WAY}.")


def _image(data: Mapping[str, Any], where: str) -> str:
    return _image_column(data, where)[1]


def _image_column(data: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The column that holds the image, and what it holds."""
    words = {
        name: value
        for name, value in data.items()
        if isinstance(value, str) and value.strip() and name not in _RESERVED
    }
    found = {name: value for name, value in words.items() if _IMAGE.match(value)} or words
    if _OBJECT in found:
        return _OBJECT, found[_OBJECT]
    if len(found) != 1:
        which = f"{', '.join(map(short, list(found)[:4]))} may all be" if found else "nothing in its data is"
        raise DataError(f"{where}: {which} its image; call the column of the image `image`.")
    return next(iter(found.items()))


def _more(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Split and group of an image, where they are given."""
    return {name: optional_text(values.get(name), where, name) for name in _COLUMNS}


def _task(rows: Sequence[Labelled]) -> dict[str, Any]:
    """The task of an image, of which people and models may have given labels."""
    data = {"image": rows[0].image} | {
        name: value for name in _COLUMNS if (value := getattr(rows[0], name)) is not None
    }
    task: dict[str, Any] = {"data": data}
    for row in rows:
        if row.label is None:
            continue
        given: dict[str, Any] = {"result": [result(row.label, _CONTROL, _OBJECT)]}
        if row.by == "model":
            given |= {"model_version": MODEL} | ({} if row.score is None else {"score": row.score})
        task.setdefault("annotations" if row.by == "person" else "predictions", []).append(given)
    return task


def result(label: str, control: str, image: str) -> dict[str, Any]:
    """A class of a picture, as annotations and predictions hold it.

    Args:
        control, image: names of the Choices and of the Image in the labelling configuration.
    """
    return {"from_name": control, "to_name": image, "type": "choices", "value": {"choices": [label]}}


def _listed(task: Mapping[str, Any], key: str) -> list[Any]:
    found = task.get(key)
    return found if isinstance(found, list) else []


def _age(one: Mapping[str, Any]) -> tuple[str, int]:
    """Sorts by time and id; Label Studio writes times in one form, whose text sorts like the time."""
    time = one.get("updated_at") or one.get("created_at")
    number = one.get("annotation_id", one.get("id"))
    return time if isinstance(time, str) else "", number if isinstance(number, int) else -1


def _score(prediction: Mapping[str, Any]) -> float | None:
    score = prediction.get("score")
    ours = str(prediction.get("model_version", "")).startswith(MODEL)
    is_share = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1
    return float(score) if ours and is_share and score is not None else None


def _is_tasks(path: Path) -> bool:
    """Whether a file is a list of tasks, as `write` writes it."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    try:
        found = parse(data) if len(data) <= MOST_BYTES else None
    except ValueError:
        return False
    return isinstance(found, list) and all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in found
    )

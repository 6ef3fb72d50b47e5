"""Ways in: a folder per class, a CSV or Parquet table, the field's JSON lists, a Hugging Face dataset."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from farshot.data.hub import LABEL_COLUMNS, Found, from_hub, from_saved, is_blank
from farshot.data.names import ClassNames, check_labels, names_in_prompts
from farshot.data.table import ImageTable
from farshot.data.text import first_line, load_json, read_text
from farshot.errors import DataError
from farshot.images.reading import ImageSource

IMAGE_COLUMNS = ("path", "image", "file", "filename", "image_path", "file_name")
_NOT_IMAGES = {
    ".txt",
    ".csv",
    ".json",
    ".md",
    ".db",
    ".ini",
    ".xml",
    ".yaml",
    ".yml",
    ".pdf",
    ".html",
    ".parquet",
    ".zip",
}


def read_table(source: str | Path, *, class_names: ClassNames = None, for_prompts: bool = True) -> ImageTable:
    """A labelled table from whatever the source is.

    Args:
        source: a folder with one subfolder per class; a .csv or .parquet with a column of paths and one of
            labels; a .json of the form {"image_names", "image_labels", "label_names"}; a folder saved by
            `datasets`, or "hf:NAME[:SPLIT]".
        class_names: how prompts call the classes; by default the classes themselves, '_' read as a space.
        for_prompts: whether prompts will be made of the names, so that they must differ in more than case; to
            compare predictions with labels, the labels need only be different.

    Raises:
        DataError: one sentence that names the path or row and the way out.
    """
    images, labels, classes = _found(str(source))
    if for_prompts:
        names = names_in_prompts(class_names, classes, str(source))
    else:
        names = check_labels(classes, str(source))
    codes = {name: code for code, name in enumerate(classes)}
    return ImageTable(
        tuple(images), np.array([codes[label] for label in labels], np.int64), tuple(classes), names
    )


def _found(source: str) -> Found:
    if source.startswith("hf:"):
        return from_hub(source[3:])
    path = Path(source).expanduser()
    if path.is_dir():
        saved = (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()
        return from_saved(path) if saved else _from_folder(path)
    if not path.exists():
        raise DataError(f"There is no {path}; check the path.")
    readers = {".csv": _from_rows, ".parquet": _from_rows, ".json": _from_json}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is not a folder, .csv, .parquet or .json; give one of these.")
    return readers[path.suffix.lower()](path)


def unlabelled(sources: Iterable[str | Path]) -> ImageTable:
    """A table of image files; folders are searched to their depth.

    Raises:
        DataError: a path that does not exist, or no image at all.
    """
    files: list[ImageSource] = []
    for source in sources:
        path = Path(source).expanduser()
        if not path.exists():
            raise DataError(f"There is no {path}; check the path.")
        files += _image_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError("There is no image in the folders given.")
    return ImageTable(tuple(files), None, (), ())


def _from_folder(folder: Path) -> Found:
    images: list[ImageSource] = []
    labels: list[str] = []
    classes = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not classes:
        raise DataError(
            f"{folder} has no subfolders; put the images of each class in a subfolder of its name."
        )
    for name in classes:
        files = _image_files(folder / name)
        if not files:
            raise DataError(
                f"The class folder {folder / name} holds no image; add some or remove the folder."
            )
        images += files
        labels += [name] * len(files)
    return images, labels, classes


def _image_files(folder: Path) -> list[Path]:
    """Files that may be images, at any depth, by name; hidden files and what is plainly something else are
    passed over."""
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix.lower() not in _NOT_IMAGES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.as_posix())


def _from_rows(path: Path) -> Found:
    frame, places = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    image_column = _column(frame, IMAGE_COLUMNS, "image paths", path)
    label_column = _column(frame, LABEL_COLUMNS, "labels", path)
    images: list[ImageSource] = []
    labels: list[str] = []
    for place, file, label in zip(places, frame[image_column], frame[label_column], strict=True):
        where = f"{path}, {place}"
        if is_blank(label):
            raise DataError(f"{where}: no label; fill it in or remove the row.")
        if is_blank(file):
            raise DataError(f"{where}: no path of an image; fill it in or remove the row.")
        images.append(_existing(path.parent, file, where))
        labels.append(str(label).strip())
    if not images:
        raise DataError(f"{path} has no rows; add one per image.")
    return images, labels, sorted(set(labels))


def _read_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and where each of its rows stands in the file."""
    text = read_text(path)
    header = text.partition("\n")[0]
    separator = next((mark for mark in ",;\t" if mark in header), ",")  # spreadsheets differ by country
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, places = [], []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue  # spreadsheets leave empty rows behind
            rows.append(row)
            places.append(f"line {reader.line_num}")
            if len(row) != len(rows[0]):
                raise DataError(
                    f"{path}, {places[-1]}: {len(row)} cells, but the header has {len(rows[0])}; put names "
                    f"with '{separator}' in them in double quotes."
                )
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {first_line(error)}; mend the quotes there."
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; its first line names the columns, such as path,label.")
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=object), places[1:]


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and what to call each of its rows."""
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise DataError(f"Reading {path} needs the parquet extra: pip install 'farshot[parquet]'.") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({first_line(error)}); write it again.") from error
    return frame, [f"row {number}" for number in range(1, len(frame) + 1)]


def _column(frame: Any, wanted: Sequence[str], what: str, path: Path) -> Any:
    found = [column for column in frame.columns if str(column).strip().lower() in wanted]
    if len(found) != 1:
        trouble = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path} has {trouble} of {what}; name exactly one of its columns {' or '.join(wanted)}."
        )
    return found[0]


def _from_json(path: Path) -> Found:
    lists = load_json(path)
    keys = ("image_names", "image_labels", "label_names")
    if not isinstance(lists, dict) or not all(isinstance(lists.get(key), list) for key in keys):
        raise DataError(f"{path} must be a JSON object with the lists {', '.join(keys)}.")
    files, codes, classes = (lists[key] for key in keys)
    if len(files) != len(codes):
        raise DataError(
            f"{path} has {len(files)} image_names but {len(codes)} image_labels; they must be as many."
        )
    for number, code in enumerate(codes):
        if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code < len(classes):
            raise DataError(
                f"{path}, image_labels[{number}] is {code!r}; it must be an index into the {len(classes)} "
                "label_names."
            )
    if not files:
        raise DataError(f"{path} names no image; fill image_names.")
    images: list[ImageSource] = [
        _existing(path.parent, file, f"{path}, image_names[{i}]") for i, file in enumerate(files)
    ]
    # the field's lists number all classes of a larger set; those without an image are not classes here
    used = [str(classes[code]) for code in sorted(set(codes))]
    return images, [str(classes[code]) for code in codes], used


def _existing(folder: Path, file: Any, where: str) -> Path:
    if not isinstance(file, str):
        kind = type(file).__name__
        raise DataError(f"{where}: {kind} where the path of an image should be; write paths, not images.")
    path = folder / Path(file.strip()).expanduser()
    try:
        found = path.is_file()
    except (OSError, ValueError):  # no file can have this name
        found = False
    if not found:
        raise DataError(f"{where}: there is no file {path}; paths are read from the folder of the table.")
    return path

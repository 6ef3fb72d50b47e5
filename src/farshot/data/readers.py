"""Ways in: a folder per class, a CSV or Parquet table, the field's JSON lists, a Hugging Face dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.reading import ImageSource

ClassNames = Mapping[str, str] | Sequence[str] | str | Path | None
"""Names for prompts: by label, in the order of the classes, or a file that says so."""

IMAGE_COLUMNS = ("path", "image", "file", "filename", "image_path", "file_name")
LABEL_COLUMNS = ("label", "class", "target", "category")
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


def read_table(source: str | Path, *, class_names: ClassNames = None) -> ImageTable:
    """A labelled table from whatever the source is.

    Args:
        source: a folder with one subfolder per class; a .csv or .parquet with a column of paths and one of
            labels; a
            .json of the form {"image_names", "image_labels", "label_names"}; a folder saved by `datasets`, or
            "hf:NAME[:SPLIT]".
        class_names: how prompts call the classes; by default the classes themselves, '_' read as a space.

    Raises:
        DataError: one sentence that names the path or row and the way out.
    """
    if str(source).startswith("hf:"):
        return _table(*_from_hub(str(source)[3:]), class_names, str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        saved = (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()
        return _table(*(_from_saved_dataset(path) if saved else _from_folder(path)), class_names, str(path))
    if not path.exists():
        raise DataError(f"There is no {path}; check the path.")
    readers = {".csv": _from_rows, ".parquet": _from_rows, ".json": _from_json}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is not a folder, .csv, .parquet or .json; give one of these.")
    return _table(*readers[path.suffix.lower()](path), class_names, str(path))


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


def read_descriptions(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Class descriptions from a JSON file: class name -> words that take its place in the prompt."""
    found = _load_json(path)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(f"{path} must be a JSON object: class name -> description.")
    unknown = [name for name in found if name not in names]
    if unknown:
        raise DataError(
            f"{path} describes {unknown[0]!r}, which is not a class; the classes are: {', '.join(names)}."
        )
    return found


Found = tuple[list[ImageSource], list[str], list[str]]
"""Images, the class of each, and all classes in order."""


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
    try:
        frame = (
            pd.read_csv(path, dtype=str, keep_default_na=False)
            if path.suffix.lower() == ".csv"
            else pd.read_parquet(path)
        )
    except ImportError as error:
        raise DataError(f"Reading {path} needs the parquet extra: pip install 'farshot[parquet]'.") from error
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path} cannot be read as a table ({_first_line(error)}); save it again as UTF-8."
        ) from error
    image_column = _column(frame, IMAGE_COLUMNS, "image paths", path)
    label_column = _column(frame, LABEL_COLUMNS, "labels", path)
    images: list[ImageSource] = []
    labels: list[str] = []
    for number, (file, label) in enumerate(
        zip(frame[image_column], frame[label_column], strict=True), start=1
    ):
        if pd.isna(label) or str(label).strip() == "":
            raise DataError(f"{path}, row {number}: no label; fill it in or remove the row.")
        images.append(_existing(path.parent / str(file), f"{path}, row {number}"))
        labels.append(str(label).strip())
    if not images:
        raise DataError(f"{path} has no rows.")
    return images, labels, sorted(set(labels))


def _column(frame: Any, wanted: Sequence[str], what: str, path: Path) -> Any:
    found = [column for column in frame.columns if str(column).strip().lower() in wanted]
    if len(found) != 1:
        trouble = "no column" if not found else f"{len(found)} columns"
        raise DataError(
            f"{path} has {trouble} of {what}; name exactly one of its columns {' or '.join(wanted)}."
        )
    return found[0]


def _from_json(path: Path) -> Found:
    lists = _load_json(path)
    keys = ("image_names", "image_labels", "label_names")
    if not isinstance(lists, dict) or not all(isinstance(lists.get(key), list) for key in keys):
        raise DataError(f"{path} must be a JSON object with the lists {', '.join(keys)}.")
    files, codes, classes = (lists[key] for key in keys)
    if len(files) != len(codes):
        raise DataError(
            f"{path} has {len(files)} image_names but {len(codes)} image_labels; they must be as many."
        )
    for number, code in enumerate(codes):
        if not isinstance(code, int) or not 0 <= code < len(classes):
            raise DataError(
                f"{path}, image_labels[{number}] is {code!r}; it must be an index into the {len(classes)} "
                "label_names."
            )
    images: list[ImageSource] = [
        _existing(path.parent / file, f"{path}, image_names[{i}]") for i, file in enumerate(files)
    ]
    # the field's lists number all classes of a larger set; those without an image are not classes here
    used = [str(classes[code]) for code in sorted(set(codes))]
    return images, [str(classes[code]) for code in codes], used


def _from_saved_dataset(folder: Path) -> Found:
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} cannot be read as a saved dataset ({_first_line(error)}).") from error
    if isinstance(found, datasets.DatasetDict):
        raise DataError(
            f"{folder} holds the splits {', '.join(found)}; give one of them: {folder / next(iter(found))}."
        )
    return _from_dataset(found, str(folder))


def _from_hub(name: str) -> Found:
    datasets = _datasets()
    name, _, split = name.partition(":")
    try:
        found = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises many kinds, from several packages below it
        raise DataError(
            f"The dataset {name} (split {split or 'train'}) could not be loaded ({_first_line(error)}); "
            "check name and network, "
            "or give a folder of images."
        ) from error
    return _from_dataset(found, name)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "Reading a Hugging Face dataset needs an extra: pip install 'farshot[datasets]'."
        ) from error
    return datasets


def _from_dataset(dataset: Any, where: str) -> Found:
    datasets = _datasets()
    image_columns = [name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
    label_columns = [name for name, kind in dataset.features.items() if isinstance(kind, datasets.ClassLabel)]
    label_columns = label_columns or [name for name in dataset.features if name in LABEL_COLUMNS]
    if len(image_columns) != 1 or len(label_columns) != 1:
        raise DataError(
            f"The dataset {where} needs exactly one image column and one class column; it has "
            f"{list(dataset.features)}."
        )
    images: list[ImageSource] = [_in_memory(value) for value in dataset[image_columns[0]]]
    kind = dataset.features[label_columns[0]]
    codes = list(dataset[label_columns[0]])
    if isinstance(kind, datasets.ClassLabel):
        labels = [kind.int2str(int(code)) for code in codes]
    else:
        labels = [str(code) for code in codes]
    return images, labels, sorted(set(labels))


def _in_memory(value: Any) -> Image.Image:
    value.load()
    return value


def _table(
    images: list[ImageSource], labels: list[str], classes: list[str], names: ClassNames, where: str
) -> ImageTable:
    codes = {name: code for code, name in enumerate(classes)}
    prompt_names = _prompt_names(names, classes)
    repeated = [
        name for name, count in Counter(name.casefold() for name in prompt_names).items() if count > 1
    ]
    if repeated:
        raise DataError(
            f"{where} has two classes of one name in prompts, {repeated[0]!r}; rename one or give "
            "--class-names."
        )
    return ImageTable(
        tuple(images),
        np.array([codes[label] for label in labels], np.int64),
        tuple(classes),
        tuple(prompt_names),
    )


def _prompt_names(names: ClassNames, classes: Sequence[str]) -> list[str]:
    if names is None:
        return [" ".join(name.replace("_", " ").split()) for name in classes]
    where = "class_names"
    if isinstance(names, str | Path):
        where = str(names)
        names = _names_file(Path(names).expanduser(), classes)
    if isinstance(names, Mapping):
        missing = [name for name in classes if name not in names]
        if missing:
            raise DataError(f"{where} has no name for the class {missing[0]!r}; name every class.")
        return [str(names[name]).strip() for name in classes]
    if len(names) != len(classes):
        raise DataError(
            f"{where} has {len(names)} names but the data has {len(classes)} classes ({', '.join(classes)})."
        )
    return [str(name).strip() for name in names]


def _names_file(path: Path, classes: Sequence[str]) -> Mapping[str, str] | Sequence[str]:
    if path.suffix.lower() == ".json":
        found = _load_json(path)
        if not isinstance(found, dict | list):
            raise DataError(f"{path} must be a JSON object (class -> name) or list of names.")
        return found
    lines = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    pairs = [line.partition(":") for line in lines]
    if all(colon and label.strip() in classes for label, colon, _ in pairs):
        return {label.strip(): name for label, _, name in pairs}
    return lines


def _load_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}); mend it there.") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it again as UTF-8.") from error


def _existing(path: Path, where: str) -> Path:
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}; paths are read from the folder of the table.")
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Read labelled images: a folder per class, a CSV or Parquet table, JSON lists, or a Hugging Face dataset."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farshot.data.files import image_files, is_litter
from farshot.data.folders import from_folder
from farshot.data.found import Found, split_called
from farshot.data.given import as_path
from farshot.data.hub import LABEL_COLUMNS, from_hub, from_saved, is_blank
from farshot.data.independence import group_hint, groups_by
from farshot.data.names import ClassNames, check_labels, in_class_order, names_in_prompts, nfc
from farshot.data.table import ImageTable
from farshot.data.text import first_line, load_json, read_text
from farshot.errors import DataError
from farshot.images.reading import ImageSource
from farshot.storage.paths import home, ordinary

IMAGE_COLUMNS = ("path", "image", "file", "filename", "image_path", "file_name")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"


def read_table(
    source: str | Path,
    *,
    class_names: ClassNames = None,
    for_prompts: bool = True,
    level: int | None = None,
    groups: str | None = None,
) -> ImageTable:
    """Read a labelled table from a folder, a file or a dataset.

    Args:
        source: a folder with one subfolder per class, perhaps within folders train, val and test; a .csv or
            .parquet with a column of paths and one of labels, and perhaps `split` and `group`; a .json of the
            form {"image_names", "image_labels", "label_names"}; a folder saved by `datasets`, or
            "hf:NAME[:SPLIT]".
        class_names: how prompts call the classes; by default the classes themselves, '_' read as a space.
        for_prompts: whether prompts will be made of the names, so that they must differ in more than case; to
            compare predictions with labels, the labels need only be different.
        level: for a folder, how many folders deep the class folders lie, from 1, not counting folders of
            splits; by default what the folders show (farshot.data.folders).
        groups: which images belong together, such as those of one patient: a column of a table, by default
            `group`; or a regular expression on the path of each image below the folder, without extension,
            whose first parentheses, or whole match, name the group.

    Raises:
        DataError: one sentence that names the path or row and the way out.
    """
    found = _found(str(source), level, groups)
    if for_prompts:
        names = names_in_prompts(class_names, found.classes, str(source))
    else:
        names = check_labels(found.classes, str(source))
    codes = {name: code for code, name in enumerate(found.classes)}
    return ImageTable(
        tuple(found.images),
        np.array([codes[label] for label in found.labels], np.int64),
        tuple(found.classes),
        names,
        None if found.splits is None else tuple(found.splits),
        *_groups_and_notes(str(source), found, groups),
    )


def _groups_and_notes(
    source: str, found: Found, wanted: str | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The groups of the images, and what to know of the source; a hint where its names suggest groups."""
    below = [_name_below(source, image) for image in found.images]
    if found.groups is not None:
        return tuple(found.groups), found.notes
    if wanted is not None:
        if None in below:
            raise DataError(
                f"groups: {source} has no column {wanted!r}, and its images have no file names for a regular "
                "expression; leave out groups (--groups)."
            )
        groups = groups_by(wanted, [str(name) for name in below])
        return groups, (*found.notes, *_shared_groups(found.splits, groups))
    hint = group_hint([name for name in below if name is not None], found.labels) if None not in below else ""
    return None, (*found.notes, *([hint] if hint else []))


def _name_below(source: str, image: ImageSource) -> str | None:
    """The path of an image below the folder of its data, with forward slashes and without extension; None for
    one without a file."""
    if not isinstance(image, str | Path):
        return None
    place, path = home(source), Path(image)
    folder = place if place.is_dir() else place.parent
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).with_suffix("").as_posix()


def _found(source: str, level: int | None, groups: str | None) -> Found:
    path = home(source)
    is_folder = not source.startswith("hf:") and path.is_dir()
    saved = is_folder and any((path / f"dataset_{what}.json").is_file() for what in ("info", "dict"))
    if is_folder and not saved:
        return from_folder(path, level)
    if level is not None:
        raise DataError(
            f"{source} is not a folder per class, so it has no levels; leave out level (--level)."
        )
    if source.startswith("hf:"):
        return from_hub(source[3:])
    if saved:
        return from_saved(path)
    if not path.exists():
        raise DataError(f"There is no {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_json(path)
    if suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} is not a folder, .csv, .parquet or .json; give one of these.")
    return _from_rows(path, groups)


def unlabelled(sources: Iterable[str | Path]) -> ImageTable:
    """Make a table of image files; folders are searched at any depth, and links are followed.

    Files that systems and photo programs create (Thumbs.db, .xmp, ...) are left out, since `folder/*` names
    them too.

    Raises:
        DataError: a path that does not exist, or no image at all.
    """
    files: list[ImageSource] = []
    for source in sources:
        path = home(source)
        if not path.exists():
            raise DataError(f"There is no {path}; check the path.")
        if path.is_dir():
            files += image_files(path)
        elif not is_litter([path.name], hidden=False):
            files.append(path)
    if not files:
        raise DataError("There is no image in the folders given.")
    return ImageTable(tuple(files), None, (), ())


def _from_rows(path: Path, groups: str | None) -> Found:
    frame, places = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    image_column = _column(frame, IMAGE_COLUMNS, "image paths", path)
    label_column = _column(frame, LABEL_COLUMNS, "labels", path)
    split_column = _column(frame, (SPLIT_COLUMN,), "splits", path, needed=False)
    wanted = (GROUP_COLUMN if groups is None else groups.strip().lower(),)
    group_column = _column(frame, wanted, "groups", path, needed=False)
    images: list[ImageSource] = []
    labels: list[str] = []
    for place, file, label in zip(places, frame[image_column], frame[label_column], strict=True):
        where = f"{path}, {place}"
        if is_blank(label):
            raise DataError(f"{where}: no label; fill it in or remove the row.")
        if is_blank(file):
            raise DataError(f"{where}: no path of an image; fill it in or remove the row.")
        images.append(_existing(path.parent, file, where))
        labels.append(nfc(str(label).strip()))
    if not images:
        raise DataError(f"{path} has no rows; add one per image.")
    splits = None if split_column is None else _splits(frame[split_column], places, path)
    found = None if group_column is None else _groups(frame[group_column], places, path)
    notes = _shared_groups(splits, found)
    return Found(images, labels, in_class_order(set(labels)), splits, found, notes)


def _shared_groups(splits: Sequence[str] | None, groups: Sequence[str] | None) -> tuple[str, ...]:
    """A note on groups that are in both the training and the test split, if there are any."""
    by_split: dict[str, set[str]] = defaultdict(set)
    for split, group in zip(splits or (), groups or (), strict=False):
        by_split[split].add(group)
    shared = sorted(by_split["train"] & (by_split["test"] or by_split["val"]))
    if not shared:
        return ()
    more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
    return (
        f"the groups {', '.join(shared[:3])}{more} are in the split train and in the one to measure on; "
        "their images are not measured once a model was adapted to others of theirs",
    )


def _splits(cells: Iterable[Any], places: Sequence[str], path: Path) -> list[str]:
    found = []
    for place, cell in zip(places, cells, strict=True):
        split = None if is_blank(cell) else split_called(str(cell))
        if split is None:
            wrong = "no split" if is_blank(cell) else f"{str(cell).strip()!r} is not a split"
            raise DataError(
                f"{path}, {place}: {wrong}; write train, val or test, or give the column another name than "
                f"{SPLIT_COLUMN!r}."
            )
        found.append(split)
    return found


def _groups(cells: Iterable[Any], places: Sequence[str], path: Path) -> list[str]:
    found = []
    for place, cell in zip(places, cells, strict=True):
        if is_blank(cell):
            raise DataError(
                f"{path}, {place}: no group; name one, a new one if the image belongs to no other, or "
                "give the column another name."
            )
        found.append(nfc(str(cell).strip()))
    return found


def _read_csv(path: Path) -> tuple[Any, list[str]]:
    """The data frame, and the place of each of its rows in the file."""
    import pandas as pd  # slow to import, and a folder needs none

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
            f"{path}, line {reader.line_num}: {first_line(error)}; fix the quotes there."
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; its first line names the columns, such as path,label.")
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=object), places[1:]


def _read_parquet(path: Path) -> tuple[Any, list[str]]:
    """The data frame, and the name of each of its rows."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"Reading {path} needs the parquet extra: pip install 'farshot[parquet]'.") from error
    faults = (OSError, ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException)
    try:
        frame = parquet.read_table(ordinary(path)).to_pandas(ignore_metadata=True)
    except faults as error:
        raise DataError(f"{path} cannot be read as Parquet ({first_line(error)}); write it again.") from error
    return frame, [f"row {number}" for number in range(1, len(frame) + 1)]


def _column(frame: Any, wanted: Sequence[str], what: str, path: Path, *, needed: bool = True) -> Any:
    found = [column for column in frame.columns if str(column).strip().lower() in wanted]
    if not found and not needed:
        return None
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
    used = [nfc(str(classes[code])) for code in sorted(set(codes))]
    return Found(images, [nfc(str(classes[code])) for code in codes], used)


def _existing(folder: Path, file: Any, where: str) -> Path:
    if not isinstance(file, str):
        kind = type(file).__name__
        raise DataError(f"{where}: {kind} where the path of an image should be; write paths, not images.")
    path = folder / as_path(file.strip())
    try:
        found: Path | None = path if path.is_file() else _in_other_form(path)
    except (OSError, ValueError):  # no file can have this name
        found = None
    if found is None:
        raise DataError(f"{where}: there is no file {path}; paths are read from the folder of the table.")
    return found


def _in_other_form(path: Path) -> Path | None:
    """The file of this name in another Unicode form: tables and file systems write accents differently."""
    if str(path).isascii():
        return None
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not (found / part).exists():
            here = (entry.name for entry in found.iterdir()) if found.is_dir() else iter(())
            same = next((name for name in here if nfc(name) == nfc(part)), None)
            if same is None:
                return None
            part = same
        found /= part
    return found if found.is_file() else None

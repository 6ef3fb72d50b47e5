"""Images and labels from a Hugging Face dataset: a folder that `datasets` saved, Parquet files with images in
their rows, or a name on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from farshot.data.arrow import Table, holds_images, read_arrow, read_parquet
from farshot.data.files import is_packed
from farshot.data.found import (
    BY_COLUMN,
    GROUP_COLUMN,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    Found,
    split_called,
    splits_by_name,
)
from farshot.data.names import in_class_order
from farshot.data.rows import Rows, from_rows, is_blank, shared_groups
from farshot.data.saved import read_saved, splits_of
from farshot.data.text import first_line
from farshot.errors import DataError
from farshot.images.reading import ImageSource

_READ = (*IMAGE_COLUMNS, *LABEL_COLUMNS)


def from_saved(folder: Path, groups: str | None = None) -> Found:
    """A folder that `datasets` saved: one split, or several of which each is train, val or test.

    Raises:
        DataError: it cannot be read, or has other splits.
    """
    names = splits_of(folder)
    if not names:
        return _from_table(read_saved(folder), str(folder), groups, 0)
    if len({split_called(name) for name in names} - {None}) < len(names):
        raise DataError(
            f"{folder} holds the splits {', '.join(names)}; give one of them: {folder / names[0]}."
        )
    parts = [(split_called(name), from_saved(folder / name, groups)) for name in names]
    return _joined(parts, names, str(folder))


def from_parquet(paths: Sequence[Path], groups: str | None = None) -> Found:
    """Parquet files whose rows hold images. Those of a folder have the split that begins their names, such as
    train-00000-of-00002.parquet, if several are named so, else that of their rows.

    Raises:
        DataError: one cannot be read, has no labels, or is of no split, and others are.
    """
    found = [_from_table(read_parquet(path), str(path), groups, 1) for path in paths]
    if len(found) == 1:
        return found[0]
    folder = str(paths[0].parent)
    splits = splits_by_name([path.name for path in paths], folder)
    return _joined(list(zip(splits, found, strict=True)), [path.name for path in paths], folder)


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of images in a folder, or in its folder `data`, as in repositories of the hub. None
    where the folder's images are pictures; a clone of a repository may have some for its page.

    Raises:
        DataError: as `is_packed`.
    """
    is_clone = (folder / ".gitattributes").is_file()
    for place in (folder, folder / "data"):
        found = sorted(place.glob("*.parquet"))
        if found and (is_clone or is_packed(folder, found, holds_images)) and holds_images(found[0]):
            return found
    return []


def _from_table(table: Table, name: str, groups: str | None, first: int) -> Found:
    import pandas as pd

    if table.labels is None:
        raise DataError(
            f"The dataset {name} needs exactly one image column and one class column; it has "
            f"{list(table.columns)}."
        )
    used = (SPLIT_COLUMN, GROUP_COLUMN, BY_COLUMN)
    for column in table.columns:
        if column.strip().lower() in used and column not in table.more:
            raise DataError(
                f"The dataset {name} has neither words nor numbers in its column {column!r}; write them, or "
                "give the column another name."
            )
    columns = {"image": table.images, "label": table.labels}
    columns |= {name: values for name, values in table.more.items() if name.strip().lower() not in _READ}
    frame = pd.DataFrame(columns, dtype=object)
    places = [f"row {number}" for number in range(first, first + len(frame))]
    found = from_rows(Rows(name, frame, places), groups, lambda image, where: image)
    return replace(found, notes=(*table.notes, *found.notes))


def _joined(parts: Sequence[tuple[str | None, Found]], names: Sequence[str], where: str) -> Found:
    """Several parts of one dataset, each of this split, or of those of its rows.

    Raises:
        DataError: some have splits or groups, and others not.
    """
    images = [image for _, one in parts for image in one.images]
    labels = [label for _, one in parts for label in one.labels]
    splits = [one.splits if split is None else [split] * len(one.images) for split, one in parts]
    whole = _all_or_none(splits, names, where, "split")
    groups = _all_or_none([one.groups for _, one in parts], names, where, "group")
    notes = tuple(note for _, one in parts for note in one.notes)
    return Found(
        images, labels, in_class_order(set(labels)), whole, groups, (*notes, *shared_groups(whole, groups))
    )


def _all_or_none(
    parts: Sequence[list[str] | None], names: Sequence[str], where: str, what: str
) -> list[str] | None:
    without = [name for name, part in zip(names, parts, strict=True) if part is None]
    if len(without) == len(parts):
        return None
    if without:
        raise DataError(
            f"{where}: {without[0]} has no {what}, but others have one; give it the column {what!r}, or "
            "remove it from the others."
        )
    return [value for part in parts for value in part or ()]


def from_hub(name: str, groups: str | None = None) -> Found:
    """NAME or NAME:SPLIT of the hub or of the local cache; the split is "train" where none is given.

    The images stay in the files of the cache of `datasets` and are read one by one. Of a part of a split,
    such as "train[:10%]", they are held in memory.
    """
    datasets = _datasets()
    name, _, split = name.partition(":")
    split = split or "train"
    try:
        found = datasets.load_dataset(name, split=split)
    except Exception as error:  # as above
        raise DataError(
            f"The dataset {name} (split {split}) could not be loaded ({first_line(error)}); check name and "
            "network, or give a folder of images."
        ) from error
    files = [Path(one["filename"]) for one in found.cache_files]
    if files:
        table = read_arrow(files, f"hf:{name}")
        if len(table.images) == len(found):
            return _from_table(table, f"hf:{name}", groups, 0)
    return _from_table(_in_memory(found, f"hf:{name}"), f"hf:{name}", groups, 0)


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "Reading a Hugging Face dataset needs an extra: pip install 'farshot[datasets]'."
        ) from error
    return datasets


def _in_memory(dataset: Any, where: str) -> Table:
    """The rows of a dataset, with the images as they are stored, not decoded."""
    datasets = _datasets()
    kinds = dataset.features
    image_columns = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    label_columns = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    label_columns = label_columns or [name for name in kinds if name.strip().lower() in LABEL_COLUMNS]
    if len(image_columns) != 1 or len(label_columns) != 1:
        raise DataError(
            f"The dataset {where} needs exactly one image column and one class column; it has {list(kinds)}."
        )
    encoded = dataset.cast_column(image_columns[0], datasets.Image(decode=False))[image_columns[0]]
    kind, labels = kinds[label_columns[0]], list(dataset[label_columns[0]])
    if isinstance(kind, datasets.ClassLabel):
        # a test split often has -1 where its labels are kept secret
        labels = [None if is_blank(code) or code < 0 else kind.int2str(int(code)) for code in labels]
    more = {
        name: list(dataset[name])
        for name, kind in kinds.items()
        if name not in (*image_columns, *label_columns)
        and isinstance(kind, datasets.Value)
        and "binary" not in kind.dtype
    }
    return Table(tuple(kinds), [_encoded(value) for value in encoded], labels, more)


def _encoded(value: Any) -> ImageSource | None:
    """An image as stored in the dataset, not decoded: the bytes of a file, or its path; None if there is
    none."""
    if value is not None and value["bytes"] is not None:
        return bytes(value["bytes"])
    return Path(value["path"]) if value is not None and value["path"] is not None else None

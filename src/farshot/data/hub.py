"""Images and labels from a Hugging Face dataset: a folder that `datasets` saved, Parquet files with images in
their rows, or a name on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from farshot.data.arrow import Table, holds_images, read_arrow, read_parquet
from farshot.data.found import IMAGE_COLUMNS, LABEL_COLUMNS, Found, split_called
from farshot.data.names import in_class_order, nfc
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
    return _joined([(split_called(n), from_saved(folder / n, groups)) for n in names], str(folder))


def from_parquet(paths: Sequence[Path], groups: str | None = None) -> Found:
    """Parquet files whose rows hold images. Those of a folder have the split that begins their names, such as
    train-00000-of-00002.parquet, if all of them have one.

    Raises:
        DataError: one cannot be read, or has no labels.
    """
    found = [_from_table(read_parquet(path), str(path), groups, 1) for path in paths]
    if len(found) == 1:
        return found[0]
    splits = [split_called(path.name.split("-")[0].removesuffix(".parquet")) for path in paths]
    named = len(set(splits)) > 1 and None not in splits
    return _joined(
        [(split if named else None, one) for split, one in zip(splits, found, strict=True)],
        str(paths[0].parent),
    )


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of images in a folder, or in its folder `data`, as in repositories of the hub."""
    for place in (folder, folder / "data"):
        found = sorted(place.glob("*.parquet"))
        if found and holds_images(found[0]):
            return found
    return []


def _from_table(table: Table, name: str, groups: str | None, first: int) -> Found:
    import pandas as pd

    if table.labels is None:
        raise DataError(
            f"The dataset {name} needs exactly one image column and one class column; it has "
            f"{list(table.columns)}."
        )
    columns = {"image": table.images, "label": table.labels}
    columns |= {name: values for name, values in table.more.items() if name.strip().lower() not in _READ}
    frame = pd.DataFrame(columns, dtype=object)
    places = [f"row {number}" for number in range(first, first + len(frame))]
    found = from_rows(Rows(name, frame, places), groups, lambda image, where: image)
    return replace(found, notes=(*table.notes, *found.notes))


def _joined(parts: Sequence[tuple[str | None, Found]], name: str) -> Found:
    """Several parts of one dataset, each of this split or of none."""
    images = [image for _, one in parts for image in one.images]
    labels = [label for _, one in parts for label in one.labels]
    splits = [str(split) for split, one in parts for _ in one.images]
    grouped = all(one.groups is not None for _, one in parts)
    groups = [group for _, one in parts for group in one.groups or ()] if grouped else None
    whole = splits if all(split is not None for split, _ in parts) else None
    notes = tuple(note for _, one in parts for note in one.notes)
    return Found(
        images, labels, in_class_order(set(labels)), whole, groups, (*notes, *shared_groups(whole, groups))
    )


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
    encoded = dataset.cast_column(image_columns[0], datasets.Image(decode=False))[image_columns[0]]
    images = [_encoded(value, f"The dataset {where}, row {row}") for row, value in enumerate(encoded)]
    kind = dataset.features[label_columns[0]]
    labels = []
    for row, code in enumerate(dataset[label_columns[0]]):
        # a test split often has -1 where its labels are kept secret
        if is_blank(code) or (isinstance(kind, datasets.ClassLabel) and int(code) < 0):
            raise DataError(
                f"The dataset {where}, row {row}: no label; take a labelled split or leave it out."
            )
        name = kind.int2str(int(code)) if isinstance(kind, datasets.ClassLabel) else str(code)
        labels.append(nfc(name.strip()))
    if not images:
        raise DataError(f"The dataset {where} has no rows.")
    return Found(images, labels, in_class_order(set(labels)))


def _encoded(value: Any, where: str) -> ImageSource:
    """An image as stored in the dataset, not decoded: the bytes of a file, or its path."""
    if value is not None and value["bytes"] is not None:
        return bytes(value["bytes"])
    if value is not None and value["path"] is not None:
        return Path(value["path"])
    raise DataError(f"{where}: no image; leave the row out.")

"""Images and labels from a Hugging Face dataset: a folder that `datasets` saved, or a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farshot.data.found import Found
from farshot.data.names import in_class_order, nfc
from farshot.data.text import first_line
from farshot.errors import DataError
from farshot.images.reading import ImageSource

LABEL_COLUMNS = ("label", "class", "target", "category")


def from_saved(folder: Path) -> Found:
    """A folder that `datasets` saved."""
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises many kinds, from several packages below it
        raise DataError(
            f"{folder} cannot be read as a saved dataset ({first_line(error)}); save it again."
        ) from error
    if isinstance(found, datasets.DatasetDict):
        raise DataError(
            f"{folder} holds the splits {', '.join(found)}; give one of them: {folder / next(iter(found))}."
        )
    return _from_dataset(found, str(folder))


def from_hub(name: str) -> Found:
    """NAME or NAME:SPLIT of the hub or of the local cache; the split is "train" where none is given."""
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


def is_blank(value: Any) -> bool:
    """Whether a cell of a table holds nothing: null, not a number, or white space."""
    if value is None or str(value).strip() == "":
        return True
    if isinstance(value, str):
        return False
    import pandas as pd  # slow to import, and most cells are text

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))

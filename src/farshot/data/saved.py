"""Folders that the library `datasets` saved; it is not needed to read them."""

from __future__ import annotations

from pathlib import Path

from farshot.data.arrow import Table, read_arrow
from farshot.data.text import load_json
from farshot.errors import DataError

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved this folder."""
    return any((folder / name).is_file() for name in (_STATE, _SPLITS))


def splits_of(folder: Path) -> list[str]:
    """The names of the splits of a saved folder, each in a folder of its name; empty for one split alone."""
    if not (folder / _SPLITS).is_file():
        return []
    about = load_json(folder / _SPLITS)
    names = about.get("splits") if isinstance(about, dict) else None
    if not isinstance(names, list) or not all(Path(str(name)).name == name for name in names):
        raise DataError(f"{folder} cannot be read as a saved dataset (no splits); save it again.")
    return names


def read_saved(folder: Path) -> Table:
    """The rows of a saved dataset, numbered from 0.

    Raises:
        DataError: it cannot be read.
    """
    about = load_json(folder / _STATE)
    try:
        names = [str(one["filename"]) for one in about["_data_files"]]
    except (TypeError, KeyError):
        names = []
    if not names or not all(Path(name).name == name for name in names):
        raise DataError(f"{folder} cannot be read as a saved dataset (no files); save it again.")
    return read_arrow([folder / name for name in names], str(folder))

"""The files and classes of a pool's folder, and what is wrong with them.

A fault that would make numbers wrong is fatal; a pool that is merely not the published one is marked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farshot.data.files import is_litter
from farshot.errors import DataError
from farshot.images.member import Member

_IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
# X_90deg.JPG, X_flipLR.JPG, X_new30degFlipLR.JPG: how the augmented PlantVillage names its copies
_AUGMENTED = re.compile(r"_(new)?\d+deg(flip(lr|tb))?$|_flip(lr|tb)$", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """A remark about a pool for the user.

    Attributes:
        what: what was found, with a number and an example.
        fix: what to do; empty where nothing needs doing.
        fatal: numbers would be wrong, so the pool is refused.
        differs: the pool is not the published one; numbers are marked.
        copies: some pictures occur more than once.
        contradicts: some pictures of your own images are in several classes.
    """

    what: str
    fix: str = ""
    fatal: bool = False
    differs: bool = False
    copies: bool = False
    contradicts: bool = False


@dataclass
class Listing:
    """The files of a pool as found on disk.

    Attributes:
        root: the folder that names are relative to.
        classes: as the data calls them, and as prompts do.
        files: name within the pool -> (file, class).
        findings: what is not as it should be.
        splits: name -> train, val or test; empty where the owner makes no split.
        groups: name -> what the image was taken of; empty where the owner does not say.
        expected: number of images where it is not that of the whole pool, as without its test images.
    """

    root: Path
    classes: dict[str, str]
    files: dict[str, tuple[Path | Member, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    expected: int | None = None


@dataclass(frozen=True)
class Published:
    """A published pool.

    Attributes:
        title: as papers call it.
        images, classes: how many there are.
        source: where it comes from.
        read: lists its files.
        places: names below the folder of all pools at which it may lie, besides its own name and title.
    """

    title: str
    images: int
    classes: int
    source: str
    read: Callable[[Path], Listing]
    places: tuple[str, ...] = ()


def augmented_copies(names: Sequence[str]) -> list[Finding]:
    """Detects the augmented CropDiseases pool, with rotated and mirrored copies of leaves."""
    copies = [name for name in names if _AUGMENTED.search(Path(name).stem)]
    if not copies:
        return []
    return [
        Finding(
            f"{len(copies)} of {len(names)} files are augmented copies, for example {copies[0]}: "
            "one leaf would be in support and query, worth 2.4 points at 1 shot",
            "Use the plain pool (Kaggle plant-disease, train, 43,456 files), not the one of 70,295.",
            fatal=True,
        )
    ]


def folder_with(path: Path, places: Sequence[str], is_class: Callable[[str], bool]) -> Path | None:
    """The first of these folders below a path that has class folders."""
    for place in places:
        folder = path / place
        if folder.is_dir() and any(entry.is_dir() and is_class(entry.name) for entry in folder.iterdir()):
            return folder
    return None


def pictures(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted; none where there is no folder."""
    if not folder.is_dir():
        return []
    files = sorted(folder.iterdir())
    return [f for f in files if f.suffix.lower() in _IMAGES and not is_litter([f.name], hidden=True)]


def add_class_folders(
    found: Listing, classes: Sequence[str], below: str = "", split: str | None = None
) -> None:
    """Adds the pictures of a folder per class.

    Args:
        below: the folder below the root in which the class folders lie.
        split: that these pictures belong to.
    """
    for name in classes:
        for file in pictures(found.root / below / name):
            called = file.relative_to(found.root).as_posix()
            found.files[called] = (file, name)
            if split is not None:
                found.splits[called] = split


def first_file(path: Path, names: Sequence[str]) -> Path | None:
    """The first of these files below a path that exists."""
    return next((path / name for name in names if (path / name).is_file()), None)


def read_csv(path: Path, columns: Sequence[str]) -> Any:
    """A table as pandas.DataFrame.

    Raises:
        DataError: it cannot be read, or lacks one of these columns.
    """
    import pandas as pd  # slow to import, and `data list` needs none

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table ({str(error).splitlines()[0]}).") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; use the file as it is distributed.")
    return frame


def add_listed(found: Listing, places: dict[str, Path], labels: dict[str, str], table: Path) -> None:
    """Adds the pictures a table lists, and a finding for those that are missing."""
    missing = [name for name, place in places.items() if not place.is_file()]
    if missing:
        found.findings.append(
            Finding(
                f"{len(missing)} of {len(places)} images listed in {table.name} are missing; "
                f"one is {missing[0]}",
                "Unpack all archives of images into the folder.",
                fatal=True,
            )
        )
    gone = set(missing)
    found.files.update({name: (places[name], labels[name]) for name in places if name not in gone})


def repeated(names: Sequence[str], table: Path) -> Finding:
    """The finding for a table with several rows of one image."""
    name, times = Counter(names).most_common(1)[0]
    return Finding(
        f"{table.name} lists {name} {times} times, so it has several labels",
        f"Use {table.name} as it is distributed, with one row per image.",
        fatal=True,
    )

"""The files and classes of a pool's folder, and what is wrong with them.

A fault that would make numbers wrong is fatal; a pool that is merely not the published one is marked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farshot.data.files import is_litter

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
    """

    what: str
    fix: str = ""
    fatal: bool = False
    differs: bool = False
    copies: bool = False


@dataclass
class Listing:
    """The files of a pool as found on disk.

    Attributes:
        root: the folder that names are relative to.
        classes: as the data calls them, and as prompts do.
        files: name within the pool -> (file, class).
        findings: what is not as it should be.
    """

    root: Path
    classes: dict[str, str]
    files: dict[str, tuple[Path, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


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


def add_class_folders(found: Listing, classes: Sequence[str]) -> None:
    """Adds the pictures of a folder per class."""
    for name in classes:
        folder = found.root / name
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file.suffix.lower() in _IMAGES and not is_litter([file.name], hidden=True):
                found.files[f"{name}/{file.name}"] = (file, name)


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

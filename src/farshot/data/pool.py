"""A pool: the labelled images from which a benchmark draws its tasks, each with a name that is the same on
every machine.

Tasks are drawn over the sorted names, never over the order in which a file system lists files.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from farshot.arrays import NDArray
from farshot.data.independence import picture_units
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.sanitize import plain


class GeneratedPool(NamedTuple):
    """A pool that needs no files; packages provide a mapping from names to these as an entry point of the
    group `farshot.pools`.

    Attributes:
        title: what it is, in a few words.
        classes, images: how many it has by default.
        open: makes it; takes the number of images per class, or None for the default.
    """

    title: str
    classes: int
    images: int
    open: Callable[[int | None], Pool]


@dataclass(frozen=True, eq=False)
class Pool:
    """Images with classes and names.

    Attributes:
        name: as on the command line and in tables.
        table: the images, every one with a label.
        ids: name of each image within the pool: its path below the pool's folder with forward slashes, or
            below a numbered folder where images lie far apart, or the number a generator made it from.
        root: the folder, where there is one.
        revision: identifies the content of generated images, whose pixels may differ by a grey level between
            machines; None where the content itself is hashed.
        notes: what is not as the protocol describes this pool; empty where all is as it should be.
        near: whether near copies count as copies too. Not in published pools, whose tasks are facts that must
            not depend on how pictures are compared.
    """

    name: str
    table: ImageTable
    ids: tuple[str, ...]
    root: Path | None = None
    revision: str | None = None
    notes: tuple[str, ...] = field(default=())
    near: bool = False

    def __post_init__(self) -> None:
        if self.table.labels is None:
            raise DataError(f"The pool {self.name} has no labels; tasks are drawn by class.")
        twice = next((name for name, count in Counter(self.ids).items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"The pool {self.name} lists {plain(twice)} more than once; keep one of its rows."
            )
        if len(self.ids) != len(self.table):
            raise DataError(f"The pool {self.name} needs a name for each of its images.")

    @cached_property
    def by_class(self) -> tuple[Int[NDArray[np.int64], " images"], ...]:
        """Rows of every class, sorted by the images' names (code points, so no locale matters)."""
        order = self._by_name
        assert self.table.labels is not None
        labels = self.table.labels[order]
        return tuple(order[labels == code] for code in range(len(self.table.classes)))

    @cached_property
    def _by_name(self) -> Int[NDArray[np.int64], " images"]:
        """All rows, sorted in the same way: tasks do not depend on the order of rows."""
        return np.array(sorted(range(len(self.ids)), key=self.ids.__getitem__), dtype=np.int64)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of images of every class."""
        return tuple(map(len, self.by_class))

    @cached_property
    def copies(self) -> dict[int, int]:
        """Row -> number of its picture, for the rows that show the same picture as another row.

        Generated images are never copies of each other.
        """
        if self.revision is not None:
            return {}
        rows: dict[str | int, list[int]] = {}
        everything = range(len(self.table))
        shown = picture_units(self.table, everything).tolist() if self.near else self.table.contents()
        for row, content in enumerate(shown):
            rows.setdefault(content, []).append(row)
        alike = [same for same in rows.values() if len(same) > 1]
        return {row: number for number, same in enumerate(alike) for row in same}

    @cached_property
    def pictures(self) -> tuple[int, ...]:
        """Number of different pictures of every class."""
        return tuple(len({self.copies.get(row, -1 - row) for row in rows.tolist()}) for rows in self.by_class)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of classes, names and content of all images; 32 hexadecimal digits of SHA-256."""
        digest = hashlib.sha256(f"{self.revision}".encode())
        if self.copies:  # earlier versions drew copies into one task, so their results are not comparable
            digest.update(b"copies apart")
            if self.near:
                digest.update(f" {self._copies_by_name()}".encode())
        if self.table.groups is not None:
            groups = (self.table.groups[row] for row in self._by_name.tolist())
            digest.update("\x1f".join(("groups apart", *groups)).encode(errors="backslashreplace"))
        for name, rows in zip(self.table.classes, self.by_class, strict=True):
            digest.update(f"\x1e{name}".encode())
            for row in rows.tolist():
                content = self.revision or self.table.id(row)
                digest.update(f"\x1f{self.ids[row]}\x1f{content}".encode())
        return digest.hexdigest()[:32]

    def _copies_by_name(self) -> list[tuple[int, int]]:
        """`copies` with places among the sorted names instead of rows; pictures are numbered in it."""
        numbers: dict[int, int] = {}
        return [
            (place, numbers.setdefault(self.copies[row], len(numbers)))
            for place, row in enumerate(self._by_name.tolist())
            if row in self.copies
        ]

    @cached_property
    def split_fingerprint(self) -> str:
        """Hash of all this and the split of each image; 32 hexadecimal digits of SHA-256."""
        digest = hashlib.sha256(self.fingerprint.encode())
        splits = self.table.splits or ("",) * len(self.table)
        for rows in self.by_class:
            digest.update("\x1f".join(splits[row] for row in rows.tolist()).encode())
        return digest.hexdigest()[:32]


def pool_of(name: str, table: ImageTable, place: Path | None = None) -> Pool:
    """Make a pool of a table. Files are named by their path below their common folder, others by row.

    Args:
        place: where the table was read: a folder, or a file. Where the common folder is one above the parent
            of the table's folder, names would spell the path of a folder on this machine: images are named
            by their path below the table's folder, or their own one, and these are numbered.
    """
    files = [Path(image) for image in table.images if isinstance(image, str | Path)]
    if len(files) < len(table) or not files:
        return Pool(name, table, tuple(f"{row:06d}" for row in range(len(table))), near=True)
    files = [file.absolute() for file in files]
    root = _common(files)
    names = [file.relative_to(root).as_posix() for file in files]
    if place is not None:
        folder = (place if place.is_dir() else place.parent).absolute()
        if not root.is_relative_to(folder):  # else the names are as the table spells them
            files, folder = [_normal(file) for file in files], _normal(folder)
            root = _common(files)
            names = [file.relative_to(root).as_posix() for file in files]
        if root in folder.parent.parents:
            names = _below_numbered(files, folder)
    # a store cannot hold a name that is not UTF-8
    ids = tuple(name.encode("utf-8", "backslashreplace").decode() for name in names)
    return Pool(name, table, ids, root, near=True)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _common(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _below_numbered(files: Sequence[Path], folder: Path) -> list[str]:
    """Path of each file below this folder, or below its own one; these have numbers, in their order here."""
    places = [folder if file.is_relative_to(folder) else file.parent for file in files]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places), start=1)}
    return [
        f"{numbers[place]}/{file.relative_to(place).as_posix()}"
        for file, place in zip(files, places, strict=True)
    ]

"""Labelled images of a zip or a tar: a folder per class, or a CSV with the images that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from farshot.data.folders import from_places, without_class
from farshot.data.found import Found, split_called
from farshot.data.members import entries_of, image_members, member_at, text_of
from farshot.data.rows import Rows, csv_rows, from_rows, has_columns
from farshot.errors import DataError
from farshot.images.reading import ImageSource
from farshot.sanitize import visible


def from_archive(path: Path, level: int | None, groups: str | None) -> Found:
    """The labelled images of a zip or a tar: those that its one CSV names, or a folder per class.

    Raises:
        DataError: as `entries_of`; or no classes.
    """
    table = _table_in(path, groups)
    if table is not None:
        if level is not None:
            raise DataError(f"{path} holds a table, so it has no levels; leave out level (--level).")
        return table
    images = image_members(path)
    inner = [PurePosixPath(image.name[len(str(path)) + 1 :]) for image in images]
    places = [place.parent.parts for place in inner]
    outer = _outer_folders(places)
    places = [place[len(outer) :] for place in places]
    rows = [row for row, place in enumerate(places) if place]
    if not rows:
        raise DataError(
            f"{path} has no folders and no CSV with the columns path and label; pack a folder per class."
        )
    within = path.joinpath(*outer)
    found = from_places(within, [images[row] for row in rows], [places[row] for row in rows], level)
    return replace(found, notes=(*found.notes, *without_class(path, len(images) - len(rows))))


def _outer_folders(places: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders, each the only one in the last, that lie around those of classes or splits: mostly the
    folder that was packed, often twice, or all of its path. One class with folders in it looks the same."""
    outer = list[str]()
    while len({place[:1] for place in places}) == 1 and all(len(place) > 1 for place in places):
        within = all(len(place) > 2 and split_called(place[1]) for place in places)
        if split_called(places[0][0]) and not within:
            break  # the only split
        outer.append(places[0][0])
        places = [place[1:] for place in places]
    return tuple(outer)


def _table_in(path: Path, groups: str | None) -> Found | None:
    """The images of the CSV in an archive; None if there is none with the columns of one."""
    tables: list[tuple[PurePosixPath, Rows]] = []
    for entry in entries_of(path):
        if entry.name.lower().endswith(".csv"):
            rows = csv_rows(f"{path}/{visible(entry.name)}", text_of(path, entry))
            if has_columns(rows):
                tables.append((PurePosixPath(entry.name), rows))
    if len(tables) > 1:
        names = " and ".join(visible(str(name)) for name, _ in tables[:2])
        raise DataError(f"{path} holds two tables, {names}; pack it again with one.")
    if not tables:
        return None
    name, rows = tables[0]

    def image(cell: Any, where: str) -> ImageSource:
        inner = PurePosixPath(str(cell).strip())
        found = None if inner.is_absolute() or ".." in inner.parts else member_at(path / name.parent / inner)
        if found is None:
            raise DataError(f"{where}: there is no file {visible(str(inner))} in {path}; pack it, too.")
        return found

    return from_rows(rows, groups, image)

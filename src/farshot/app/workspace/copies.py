"""Pictures that show the same: files whose pixels are equal, or that differ in size, compression, brightness
or orientation. Files that are equal byte by byte are never taken in twice.

    copies.json   which were found, in which pictures, and which the person keeps

Cross-validation leaves copies out together, whether they are listed here or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from farshot.app.texts import Fault, Text
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.picture import Picture
from farshot.app.workspace.state import Workspace
from farshot.data.independence import are_too_alike, picture_units
from farshot.data.table import ImageTable

_FILE = "copies.json"
_AT_ONCE = 50  # pictures between two reports


@dataclass(frozen=True)
class Copies:
    """What a look for copies found.

    Attributes:
        looked: ids of the pictures that were compared.
        sets: ids of the pictures of each set of copies.
        alike: whether the pictures are so alike that only equal pixels could be looked for.
        kept: sets that the person keeps.
    """

    looked: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    alike: bool = False
    kept: tuple[tuple[str, ...], ...] = ()


def look(workspace: Workspace, encoders: Encoders, report: Report) -> Copies:
    """Compare all pictures of a workspace, and keep what was found."""
    with encoders.turn(report) as report:
        return keep(workspace, workspace.table(workspace.pictures), report)


def keep(workspace: Workspace, table: ImageTable, report: Report) -> Copies:
    """Compare the pictures of a table of this workspace, and keep what was found; sets with other pictures
    stay, as one with those that they share pictures with.

    Args:
        report: of the job that has its turn to compute.
    """
    rows = range(len(table))
    for start in range(0, len(table), _AT_ONCE):  # what is read here is not read again
        report(Text("job.copies"), start, len(table))
        table.contents(rows[start : start + _AT_ONCE])
    members: dict[int, list[str]] = defaultdict(list)
    for row, unit in enumerate(picture_units(table, rows).tolist()):
        members[unit].append(table.ids[row])
    before, looked = read(workspace) or Copies((), ()), set(table.ids)
    others = [ids for ids in before.sets if not set(ids) <= looked]
    found = Copies(
        tuple(dict.fromkeys((*before.looked, *table.ids))),
        _merged([*(tuple(ids) for ids in members.values() if len(ids) > 1), *others]),
        are_too_alike(table, rows),
        before.kept,
    )
    write_json(workspace.folder / _FILE, asdict(found))
    return found


def _merged(sets: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The sets, those that share pictures as one."""
    of: dict[str, tuple[str, ...]] = {}
    for ids in sets:
        whole = tuple(dict.fromkeys(one for id in ids for one in (*of.get(id, ()), id)))
        of |= dict.fromkeys(whole, whole)
    return tuple(dict.fromkeys(of.values()))


def read(workspace: Workspace) -> Copies | None:
    """What was found last; None where nobody looked."""
    place = workspace.folder / _FILE
    if not place.is_file():
        return None
    found: dict[str, Any] = read_json(place)
    try:
        return Copies(
            tuple(found["looked"]),
            tuple(map(tuple, found["sets"])),
            bool(found["alike"]),
            tuple(map(tuple, found["kept"])),
        )
    except (KeyError, TypeError) as error:
        raise Fault("disk.damaged_remove", place=place, why=str(error)) from error


def open_sets(workspace: Workspace, found: Copies) -> list[list[Picture]]:
    """The sets of copies that nobody has decided about, each with the pictures that are still here."""
    here = workspace.state.pictures
    sets = ([here[id] for id in ids if id in here] for ids in found.sets)
    kept = [set(ids) for ids in found.kept]
    return [
        pictures
        for pictures in sets
        if len(pictures) > 1 and not any({one.id for one in pictures} <= ids for ids in kept)
    ]


def set_of(workspace: Workspace, ids: Sequence[str]) -> list[Picture]:
    """The open set that a picture is in.

    Raises:
        DataError: there is none any more.
    """
    found = read(workspace)
    for pictures in [] if found is None else open_sets(workspace, found):
        if any(one.id in ids for one in pictures):
            return pictures
    raise Fault("copies.not_listed")


def keep_all(workspace: Workspace, ids: Sequence[str]) -> None:
    """Keep all pictures of the set that a picture is in; it is not listed again."""
    found = read(workspace)
    pictures = set_of(workspace, ids)
    assert found is not None
    kept = (*found.kept, tuple(one.id for one in pictures))
    write_json(workspace.folder / _FILE, asdict(replace(found, kept=kept)))


def keep_one(workspace: Workspace, id: str) -> int:
    """Remove the other pictures of a set, which can be taken back; returns how many."""
    others = [one.id for one in set_of(workspace, [id]) if one.id != id]
    workspace.remove(others)
    return len(others)

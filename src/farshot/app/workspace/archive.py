"""A project as one file: a zip of the pictures in a folder for each class, and their names and labels.

    NAME/project.json       name, classes, settings, and for every picture its file, name and label
    NAME/CLASS/picture.jpg  a labelled picture
    NAME/picture.jpg        one without a class

Whoever unpacks it has folders of pictures that any program reads. Importing believes nothing: pictures are
checked as uploads are, the JSON value by value, and names in it are never used as paths.
"""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from json import dumps
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from farshot.app.texts import Fault, Text, message
from farshot.app.workspace.classes import ClassWords, check, cleaned
from farshot.app.workspace.groups import MOST_LETTERS
from farshot.app.workspace.intake import Refused, Upload
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.names import shown_folders, shown_name
from farshot.app.workspace.picture import Setup, State
from farshot.app.workspace.state import Workspace
from farshot.errors import DataError
from farshot.images.kinds import ZIP_MAGIC
from farshot.images.member import CHUNK, unpack
from farshot.images.untrusted import in_megabytes
from farshot.methods import available
from farshot.sanitize import plain
from farshot.storage.archives import Entry, read_directory
from farshot.storage.atomic import reason
from farshot.storage.json_text import parse_object
from farshot.storage.paths import base_name

ABOUT = "project.json"
FORMAT = 1
_ABOUT_BYTES = 16 << 20  # 5,000 pictures with the longest names take a quarter of it
_MOST_LETTERS = 60  # of a name in the zip
_FRESH_RATIO = 10  # unpacked to packed, above `unpacked_bytes`: images hardly shrink
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows
_DATE = (1980, 1, 1, 0, 0, 0)  # the same project gives the same file


@dataclass(frozen=True)
class About:
    """What the JSON of a project's file tells, checked.

    Attributes:
        name: of the project, not cleaned yet.
        classes: in their order.
        setup: model, method and limit; the model may be none that this app offers.
        groups: pattern that finds a picture's group; empty for none.
        pictures: what is said of each.
    """

    name: str
    classes: tuple[ClassWords, ...]
    setup: Setup
    groups: str
    pictures: tuple[Described, ...]


@dataclass(frozen=True)
class Described:
    """What the JSON tells about a picture: its file within the zip, and what `Picture` has."""

    file: str
    name: str
    label: str | None
    folder: str
    group: str | None


# Export --------------------------------------------------------------------------------------------------


def file_name(name: str) -> str:
    """The name of a project's file."""
    return f"{_part(name, 'project')}.zip"


def exported(workspace: Workspace, name: str) -> Iterator[bytes]:
    """The zip of a workspace, piece by piece; its state is that of the call."""
    return _exported(workspace, name, workspace.state)


def _exported(workspace: Workspace, name: str, state: State) -> Iterator[bytes]:
    top, sink = _part(name, "project"), _Sink()
    taken = {ABOUT}
    folders = {words.name: _unused(_part(words.name, "class"), taken) for words in state.classes}
    told = []
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_STORED) as archive:  # images hardly shrink
        for picture in state.pictures.values():
            stem = _part(picture.name.rpartition(".")[0] or picture.name, "picture")
            folder = f"{folders[picture.label]}/" if picture.label is not None else ""
            file = folder + _unused(stem, taken, folder, Path(picture.file).suffix)
            try:
                source = workspace.path(picture).open("rb")
            except FileNotFoundError:  # removed since
                continue
            with (
                source,
                archive.open(zipfile.ZipInfo(f"{top}/{file}", _DATE), "w", force_zip64=True) as entry,
            ):
                while piece := source.read(CHUNK):
                    entry.write(piece)
                    yield from sink.taken()
            told.append(
                {
                    "file": file,
                    "name": picture.name,
                    "label": picture.label,
                    "folder": picture.folder,
                    "group": picture.group,
                }
            )
        model = base_name(state.choice.model)  # no path of this computer
        about = {
            "format": FORMAT,
            "farshot": version("farshot"),
            "name": name,
            "classes": [asdict(words) for words in state.classes],
            "settings": asdict(replace(state.choice, model=model)),
            "groups": state.groups,
            "pictures": told,
        }
        text = dumps(about, ensure_ascii=False, indent=1) + "\n"
        archive.writestr(zipfile.ZipInfo(f"{top}/{ABOUT}", _DATE), text.encode(), zipfile.ZIP_DEFLATED)
        yield from sink.taken()
    yield from sink.taken()


class _Sink:
    """What a zip is written to, which is handed on piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> list[bytes]:
        """The pieces since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces


def _part(name: str, otherwise: str) -> str:
    """A name as a file or folder of any system may have it."""
    kept = "".join(c if c.isalnum() or c in " -_().,+&'" else "_" for c in unicodedata.normalize("NFC", name))
    kept = plain(kept, len(kept))[:_MOST_LETTERS].strip(" ._") or otherwise
    return f"_{kept}" if _RESERVED.fullmatch(kept) else kept


def _unused(stem: str, taken: set[str], folder: str = "", suffix: str = "") -> str:
    """The name, with a number where there is one already; capitals make no difference."""
    name, number = f"{stem}{suffix}", 1
    while (key := f"{folder}{name}".casefold()) in taken:
        number += 1
        name = f"{stem} ({number}){suffix}"
    taken.add(key)
    return name


# Import --------------------------------------------------------------------------------------------------


def most_bytes(limits: Limits) -> int:
    """Of a project's file: every workspace within the limits fits."""
    return limits.images * limits.file_bytes + _ABOUT_BYTES


def imported(path: Path, workspace: Workspace, models: Collection[str]) -> tuple[str, list[Refused]]:
    """Fill an empty workspace from a project's file.

    Args:
        path: the file; untrusted.
        models: names of the base models to choose from; of others the file's choice is not taken.

    Returns:
        The project's name, and the pictures that were not added.

    Raises:
        DataError: it is no project's file, or too large.
    """
    limits = workspace.limits
    most = most_bytes(limits)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            entries = read_directory(file, size, replace(limits, archive_bytes=most, unpacked_bytes=most))
            about, found = _read(file, entries, limits)
            claimed = sum(entry.span.size for entry in found.values())
            if claimed > max(limits.unpacked_bytes, _FRESH_RATIO * size):
                raise Fault("archive.unpacks_to", size=in_megabytes(claimed))
            workspace.name_classes(about.classes)
            _choose(workspace, about.setup, models)
            refused: list[Refused] = []
            places = {}
            for one in about.pictures:
                new, faults = _picture(workspace, file, one, found.get(one.file))
                refused += faults
                places.update(dict.fromkeys(new, (one.folder, one.group)))
            workspace.came_from(places)
            workspace.group_by(about.groups)
            workspace.forget_removed()  # the import is no change to take back
    except OSError as error:
        raise Fault("transfer.no_room", why=reason(error)) from error
    return about.name, refused


def _read(file: IO[bytes], entries: Sequence[Entry], limits: Limits) -> tuple[About, dict[str, Entry]]:
    """The checked JSON, and the entries that lie below the same folder, by their names there."""
    tops = [PurePosixPath(one.name).parts for one in entries if PurePosixPath(one.name).name == ABOUT]
    tops = [parts for parts in tops if len(parts) <= 2]
    if len(tops) != 1:
        raise Fault("archive.no_project", file=ABOUT)
    top = "".join(f"{part}/" for part in tops[0][:-1])
    found = {entry.name.removeprefix(top): entry for entry in entries if entry.name.startswith(top)}
    one = found.pop(ABOUT)
    if one.fault or one.span.size > _ABOUT_BYTES:
        raise Fault("archive.damaged", file=ABOUT, why=one.fault or Text("archive.about_too_large"))
    try:
        about = _about(parse_object(b"".join(unpack(file, one.span))))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Fault("archive.damaged_why", file=ABOUT, why=plain(str(error), 100)) from error
    if len(about.pictures) > limits.images:
        raise Fault("archive.too_many", n=len(about.pictures), most=limits.images)
    return about, {one.file: found[one.file] for one in about.pictures if one.file in found}


def _about(told: Mapping[str, Any]) -> About:
    """KeyError, TypeError or ValueError where a value is missing or of another kind."""
    written = _of(told, "format", int)
    if written > FORMAT:
        raise Fault("archive.newer")
    classes = tuple(
        cleaned(ClassWords(_of(one, "name", str), _of(one, "description", str)))
        for one in _objects(told, "classes")
    )
    check(classes)
    names = {
        _of(one, "name", str): words.name
        for one, words in zip(_objects(told, "classes"), classes, strict=True)
    }
    settings = _of(told, "settings", dict)
    setup = Setup(
        _of(settings, "model", str),
        _of(settings, "method", str),
        _of(settings, "quick", bool),
        _of(settings, "wanted", float),
    )
    if not 0 < setup.wanted < 1:
        raise ValueError("the wanted share is none")
    pictures = []
    for one in _objects(told, "pictures"):
        label = None if one["label"] is None else names[_of(one, "label", str)]
        # files of earlier versions have neither
        folder = shown_folders(f"{_of({'folder': '', **one}, 'folder', str)}/picture")
        group = one.get("group")
        group = None if group is None else plain(_of(one, "group", str), MOST_LETTERS)
        pictures.append(Described(_of(one, "file", str), _of(one, "name", str), label, folder, group))
    groups = _of({"groups": "", **told}, "groups", str)
    return About(_of(told, "name", str), classes, setup, groups, tuple(pictures))


def _objects(told: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = _of(told, key, list)
    if not all(isinstance(one, dict) for one in found):
        raise TypeError(f"{key} holds something else than objects")
    return found


def _of(told: Mapping[str, Any], key: str, kind: type) -> Any:
    """The value of a key, of exactly this kind."""
    if type(told[key]) is not kind:
        raise TypeError(f"{key} is no {kind.__name__}")
    return told[key]


def _choose(workspace: Workspace, setup: Setup, models: Collection[str]) -> None:
    """Take over the settings, as far as they can be chosen here."""
    usual = workspace.choice
    same = [one for one in models if one == setup.model]
    alike = same or [one for one in models if base_name(one) == setup.model]
    model = alike[0] if len(set(alike)) == 1 else usual.model  # of several of one name none is meant
    method = setup.method if setup.method in available() else usual.method
    workspace.choose(replace(setup, model=model, method=method))


def _picture(
    workspace: Workspace, file: IO[bytes], one: Described, entry: Entry | None
) -> tuple[list[str], list[Refused]]:
    """Store a picture as if it had been uploaded; returns its id, and what is wrong with it."""
    name = shown_name(one.name)
    if entry is None or entry.fault:
        why = entry.fault if entry and entry.fault else Text("archive.not_in_file")
        return [], [Refused(name, why)]
    place = workspace.folder / "arriving"
    try:
        with place.open("wb") as out:
            for piece in unpack(file, entry.span):
                if out.tell() == 0 and piece[:4] in ZIP_MAGIC:
                    return [], [Refused(name, Text("archive.zip_in_zip"))]
                out.write(piece)
        # by its last part alone: folders in it would propose a class
        new, refused = workspace.take([Upload(name, place, wrapped=False)], one.label)
        return [picture.id for picture in new], refused
    except DataError as error:
        return [], [Refused(name, message(error))]
    finally:
        place.unlink(missing_ok=True)

"""Find the files of a folder that may be images: skip what systems and programs leave there, and follow
links.

One list serves folders, files on the command line and uploads to the app.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from farshot.errors import DataError
from farshot.images.reading import UnreadableImage, read_header

_SYSTEM = {
    # macOS
    ".ds_store",
    "__macosx",
    "icon\r",
    # Windows
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    # Linux and network storage
    "lost+found",
    "@eadir",
    "#recycle",
    "#snapshot",
    "picasa.ini",
}
"""Files and folders that operating systems and storage devices create, in lower case."""

_STREAM = re.compile(
    r".*zone\.identifier(:\$data)?|.*[:\uf022\uf03a](encryptable|smartscreen|afp_afpinfo|afp_resource"
    r"|com\.dropbox\.attr(s|ibutes)|\$data)"
)
"""Names of second streams of files of Windows, such as 1.jpg:Zone.Identifier, which other systems copy as
files; Samba and Linux write another letter for the colon, some programs an underscore or nothing."""

_SIDECARS = {".xmp", ".aae", ".thm", ".pp3", ".lrcat"} | {
    *(".ovr", ".msk", ".tfw", ".tifw", ".jgw", ".pgw", ".wld", ".prj")
}
"""Extensions of files that cameras, photo programs and programs for maps (overviews, masks, places) write
next to a picture."""

_OTHER = (
    {".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".db", ".ini", ".xml", ".yaml", ".yml", ".toml"}
    | {".log", ".pdf", ".html", ".htm", ".rtf", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".parquet", ".zip"}
    | {".py", ".ipynb", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
    | {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp"}
    | {".mp3", ".m4a", ".wav"}
    | {".cls"}  # the class of a picture in shards
    | {".hdr"}  # the header of an ENVI picture, or a Radiance picture, which is not read
)
"""Extensions of files that may lie in a folder of pictures and are none: texts, tables, archives,
videos, sound."""

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".heic", ".dcm"}
"""Extensions of pictures, also of those that only an extra reads or that are damaged."""


def is_litter(parts: Sequence[str], *, hidden: bool) -> bool:
    """Whether this is a file that a system or a program leaves next to pictures, so that it is skipped
    without a note.

    Args:
        parts: the folders of a name and, last, the file.
        hidden: whether every name with a leading dot counts, not only those that macOS is known to write.
    """
    front = "." if hidden else "._"
    named = [part for part in parts if part not in (".", "..")]
    if any(part.lower() in _SYSTEM or part.startswith(front) for part in named):
        return True
    if named and _STREAM.fullmatch(named[-1].lower()):
        return True
    return bool(named) and PurePath(named[-1]).suffix.lower() in _SIDECARS


def may_be_image(name: str) -> bool:
    """Whether a file in a folder of pictures is read as an image, by its name."""
    return not is_litter([name], hidden=True) and PurePath(name).suffix.lower() not in _OTHER


def subfolders(folder: Path) -> list[Path]:
    """The subfolders of a folder, including links to folders, sorted by name; without hidden ones and those
    of systems.

    Raises:
        DataError: the folder cannot be listed, or a link leads nowhere.
    """
    found = []
    for entry in _listed(folder):
        if is_litter([entry.name], hidden=True):
            continue
        kind = _kind(entry)
        if kind == "folder":
            found.append(Path(entry.path))
        elif kind == "nothing" and not PurePath(entry.name).suffix:
            raise DataError(f"{entry.path} is a link to nothing; repair or remove it.")
    return sorted(found, key=lambda path: path.name)


def files_in(folder: Path) -> list[Path]:
    """Files directly in a folder that may be images.

    Raises:
        DataError: the folder cannot be listed.
    """
    here = (entry for entry in _listed(folder) if may_be_image(entry.name) and _kind(entry) == "file")
    return sorted(Path(entry.path) for entry in here)


def image_files(folder: Path) -> list[Path]:
    """Files that may be images, at any depth, sorted by name; without hidden files and files of other
    kinds.

    Links are followed. A folder that several links lead to is read once; a link to a file that does not exist
    is listed, so that reading it says so.

    Raises:
        DataError: a folder that cannot be listed, or a link to a folder that contains this one.
    """
    above = set(map(_identity, folder.resolve().parents))
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        # ordinary folders first: what links lead to keeps its ordinary path where it has one
        place = waiting.pop() if waiting else links.pop(0)
        identity = _identity(place)
        if identity in above:
            raise DataError(f"{place} is a link to a folder that contains it; remove the link.")
        if identity in seen:
            continue
        seen.add(identity)
        for entry in sorted(_listed(place), key=lambda entry: entry.name):
            kind = _kind(entry)
            if kind == "folder":
                if not is_litter([entry.name], hidden=True):
                    (links if entry.is_symlink() else waiting).append(Path(entry.path))
            elif may_be_image(entry.name) and kind in ("file", "nothing"):
                found.append(Path(entry.path))
    return sorted(found, key=lambda path: path.as_posix())


def is_packed(folder: Path, packed: Sequence[Path], holds_images: Callable[[Path], bool]) -> bool:
    """Whether a folder holds its images in Parquet files or tars, and none besides. Where pictures lie in
    several of its folders, such as those of classes, these are its images.

    Args:
        packed: the Parquet files or tars.
        holds_images: whether one of them holds images; asked only where there are pictures, too.

    Raises:
        DataError: there are images of both kinds; or as `image_files`.
    """
    pictures: dict[Path, Path] = {}  # the first of each folder
    for file in image_files(folder):
        # other names without a known extension, such as LICENSE, are not enough to say so
        if file.parent not in pictures and (called_picture(file.name) or _has_header(file)):
            pictures[file.parent] = file
    if not pictures:
        return True
    if len(pictures.keys() - {folder}) > 1:
        return False
    both = next(filter(holds_images, packed), None)
    if both is None:
        return False
    picture = next(iter(pictures.values()))
    raise DataError(
        f"{folder} holds the picture {picture.relative_to(folder)}, and also images in "
        f"{both.relative_to(folder)}; give the file or the folder of one kind, or move the others elsewhere."
    )


def called_picture(name: str) -> bool:
    """Whether a file has an extension of pictures."""
    return PurePath(name).suffix.lower() in _PICTURES


def _has_header(file: Path) -> bool:
    try:
        read_header(file)
    except (OSError, UnreadableImage):
        return False
    return True


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read ({error.strerror}); check it.") from error


def _kind(entry: os.DirEntry[str]) -> str:
    """The kind of an entry or of a link's target: "folder", "file", "other" such as a pipe, or "nothing"."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        entry.stat()
    except OSError:
        return "nothing"
    return "other"


def _identity(place: Path) -> tuple[int, int]:
    try:
        status = place.stat()
    except OSError as error:
        raise DataError(f"The folder {place} cannot be read ({error.strerror}); check it.") from error
    return status.st_dev, status.st_ino

"""The image that a name leads to: a file, or one in an archive or a dataset, such as photos.zip/scab/1.jpg or
leaves.parquet/row 7."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from farshot.data.arrow import read_parquet
from farshot.data.given import as_path
from farshot.data.members import member_at
from farshot.data.names import nfc
from farshot.data.saved import is_saved, read_saved
from farshot.data.urls import from_cache
from farshot.errors import DataError
from farshot.images.member import Named, has_scheme, is_url
from farshot.images.reading import ImageSource
from farshot.sanitize import plain, short

_ROW = re.compile(r"row (\d+)")


def source_at(place: str | Path) -> Named | None:
    """The file, the image in an archive or a dataset, or the image that was downloaded, of this name; None if
    there is none.

    Raises:
        DataError: the archive or the dataset cannot be read.
    """
    if isinstance(place, str) and is_url(place):
        return from_cache(place)
    path = Path(place)
    if path.is_file():
        return path
    return _row_at(path) or member_at(path)


def existing(folder: Path, file: Any, where: str) -> ImageSource:
    """The image of this path, from a folder.

    Raises:
        DataError: there is none.
    """
    if not isinstance(file, str):
        kind = type(file).__name__
        raise DataError(f"{where}: {kind} where the path of an image should be; write paths, not images.")
    if has_scheme(file.strip()) and not is_url(file.strip()):
        raise DataError(
            f"{where}: {short(file)} is no path, and only images of http and https can be downloaded; save "
            "the image as a file."
        )
    path = folder / as_path(file.strip())
    try:
        found = source_at(path) or _in_other_form(path)
    except (OSError, ValueError):  # no file can have this name
        found = None
    if found is None:
        raise DataError(
            f"{where}: there is no file {plain(path)}; paths are read from the folder of the table."
        )
    return found


def counted_from(path: Path, first: str) -> Path:
    """The folder that the paths of a list count from: that of the list, or the one folder in it that has the
    first image. The same holds for folders in `images`, and one folder up for lists in `annotations`.

    Raises:
        DataError: several folders have it.
    """
    above = [path.parent.parent] if path.parent.name == "annotations" else []
    for folder in (path.parent, *above):
        if _is_file(folder / first):
            return folder
    images = [folder / "images" for folder in (path.parent, *above) if (folder / "images").is_dir()]
    for folder in (path.parent, *above, *images):
        inside = sorted(place for place in folder.iterdir() if _is_file(place / first))
        if len(inside) > 1:
            names = " and ".join(place.name for place in inside[:2])
            raise DataError(
                f"{path}: {first} is in {names}; put the file into the folder that paths count from."
            )
        if inside:
            return inside[0]
    return path.parent


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have this name, or the folder is not ours to read
        return False


def _row_at(path: Path) -> Named | None:
    """The image in a row of a dataset."""
    number, place = _ROW.fullmatch(path.name), path.parent
    if number is None:
        return None
    if is_saved(place):
        files = tuple(sorted(place.glob("*.arrow")))
    elif place.suffix.lower() == ".parquet" and place.is_file():
        files = (place,)
    else:
        return None
    stamp = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    found = _by_name(place, stamp).get(str(path))
    return found if isinstance(found, Named) else None


@lru_cache(maxsize=4)
def _by_name(place: Path, stamp: tuple[tuple[int, int], ...]) -> dict[str, ImageSource]:
    # a file that was changed has another size or time, and is read again
    found = read_saved(place) if place.is_dir() else read_parquet(place)
    return {str(image): image for image in found.images if image is not None}


def _in_other_form(path: Path) -> Path | None:
    """The file of this name in another Unicode form: tables and file systems write accents differently."""
    if str(path).isascii():
        return None
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not (found / part).exists():
            here = (entry.name for entry in found.iterdir()) if found.is_dir() else iter(())
            same = next((name for name in here if nfc(name) == nfc(part)), None)
            if same is None:
                return None
            part = same
        found /= part
    return found if found.is_file() else None

"""Paths as people write them: "~" for the home folder, quoting for lines to copy, names for others."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from farshot.errors import DataError


def home(path: str | os.PathLike[str]) -> Path:
    """Replace "~" by the home folder, unless a file of exactly that name exists.

    Raises:
        DataError: the home folder of a user who is not there, or a name that no user can have.
    """
    place = Path(path)
    if not str(place).startswith("~") or os.path.lexists(place):
        return place
    try:
        return place.expanduser()
    except (RuntimeError, ValueError) as error:  # ValueError: a null character
        raise DataError(
            f"{place} begins with a home folder that does not exist; give the full path."
        ) from error


def ordinary(path: str | os.PathLike[str]) -> Path:
    """The path of a file that can be read to its end.

    Raises:
        OSError: a pipe or a device, which would be waited for; as where a file cannot be read.
    """
    place = Path(path)
    if not place.is_file() and not place.is_dir() and os.path.lexists(place) and place.exists():
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(place))
    return place


def quoted(path: str | os.PathLike[str]) -> str:
    """Quote the path for a printed command line."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def own_name(path: str | os.PathLike[str]) -> str:
    """The last part of a path, of a link its own name; where that says nothing, as of ".", the folder's."""
    name = Path(path).name
    return name if name not in ("", "..") else home(path).resolve().name


def base_name(model: str) -> str:
    """The name of a base model for other people: of a folder or file the last part, since a path means
    nothing elsewhere and tells who made it."""
    place = Path(model)
    local = place.is_absolute() or model.startswith("~") or place.exists()
    return own_name(place) if local and model else model


def default_cache() -> Path:
    """$FARSHOT_CACHE, or a folder in the user's cache."""
    place = os.environ.get("FARSHOT_CACHE")
    if place:
        return home(place)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "farshot"

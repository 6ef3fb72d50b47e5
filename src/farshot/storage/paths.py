"""Paths as people write them: "~" for the home folder, and quoted where a line is to be copied."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from farshot.errors import DataError


def home(path: str | os.PathLike[str]) -> Path:
    """The path, "~" replaced by the home folder unless something of that very name exists.

    Raises:
        DataError: the home folder of a user who is not there.
    """
    place = Path(path)
    if not str(place).startswith("~") or os.path.lexists(place):
        return place
    try:
        return place.expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{place} begins with a home folder that does not exist; give the full path."
        ) from error


def quoted(path: str | os.PathLike[str]) -> str:
    """The path as a shell and a command line take it: of a printed line that somebody will copy."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)

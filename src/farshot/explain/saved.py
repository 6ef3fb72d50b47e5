"""Charts as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from farshot.errors import DataError
from farshot.storage.atomic import check_file, whole_file

_MARKS = {".png": {"Software": "farshot"}, ".svg": {"Creator": "farshot"}}
_HEAD = 4096  # bytes, in which the mark lies


def check_figure(path: Path, option: str = "--out") -> None:
    """Refuse a place for a chart, before any work.

    Args:
        option: of the command, that names the place.

    Raises:
        DataError: the name does not end in .png or .svg, the place is taken by something else than such a
            chart of farshot, or it is not writable.
    """
    if path.suffix.lower() not in _MARKS:
        raise DataError(f"{option} {path}: charts are drawn as .png or .svg; name such a file.")
    check_file(path, "a chart of farshot", _is_ours, f"choose another {option}")


def save_figure(figure: Figure, path: Path, option: str = "--out") -> None:
    """Write a chart, completely or not at all; an older chart of farshot is replaced.

    Raises:
        DataError: as `check_figure`.
    """
    kind = path.suffix.lower()
    with whole_file(path, lambda place: check_figure(place, option), f"choose another {option}") as staging:
        figure.savefig(staging, format=kind[1:], dpi=150, metadata=_MARKS.get(kind))


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.startswith((b"\x89PNG", b"<?xml")) and b"farshot" in head

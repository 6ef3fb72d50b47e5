"""A folder is written whole or not at all: beside its place first, then moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from farshot.errors import DataError


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` once all is written.

    Whatever stops the writing, a full disk or Ctrl-C, leaves what was there before and nothing else.

    Raises:
        DataError: it cannot be written.
    """
    staging = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield staging
        _make_readable(staging)
        if folder.exists():
            folder.rename(_aside(staging))
        staging.rename(folder)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{folder} cannot be written ({reason(error)}); free some space or choose another --out."
        ) from error
    finally:
        if staging is not None:
            if _aside(staging).exists() and not folder.exists():
                _aside(staging).rename(folder)  # stopped between the two: the old one stays
            shutil.rmtree(_aside(staging), ignore_errors=True)
            shutil.rmtree(staging, ignore_errors=True)


def check_folder(folder: Path, what: str, files: Callable[[Path], Collection[str] | None]) -> None:
    """Refuses a place taken by something else, or that cannot be written, before any work is done for it.

    Args:
        what: what is going to be written, in words: "an adapted model".
        files: names of the files that such a folder may hold; None where it is no such folder.
    """
    try:
        inside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        known = files(folder) if folder.exists() else ()
        if folder.exists() and known is None and (not folder.is_dir() or inside):
            raise DataError(f"{folder} exists and is not {what}; choose another --out, or remove it.")
    except OSError as error:
        raise DataError(f"{folder} cannot be looked into ({reason(error)}); choose another --out.") from error
    others = sorted(set(inside) - set(known or ()))
    if others:
        raise DataError(
            f"{folder} holds more than {what} ({others[0]}), which would be lost; choose another --out."
        )
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{folder} cannot be written, since {above} cannot; choose another --out.")


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:200]


def _aside(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}-old")


def _make_readable(staging: Path) -> None:
    """mkdtemp and safetensors write for the owner alone; others get what the owner's umask grants."""
    umask = os.umask(0)
    os.umask(umask)
    for path in staging.iterdir():
        path.chmod(0o666 & ~umask)
    staging.chmod(0o777 & ~umask)

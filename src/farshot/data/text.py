"""Read text and JSON files that people write; a fault is reported in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farshot.errors import DataError
from farshot.storage.json_text import parse
from farshot.storage.paths import home, ordinary


def load_json(path: Path) -> Any:
    """Read a JSON file; DataError with the line if it is not JSON or an object has a key twice."""

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise DataError(f"{path} has the key {key!r} twice; keep one.")
            found[key] = value
        return found

    try:
        return parse(read_text(path), without_doubles)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}); fix it there.") from error
    except DataError:
        raise
    except ValueError as error:  # nested too deep, or a number of thousands of digits
        raise DataError(f"{path} cannot be read as JSON ({error}); write it again.") from error


def read_text(path: Path) -> str:
    """A file of UTF-8 text, with or without a byte order mark."""
    try:
        return ordinary(home(path)).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; save it again as UTF-8.") from error


def first_line(error: BaseException) -> str:
    """The first line of another library's message, short enough for the middle of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

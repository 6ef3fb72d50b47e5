"""JSON to write, and JSON from other programs: any fault of it is a ValueError, such as too deep nesting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from farshot.storage.paths import ordinary

MOST_BYTES = 64 << 20
"""Of a JSON file; the largest tokenizers have 35 MB."""

_MOST_DIGITS = 300  # a float holds 308
_MOST_DEPTH = 100  # of lists and objects in each other; some versions of Python read thousands


def parse(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse the text.

    Args:
        pairs: makes something of the keys and values of an object; by default a dictionary.

    Raises:
        ValueError: it is not JSON, has more than 100 lists and objects in each other, or has a whole number
            that is too large for a float.
    """
    try:
        found = json.loads(text, object_pairs_hook=pairs, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level = [found]
    for _ in range(_MOST_DEPTH):
        level = [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list | tuple)]
        if not level:
            return found
    raise ValueError("it is nested too deep")


def as_json(value: Any, **how: Any) -> str:
    """JSON for a file or a database, in readable characters; halves of characters, which names of files
    that are not UTF-8 have, are escaped, so that any encoder takes the text and `parse` gives the
    value back.

    Args:
        how: arguments of `json.dumps`, such as indent.
    """
    return json.dumps(value, ensure_ascii=False, **how).encode("utf-8", "backslashreplace").decode()


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"the number {digits[:12]}... of {len(digits.lstrip('-'))} digits is too large")
    return int(digits)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse text that must be an object.

    Raises:
        ValueError: it is no object, or as `parse`.
    """
    found = parse(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def read_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """Parse a file that must hold an object.

    Args:
        most: bytes; a larger file is not read.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
        ValueError: as `parse_object`, or the file is too large.
    """
    with ordinary(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most >> 20} MB")
    return parse_object(data)

"""JSON from other programs: any fault of it is a ValueError, including too deep nesting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def parse(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse the text.

    Args:
        pairs: makes something of the keys and values of an object; by default a dictionary.

    Raises:
        ValueError: it is not JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse text that must be an object.

    Raises:
        ValueError: it is no object, or as `parse`.
    """
    found = parse(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found

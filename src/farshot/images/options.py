"""How pictures of many bits or bands are read.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReadOptions:
    """How pictures of more than 8 bits or more than three bands are read; all others ignore it.

    Attributes:
        range: values that become black and white, for values of more than 8 bits or floating point; by
            default the range is inferred for each picture.
        bands: three bands that become red, green and blue, counted from 1, for TIFF files.

    Raises:
        ValueError: a range that is empty, or bands that are not three whole numbers from 1.
    """

    range: tuple[float, float] | None = None
    bands: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "range", _range(self.range))
        object.__setattr__(self, "bands", _bands(self.bands))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReadOptions:
        """Create from what `to_dict` returned; other keys are ignored."""
        return cls(_range(values.get("range")), _bands(values.get("bands")))

    def to_dict(self) -> dict[str, list[float] | list[int] | None]:
        """For JSON."""
        return {
            "range": None if self.range is None else list(self.range),
            "bands": None if self.bands is None else list(self.bands),
        }

    def words(self) -> list[str]:
        """The same as command-line options."""
        bounds = [] if self.range is None else ["--range", *map(_exactly, self.range)]
        return bounds if self.bands is None else [*bounds, "--bands", *map(str, self.bands)]


def _exactly(value: float) -> str:
    """The shortest text that represents the number exactly."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _range(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = _numbers(values, 2, "range")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"The range {low:g} to {high:g} is empty; give two finite numbers, the lower first.")
    return low, high


def _bands(values: Any) -> tuple[int, int, int] | None:
    if values is None:
        return None
    bands = _numbers(values, 3, "bands")
    if not all(band >= 1 and band == band // 1 for band in bands):
        raise ValueError(f"The bands {values} must be whole numbers from 1, such as 4, 3, 2.")
    red, green, blue = map(int, bands)
    return red, green, blue


def _numbers(values: Any, count: int, name: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError):
        found = ()
    if len(found) != count:
        raise ValueError(f"{name} must be {count} numbers, not {values!r}.")
    return found

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
        bands: three bands that become red, green and blue, counted from 1; pictures other than TIFF files
            have three.
        page: the page of TIFF and HEIC files and the frame of DICOM files, counted from 1; by default the
            first.

    Raises:
        ValueError: a range that is empty, bands that are not three whole numbers from 1, or a page that is
            not one.
    """

    range: tuple[float, float] | None = None
    bands: tuple[int, int, int] | None = None
    page: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "range", _range(self.range))
        object.__setattr__(self, "bands", _bands(self.bands))
        object.__setattr__(self, "page", _page(self.page))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReadOptions:
        """Create from what `to_dict` returned; other keys are ignored."""
        return cls(_range(values.get("range")), _bands(values.get("bands")), _page(values.get("page")))

    def to_dict(self) -> dict[str, list[float] | list[int] | int | None]:
        """For JSON. The page is left out where none was chosen: hashes that earlier versions made of the
        others stay as they are."""
        return {
            "range": None if self.range is None else list(self.range),
            "bands": None if self.bands is None else list(self.bands),
            **({} if self.page is None else {"page": self.page}),
        }

    def words(self) -> list[str]:
        """The same as command-line options."""
        bounds = [] if self.range is None else ["--range", *map(_exactly, self.range)]
        bands = [] if self.bands is None else ["--bands", *map(str, self.bands)]
        page = [] if self.page is None else ["--page", str(self.page)]
        return [*bounds, *bands, *page]


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


def _page(value: Any) -> int | None:
    if value is None:
        return None
    page = value if isinstance(value, int | float) else 0
    if not (page >= 1 and page == page // 1):
        raise ValueError(f"The page {value!r} must be a whole number from 1.")
    return int(page)


def _numbers(values: Any, count: int, name: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        found = ()
    if len(found) != count:
        raise ValueError(f"{name} must be {count} numbers, not {values!r}.")
    return found

"""Scale values of more than 8 bits.

This file is copied unchanged into ONNX exports (farshot.images.decode): standard library and numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .faults import Unreadable
from .options import ReadOptions

_VALUES_AT_ONCE = 1 << 20
_DEPTHS = (8, 10, 12, 14, 16)
_OVERSHOT = 2.0  # fractions below this are 0 to 1: reflectance and resampled pictures go a little beyond 1


def scaled(
    values: NDArray[np.generic], options: ReadOptions, *, sixteen: bool = False, declared: int = 0
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale deep values to 8 bits; returns a note where another range is possible.

    Args:
        sixteen: the format says that the values have 16 bits, however small they are.
        declared: the largest value as the file declares it; 0 where it does not.

    Raises:
        Unreadable: values that are not finite.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("it has values that are not finite; export it with 8 or 16 bits.")
    low, top = float(values.min()), float(values.max())
    note: tuple[str, ...] = ()
    if options.range is not None:
        black, white = options.range
    elif low < 0 or top > 65535:
        black, white = low, max(top, np.nextafter(low, np.inf))
        note = (
            f"its values from {low:g} to {top:g} are stretched to 8 bits; a range reads all pictures alike.",
        )
    elif values.dtype.kind == "f" and top < _OVERSHOT:
        black, white = 0.0, 1.0
        if top > 1:
            note = (f"its values up to {top:g} are read as 0 to 1; a range reads all pictures alike.",)
    else:
        most = max(top, min(declared, 65535))
        bits = next(depth for depth in _DEPTHS if most <= 2**depth - 1) if most else 16
        black, white = 0.0, float(2**bits - 1)
        if values.dtype.kind == "f":
            note = (
                f"its values up to {top:g} are read as whole numbers of {bits} bits; "
                "a range reads all pictures alike.",
            )
        elif bits < 16 and (sixteen or bits > 8):
            note = (
                f"its values up to {top:g} are read as {bits} bits and stretched; "
                "a range reads all pictures alike.",
            )
    found = np.empty(values.shape, np.uint8)
    factor = 255.0 / (white - black)
    step = max(1, _VALUES_AT_ONCE // max(1, values[0].size))
    for row in range(0, len(values), step):  # doubles of a whole large picture would take a gigabyte
        part = values[row : row + step].astype(np.float64)
        found[row : row + step] = np.clip(np.rint((part - black) * factor), 0, 255)
    return found, note

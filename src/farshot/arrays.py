"""`NDArray`, the type of a NumPy array, in a form that jaxtyping accepts.

From NumPy 2.5 on, `numpy.typing.NDArray` is an alias of the type statement on Python 3.12 and later, which
jaxtyping (0.3.11) cannot subscript with shapes.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

Scalar = TypeVar("Scalar", bound=np.generic)

NDArray = np.ndarray[tuple[Any, ...], np.dtype[Scalar]]

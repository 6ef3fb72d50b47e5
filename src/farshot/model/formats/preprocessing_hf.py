"""transformers' `preprocessor_config.json`: pixel normalisation, and how the authors resize."""

from __future__ import annotations

import math

from farshot.errors import ModelError
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.model.encoder import Preprocessing
from farshot.model.formats.files import Source

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
CLIP_COLOURS: Colours = (CLIP_MEAN, CLIP_STD)
SIGLIP_COLOURS: Colours = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation of the pixels, by family."""

_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def read_preprocessing(source: Source, usual: Colours = CLIP_COLOURS) -> Preprocessing:
    """The values of the file; the usual ones of its family where it or a value is missing.

    Raises:
        ModelError: mean or standard deviation are not three numbers.
    """
    found = source.json("preprocessor_config.json")
    squashed = not found.get("do_center_crop", True) or (found and "height" in dict(found.get("size") or {}))
    resampling = _FILTERS.get(int(found.get("resample", 3)), "bicubic")
    reading = f"squash-{resampling}" if squashed else f"shortest-{resampling}-floor"
    return Preprocessing(
        mean=colours(source, found.get("image_mean") or usual[0]),
        std=spread(source, found.get("image_std") or usual[1]),
        reading=reading,
    )


def spread(source: Source, values: object) -> tuple[float, float, float]:
    """Three finite numbers that pixels may be divided by.

    Raises:
        ModelError: they are not.
    """
    found = colours(source, values)
    if min(found) <= 0:
        raise ModelError(f"The preprocessing of {source.name} divides pixels by {values!r}; fetch it again.")
    return found


def colours(source: Source, values: object) -> tuple[float, float, float]:
    """Three finite numbers.

    Raises:
        ModelError: they are not.
    """
    try:
        red, green, blue = (float(value) for value in values)  # type: ignore[attr-defined]
        if not all(map(math.isfinite, (red, green, blue))):
            raise ValueError("not finite")
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The preprocessing of {source.name} has {values!r} where three numbers belong; fetch it again."
        ) from error
    return red, green, blue

"""transformers' image settings: pixel normalisation, and how the authors resize."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from farshot.errors import ModelError
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD, FILTERS, own_reading
from farshot.model.encoder import Preprocessing
from farshot.model.formats.files import Source
from farshot.sanitize import short

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
CLIP_COLOURS: Colours = (CLIP_MEAN, CLIP_STD)
SIGLIP_COLOURS: Colours = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation of the pixels, by family."""
_TO_ONE = 1 / 255  # what pixels are multiplied by where the file does not say otherwise


def read_preprocessing(
    source: Source, size: int, usual: Colours = CLIP_COLOURS, *, square: bool = False
) -> Preprocessing:
    """The values of the file; the usual ones of its family where it or a value is missing.

    Args:
        size: side in pixels of the encoder's input.
        square: whether the family resizes to a square and cuts nothing off where the file does not say.

    Raises:
        ModelError: a value is none that transformers would read.
    """
    found = image_settings(source)
    mean, std = normalisation(source, found, usual)
    return Preprocessing(mean, std, read_resizing(source, found, size, square=square))


def image_settings(source: Source) -> dict[str, Any]:
    """How images are read: `preprocessor_config.json`, or the part `image_processor` of
    `processor_config.json`, which transformers 5 saves instead; empty where there is neither."""
    if source.has("preprocessor_config.json"):
        return source.json("preprocessor_config.json")
    nested = source.json("processor_config.json").get("image_processor")
    return dict(nested) if isinstance(nested, Mapping) else {}


def normalisation(source: Source, found: Mapping[str, Any], usual: Colours) -> Colours:
    """Mean and standard deviation for pixels from 0 to 1, where they are rescaled to another range, too.

    Raises:
        ModelError: a value is none that transformers would read.
    """
    mean = colours(source, found.get("image_mean") or usual[0])
    std = spread(source, found.get("image_std") or usual[1])
    if found.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    factor = found.get("rescale_factor")
    if found.get("do_rescale") is False:
        factor = 1.0
    if factor is None or factor == _TO_ONE:
        return mean, std
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ModelError(
            f"{source.name} multiplies pixels by {short(factor)}; fetch its configuration again."
        )
    white = factor / _TO_ONE
    return (
        (mean[0] / white, mean[1] / white, mean[2] / white),
        (std[0] / white, std[1] / white, std[2] / white),
    )


def read_resizing(source: Source, found: Mapping[str, Any], size: int, *, square: bool) -> str:
    """The reading (farshot.images.preprocess) of these settings.

    Older files write a number as `size`, which is the short side, or both where `square`. Without a cut, or
    without resizing, only a square fits the encoder.

    Raises:
        ModelError: the number of a filter that Pillow does not have, or a size that is none.
    """
    resample = found.get("resample", 3)
    if type(resample) is not int or not 0 <= resample < len(FILTERS):
        raise ModelError(f"{source.name} resizes images by {short(resample)}, which Pillow does not have.")
    sides = found.get("size")
    if isinstance(sides, Mapping):
        keeps_shape, side = "shortest_edge" in sides, sides.get("shortest_edge", sides.get("height", size))
        if "height" in sides and sides.get("width", side) != side:
            raise ModelError(f"Images of {short(sides)} are not square; farshot reads square ones only.")
    else:
        keeps_shape, side = not square, size if sides is None else sides
    cut = found.get("do_center_crop", not square) is True
    if type(side) is not int or not 0 < side < 10_000:
        raise ModelError(
            f"{source.name} resizes images to {short(sides)} pixels; fetch its configuration again."
        )
    if not cut or not found.get("do_resize", True):
        keeps_shape, side = False, size
    return own_reading(
        keeps_shape=keeps_shape, side=side, size=size, resampling=FILTERS[resample], rounded_down=True
    )


def spread(source: Source, values: object) -> tuple[float, float, float]:
    """Three finite numbers that pixels may be divided by.

    Raises:
        ModelError: they are not.
    """
    found = colours(source, values)
    if min(found) <= 0:
        raise ModelError(
            f"The preprocessing of {source.name} divides pixels by {short(values)}; fetch it again."
        )
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
            f"The preprocessing of {source.name} has {short(values)} where three numbers belong; fetch it "
            "again."
        ) from error
    return red, green, blue

"""transformers' `preprocessor_config.json`: pixel normalisation, and how the authors resize."""

from __future__ import annotations

from farshot.errors import ModelError
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.model.encoder import Preprocessing
from farshot.model.formats.files import Source

_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def read_preprocessing(source: Source) -> Preprocessing:
    """CLIP's values where the file or a value is missing.

    Raises:
        ModelError: mean or standard deviation are not three numbers.
    """
    found = source.json("preprocessor_config.json")
    squashed = not found.get("do_center_crop", True) or (found and "height" in dict(found.get("size") or {}))
    resampling = _FILTERS.get(int(found.get("resample", 3)), "bicubic")
    reading = f"squash-{resampling}" if squashed else f"shortest-{resampling}-floor"
    return Preprocessing(
        mean=colours(source, found.get("image_mean") or CLIP_MEAN),
        std=colours(source, found.get("image_std") or CLIP_STD),
        reading=reading,
    )


def colours(source: Source, values: object) -> tuple[float, float, float]:
    """Three finite numbers.

    Raises:
        ModelError: they are not.
    """
    try:
        red, green, blue = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The preprocessing of {source.name} has {values!r} where three numbers belong; fetch it again."
        ) from error
    return red, green, blue

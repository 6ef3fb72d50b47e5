"""Check the files of an adapted model; errors name the value or the tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from farshot.methods.base import Adapted
from farshot.methods.finetuned import FinetunedAdapted
from farshot.methods.frozen import FrozenAdapted
from farshot.methods.tip_adapter import TipAdapter
from farshot.model.appearance import TOLERANCE
from farshot.model.encoder import Encoder
from farshot.sanitize import short

_LABELS = (str, int, float, bool)


def check_values(about: Mapping[str, Any]) -> None:
    """Check the values of farshot.json, beyond their types.

    Raises:
        ValueError: a value that `save` does not write.
    """
    for key, fits in _FIT.items():
        if key in about and not fits(about[key]):
            raise ValueError(f"it has {short(about[key])} as {key}")
    if len(about["classes"]) != len(about["class_names"]):
        raise ValueError("it names more or fewer classes than it has")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors with NaN or infinity.

    Raises:
        ValueError: NaN or infinity.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"the tensor {name} holds NaN or infinity")


@torch.no_grad()
def check_restored(adapted: Adapted, encoder: Encoder) -> None:
    """Check that the tensors have the shapes that classes and encoder require: texts by name, and the state
    of a method on frozen features by scoring two made-up features.

    Raises:
        ValueError: a shape that does not fit.
        KeyError, RuntimeError: from the method, where a tensor is missing or does not fit.
    """
    classes, width = len(adapted.class_names), encoder.embed_dim
    if isinstance(adapted, FinetunedAdapted):
        _check_shape("texts.final", adapted.texts.final, (1, classes, width))
        tap = adapted.texts.tap
        if tap.dim() != 3 or tap.shape[:2] != (1, classes):
            raise ValueError(f"the tensor texts.tap is {tuple(tap.shape)}, not (1, {classes}, D)")
        check_finite({"scale": torch.tensor(adapted.scale)})
    if isinstance(adapted, FrozenAdapted):
        if "texts" in adapted.state:
            _check_shape("texts", adapted.state["texts"], (classes, width))
        if isinstance(adapted.method, TipAdapter):  # others would be spread over the classes
            for name in ("alpha", "beta"):
                _check_shape(name, adapted.state[name], ())
        made_up = F.normalize(torch.ones(2, width).cumsum(1), dim=-1)
        scores = adapted.method.scores(made_up, adapted.state, adapted.method.scale_of(encoder))
        _check_shape("of the scores", scores, (2, classes))


def check_labelled(kept: Mapping[str, Tensor], images: int, classes: int, width: int) -> None:
    """Check what is kept of the labelled images.

    Raises:
        ValueError: a shape or type that does not fit.
    """
    known = {
        "features": ((images, width), torch.float32),
        "similarity": ((images,), torch.float32),
        "appearance": ((images, len(TOLERANCE)), torch.float32),
        "appearance.distance": ((images,), torch.float32),
        "held_out.logits": ((images, classes), torch.float32),
        "held_out.fold": ((images,), torch.int64),
        "thumbnails": ((images, 32, 32), torch.uint8),
        "unit": ((images,), torch.int64),
    }
    for name, value in kept.items():
        if name not in known:
            raise ValueError(f"the tensor {name} is not known")
        shape, kind = known[name]
        _check_shape(name, value, shape)
        if value.dtype != kind:
            raise ValueError(f"the tensor {name} is {value.dtype}, not {kind}")
    pairs = (
        ("features", "similarity"),
        ("appearance", "appearance.distance"),
        ("held_out.logits", "held_out.fold"),
    )
    for pair in pairs:
        if len(set(pair) & set(kept)) == 1:
            raise ValueError(f"of the tensors {' and '.join(pair)} one is missing")


def _check_shape(name: str, value: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(value.shape) != wanted:
        raise ValueError(f"the tensor {name} is {tuple(value.shape)}, not {wanted}")


def _all(values: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, kind) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_labels(values: Any) -> bool:
    return (
        bool(values)
        and _all(values, _LABELS)
        and len({type(value) for value in values}) == 1
        and len(set(values)) == len(values)
    )


def _is_limit(found: Any) -> bool:
    """Whether it says from which probability on a prediction is sure."""
    if not isinstance(found, dict) or found.keys() != {"wanted", "probability"}:
        return False
    numbers = [found["wanted"], *([] if found["probability"] is None else [found["probability"]])]
    return all(_is_number(value) and 0 <= value <= 1 for value in numbers)


def _are_codes(found: Any) -> bool:
    """Whether these may be indices of classes."""
    return isinstance(found, list) and all(type(code) is int and code >= 0 for code in found)


def _is_date(found: Any) -> bool:
    """Whether it is a day as "2026-05-17"."""
    try:
        return date.fromisoformat(found).isoformat() == found
    except (TypeError, ValueError):
        return False


_FIT: dict[str, Callable[[Any], bool]] = {
    "format": _is_number,
    "revision": _is_number,
    "seed": _is_number,
    "classes": _are_labels,
    "class_names": lambda found: _all(found, str),
    "descriptions": lambda found: _all(list(found.values()), str),
    "template": lambda found: found.count("{}") == 1,
    "precision": lambda found: found in ("float32", "bf16"),
    "temperature": lambda found: _is_number(found) and math.isfinite(found) and found > 0,
    "support_ids": lambda found: _all(found, str),
    "support_groups": lambda found: isinstance(found, list) and _all(found, str),
    "losses": lambda found: all(map(_is_number, found)),
    "preprocessing": lambda found: isinstance(found, dict),
    "calibrate": lambda found: isinstance(found, bool),
    "groups_withheld": lambda found: isinstance(found, bool),
    "near_copies": lambda found: isinstance(found, bool),
    "units": lambda found: isinstance(found, bool),
    "estimate": lambda found: found is None or isinstance(found, dict),
    "limit": lambda found: found is None or _is_limit(found),
    "zero_shot": lambda found: found is None or _are_codes(found),
    "adapted_on": lambda found: found is None or _is_date(found),
}

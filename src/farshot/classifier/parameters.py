"""The parameters of a FewShotClassifier: checked before fitting, and kept as they were."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farshot.errors import ModelError, SettingError
from farshot.images.options import ReadOptions
from farshot.model.encoder import Encoder
from farshot.model.find import absolute_source, is_clip_model, load_encoder, shared_encoder

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier


@dataclass(frozen=True)
class FittedParameters:
    """The parameters at the time of fitting, which `save` writes, without later changes.

    Attributes:
        method: name of the method.
        model: hub name, or the absolute path of a folder.
        descriptions: class name -> words that take its place in the prompt.
        template: the prompt.
        calibrate: whether a temperature was asked for.
        precision: of the encoder.
        seed: of every random draw.
    """

    method: str
    model: str
    descriptions: dict[str, str]
    template: str
    calibrate: bool
    precision: str
    seed: int

    @classmethod
    def of(
        cls, classifier: FewShotClassifier, encoder: Encoder, descriptions: Mapping[str, str]
    ) -> FittedParameters:
        """The present parameters, with the descriptions by class name."""
        return cls(
            classifier.method,
            absolute_source(classifier.model if isinstance(classifier.model, str | Path) else encoder.source),
            dict(descriptions),
            classifier.template,
            bool(classifier.calibrate),
            encoder.precision,
            int(classifier.seed),
        )


def model_at_size(model: str | Path, size: Any, *, device: str, precision: str) -> str | Path | Encoder:
    """The parameter `model` with which images have this side: the place as it is, or, where its encoder takes
    another size, an encoder that was loaded for this one.

    Args:
        size: in pixels; anything but a number, or a size that the encoder cannot have, changes nothing.

    Raises:
        ModelError: as `load_encoder`, of the place itself.
    """
    if isinstance(size, int) and size != shared_encoder(model, device=device, precision=precision).size:
        with suppress(ModelError):  # another model, which has no such size
            return load_encoder(model, device=device, precision=precision, size=size)
    return model


def check_parameters(classifier: FewShotClassifier) -> None:
    """Refuse parameters of the wrong type.

    Raises:
        SettingError: names the parameter and what it must be.
    """
    kinds: dict[str, tuple[tuple[type, ...], str]] = {
        "model": ((str, Path, Encoder), "a hub name, a path, an encoder or a CLIPModel"),
        "method": ((str,), "the name of a method"),
        "settings": ((Mapping, type(None)), "a mapping of a setting's name to its value"),
        "descriptions": ((Mapping, type(None)), "a mapping of a class name to its description"),
        "template": ((str,), "a prompt with {} where the class name goes"),
        "calibrate": ((bool, np.bool_), "True or False"),
        "precision": ((str,), "float32 or bf16"),
        "device": ((str,), "auto, cpu, cuda or another device"),
        "micro_batch": ((int, np.integer, type(None)), "a whole number or None"),
        "seed": ((int, np.integer), "a whole number"),
        "read_options": ((ReadOptions, Mapping, type(None)), "a mapping with range, bands and page"),
    }
    for name, (kind, what) in kinds.items():
        value = getattr(classifier, name)
        if not isinstance(value, kind) and not (name == "model" and is_clip_model(value)):
            raise SettingError(f"The parameter {name} must be {what}, not {value!r}.")
    if classifier.micro_batch is not None and classifier.micro_batch < 1:
        raise SettingError(f"The parameter micro_batch must be at least 1, not {classifier.micro_batch}.")


def read_options(given: ReadOptions | Mapping[str, Any] | None) -> ReadOptions:
    """The options that were given.

    Raises:
        SettingError: names what is not one, or cannot be.
    """
    if given is None or isinstance(given, ReadOptions):
        return given or ReadOptions()
    unknown = set(given) - {"range", "bands", "page"}
    if unknown:
        raise SettingError(f"read_options has {min(unknown, key=str)!r}; it takes range, bands and page.")
    try:
        return ReadOptions.from_dict(given)
    except ValueError as error:
        raise SettingError(str(error)) from error

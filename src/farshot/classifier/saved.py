"""Load adapted models that `FewShotClassifier.save` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from farshot.arrays import NDArray
from farshot.classifier.fewshot import FewShotClassifier
from farshot.classifier.parameters import FittedParameters, model_at_size, read_options
from farshot.data.given import as_path
from farshot.data.names import default_name, nfc
from farshot.data.table import ImageTable
from farshot.errors import ModelError, SettingError
from farshot.evaluation.calibration import Limit
from farshot.evaluation.crossval import HeldOut
from farshot.evaluation.familiarity import Familiarity, Look
from farshot.methods import Method, available, create, current_settings
from farshot.model.encoder import Encoder
from farshot.model.find import encoder_of_clip, is_clip_model, shared_encoder
from farshot.sanitize import short
from farshot.storage.model_check import check_labelled, check_restored
from farshot.storage.model_folder import (
    damaged,
    read_folder,
    read_labelled,
    read_places,
    saved_options,
    support_labels,
)
from farshot.task import Task

if TYPE_CHECKING:
    from transformers import CLIPModel
else:
    CLIPModel = Any


def load(
    folder: str | Path,
    *,
    model: str | Path | Encoder | CLIPModel | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> FewShotClassifier:
    """Load an adapted model that `save` wrote.

    Args:
        folder: its folder, or "hf:OWNER/NAME" for one on the hub.
        model: the base model, if it is no longer where it was: a place, a loaded encoder or a CLIPModel.
        device: of the base model, unless that is loaded.
        precision: "float32" or "bf16"; by default as it was adapted.

    Raises:
        ModelError: no such folder, damaged, or a base model with other weights than the one it was adapted
            from.
    """
    about, tensors = read_folder(as_path(folder))
    labelled = read_labelled(as_path(folder))
    method = _saved_method(folder, about)
    base = about["base_model"] if model is None else model
    machine = {"device": device, "precision": precision or about["precision"]}
    try:
        if is_clip_model(base):
            base = encoder_of_clip(base, **machine)
        if not isinstance(base, Encoder):
            base = model_at_size(base, about["preprocessing"].get("size"), **machine)
        encoder = base if isinstance(base, Encoder) else shared_encoder(base, **machine)
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(
            f"The base model of {folder} cannot be loaded; name its place with model=PLACE. {error}"
        ) from error
    known = encoder.fingerprint if about["format"] > 1 else encoder.fingerprint_of_version_1()
    if known != about["base_fingerprint"]:
        raise ModelError(
            f"{folder} was adapted from {about['base_model']}, but the configuration, the "
            f"tokenizer or the weights in {encoder.source} are others; name its base with model=PLACE, or "
            "adapt again if this version reads it in another way."
        )
    return _restored(folder, about, tensors, method, encoder, base, device, labelled)


def _saved_method(folder: str | Path, about: Mapping[str, Any]) -> Method:
    """The method of a saved model.

    Raises:
        ModelError: its package is missing, or its numbers have changed since.
    """
    name, package = about["method"], about.get("method_package", "farshot")
    if package != "farshot" and name not in available():
        raise ModelError(
            f"{folder} was adapted with the method {short(name)} of the package {package}, which is missing "
            f"or cannot be imported; install it: pip install {package}."
        )
    try:
        method = create(name, current_settings(name, about["settings"]))
    except SettingError as error:
        raise ModelError(f"{folder}/farshot.json cannot be used as it is: {error}") from error
    if method.revision != about["revision"]:
        raise ModelError(
            f"{folder} was made by revision {about['revision']} of {name}, this farshot has "
            f"{method.revision}: adapt it again, or use farshot {short(about['farshot_version'])}."
        )
    return method


def _restored(
    folder: str | Path,
    about: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    method: Method,
    encoder: Encoder,
    model: str | Path | Encoder,
    device: str,
    labelled: Mapping[str, torch.Tensor],
) -> FewShotClassifier:
    """The classifier that a folder's farshot.json and tensors describe."""
    labels, names = list(map(str, about["classes"])), list(map(nfc, about["class_names"]))
    # of names that were not given nothing is kept, so that it can be fitted to other classes
    named = names != list(map(default_name, labels))
    made = FewShotClassifier(
        model,
        about["method"],
        settings=current_settings(about["method"], about["settings"]),
        class_names=dict(zip(labels, about["class_names"], strict=True)) if named else None,
        descriptions=about["descriptions"] or None,
        template=about["template"],
        read_options=saved_options(folder, about),
        calibrate=bool(about.get("calibrate", False)),
        precision=encoder.precision,
        device=device,
        seed=about["seed"],
    )
    none = np.zeros(0, dtype=np.int64)
    task = Task(
        ImageTable((), None, (), ()), tuple(about["class_names"]), none, none, template=about["template"]
    )
    with damaged(f"{folder}/parts.safetensors"):
        made.adapted_ = method.restore(encoder, task, tensors)
        check_restored(made.adapted_, encoder)
    made.classes_ = np.asarray(about["classes"])
    made.encoder_, made.method_ = encoder, method
    made.losses_, made.temperature_ = np.asarray(about["losses"]), float(about["temperature"])
    made.adapted_.losses = made.losses_
    made.support_ids_ = about["support_ids"]
    made.support_labels_ = support_labels(about)
    made.support_places_ = read_places(as_path(folder))
    made.support_groups_ = list(about.get("support_groups", []))
    lost = {
        "near copies": about.get("near_copies") and "thumbnails" not in labelled,
        "groups": about.get("groups_withheld"),
    }
    made.not_recognised_ = tuple(what for what, is_lost in lost.items() if is_lost)
    made.estimate_ = about.get("estimate")
    made.adapted_on_ = about.get("adapted_on")
    made.limit_ = Limit(**about["limit"]) if about.get("limit") else None
    with damaged(f"{folder}/labelled.safetensors"):
        check_labelled(labelled, len(made.support_ids_), len(made.classes_), encoder.embed_dim)
        for flag, tensor in (("near_copies", "thumbnails"), ("units", "unit")):
            if about.get(flag) and "features" in labelled and tensor not in labelled:
                raise ValueError(f"the tensor {tensor} is missing")
    kept = {name: tensor.numpy() for name, tensor in labelled.items()}
    made.familiarity_, made.held_out_, made.thumbnails_ = None, None, kept.get("thumbnails")
    if "features" in kept:
        look = Look(kept["appearance"], kept["appearance.distance"]) if "appearance" in kept else None
        made.familiarity_ = Familiarity(kept["features"], kept["similarity"], look, kept.get("unit"))
    if "held_out.logits" in kept and made.support_labels_:
        codes = np.asarray(made.support_labels_, dtype=np.int64)
        logits, fold = kept["held_out.logits"], kept["held_out.fold"]
        classes, unit = tuple(about["classes"]), kept.get("unit")
        made.held_out_ = HeldOut(classes, codes, logits, fold, _zero_shot(about), unit)
    made.read_options_ = read_options(made.read_options)
    made.parameters_ = FittedParameters.of(made, encoder, about["descriptions"])
    return made


def _zero_shot(about: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """The class that the base model predicts for each labelled image; None in models saved without it."""
    found = about.get("zero_shot") or []
    fits = len(found) == len(about["support_ids"]) and all(code < len(about["classes"]) for code in found)
    return np.asarray(found, dtype=np.int64) if found and fits else None

"""Adapted models on disk: what `FewShotClassifier.save` writes."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from farshot.arrays import NDArray
from farshot.data.given import as_path, plain_label
from farshot.images.member import Named, absolute_name, has_scheme, is_url
from farshot.images.reading import ImageSource
from farshot.methods.registry import package_of
from farshot.storage.model_folder import write_folder
from farshot.task import Task

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier


def save(classifier: FewShotClassifier, folder: str | Path) -> None:
    """Write a fitted classifier to a folder, completely or not at all."""
    peft = classifier.encoder_.origin.layout != ""
    lora = classifier.adapted_.lora if peft else None
    tensors, labelled = classifier.adapted_.tensors(), _labelled(classifier)
    about = described(classifier)
    write_folder(as_path(folder), about, tensors, lora, labelled, classifier.support_places_)


def described(classifier: FewShotClassifier) -> dict[str, Any]:
    """The content of farshot.json."""
    encoder, fitted = classifier.encoder_, classifier.parameters_
    return {
        "farshot_version": version("farshot"),
        "method": fitted.method,
        "method_package": package_of(type(classifier.method_)),
        "revision": classifier.method_.revision,
        "settings": classifier.method_.settings(),
        "classes": list(map(plain_label, classifier.classes_)),
        "class_names": list(classifier.adapted_.class_names),
        "descriptions": fitted.descriptions,
        "template": fitted.template,
        "base_model": fitted.model,
        "base_format": encoder.origin.format,
        "base_fingerprint": encoder.fingerprint,
        "precision": fitted.precision,
        "preprocessing": {
            "reading": classifier.adapted_.reading,
            "size": encoder.size,
            "mean": list(encoder.preprocessing.mean),
            "std": list(encoder.preprocessing.std),
            **classifier.read_options_.to_dict(),
        },
        "calibrate": fitted.calibrate,
        "temperature": classifier.temperature_,
        "seed": fitted.seed,
        "support_ids": classifier.support_ids_,
        "support_labels": classifier.support_labels_,
        "support_groups": classifier.support_groups_,
        "groups_withheld": "groups" in classifier.not_recognised_,
        "near_copies": classifier.thumbnails_ is not None or "near copies" in classifier.not_recognised_,
        "units": classifier.familiarity_ is not None and classifier.familiarity_.unit is not None,
        "estimate": classifier.estimate_,
        "zero_shot": _zero_shot(classifier),
        "adapted_on": classifier.adapted_on_,
        "limit": None if classifier.limit_ is None else asdict(classifier.limit_),
        "losses": [round(float(loss), 6) for loss in classifier.losses_],
        "trained_parameters": classifier.adapted_.trained,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def _zero_shot(classifier: FewShotClassifier) -> list[int] | None:
    """The class that the base model predicts for each support image, where it is known."""
    found = None if classifier.held_out_ is None else classifier.held_out_.zero_shot
    return None if found is None else found.tolist()


def places(task: Task) -> list[dict[str, Any]]:
    """Where the support images lie, with label and group."""
    table = task.table
    return [
        {
            "path": _place(image),
            "label": table.classes[int(code)],
            "group": None if table.groups is None else table.groups[int(row)],
        }
        for row, code in zip(task.support, task.labels, strict=True)
        for image in [table.images[int(row)]]
    ]


def _place(image: ImageSource) -> str | None:
    """The name by which an image can be found again; None for one that was not a file, or of the hub."""
    name = absolute_name(image) if isinstance(image, Named) else None
    return None if name is not None and has_scheme(name) and not is_url(name) else name


def _labelled(classifier: FewShotClassifier) -> dict[str, torch.Tensor]:
    """What is kept of the labelled images: tensors by name."""
    kept: dict[str, NDArray[Any]] = {}
    if classifier.familiarity_ is not None:
        kept |= {
            "features": classifier.familiarity_.features,
            "similarity": classifier.familiarity_.similarity,
        }
        if (look := classifier.familiarity_.look) is not None:
            kept |= {"appearance": look.numbers, "appearance.distance": look.distance}
        if (unit := classifier.familiarity_.unit) is not None:
            kept["unit"] = unit
    if classifier.held_out_ is not None:
        kept |= {"held_out.logits": classifier.held_out_.logits, "held_out.fold": classifier.held_out_.fold}
    if classifier.thumbnails_ is not None:
        kept["thumbnails"] = classifier.thumbnails_
    return {name: torch.from_numpy(value).contiguous() for name, value in kept.items()}

"""`export.json`: what an exported folder is, how its images are read, and where it came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from farshot.classifier import FewShotClassifier, load
from farshot.errors import SettingError
from farshot.images.preprocess import resizing
from farshot.storage.atomic import check_folder
from farshot.storage.json_text import as_json, parse
from farshot.storage.paths import base_name

ABOUT = "export.json"


def load_exact(folder: str | Path, model: str | None = None) -> FewShotClassifier:
    """Load an adapted model on the CPU in float32, whichever precision it was adapted in."""
    return load(folder, model=model, device="cpu", precision="float32")


def check_exact(classifier: FewShotClassifier) -> None:
    """Refuse a classifier that does not run on the CPU in float32.

    Raises:
        SettingError: it runs elsewhere; says how to load it.
    """
    encoder = classifier.encoder_
    if encoder.precision != "float32" or encoder.device.type != "cpu":
        raise SettingError(
            f"This classifier runs in {encoder.precision} on {encoder.device}, and exports are made in "
            'float32 on the CPU; save it, and load it with device="cpu", precision="float32".'
        )


def describe(classifier: FewShotClassifier, kind: str) -> dict[str, Any]:
    """The facts about every export."""
    known = classifier.about()
    kept = (
        *("classes", "class_names", "descriptions", "template", "method", "revision", "settings"),
        *("temperature", "estimate", "limit", "farshot_version", "versions"),
    )
    return {
        "format": kind,
        **{name: known[name] for name in kept},
        "calibrated": classifier.calibrated_,
        "base_model": base_name(classifier.parameters_.model),
        "base_fingerprint": known["base_fingerprint"],
        "adapted_in": known["precision"],
        "images": describe_reading(known["preprocessing"]["reading"], known["preprocessing"]["size"])
        | classifier.read_options_.to_dict(),
    }


def interface(classifier: FewShotClassifier, file: str, size: int | None = None) -> dict[str, Any]:
    """Input and output of a file from pixels to probabilities, which takes any number of images at once.

    Args:
        size: side of an image; by default that of the adapted model.
    """
    size, classes = size or classifier.encoder_.size, len(classifier.classes_)
    return {
        "file": file,
        "precision": "float32",
        "dynamic_batch": True,
        "input": {"name": "pixels", "type": "uint8", "shape": ["batch", size, size, 3]},
        "output": {"name": "probabilities", "type": "float32", "shape": ["batch", classes]},
    }


def trust(classifier: FewShotClassifier, outputs: Collection[str]) -> dict[str, Any]:
    """Numbers from which p-values and prediction sets are computed.

    Args:
        outputs: of the exported file.
    """
    kept: dict[str, Any] = {}
    if "similarity" in outputs and classifier.familiarity_ is not None:
        kept["labelled_similarity"] = classifier.familiarity_.references.round(6).tolist()
    if classifier.held_out_ is not None:
        right = classifier.held_out_.references
        kept["held_out_probability"] = right.astype(np.float64).round(6).tolist()
    return kept


def describe_reading(reading: str, size: int) -> dict[str, Any]:
    """How an image becomes the square that the model takes, in terms of Pillow; `prepare` of the exported
    preprocess.py does it.

    Returns:
        `resize` gives `short_side`, of an image that keeps its shape, or `width` and `height`; after it the
        centre of `crop` pixels is cut out, its corner rounded as `corner` says.
    """
    how = resizing(reading, size)
    return {
        "reading": reading,
        "size": size,
        "mode": "RGB",
        "orientation": "turned upright as EXIF says",
        "transparency": "over white",
        "resize": {"short_side": how.side} if how.keeps_shape else {"width": how.side, "height": how.side},
        "resample": f"PIL.Image.Resampling.{how.resampling.name}",
        "crop": {"width": size, "height": size},
        "corner": "down" if how.rounded_down else "nearest, halves to even",
    }


def check_place(folder: Path) -> None:
    """Refuse a place that is taken by anything but an export; called before any work."""
    check_folder(folder, "an export of farshot", _files)


def write_about(staging: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write export.json, which lists the folder's files, including itself; returns its content."""
    files = sorted({path.name for path in staging.iterdir()} | {ABOUT})
    whole = {**about, "files": files}
    (staging / ABOUT).write_text(as_json(whole, indent=2) + "\n", encoding="utf-8")
    return whole


def _files(folder: Path) -> Collection[str] | None:
    """The files of an export, and what Python keeps of its programs; None where the folder is none."""
    try:
        about = parse((folder / ABOUT).read_text(encoding="utf-8"))
        names = [str(name).rstrip("/") for name in about["files"]] if "farshot_version" in about else None
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None
    compiled = folder / "__pycache__"
    if names is not None and compiled.is_dir() and all(one.suffix == ".pyc" for one in compiled.iterdir()):
        names.append(f"{compiled.name}/")
    return names

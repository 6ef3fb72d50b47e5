"""An adapted model on disk.

    adapter_config.json, adapter_model.safetensors   the LoRA in PEFT's format, where PEFT can use it
    parts.safetensors                                everything else: context, strengths, class texts
    labelled.safetensors                             features of the labelled images, and the cross-validated
                                                     predictions for them
    farshot.json                                     method, settings, classes, base model and its hash

A folder is written completely or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from farshot.errors import ModelError
from farshot.images.options import ReadOptions
from farshot.parts.lora import LoRA
from farshot.sanitize import short
from farshot.storage.atomic import check_folder, reason, whole_folder
from farshot.storage.hub import fetch, is_on_hub
from farshot.storage.json_text import as_json, read_object
from farshot.storage.model_check import check_finite, check_values
from farshot.storage.paths import home, ordinary, quoted

FORMAT = 2
_KEYS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "farshot_version": str,
    "method": str,
    "revision": int,
    "settings": dict,
    "classes": list,
    "class_names": list,
    "descriptions": dict,
    "template": str,
    "base_model": str,
    "base_fingerprint": str,
    "precision": str,
    "temperature": (int, float),
    "seed": int,
    "support_ids": list,
    "losses": list,
}
"""What farshot.json must hold, and as what."""

_MADE_OF = (
    *("method", "revision", "settings", "classes", "class_names", "descriptions", "template"),
    *("base_fingerprint", "precision", "temperature", "seed", "support_ids"),
)

_WAY_OUT = "copy the folder again or adapt again"
_PREFIX = "base_model.model."
LABELLED, PLACES = "labelled.safetensors", "labelled.json"
PRIVATE = (LABELLED, PLACES)
"""What is known of the labelled images, which may be private: it is not pushed."""

FILES = ("farshot.json", "parts.safetensors", "adapter_config.json", "adapter_model.safetensors", *PRIVATE)
"""All that such a folder may hold."""


def support_labels(about: Mapping[str, Any]) -> list[int]:
    """Index of the class of each support image; empty if farshot.json has no valid list."""
    found = about.get("support_labels")
    classes = range(len(about["classes"]))
    if not isinstance(found, list) or len(found) != len(about["support_ids"]):
        return []
    return found if all(type(code) is int and code in classes for code in found) else []


def write_folder(
    folder: Path,
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    lora: LoRA | None,
    labelled: Mapping[str, Tensor] | None = None,
    places: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes an adapted model.

    Args:
        labelled: what is kept of the labelled images.
        places: where they lie, with label and group, as `read_places` returns them.
        lora: its LoRA, where PEFT can load that onto the base model; None keeps it with all other tensors.

    Raises:
        DataError: the place is taken by something else, or cannot be written; nothing is left behind.
    """
    with whole_folder(folder, check_place) as staging:
        if lora is not None:
            write_adapter(staging, str(about["base_model"]), tensors, lora)
        apart = () if lora is None else ("lora.",)
        others = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(apart))}
        save_file(others, staging / "parts.safetensors")
        if labelled:
            save_file(dict(labelled), staging / LABELLED)
        if places:
            listed = as_json({"images": list(places)}, indent=2)
            (staging / PLACES).write_text(listed + "\n", encoding="utf-8")
        text = as_json({"format": FORMAT, **about}, indent=2)
        (staging / "farshot.json").write_text(text + "\n", encoding="utf-8")


def write_adapter(folder: Path, base_model: str, tensors: Mapping[str, Tensor], lora: LoRA) -> None:
    """Write the LoRA in PEFT's format."""
    config = json.dumps(_peft_config(lora, base_model), indent=2)
    (folder / "adapter_config.json").write_text(config + "\n", encoding="utf-8")
    save_file(_to_peft(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def check_place(folder: Path) -> None:
    """Refuse a place that is taken by anything but an adapted model; called before any work."""
    check_folder(folder, "an adapted model", lambda place: FILES if _is_ours(place) else None)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_folder` wrote: (about, tensors); "hf:OWNER/NAME" is fetched from the hub.

    Raises:
        ModelError: not such a folder, damaged, or made by a newer farshot.
    """
    folder = fetch(folder, FILES) if is_on_hub(folder) else home(folder)
    if not is_saved(folder):
        raise ModelError(
            f"{folder} is not an adapted model: it has no farshot.json. `farshot adapt ... --out "
            f"{quoted(folder)}` makes one."
        )
    with damaged(folder / "farshot.json"):
        about = _read_about(folder)
    with damaged(folder / "parts.safetensors"):
        tensors = _read_tensors(folder / "parts.safetensors")
    if (folder / "adapter_model.safetensors").is_file():
        with damaged(folder / "adapter_model.safetensors"):
            tensors |= _from_peft(_read_tensors(folder / "adapter_model.safetensors"))
    return about, _renamed(tensors) if about["format"] == 1 else tensors


def model_id(about: Mapping[str, Any]) -> str:
    """Hash of what a model was made of, from its farshot.json: what predicts the same has the same."""
    return hashlib.sha256(as_json([about[name] for name in _MADE_OF]).encode()).hexdigest()


def read_labelled(folder: Path) -> dict[str, Tensor]:
    """Read what is kept of the labelled images; empty for models that were saved without it.

    Raises:
        ModelError: the file is damaged.
    """
    file = (fetch(folder, FILES) if is_on_hub(folder) else home(folder)) / LABELLED
    if not file.is_file():
        return {}
    with damaged(file):
        return _read_tensors(file)


def read_places(folder: Path) -> list[dict[str, Any]]:
    """Where the labelled images lie: {"path", "label", "group"} of each, the path None for an image that
    was not a file; empty for models that were saved without it.

    Raises:
        ModelError: the file is damaged.
    """
    file = (fetch(folder, FILES) if is_on_hub(folder) else home(folder)) / PLACES
    if not file.is_file():
        return []
    with damaged(file):
        found = read_object(file)["images"]
        for one in found:
            if not isinstance(one["label"], str) or not isinstance(one["path"], str | None):
                raise ValueError("an image has no path or label in words")
            if not isinstance(one["group"], str | None):
                raise ValueError("a group is not a word")
        return list(found)


@contextlib.contextmanager
def damaged(file: str | Path) -> Iterator[None]:
    """Turn any fault of a file of an adapted model into one sentence that names it and says what to do.

    Raises:
        ModelError: in place of what reading it raised.
    """
    try:
        yield
    except ModelError:
        raise
    except torch.OutOfMemoryError:
        raise
    except KeyError as error:
        raise ModelError(f"{file} is damaged (it lacks {error}); {_WAY_OUT}.") from error
    except (OSError, ValueError, TypeError, AttributeError, IndexError, SafetensorError) as error:
        raise ModelError(f"{file} is damaged ({reason(error)}); {_WAY_OUT}.") from error
    except RuntimeError as error:  # of torch, whose first line alone says little
        words = " ".join(str(error).split())
        adapter = Path(file).with_name("adapter_model.safetensors")
        if "LoRA" in words and adapter.with_name("adapter_config.json").is_file():
            file = adapter
        raise ModelError(f"{file} is damaged ({words[:200]}); {_WAY_OUT}.") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    # from bytes: safetensors maps a file, which somebody may write to while the model is in use, and it opens
    # none whose path is not UTF-8
    found = {name: tensor.clone() for name, tensor in load_tensors(ordinary(path).read_bytes()).items()}
    check_finite(found)
    return found


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of format 1."""
    return {name.replace("_post_norm_", "_final_norm_"): value for name, value in tensors.items()}


def module_name(name: str) -> str:
    """Our "vision_3_q" is transformers' module of that projection."""
    tower, block, projection = name.split("_")
    return f"{tower}_model.encoder.layers.{block}.self_attn.{projection}_proj"


def _read_about(folder: Path) -> dict[str, Any]:
    """Read farshot.json and check the type of every value; the format is checked first, since a newer one
    may have other files and names."""
    about = read_object(folder / "farshot.json")
    if isinstance(about.get("format"), int) and about["format"] > FORMAT:
        raise ModelError(
            f"{folder} was made by farshot {short(about.get('farshot_version'))}; update farshot to read it."
        )
    for key, kind in _KEYS.items():
        if key not in about:
            raise ValueError(f"it lacks {key}")
        if not isinstance(about[key], kind):
            raise ValueError(f"it has {short(about[key])} as {key}")
    check_values(about)
    return about


def saved_options(folder: str | Path, about: Mapping[str, Any]) -> ReadOptions:
    """How the images were read; the default for models saved by earlier versions.

    Raises:
        ModelError: values that cannot be.
    """
    with damaged(f"{folder}/farshot.json"):
        return ReadOptions.from_dict(about.get("preprocessing", {}))


def is_saved(folder: Path) -> bool:
    """Whether the folder holds an adapted model."""
    return (folder / "farshot.json").is_file()


def _is_ours(folder: Path) -> bool:
    """Whether farshot wrote the farshot.json there."""
    try:
        about = read_object(folder / "farshot.json")
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return False
    return about.keys() >= {"format", "base_model"}


def _peft_config(lora: LoRA, base_model: str) -> dict[str, Any]:
    alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model,
        "r": lora.rank,
        "lora_alpha": alpha,
        "use_rslora": True,
        "lora_dropout": lora.dropout,
        "target_modules": [module_name(name) for name in lora.down],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _to_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sides = {"down": "lora_A", "up": "lora_B"}
    out = {}
    for key, value in tensors.items():
        if key.startswith("lora."):
            _, side, name = key.split(".")
            out[f"{_PREFIX}{module_name(name)}.{sides[side]}.weight"] = value[0].contiguous()
    return out


def _from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sides = {"lora_A": "down", "lora_B": "up"}
    out = {}
    for key, value in tensors.items():
        tower, _, _, block, _, projection, side, _ = key.removeprefix(_PREFIX).split(".")
        name = f"{tower.removesuffix('_model')}_{block}_{projection.removesuffix('_proj')}"
        out[f"lora.{sides[side]}.{name}"] = torch.as_tensor(value)[None]
    return out

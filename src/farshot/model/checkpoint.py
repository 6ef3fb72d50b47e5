"""From a name to a DualEncoder: a folder, a hub name, or `mini`, the bundled model.

Weights are read from safetensors only. A local folder never touches the network; a hub name that is cached
already works without it too.
"""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, CLIPModel
from transformers.utils import logging as transformers_logging

from farshot.errors import ModelError, SettingError
from farshot.hub import download
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.model.encoder import DualEncoder
from farshot.model.text import Tokeniser

MINI = Path(__file__).parent.parent / "world" / "mini"
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_WANTED = ("*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors")
_CONVERT = (
    "python -c 'import sys; from transformers import CLIPModel; "
    "CLIPModel.from_pretrained(sys.argv[1], use_safetensors=False).save_pretrained(sys.argv[1])' "
)


def load_encoder(
    model: str | Path, *, device: str | torch.device = "cpu", precision: str = "float32"
) -> DualEncoder:
    """Loads any transformers CLIPModel checkpoint.

    Args:
        model: a folder, a hub name such as "openai/clip-vit-base-patch16", or "mini".
        device: where the weights go; "auto" takes a GPU where there is one.
        precision: "float32" or "bf16", of the frozen weights and activations.

    Raises:
        ModelError: with one sentence that says what is wrong with the checkpoint and the way out.
    """
    place = check_machine(device, precision)
    folder, weights = _locate(str(model))
    config = _read_config(folder, model)
    tokenizer = _load_tokenizer(folder, model, config["text_config"].get("vocab_size"))
    clip = _load_weights(weights, model).to(device=place, dtype=PRECISIONS[precision])
    pixels = (
        _read_json(folder / "preprocessor_config.json")
        if (folder / "preprocessor_config.json").is_file()
        else {}
    )
    return DualEncoder(
        clip,
        Tokeniser(tokenizer, int(config["text_config"].get("max_position_embeddings", 77))),
        source=str(model),
        mean=pixels.get("image_mean") or CLIP_MEAN,
        std=pixels.get("image_std") or CLIP_STD,
    )


def check_machine(device: str | torch.device, precision: str) -> torch.device:
    """The device meant, if it is there and the precision is known.

    Raises:
        SettingError: names the choices.
    """
    if precision not in PRECISIONS:
        raise SettingError(f"Unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return check_device(device)


def check_device(device: str | torch.device) -> torch.device:
    """The device meant, if it is there.

    Raises:
        SettingError: says why it is not.
    """
    try:
        place = pick_device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingError(
            f"There is no device {str(device)!r} ({_first_line(error)}); use auto or cpu."
        ) from error
    return place


def pick_device(device: str | torch.device) -> torch.device:
    """The device meant; "auto" is a GPU where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _locate(model: str) -> tuple[Path, str]:
    """The folder with configuration and tokenizer, and what `from_pretrained` gets for the weights."""
    if model == "mini":
        return MINI, str(MINI)
    path = Path(model).expanduser()
    if path.is_dir():
        return path, str(path)
    if path.exists():
        raise ModelError(f"{model} is a file; give the folder of a transformers CLIP checkpoint.")
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError(
            f"There is no folder {model}; give a checkpoint folder, a hub name such as "
            "openai/clip-vit-base-patch16, or mini."
        )
    folder = _from_hub(model)
    # given the folder, transformers does not ask the hub again, which takes minutes without a network;
    # given the name, it also looks for weights that the hub has converted from a pickle
    return folder, str(folder) if any(folder.glob("model*.safetensors")) else model


def _from_hub(name: str) -> Path:
    return download(
        name,
        _WANTED,
        absent=f"The hub has no model {name}, and there is no folder of that name; check the spelling.",
        unreachable=f"{name} is not in the local cache and the hub cannot be reached; connect once to "
        "download it, or give the folder of a checkpoint, or use --model mini.",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is not readable JSON ({error}); fetch the checkpoint again.") from error


def _read_config(folder: Path, model: str | Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{model} has no config.json, so it is not a transformers checkpoint.")
    config = _read_json(folder / "config.json")
    towers = (config.get("vision_config"), config.get("text_config"))
    if config.get("model_type") != "clip" or not all(isinstance(tower, dict) for tower in towers):
        kind = config.get("model_type", "unknown")
        raise ModelError(
            f"{model} is a checkpoint of type {kind!r}, not CLIP with both towers; farshot adapts "
            "CLIPModel only."
        )
    return config


def _load_tokenizer(folder: Path, model: str | Path, words: int | None) -> Any:
    """CLIP's tokenizer: one that ends every prompt with its end token, and knows no more tokens than the text
    tower."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ModelError(
            f"{model} has no tokenizer; copy tokenizer.json, or vocab.json and merges.txt, of its CLIP "
            "into the folder."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("a", verbose=False)["input_ids"]
    except Exception as error:  # damaged files make the tokenizers raise nearly anything
        raise ModelError(
            f"The tokenizer of {model} cannot be read ({_first_line(error)}); fetch it again."
        ) from error
    if tokenizer.eos_token_id is None or len(ids) < 2 or ids[-1] != tokenizer.eos_token_id:
        raise ModelError(
            f"The tokenizer of {model} sets no end token, so it is not CLIP's; copy that of its CLIP."
        )
    if words is not None and len(tokenizer) > words:
        raise ModelError(
            f"The tokenizer of {model} has {len(tokenizer)} tokens, its text tower {words}: they are of two "
            "models; copy the tokenizer of its CLIP."
        )
    return tokenizer


def _load_weights(weights: str, model: str | Path) -> CLIPModel:
    folder = Path(weights)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        if any((folder / name).is_file() for name in _PICKLES):
            raise ModelError(
                f"{model} holds its weights as a pickle, which can run code; if you trust it, convert it "
                "once with: " + _CONVERT + shlex.quote(str(folder))
            )
        raise ModelError(f"{model} has no model.safetensors; fetch the checkpoint again.")
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clip, info = CLIPModel.from_pretrained(
                weights, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"The weights of {model} cannot be read ({_first_line(error)}); fetch the checkpoint again."
        ) from error
    except OSError as error:
        if folder.is_dir():
            raise ModelError(f"The weights of {model} cannot be read ({_first_line(error)}).") from error
        raise ModelError(
            f"{model} could not be downloaded as safetensors ({_first_line(error)}); fetch it with "
            f"`hf download {model} --local-dir clip`, then use --model clip."
        ) from error
    finally:
        transformers_logging.enable_progress_bar()
    missing = sorted(name for name in info["missing_keys"] if not name.endswith("position_ids"))
    if missing:
        raise ModelError(
            f"The weights of {model} lack {len(missing)} tensors, {missing[0]} first; fetch the "
            "checkpoint again."
        )
    return clip


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

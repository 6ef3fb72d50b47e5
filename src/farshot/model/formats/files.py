"""The files of a checkpoint, read safely: JSON, safetensors, and state dicts of torch without code.

Configurations are data: `auto_map` and the like are never followed. Nothing is allocated by what a
configuration says before the tensors of the file have been compared with it.
"""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import MOST_BLOCKS, Activation, TextConfig, TowerConfig, VisionConfig
from farshot.model.encoder import Encoder, Origin, Preprocessing
from farshot.model.tokenizer import Tokenizer
from farshot.model.tower import TextTower, VisionTower
from farshot.sanitize import short
from farshot.storage.json_text import read_object
from farshot.storage.paths import ordinary

TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("module.", "_orig_mod.")  # of data-parallel training and torch.compile
GELUS: dict[str, Activation] = {"quick": "quick_gelu", "exact": "gelu"}
"""What the option `@gelu=` of a bare state dict may be."""


@dataclass(frozen=True)
class Source:
    """Where a checkpoint lies.

    Attributes:
        name: as the user gave it, for messages.
        folder: of configuration and tokenizer.
        file: the weights, where the user named a file.
        options: what the user added to the name (`@gelu=exact`).
        fetch: the folder with the small files of another repository that a configuration names.
        find_weights: the first of these file names that the checkpoint has, downloaded where it must be.
    """

    name: str
    folder: Path
    file: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    fetch: Callable[[str], Path] | None = None
    find_weights: Callable[[Sequence[str]], Path | None] | None = None

    def has(self, name: str) -> bool:
        """Whether such a file lies in the folder."""
        return (self.folder / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty where there is no such file.

        Raises:
            ModelError: it is not readable.
        """
        return read_json(self.folder / name) if self.has(name) else {}

    def weights(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The tensors of the file that the user named, or of the first of these names.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        if self.file is not None:
            return read_weights(self.file)
        if self.find_weights is not None:
            found = self.find_weights(names)
        else:
            found = next((self.folder / name for name in names if self.has(name)), None)
        if found is None:
            raise ModelError(
                f"{self.name} has none of the files {', '.join(names)}; fetch the checkpoint again."
            )
        return read_weights(found)


@dataclass(frozen=True)
class Checkpoint:
    """What a reader makes of a source.

    Attributes:
        format: in words, for messages and `farshot encoders`.
        vision, text: descriptions; `text` is None for image encoders.
        tensors: of both towers, named "vision.NAME" and "text.NAME" (farshot.model.config).
        tokenizer: None where the checkpoint has none.
        log_scale: the stored parameter, whose exponential multiplies the cosine.
        logit_bias: what is added to it, where there is one.
        input_size: side of the images that the authors feed, where it is not that of the learned positions.
        layout: transformers' model type, where its libraries can take the weights back.
        old_fingerprint: see farshot.model.encoder.Origin.
    """

    format: str
    vision: VisionConfig
    text: TextConfig | None
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer | None
    preprocessing: Preprocessing
    log_scale: float = 0.0
    logit_bias: float | None = None
    input_size: int | None = None
    layout: str = ""
    old_fingerprint: Callable[[Encoder], str] | None = None

    def build(self, source: str, size: int | None = None) -> Encoder:
        """The encoder, in float32 on the CPU.

        Args:
            size: side of an image in pixels, where it is not the checkpoint's.

        Raises:
            ModelError: tensors and descriptions do not agree, or a tensor holds numbers that are not finite.
        """
        towers: dict[str, dict[str, Tensor]] = {"vision": {}, "text": {}}
        for name, tensor in self.tensors.items():
            tower, _, rest = name.partition(".")
            towers[tower][rest] = tensor
        _check_shapes(source, "vision", self.vision, towers["vision"])
        if self.text is not None:
            _check_shapes(source, "text", self.text, towers["text"])
            if self.text.output != self.vision.output:
                raise ModelError(
                    f"The towers of {source} do not share a joint space: images have {self.vision.output} "
                    f"numbers, texts {self.text.output}."
                )
        ready = {
            tower: {name: _float32(source, f"{tower}.{name}", tensor) for name, tensor in found.items()}
            for tower, found in towers.items()
        }
        encoder = Encoder(
            VisionTower(self.vision, ready["vision"]),
            None if self.text is None else TextTower(self.text, ready["text"]),
            self.tokenizer,
            preprocessing=self.preprocessing,
            log_scale=self.log_scale,
            logit_bias=self.logit_bias,
            origin=Origin(source, self.format, self.layout, self.old_fingerprint),
        )
        wanted = size or self.input_size or encoder.size  # resizing twice would blur the positions
        return encoder if wanted == encoder.size else encoder.at_size(wanted, self.input_size)


def check_gelu(source: Source, checkpoint: Checkpoint) -> None:
    """Refuse an option `@gelu=` that the configuration contradicts.

    Raises:
        ModelError: with the way out.
    """
    chosen = source.options.get("gelu")
    if chosen is not None and checkpoint.vision.activation != GELUS[chosen]:
        name = source.name.removesuffix(f"@gelu={chosen}")
        raise ModelError(
            f"The configuration of {name} says that it was trained with {checkpoint.vision.activation}, not "
            f"@gelu={chosen}; leave the option out."
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: it is no such file.
    """
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable JSON ({first_line(error)}); fetch it again.") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, in the precision that they are stored in.

    safetensors, a state dict of torch, which is read as data only (`weights_only=True`), or an index of such
    files. `{"state_dict": ...}` and the like are opened, and what wraps the model is removed from the names.

    Raises:
        ModelError: it is damaged, holds code, or holds anything but tensors.
    """
    return _unwrapped(_read_weights(path))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.name.endswith(".index.json"):
            files = sorted(set(read_json(path)["weight_map"].values()))
            if any(Path(name).name != name for name in files):
                raise ModelError(f"{path} names files outside its folder; fetch the checkpoint again.")
            return {k: v for name in files for k, v in _read_weights(path.parent / name).items()}
        if path.suffix == ".safetensors":
            return load_file(ordinary(path))
        return _state_dict(path)
    except ModelError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}); fetch it again.") from error
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}); fetch it again.") from error


def _state_dict(path: Path) -> dict[str, Tensor]:
    zipped = zipfile.is_zipfile(ordinary(path))
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") or "/code/" in name for name in archive.namelist()):
                raise ModelError(
                    f"{path} is a TorchScript archive, which holds code; use a state dict or safetensors of "
                    "the same model."
                )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual protocol, which it may refuse
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, which could run code, so it is not read; convert it to "
            "safetensors where you trust it."
        ) from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path} holds no state dict; use the weights of an image-text encoder.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an image-text encoder within another module, such as "module." or "_orig_mod.": those
    whose names begin as its logit_scale; of others a wrapper's prefix that all names share is removed."""
    scales = [name for name in tensors if name.rpartition(".")[2] == "logit_scale"]
    if len(scales) == 1:
        prefix = scales[0].removesuffix("logit_scale")
    else:
        shared = (
            prefix for prefix in _WRAPPERS if tensors and all(name.startswith(prefix) for name in tensors)
        )
        prefix = next(shared, "")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def block_count(names: Sequence[str] | Mapping[str, Any], prefix: str) -> int:
    """How many numbered blocks `PREFIX.N....` these names have.

    Raises:
        ModelError: more than any published tower has, or numbers are missing.
    """
    numbers = {
        int(name.removeprefix(prefix).split(".", 1)[0])
        for name in names
        if name.startswith(prefix) and name.removeprefix(prefix).split(".", 1)[0].isdigit()
    }
    if len(numbers) > MOST_BLOCKS or numbers != set(range(len(numbers))):
        raise ModelError(f"The blocks {prefix}* are not numbered 0, 1, 2, ...; fetch the checkpoint again.")
    return len(numbers)


def _check_shapes(source: str, tower: str, config: TowerConfig, found: Mapping[str, Tensor]) -> None:
    if not 0 < config.depth <= MOST_BLOCKS or config.width <= 0 or config.heads <= 0:
        raise ModelError(
            f"The {tower} tower of {source} would have {config.depth} blocks of width {config.width} with "
            f"{config.heads} heads, so its configuration is damaged; fetch the checkpoint again."
        )
    if not (math.isfinite(config.eps) and config.eps >= 0):
        raise ModelError(
            f"The {tower} tower of {source} has the norm epsilon {config.eps}, so its configuration is "
            "damaged; fetch the checkpoint again."
        )
    if config.width % config.heads:
        raise ModelError(
            f"The {tower} tower of {source} has {config.heads} heads, which do not divide its width, "
            f"{config.width}."
        )
    wanted = config.tensor_shapes()
    for name, shape in wanted.items():
        if name not in found:
            missing = [other for other in wanted if other not in found]
            raise ModelError(
                f"The weights of {source} lack {len(missing)} tensors of the {tower} tower, {name} first; "
                "fetch the checkpoint again."
            )
        if tuple(found[name].shape) != shape:
            raise ModelError(
                f"The tensor {name} of the {tower} tower of {source} is {tuple(found[name].shape)}, but its "
                f"configuration asks for {shape}; weights and configuration are of two models."
            )
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise ModelError(
            f"The {tower} tower of {source} has a tensor {short(extra[0])}, which its format does not."
        )


def _float32(source: str, name: str, tensor: Tensor) -> Tensor:
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ModelError(
            f"The tensor {name} of {source} is larger than its file; fetch the checkpoint again."
        )
    if not tensor.is_floating_point():
        raise ModelError(f"The tensor {name} of {source} holds {tensor.dtype}, no floating-point numbers.")
    value = tensor.detach().float().contiguous()
    if not math.isfinite(float(value.sum())) and not torch.isfinite(value).all():
        raise ModelError(f"The tensor {name} of {source} holds numbers that are not finite; fetch it again.")
    return value


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

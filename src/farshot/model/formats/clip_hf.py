"""transformers' CLIPModel and MetaClip2Model: `config.json` with both towers and `model.safetensors`.

Format of openai/clip-vit-*, vinid/plip, flaviagiammarino/pubmed-clip-*, geolocal/StreetCLIP and
facebook/metaclip-2-worldwide-*. Values that `config.json` leaves out are transformers' defaults.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import Activation, Biases, TextConfig, TowerConfig, VisionConfig
from farshot.model.encoder import Encoder
from farshot.model.formats.files import Checkpoint, Source
from farshot.model.formats.preprocessing_hf import read_preprocessing
from farshot.model.formats.tokenizer_files import load_fast, special_id
from farshot.model.tokenizer import TextRules, Tokenizer
from farshot.sanitize import short

NAMES = {"clip": "transformers CLIP", "metaclip_2": "transformers MetaCLIP 2"}
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
    "silu": "silu",
}
_DEFAULTS = {
    "vision": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "text": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
}
OPEN_CLIP = "open_clip_config.json"
_END_TOKENS = {"clip": 49407, "metaclip_2": 2}
_OLD_END_TOKEN = 2  # in configurations of CLIP before 2023, wrong: it means the largest id


def recognises(source: Source) -> bool:
    """Whether the folder holds such a configuration."""
    return model_type(source) in NAMES


def model_type(source: Source) -> str:
    """What config.json calls the model of a folder; nothing where only open_clip's configuration describes
    the towers."""
    config = source.json("config.json") if source.file is None else {}
    towers = isinstance(config.get("vision_config"), Mapping)
    return "" if source.has(OPEN_CLIP) and not towers else str(config.get("model_type", ""))


def read(source: Source) -> Checkpoint:
    """Both towers, the tokenizer and the preprocessing."""
    config = source.json("config.json")
    kind = str(config["model_type"])
    vision, text = (section(source, config, tower, _DEFAULTS[tower]) for tower in ("vision", "text"))
    joint = int(config.get("projection_dim", 512))
    tensors = source.weights(WEIGHTS)
    size = side(source, vision, "image_size")
    return Checkpoint(
        format=NAMES[kind],
        vision=VisionConfig(
            **common(source, vision),
            output=joint,
            size=size,
            patch=side(source, vision, "patch_size"),
            pre_norm=True,
            antialias=False,
            biases=Biases(patch=False),
        ),
        text=TextConfig(
            **common(source, text),
            output=joint,
            vocabulary=int(text["vocab_size"]),
            length=int(text["max_position_embeddings"]),
        ),
        tensors=dict(_canonical(tensors)),
        tokenizer=_tokenizer(source, kind, text),
        preprocessing=read_preprocessing(source, size),
        log_scale=log_scale(source, tensors),
        layout=kind,
        old_fingerprint=_old_fingerprint if kind == "clip" else None,
    )


def section(
    source: Source, config: Mapping[str, Any], tower: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of one tower, defaults filled in.

    Raises:
        ModelError: it is not there.
    """
    found = config.get(f"{tower}_config")
    if not isinstance(found, Mapping):
        raise ModelError(
            f"The config.json of {source.name} has no {tower}_config, so it is not of an image-text encoder."
        )
    return {**defaults, **{name: value for name, value in found.items() if value is not None}}


def common(source: Source, config: Mapping[str, Any]) -> dict[str, Any]:
    """What both towers take from a transformers configuration.

    Raises:
        ModelError: an activation that farshot does not have.
    """
    return {
        "width": int(config["hidden_size"]),
        "depth": int(config["num_hidden_layers"]),
        "heads": int(config["num_attention_heads"]),
        "hidden": int(config["intermediate_size"]),
        "eps": float(config["layer_norm_eps"]),
        "activation": activation_of(source, config["hidden_act"]),
    }


def activation_of(source: Source, name: object) -> Activation:
    """The activation of this name in transformers.

    Raises:
        ModelError: one that farshot does not have.
    """
    if str(name) not in ACTIVATIONS:
        raise ModelError(
            f"{source.name} uses the activation {short(name)}; farshot has {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[str(name)]


def log_scale(source: Source, tensors: Mapping[str, Tensor]) -> float:
    """The parameter `logit_scale`.

    Raises:
        ModelError: it is missing, or not one finite number.
    """
    if "logit_scale" not in tensors:
        raise ModelError(
            f"The weights of {source.name} lack the tensor logit_scale; fetch the checkpoint again."
        )
    return one_number(source, tensors, "logit_scale")


def one_number(source: Source, tensors: Mapping[str, Tensor], name: str) -> float:
    """A tensor that holds one number.

    Raises:
        ModelError: it holds more, or the number is not finite.
    """
    found = tensors[name].float().flatten().tolist()
    if len(found) != 1 or not math.isfinite(found[0]):
        raise ModelError(
            f"The tensor {name} of {source.name} is not one finite number; fetch the checkpoint again."
        )
    return float(found[0])


def side(source: Source, config: Mapping[str, Any], name: str) -> int:
    """A side in pixels, which some configurations give as two equal ones.

    Raises:
        ModelError: they differ.
    """
    value = config[name]
    if isinstance(value, list):
        if len(value) != 2 or value[0] != value[1]:
            raise ModelError(
                f"{source.name} has {name} {short(value)}; farshot reads encoders of squares only."
            )
        value = value[0]
    return int(value)


def _tokenizer(source: Source, kind: str, text: Mapping[str, Any]) -> Tokenizer | None:
    """CLIP's or XLM-RoBERTa's; an old, wrong end token in CLIP's configurations means the largest id."""
    fast = load_fast(source, int(text["vocab_size"]))
    if fast is None:
        return None
    names = ("<|startoftext|>", "<|endoftext|>") if kind == "clip" else ("<s>", "</s>")
    start, end = (
        special_id(source, fast, "bos_token", names[0]),
        special_id(source, fast, "eos_token", names[1]),
    )
    stated = int(text.get("eos_token_id", _END_TOKENS[kind]))
    largest = kind == "clip" and stated == _OLD_END_TOKEN
    rules = TextRules(
        length=int(text["max_position_embeddings"]),
        start=start,
        end=end,
        pad=end if kind == "clip" else special_id(source, fast, "pad_token", "<pad>"),
        pool="largest" if largest else "end",
    )
    return Tokenizer(fast, rules)


_VISION = {
    "embeddings.class_embedding": "class",
    "embeddings.patch_embedding": "patch",
    "embeddings.position_embedding.weight": "position",
    "pre_layrnorm": "pre_norm",
    "post_layernorm": "final_norm",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token",
    "embeddings.position_embedding.weight": "position",
    "final_layer_norm": "final_norm",
}
BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.out_proj": "out",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
"""transformers' names in a block, and ours."""


def renamed(name: str, outer: Mapping[str, str]) -> str | None:
    """Our name of a tensor of one transformers tower; None where it has no part in the forward pass."""
    for theirs, ours in outer.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    if name.startswith("encoder.layers."):
        number, _, rest = name.removeprefix("encoder.layers.").partition(".")
        for theirs, ours in BLOCK.items():
            if rest.startswith(f"{theirs}."):
                return f"blocks.{number}.{ours}{rest.removeprefix(theirs)}"
    return None if name.endswith("position_ids") else name


def _canonical(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name in ("visual_projection.weight", "text_projection.weight"):
            yield f"{'vision' if name[0] == 'v' else 'text'}.projection.weight", tensor
        for tower, outer in (("vision", _VISION), ("text", _TEXT)):
            if name.startswith(f"{tower}_model."):
                ours = renamed(name.removeprefix(f"{tower}_model."), outer)
                if ours is not None:
                    yield f"{tower}.{ours}", tensor


def state_dict(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's tensors by the names of transformers' CLIPModel."""
    out = {"logit_scale": torch.tensor(encoder.log_scale, dtype=encoder.dtype)}
    for tower, outer in ((encoder.vision, _VISION), (encoder.text, _TEXT)):
        for name, tensor in tower.tensors.items():
            out[_theirs(tower.name, name, outer)] = tensor
    return out


def config_json(encoder: Encoder) -> dict[str, Any]:
    """The configuration of transformers' CLIPModel for this encoder."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}

    def tower(config: TowerConfig) -> dict[str, Any]:
        return {
            "hidden_size": config.width,
            "intermediate_size": config.hidden,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.heads,
            "hidden_act": names[config.activation],
            "layer_norm_eps": config.eps,
            "projection_dim": config.output,
        }

    vision, text, rules = encoder.vision.config, encoder.text.config, encoder.tokenizer.rules
    ends = {"bos_token_id": rules.start, "eos_token_id": rules.end, "pad_token_id": rules.pad}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": vision.output,
        "vision_config": tower(vision) | {"image_size": vision.size, "patch_size": vision.patch},
        "text_config": tower(text)
        | {"vocab_size": text.vocabulary, "max_position_embeddings": text.length}
        | ends,
    }


def _theirs(tower: str, name: str, outer: Mapping[str, str]) -> str:
    if name == "projection.weight":
        return "visual_projection.weight" if tower == "vision" else "text_projection.weight"
    if name.startswith("blocks."):
        _, number, layer, kind = name.split(".")
        block = next(theirs for theirs, ours in BLOCK.items() if ours == layer)
        return f"{tower}_model.encoder.layers.{number}.{block}.{kind}"
    for theirs, ours in outer.items():
        if name == ours or name.startswith(f"{ours}."):
            return f"{tower}_model.{theirs}{name.removeprefix(ours)}"
    raise ValueError(f"transformers' CLIPModel has no tensor {name} of the {tower} tower")


def _old_fingerprint(encoder: Encoder) -> str:
    """As farshot 0.1 computed it: names, shapes and float32 values of CLIPModel's state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict(encoder).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()[:32]

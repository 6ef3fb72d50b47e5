"""DINOv2 and DINOv3: image encoders without a text tower, for methods that need no text.

transformers: facebook/dinov2-*, facebook/dinov2-with-registers-*, facebook/dinov3-vit*; timm: DINOv2 alone
(`vit_*_patch14_dinov2`, `vit_*_patch14_reg4_dinov2`). The embedding is the class token after the last norm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from farshot.errors import ModelError
from farshot.images.preprocess import FILTERS, own_reading
from farshot.model.config import Activation, Biases, Rotary, VisionConfig
from farshot.model.encoder import Preprocessing
from farshot.model.formats import native, timm_open_clip
from farshot.model.formats.clip_hf import WEIGHTS, activation_of
from farshot.model.formats.files import Checkpoint, Source, block_count
from farshot.model.formats.preprocessing_hf import image_settings, normalisation, read_resizing
from farshot.sanitize import short

NAMES = {
    "dinov2": "transformers DINOv2",
    "dinov2_with_registers": "transformers DINOv2",
    "dinov3_vit": "transformers DINOv3",
}
_TIMM = re.compile(r"vit_(small|base|large|giant)_patch\d+(_reg4)?_dinov2")
_TIMM_HEADS = {"small": 6, "base": 12, "large": 16, "giant": 24}
_DEFAULTS: dict[str, dict[str, Any]] = {  # of transformers, for what config.json leaves out
    "dinov2": {"num_attention_heads": 12, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
    "dinov2_with_registers": {"num_attention_heads": 12, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
    "dinov3_vit": {
        "num_attention_heads": 6,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "rope_theta": 100.0,
    },
}
_SIDE = 224  # what the authors feed where the checkpoint does not say; positions are those of 518 pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OUTER = {
    "embeddings.patch_embeddings.projection": "patch",
    "embeddings.patch_embeddings": "patch",
    "patch_embed.proj": "patch",
    "layernorm": "final_norm",
    "norm": "final_norm",
}
_BLOCK = {
    "attention.attention.query": "q",
    "attention.attention.key": "k",
    "attention.attention.value": "v",
    "attention.output.dense": "out",
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
    "attention.o_proj": "out",
    "attn.proj": "out",
    "mlp.gate_proj": "gate",
    "mlp.down_proj": "fc2",
    "mlp.weights_out": "fc2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_SCALES = ("layer_scale1.lambda1", "layer_scale2.lambda1", "ls1.gamma", "ls2.gamma")


def recognises(source: Source) -> bool:
    """Whether the folder holds a DINO of transformers or of timm."""
    config = source.json("config.json") if source.file is None else {}
    return config.get("model_type") in NAMES or "dinov" in str(config.get("architecture", ""))


def read(source: Source) -> Checkpoint:
    """The vision tower and the preprocessing.

    Raises:
        ModelError: a DINO of timm that farshot does not read.
    """
    config = source.json("config.json")
    if config.get("model_type") in NAMES:
        config = {**_DEFAULTS[config["model_type"]], **config}
        kind, heads = NAMES[config["model_type"]], int(config["num_attention_heads"])
        side = int(_crop(source) or _SIDE)
    else:
        kind, heads = _timm(source, str(config["architecture"]))
        side = _timm_side(source, config.get("pretrained_cfg") or {})
        config = {"layer_norm_eps": 1e-6, "hidden_act": "gelu", "timm": config}
    tensors = dict(_canonical(source.weights(WEIGHTS)))
    if "giant" in str(config.get("timm", {}).get("architecture", "")):
        tensors = dict(_unpacked(tensors))
    vision = _config(source, config, heads, tensors, side, antialias=_antialias(config))
    return Checkpoint(
        format=kind,
        vision=vision,
        text=None,
        tensors={f"vision.{name}": tensor for name, tensor in tensors.items()},
        tokenizer=None,
        preprocessing=_preprocessing(source, config, side),
        input_size=side,
    )


def _timm(source: Source, name: str) -> tuple[str, int]:
    found = _TIMM.match(name)
    if not found:
        raise ModelError(
            f"{source.name} is timm's {short(name)}, which farshot does not read; use the same model from "
            "transformers (facebook/dinov3-...), or a DINOv2."
        )
    return "timm DINOv2", _TIMM_HEADS[found[1]]


def _timm_side(source: Source, config: Mapping[str, Any]) -> int:
    """The side of an image as timm's configuration gives it: colours, height, width.

    Raises:
        ModelError: images that are not square.
    """
    sides = config.get("input_size", [3, _SIDE, _SIDE])
    if not isinstance(sides, list) or len(sides) != 3 or type(sides[1]) is not int or sides[1] != sides[2]:
        raise ModelError(
            f"{source.name} has the input_size {short(sides)}; farshot reads square images only."
        )
    return int(sides[1])


def _config(
    source: Source,
    config: Mapping[str, Any],
    heads: int,
    tensors: Mapping[str, Tensor],
    side: int,
    *,
    antialias: bool,
) -> VisionConfig:
    for needed in ("patch.weight", "class", "blocks.0.fc2.weight"):
        if needed not in tensors:
            raise ModelError(f"The weights of {source.name} lack {needed}; fetch the checkpoint again.")
    width, patch = tensors["patch.weight"].shape[0], tensors["patch.weight"].shape[-1]
    positions = tensors.get("position")
    grid = side // patch if positions is None else math.isqrt(len(positions) - 1)
    gated = "blocks.0.gate.weight" in tensors
    return VisionConfig(
        width=width,
        depth=block_count(tensors, "blocks."),
        heads=heads,
        hidden=tensors["blocks.0.fc2.weight"].shape[1],
        output=width,
        activation=_activation(source, config, gated),
        eps=float(config["layer_norm_eps"]),
        gated=gated,
        layer_scale=True,
        projection="none",
        biases=Biases(k="blocks.0.k.bias" in tensors),
        size=grid * patch,
        patch=patch,
        registers=len(tensors["registers"]) if "registers" in tensors else 0,
        positions=positions is not None,
        antialias=antialias,
        rotary=None
        if positions is not None
        else Rotary("unit", order="yx", base=float(config["rope_theta"]), pairs=False),
    )


def _activation(source: Source, config: Mapping[str, Any], gated: bool) -> Activation:
    """DINOv2's gated MLP always has SiLU; DINOv3's has the activation of the configuration.

    Raises:
        ModelError: an activation that farshot does not have.
    """
    if gated and config.get("model_type") != "dinov3_vit":
        return "silu"
    return activation_of(source, config["hidden_act"])


def _unpacked(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """timm's giant has gate and value in one layer, the gate first."""
    for name, tensor in tensors.items():
        if ".fc1." in name:
            for ours, part in zip(("gate", "fc1"), tensor.chunk(2), strict=True):
                yield name.replace(".fc1.", f".{ours}."), part
        else:
            yield name, tensor


def _antialias(config: Mapping[str, Any]) -> bool:
    """timm resizes positions with antialiasing; of transformers' classes only the one with registers does."""
    return "timm" in config or config.get("model_type") == "dinov2_with_registers"


def _canonical(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for full, tensor in tensors.items():
        name = full.removeprefix("model.").removeprefix("encoder.")
        last = name.rpartition(".")[2]
        if last in ("mask_token",):
            continue
        if last == "cls_token":
            yield "class", tensor.flatten()
        elif last in ("register_tokens", "reg_token"):
            if tensor.numel():
                yield "registers", tensor[0]
        elif last in ("position_embeddings", "pos_embed"):
            # timm's models with registers have no row for the class token
            yield "position", timm_open_clip.with_class_row(tensor[0], class_token=True)
        elif name.startswith(("layer.", "blocks.")):
            yield from _block(name, tensor)
        else:
            theirs = next((old for old in _OUTER if name.startswith(f"{old}.")), None)
            yield (name if theirs is None else _OUTER[theirs] + name.removeprefix(theirs)), tensor


def _block(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    _, number, rest = name.split(".", 2)
    if rest in _SCALES:
        yield f"blocks.{number}.scale{1 if '1' in rest.partition('.')[0] else 2}", tensor
        return
    layer, _, kind = rest.rpartition(".")
    if layer == "attn.qkv":
        yield from native.split_qkv(f"blocks.{number}.{kind}", tensor)
    elif layer == "mlp.weights_in":  # gate and value stacked
        for ours, part in zip(("gate", "fc1"), tensor.chunk(2), strict=True):
            yield f"blocks.{number}.{ours}.{kind}", part
    elif layer == "mlp.up_proj":
        yield f"blocks.{number}.fc1.{kind}", tensor
    else:
        yield f"blocks.{number}.{_BLOCK.get(layer, layer)}.{kind}", tensor


def _crop(source: Source) -> int | None:
    """The side of an image that the authors feed."""
    found = image_settings(source)
    side = (found.get("crop_size") if found.get("do_center_crop", False) else found.get("size")) or {}
    return side.get("height") if isinstance(side, Mapping) else side


def _preprocessing(source: Source, config: Mapping[str, Any], side: int) -> Preprocessing:
    """Where the files do not say: ImageNet's colours, and a short side of 8/7 of the crop as in DINO's own
    evaluation."""
    found = image_settings(source)
    timm = (config.get("timm") or {}).get("pretrained_cfg") or {}
    mean, std = normalisation(source, found, (timm.get("mean") or _MEAN, timm.get("std") or _STD))
    return Preprocessing(
        mean=mean,
        std=std,
        reading=_timm_resizing(source, timm, side)
        if timm
        else read_resizing(
            source,
            found or {"size": {"shortest_edge": 8 * side // 7}, "do_center_crop": True},
            side,
            square="do_center_crop" not in found,
        ),
    )


def _timm_resizing(source: Source, config: Mapping[str, Any], side: int) -> str:
    """As timm resizes for evaluation: the crop is `crop_pct` of what the image is resized to.

    Raises:
        ModelError: a share or a filter that timm does not have.
    """
    share, resampling = config.get("crop_pct", 0.875), config.get("interpolation", "bicubic")
    if not isinstance(share, int | float) or not 0.1 <= share <= 1 or resampling not in FILTERS:
        raise ModelError(
            f"{source.name} crops {short(share)} of its images by {short(resampling)}; fetch it again."
        )
    return own_reading(
        keeps_shape=config.get("crop_mode", "center") != "squash",
        side=math.floor(side / share),
        size=side,
        resampling=resampling,
        rounded_down=False,
    )

"""open_clip's native towers: names, sizes and rules that several readers share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import Activation, Biases, TextConfig, VisionConfig
from farshot.model.encoder import Preprocessing
from farshot.model.formats.files import Source, block_count
from farshot.model.formats.preprocessing_hf import colours, spread
from farshot.model.formats.tokenizer_files import (
    CLIP_END,
    CLIP_START,
    built_in_clip_tokenizer,
    load_fast,
    special_id,
)
from farshot.model.tokenizer import Cleaning, TextRules, Tokenizer
from farshot.sanitize import short

HEAD_WIDTH = 64  # of every head, where a configuration does not say otherwise
CLIP_VOCABULARY = 49408
_WIDEST = {"vision": 1024, "text": 1280}  # of the published towers whose heads all have 64 channels
_OTHER_HEADS = {("vision", 1280): 16}  # ViT-H
_BLOCK = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.out_proj": "out",
    "mlp.c_fc": "fc1",
    "mlp.c_proj": "fc2",
}
_TEXT = {"token_embedding.weight": "token", "positional_embedding": "position", "ln_final": "final_norm"}
_POOLS: dict[str, Literal["first", "last", "end", "largest"]] = {
    "argmax": "largest",
    "eos": "end",
    "first": "first",
    "last": "last",
}
"""open_clip's names of the token that represents a text, and ours."""
_CLEANINGS: dict[str, Cleaning] = {"canonicalize": "canonicalize", "lower": "lower", "whitespace": "none"}


def split_qkv(name: str, tensor: Tensor, layers: str = "qkv") -> Iterator[tuple[str, Tensor]]:
    """The rows of a fused matrix or bias, `NAME.{q,k,v}`: PREFIX.weight becomes PREFIX.q.weight, ..."""
    prefix, _, kind = name.rpartition(".")
    for layer, rows in zip(layers, tensor.chunk(len(layers)), strict=True):
        yield f"{prefix}.{layer}.{kind}", rows


def blocks(prefix: str, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Our names of a tensor `PREFIX.transformer.resblocks.N.REST`."""
    number, _, rest = name.removeprefix(f"{prefix}transformer.resblocks.").partition(".")
    if rest.startswith("attn.in_proj_"):
        yield from split_qkv(f"blocks.{number}.{rest.removeprefix('attn.in_proj_')}", tensor)
        return
    for theirs, ours in _BLOCK.items():
        if rest.startswith(f"{theirs}."):
            yield f"blocks.{number}.{ours}{rest.removeprefix(theirs)}", tensor
            return
    yield f"blocks.{number}.{rest}", tensor


def text_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The text tower's tensors by our names, all beginning with "text."."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if prefix and not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if rest.startswith("transformer.resblocks."):
            out |= {f"text.{ours}": value for ours, value in blocks("", rest, tensor)}
        elif rest == "text_projection":  # (in, out)
            out["text.projection.weight"] = tensor.T
        elif rest.startswith("text_projection."):
            out["text." + rest.removeprefix("text_")] = tensor
        elif theirs := next((key for key in _TEXT if rest == key or rest.startswith(f"{key}.")), None):
            out["text." + _TEXT[theirs] + rest.removeprefix(theirs)] = tensor
        elif prefix and rest != "attn_mask":  # unknown: refused where shapes are checked
            out[f"text.{rest}"] = tensor
    return out


def text_config(source: Source, config: Mapping[str, Any], joint: int, quick_gelu: bool) -> TextConfig:
    """From `text_cfg` of open_clip."""
    width = int(config.get("width", 512))
    return TextConfig(
        width=width,
        depth=int(config.get("layers", 12)),
        heads=int(config.get("heads", 8)),
        hidden=int(width * float(config.get("mlp_ratio", 4.0))),
        output=joint,
        activation=activation(config, quick_gelu),
        eps=eps(config),
        biases=Biases(projection=truth(config.get("proj_bias", False))),
        vocabulary=int(config.get("vocab_size", CLIP_VOCABULARY)),
        length=int(config.get("context_length", 77)),
        causal=not truth(config.get("no_causal_mask", False)),
    )


def activation(config: Mapping[str, Any], quick_gelu: bool) -> Activation:
    """Of a native tower."""
    if quick_gelu:
        return "quick_gelu"
    return "gelu_tanh" if (config.get("act_kwargs") or {}).get("approximate") == "tanh" else "gelu"


def eps(config: Mapping[str, Any]) -> float:
    """Of the layer norms of a native tower."""
    return float((config.get("norm_kwargs") or {}).get("eps", 1e-5))


def truth(value: object) -> bool:
    """A truth value that some configurations write as a word."""
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


def vision_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower's tensors by our names, all beginning with "vision."."""
    outer = {
        "conv1": "patch",
        "class_embedding": "class",
        "positional_embedding": "position",
        "ln_pre": "pre_norm",
        "ln_post": "final_norm",
    }
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith("visual."):
            continue
        rest = name.removeprefix("visual.")
        if rest.startswith("transformer.resblocks."):
            out |= {f"vision.{ours}": value for ours, value in blocks("", rest, tensor)}
        elif rest == "proj":  # (in, out)
            out["vision.projection.weight"] = tensor.T
        else:
            theirs = next((key for key in outer if rest == key or rest.startswith(f"{key}.")), None)
            ours = rest if theirs is None else outer[theirs] + rest.removeprefix(theirs)
            out[f"vision.{ours}"] = tensor
    return out


def vision_config(config: Mapping[str, Any], joint: int, quick_gelu: bool) -> VisionConfig:
    """From `vision_cfg` of open_clip, for a native tower."""
    width = int(config.get("width", 768))
    return VisionConfig(
        width=width,
        depth=int(config.get("layers", 12)),
        heads=width // int(config.get("head_width", HEAD_WIDTH)),
        hidden=int(width * float(config.get("mlp_ratio", 4.0))),
        output=joint,
        activation=activation(config, quick_gelu),
        eps=eps(config),
        pre_norm=not truth(config.get("no_ln_pre", False)),
        biases=Biases(patch=False),
        size=side(config.get("image_size", 224)),
        patch=side(config.get("patch_size", 16)),
    )


def side(value: Any) -> int:
    """A side in pixels; some configurations write height and width."""
    sides = value if isinstance(value, list) else [value]
    if len(set(sides)) != 1:
        raise ModelError(f"Images of {short(value)} pixels are not square; farshot reads square ones only.")
    return int(sides[0])


def check_clip(source: Source, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a bare state dict that lacks tensors which give sizes.

    Raises:
        ModelError: with the way out.
    """
    if any(name.startswith(("vision_model.", "text_model.")) for name in tensors):
        raise ModelError(
            f"{source.name} holds weights in the layout of transformers; give the folder or repository of "
            "the checkpoint instead of its file."
        )
    for name in ("visual.conv1.weight", "visual.positional_embedding", "visual.proj", "text_projection"):
        if name not in tensors:
            raise ModelError(f"{source.name} lacks the tensor {name}, so it is no state dict of a ViT CLIP.")


def configs_of_tensors(
    source: Source, tensors: Mapping[str, Tensor], gelu: str
) -> tuple[VisionConfig, TextConfig]:
    """Both descriptions from the tensors of a bare state dict; the heads are those of published towers.

    Raises:
        ModelError: no published tower has such a width.
    """
    width, _, patch, _ = tensors["visual.conv1.weight"].shape
    grid = math.isqrt(max(0, len(tensors["visual.positional_embedding"]) - 1))
    quick, joint = gelu == "quick", tensors["visual.proj"].shape[1]
    heads = _published_heads(source, "vision", width)
    vision = {"width": width, "head_width": width // heads, "patch_size": patch, "image_size": grid * patch}
    vision["layers"] = block_count(tensors, "visual.transformer.resblocks.")
    vocabulary, wide = tensors["token_embedding.weight"].shape
    text = {"width": wide, "vocab_size": vocabulary, "heads": _published_heads(source, "text", wide)}
    text |= {"layers": block_count(tensors, "transformer.resblocks.")}
    text["context_length"] = len(tensors["positional_embedding"])
    return vision_config(vision, joint, quick), text_config(source, text, joint, quick)


def _published_heads(source: Source, tower: str, width: int) -> int:
    if (heads := _OTHER_HEADS.get((tower, width))) is not None:
        return heads
    if width > _WIDEST[tower] or width % HEAD_WIDTH:
        raise ModelError(
            f"The {tower} tower of {source.name} is {width} wide, and its file does not say how many heads "
            "that are; put the model's open_clip_config.json next to it."
        )
    return width // HEAD_WIDTH


def preprocessing(source: Source, config: Mapping[str, Any]) -> Preprocessing:
    """From `preprocess_cfg` of open_clip; CLIP's values where one is missing. Its `size` is the encoder's."""
    usual = Preprocessing()
    mode, resampling = config.get("resize_mode", "shortest"), config.get("interpolation", "bicubic")
    if mode not in ("shortest", "squash") or resampling not in ("bicubic", "bilinear"):
        raise ModelError(
            f"{source.name} resizes by {short(mode)} and {short(resampling)}, which farshot does not have."
        )
    return Preprocessing(
        mean=colours(source, config.get("mean", usual.mean)),
        std=spread(source, config.get("std", usual.std)),
        reading=f"{mode}-{resampling}",
    )


def clip_tokenizer_of(source: Source, config: TextConfig, pool_type: str = "argmax") -> Tokenizer | None:
    """CLIP's byte-pair encoding: that of the folder, else the built-in one where the vocabulary is CLIP's.

    Raises:
        ModelError: texts are pooled in a way that farshot does not have.
    """
    if pool_type not in _POOLS:
        raise ModelError(
            f"{source.name} pools texts by pool_type {short(pool_type)}; farshot has {', '.join(_POOLS)}."
        )
    fast = load_fast(source, config.vocabulary)
    if fast is None:
        if config.vocabulary != CLIP_VOCABULARY:
            return None
        fast = built_in_clip_tokenizer()
    start = special_id(source, fast, "bos_token", CLIP_START)
    end = special_id(source, fast, "eos_token", CLIP_END)
    pool = _POOLS[pool_type]
    rules = TextRules(config.length, start, end, pad=0, pool=pool, fixed_length=pool == "last")
    return Tokenizer(fast, rules)


def cleaning_of(source: Source, config: Mapping[str, Any]) -> Cleaning:
    """How open_clip cleans texts before a tokenizer of the hub.

    Raises:
        ModelError: a manner that farshot does not have.
    """
    asked = str((config.get("tokenizer_kwargs") or {}).get("clean", "whitespace"))
    if asked not in _CLEANINGS:
        raise ModelError(
            f"{source.name} cleans texts by {short(asked)}; farshot has {', '.join(_CLEANINGS)}."
        )
    return _CLEANINGS[asked]

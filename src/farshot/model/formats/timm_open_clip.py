"""open_clip with a trunk of timm: BiomedCLIP, SigLIP and SigLIP 2, PE-Core, EVA-02, MobileCLIP-B.

`open_clip_config.json` names the trunk; heads, norms, activation and pooling are what that name means in
timm, all other sizes follow from the tensors. The text tower is open_clip's own or, for BiomedCLIP, a BERT.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import Activation, Biases, Rotary, TextConfig, VisionConfig
from farshot.model.formats import bert, native, open_clip
from farshot.model.formats.clip_hf import log_scale, one_number
from farshot.model.formats.files import Checkpoint, Source, block_count
from farshot.model.formats.tokenizer_files import load_fast, special_id
from farshot.model.tokenizer import TextRules, Tokenizer
from farshot.sanitize import short

TRUNK = "visual.trunk."
_BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Trunk:
    """What a name of timm means, apart from sizes.

    Attributes:
        heads: by the word for the size in the name.
        eps: of the layer norms.
        pool: how one vector is made of the tokens.
        pool_heads: of attention pooling; 0: as many as a block has.
        gated: EVA-02's MLP and inner norms.
        rotary: rotary positions; `scale` None means the trained grid.
    """

    heads: Mapping[str, int]
    eps: float = 1e-6
    pool: Literal["class", "attention", "mean"] = "class"
    pool_heads: int = 0
    gated: bool = False
    rotary: Rotary | None = None


_VIT = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}
TRUNKS: dict[str, Trunk] = {
    r"vit_(tiny|small|base|large|huge)_patch\d+_\d+": Trunk(_VIT),
    r"vit_(base|large|so400m|giantopt)_patch\d+_siglip_\d+": Trunk(
        {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}, pool="attention"
    ),
    r"vit_pe_core_(tiny|small|base|large)_patch\d+_\d+": Trunk(
        _VIT, eps=1e-5, pool="attention", pool_heads=8, rotary=Rotary("grid", offset=1, order="xy")
    ),
    r"eva02_(base|large)_patch\d+_clip_\d+": Trunk(
        {"base": 12, "large": 16}, gated=True, rotary=Rotary("grid", scale=16, order="yx")
    ),
    r"vit_(base)_mci_\d+": Trunk({"base": 12}),
}
# where SigLIP's trunk has the tanh approximation of GELU in timm; elsewhere it is exact
_TANH_NAMES = re.compile(
    r"vit_base_patch32_siglip_256|vit_large_patch16_siglip_512|vit_so400m_patch16_siglip_(256|384|512)"
    r"|vit_giantopt_patch16_siglip_\d+"
)


def recognises(source: Source) -> bool:
    """Whether there is an open_clip configuration with a trunk of timm."""
    config = open_clip.model_config(source)
    return bool((config.get("vision_cfg") or {}).get("timm_model_name"))


def read(source: Source) -> Checkpoint:
    """Both towers, the tokenizer and the preprocessing."""
    config = open_clip.model_config(source)
    vision_cfg, text_cfg = dict(config["vision_cfg"]), dict(config.get("text_cfg") or {})
    name = str(vision_cfg["timm_model_name"])
    trunk, heads = _trunk(source, name)
    open_clip.refuse_variants(source, {**config, "vision_cfg": {}})
    trunk = replace(trunk, pool=_pool(source, trunk, vision_cfg))
    about = bert.published(source, text_cfg) if text_cfg.get("hf_model_name") else {}
    tensors, joint = source.weights(open_clip.WEIGHTS), int(config["embed_dim"])
    images = dict(_vision_tensors(tensors))
    vision = _vision_config(source, name, trunk, heads, vision_cfg, images, joint)
    if text_cfg.get("hf_model_name"):
        text, words, tokenizer = bert.read_text(source, text_cfg, about, tensors, joint)
    else:
        text, words, tokenizer = _text(source, text_cfg, tensors, joint, config)
    return Checkpoint(
        format=f"open_clip with timm's {name}",
        vision=vision,
        text=text,
        tensors=images | words,
        tokenizer=tokenizer,
        preprocessing=native.preprocessing(source, source.json(open_clip.CONFIG).get("preprocess_cfg") or {}),
        log_scale=log_scale(source, tensors),
        logit_bias=one_number(source, tensors, "logit_bias") if "logit_bias" in tensors else None,
    )


def _trunk(source: Source, name: str) -> tuple[Trunk, int]:
    """The trunk of this name, and its heads.

    Raises:
        ModelError: another one.
    """
    for pattern, trunk in TRUNKS.items():
        found = re.fullmatch(pattern, name)
        if found:
            return trunk, trunk.heads[found[1]]
    raise ModelError(
        f"{source.name} has timm's {short(name)} as vision tower, which farshot does not read; it reads "
        "plain ViTs, SigLIP, PE-Core (T to L), EVA-02 and MobileCLIP-B."
    )


def _pool(source: Source, trunk: Trunk, config: Mapping[str, Any]) -> Literal["class", "attention", "mean"]:
    """How one vector is made of the tokens: as the configuration says, by default open_clip's.

    Raises:
        ModelError: a pooling or projection that farshot does not have.
    """
    pool, head = config.get("timm_pool", "avg") or "", config.get("timm_proj", "linear") or "none"
    if head not in ("linear", "none"):
        raise ModelError(
            f"{source.name} projects images by timm_proj {short(head)}, which farshot does not have."
        )
    if pool in ("", {"class": "token", "attention": "map"}.get(trunk.pool)):
        return trunk.pool
    if pool == "avg" and head == "linear" and trunk.rotary is None:
        return "mean"
    raise ModelError(
        f"{source.name} pools images by timm_pool {short(pool)}, which farshot does not have for its tower."
    )


def _vision_config(
    source: Source,
    name: str,
    trunk: Trunk,
    heads: int,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    joint: int,
) -> VisionConfig:
    """The description: what the name means, and sizes from the tensors."""
    for needed in ("vision.position", "vision.patch.weight", "vision.blocks.0.fc1.weight"):
        if needed not in tensors:
            raise ModelError(f"The weights of {source.name} lack {needed}; fetch the checkpoint again.")
    stem = _stem(tensors)
    patch = tensors["vision.patch.weight"].shape[-1] * math.prod(stride for _, stride in stem)
    class_token = "vision.class" in tensors
    grid = math.isqrt(len(tensors["vision.position"]) - class_token)
    hidden, width = tensors["vision.blocks.0.fc1.weight"].shape
    projected = "vision.projection.weight" in tensors
    pooled = trunk.pool == "attention"
    size = native.side(config.get("image_size", grid * patch))
    if size // patch != grid:
        raise ModelError(
            f"{source.name} takes images of {size} pixels (image_size), but its weights are for "
            f"{grid} x {grid} patches of {patch} pixels; weights and configuration are of two models."
        )
    return VisionConfig(
        width=width,
        depth=block_count(tensors, "vision.blocks."),
        heads=heads,
        hidden=hidden,
        output=joint if projected else width,
        activation=_activation(name, trunk),
        eps=trunk.eps,
        pre_norm="vision.pre_norm.weight" in tensors,
        gated=trunk.gated,
        inner_norms=trunk.gated,
        projection="linear" if projected else "none",
        biases=Biases(
            patch="vision.patch.bias" in tensors,
            k="vision.blocks.0.k.bias" in tensors,
            projection="vision.projection.bias" in tensors,
        ),
        size=size,
        patch=patch,
        class_token=class_token,
        rotary=_rotary(trunk.rotary, grid),
        stem=stem,
        pool=trunk.pool,
        pool_heads=(trunk.pool_heads or heads) if pooled else 0,
        pool_hidden=_rows(tensors, "vision.pool.fc1.weight"),
    )


def _rotary(rotary: Rotary | None, grid: int) -> Rotary | None:
    if rotary is None or rotary.scale is not None:
        return rotary
    return Rotary(rotary.coordinates, rotary.offset, grid, rotary.order, rotary.base, rotary.pairs)


def _activation(name: str, trunk: Trunk) -> Activation:
    if trunk.gated:
        return "silu"
    return "gelu_tanh" if _TANH_NAMES.fullmatch(name) else "gelu"


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    return len(tensors[name]) if name in tensors else 0


def _stem(tensors: Mapping[str, Tensor]) -> tuple[tuple[int, int], ...]:
    """Width and stride of each convolution before the last one."""
    found: list[tuple[int, int]] = []
    while (weight := tensors.get(f"vision.stem.{len(found)}.weight")) is not None:
        found.append((int(weight.shape[0]), int(weight.shape[-1])))
    return tuple(found)


_OUTER = {
    "patch_embed.proj": "patch",
    "norm_pre": "pre_norm",
    "norm": "final_norm",
    "head": "projection",
    "attn_pool.latent": "pool.latent",
    "attn_pool.q": "pool.q",
    "attn_pool.proj": "pool.out",
    "attn_pool.norm": "pool.norm",
    "attn_pool.mlp.fc1": "pool.fc1",
    "attn_pool.mlp.fc2": "pool.fc2",
}
BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.q_proj": "q",
    "attn.k_proj": "k",
    "attn.v_proj": "v",
    "attn.proj": "out",
    "attn.norm": "attention_norm",
    "mlp.fc1_g": "gate",
    "mlp.fc1_x": "fc1",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
    "mlp.norm": "hidden_norm",
}
"""timm's names in a block, and ours."""


def _vision_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    trunk = {key.removeprefix(TRUNK): value for key, value in tensors.items() if key.startswith(TRUNK)}
    class_token = "cls_token" in trunk
    for key, tensor in trunk.items():
        if key == "cls_token":
            yield "vision.class", tensor.flatten()
        elif key == "pos_embed":
            yield "vision.position", with_class_row(tensor[0], class_token)
        elif key.startswith("attn_pool.kv."):
            fused = f"pool.{key.rpartition('.')[2]}"
            yield from ((f"vision.{ours}", part) for ours, part in native.split_qkv(fused, tensor, "kv"))
        elif key == "attn_pool.latent":
            yield "vision.pool.latent", tensor.reshape(1, -1)
        elif key.startswith("blocks."):
            yield from ((f"vision.{ours}", part) for ours, part in block_tensors(key, tensor))
        elif not key.startswith("patch_embed.backbone."):
            theirs = next((old for old in _OUTER if key == old or key.startswith(f"{old}.")), None)
            ours = key if theirs is None else _OUTER[theirs] + key.removeprefix(theirs)
            yield f"vision.{ours}", tensor
    yield from _stem_tensors(trunk)
    for key, tensor in tensors.items():
        if key.startswith("visual.") and not key.startswith(TRUNK):  # of other heads nothing is used
            yield "vision." + key.removeprefix("visual.").replace("head.proj.", "projection."), tensor


def block_tensors(key: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Our names of a tensor `blocks.N.REST` of timm."""
    _, number, rest = key.split(".", 2)
    if rest.startswith("attn.qkv."):
        yield from native.split_qkv(f"blocks.{number}.{rest.removeprefix('attn.qkv.')}", tensor)
        return
    layer, _, kind = rest.rpartition(".")
    yield f"blocks.{number}.{BLOCK.get(layer, layer)}.{kind}", tensor


def with_class_row(position: Tensor, class_token: bool) -> Tensor:
    """Positions with a row for the class token: MobileCLIP adds its positions before the token is joined."""
    if class_token and math.isqrt(len(position)) ** 2 == len(position):
        return torch.cat([torch.zeros_like(position[:1]), position])
    return position


def _stem_tensors(trunk: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """MobileCLIP's convolutions, each batch norm folded into the one before it, in float64."""
    prefix = "patch_embed.backbone."
    for number in range(block_count(trunk, prefix)):
        conv, norm = f"{prefix}{number}.conv", f"{prefix}{number}.bn"
        weight = trunk[f"{conv}.weight"]
        if f"{norm}.weight" not in trunk:
            yield "vision.patch.weight", weight
            yield "vision.patch.bias", trunk[f"{conv}.bias"]
            continue
        gain, shift, mean, variance = (
            trunk[f"{norm}.{kind}"].double() for kind in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / (variance + _BATCH_NORM_EPS).sqrt()
        yield f"vision.stem.{number}.weight", (weight.double() * factor[:, None, None, None]).float()
        yield f"vision.stem.{number}.bias", (shift - mean * factor).float()


def _text(
    source: Source,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    joint: int,
    whole: Mapping[str, Any],
) -> tuple[TextConfig, dict[str, Tensor], Tokenizer | None]:
    """A text tower of open_clip's own kind."""
    prefix = "text." if any(name.startswith("text.") for name in tensors) else ""
    text = native.text_config(source, config, joint, native.truth(whole.get("quick_gelu", False)))
    words = native.text_tensors(tensors, prefix)
    pool_type = str(config.get("pool_type", "argmax"))
    if pool_type == "last" and (config.get("hf_tokenizer_name") or text.vocabulary != native.CLIP_VOCABULARY):
        return text, words, _siglip_tokenizer(source, config, text)
    return text, words, native.clip_tokenizer_of(source, text, pool_type)


def _siglip_tokenizer(source: Source, config: Mapping[str, Any], text: TextConfig) -> Tokenizer | None:
    fast = load_fast(source, text.vocabulary)
    if fast is None:
        return None
    rules = TextRules(
        length=text.length,
        start=None,
        end=special_id(source, fast, "eos_token", "</s>"),
        pad=special_id(source, fast, "pad_token", "</s>"),
        pool="last",
        fixed_length=True,
        cleaning=native.cleaning_of(source, config),
    )
    return Tokenizer(fast, rules)

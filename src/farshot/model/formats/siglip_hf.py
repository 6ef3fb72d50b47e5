"""transformers' SiglipModel: google/siglip-*, google/medsiglip-448 and the fixed-size google/siglip2-*.

`config.json` lists only what differs from the defaults. The text tower sees its padding and reads out the
last of 64 positions, so prompts are always padded; SigLIP 2 was trained on lower-cased text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import Biases, TextConfig, VisionConfig
from farshot.model.formats import native
from farshot.model.formats.clip_hf import (
    WEIGHTS,
    common,
    log_scale,
    model_type,
    one_number,
    renamed,
    section,
    side,
)
from farshot.model.formats.files import Checkpoint, Source
from farshot.model.formats.preprocessing_hf import SIGLIP_COLOURS, read_preprocessing
from farshot.model.formats.tokenizer_files import load_fast, special_id
from farshot.model.tokenizer import TextRules, Tokenizer

_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "vocab_size": 32000,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_VISION = {
    "embeddings.patch_embedding": "patch",
    "embeddings.position_embedding.weight": "position",
    "post_layernorm": "final_norm",
    "head.probe": "pool.latent",
    "head.attention.out_proj": "pool.out",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.fc1",
    "head.mlp.fc2": "pool.fc2",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token",
    "embeddings.position_embedding.weight": "position",
    "final_layer_norm": "final_norm",
    "head": "projection",
}


def recognises(source: Source) -> bool:
    """Whether the folder holds such a configuration."""
    return model_type(source) in ("siglip", "siglip2")


def read(source: Source) -> Checkpoint:
    """Both towers, the tokenizer and the preprocessing.

    Raises:
        ModelError: a model for pictures of any shape (-naflex), which farshot does not read.
    """
    config = source.json("config.json")
    vision, text = (section(source, config, tower, _DEFAULTS) for tower in ("vision", "text"))
    if config["model_type"] == "siglip2" or "num_patches" in vision:
        raise ModelError(
            f"{source.name} is a SigLIP 2 for pictures of any shape (-naflex); use one of fixed size."
        )
    tensors = source.weights(WEIGHTS)
    joint = int(vision["hidden_size"])
    size = side(source, vision, "image_size")
    return Checkpoint(
        format="transformers SigLIP",
        vision=VisionConfig(
            **common(source, vision),
            output=joint,
            projection="none",
            size=size,
            patch=side(source, vision, "patch_size"),
            class_token=False,
            antialias=False,
            pool="attention",
            pool_heads=int(vision["num_attention_heads"]),
            pool_hidden=int(vision["intermediate_size"]),
        ),
        text=TextConfig(
            **common(source, text),
            output=int(text.get("projection_size", text["hidden_size"])),
            biases=Biases(projection=True),
            vocabulary=int(text["vocab_size"]),
            length=int(text["max_position_embeddings"]),
            causal=False,
        ),
        tensors=dict(_canonical(tensors)),
        tokenizer=_tokenizer(source, text),
        preprocessing=read_preprocessing(source, size, SIGLIP_COLOURS, square=True),
        log_scale=log_scale(source, tensors),
        logit_bias=one_number(source, tensors, "logit_bias") if "logit_bias" in tensors else None,
        layout="siglip",
    )


def _tokenizer(source: Source, text: Mapping[str, Any]) -> Tokenizer | None:
    fast = load_fast(source, int(text["vocab_size"]))
    if fast is None:
        return None
    about = source.json("tokenizer_config.json")
    kind = about.get("tokenizer_class") or ("SiglipTokenizer" if source.has("spiece.model") else "")
    first = str(kind).startswith(
        "SiglipTokenizer"
    )  # SigLIP 1; that of SigLIP 2 is Gemma's or Siglip2Tokenizer
    rules = TextRules(
        length=int(text["max_position_embeddings"]),
        start=None,
        end=special_id(source, fast, "eos_token", "</s>" if first else "<eos>"),
        pad=special_id(source, fast, "pad_token", "</s>" if first else "<pad>"),
        pool="last",
        fixed_length=True,
        cleaning="remove_punctuation" if first else "lower",
    )
    return Tokenizer(fast, rules)


def _canonical(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        for tower, outer in (("vision", _VISION), ("text", _TEXT)):
            if not name.startswith(f"{tower}_model."):
                continue
            rest = name.removeprefix(f"{tower}_model.")
            if rest.startswith("head.attention.in_proj_"):
                fused = f"pool.{rest.removeprefix('head.attention.in_proj_')}"
                yield from ((f"{tower}.{ours}", part) for ours, part in native.split_qkv(fused, tensor))
            elif rest == "head.probe":
                yield f"{tower}.pool.latent", tensor.reshape(1, -1)
            elif (ours := renamed(rest, outer)) is not None:
                yield f"{tower}.{ours}", tensor

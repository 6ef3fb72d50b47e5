"""open_clip's native pairs: `open_clip_config.json` and weights, or a bare state dict.

Format of imageomics/bioclip, imageomics/bioclip-2, laion/CLIP-ViT-*, wisdomik/QuiltNet-B-32,
redlessone/DermLIP_ViT-B-16, apple/DFN*-CLIP-*; bare: chendelong/RemoteCLIP, Zilun/GeoRSCLIP. A bare state
dict does not say which GELU it was trained with, so the user must: `FILE.pt@gelu=quick` or `@gelu=exact`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farshot.errors import ModelError
from farshot.model.encoder import Preprocessing
from farshot.model.formats import native
from farshot.model.formats.clip_hf import OPEN_CLIP, log_scale, one_number
from farshot.model.formats.files import Checkpoint, Source
from farshot.sanitize import short

CONFIG = OPEN_CLIP
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def recognises(source: Source) -> bool:
    """Whether there is such a configuration without a timm trunk, or a bare file."""
    config = model_config(source)
    if not config:
        return source.file is not None
    return not (config.get("vision_cfg") or {}).get("timm_model_name")


def model_config(source: Source) -> dict[str, Any]:
    """The model's part of `open_clip_config.json`, which early repositories wrote alone."""
    found = source.json(CONFIG)
    inner = found.get("model_cfg", found)
    return dict(inner) if isinstance(inner, Mapping) and "embed_dim" in inner else {}


def read(source: Source) -> Checkpoint:
    """Both towers, the tokenizer and the preprocessing."""
    config = model_config(source)
    if config:
        refuse_variants(source, config)
        if other := config["text_cfg"].get("hf_model_name"):
            raise ModelError(
                f"{source.name} has {short(other)} as text tower next to open_clip's own vision tower, which "
                "farshot does not read."
            )
        quick, joint = native.truth(config.get("quick_gelu", False)), int(config["embed_dim"])
        vision = native.vision_config(config["vision_cfg"], joint, quick)
        text = native.text_config(source, config["text_cfg"], joint, quick)
        pixels = native.preprocessing(source, source.json(CONFIG).get("preprocess_cfg") or {})
        pool_type = str(config["text_cfg"].get("pool_type", "argmax"))
        tokenizer = native.clip_tokenizer_of(source, text, pool_type)
        tensors = source.weights(WEIGHTS)  # last: a download may take long
    else:
        tensors = source.weights(WEIGHTS)
        native.check_clip(source, tensors)
        vision, text = native.configs_of_tensors(source, tensors, _gelu(source))
        pixels, tokenizer = Preprocessing(), native.clip_tokenizer_of(source, text)
    prefix = "text." if any(name.startswith("text.") for name in tensors) else ""
    return Checkpoint(
        format="open_clip" if config else "open_clip state dict",
        vision=vision,
        text=text,
        tensors=native.vision_tensors(tensors) | native.text_tensors(tensors, prefix),
        tokenizer=tokenizer,
        preprocessing=pixels,
        log_scale=log_scale(source, tensors),
        logit_bias=one_number(source, tensors, "logit_bias") if "logit_bias" in tensors else None,
    )


def refuse_variants(source: Source, config: Mapping[str, Any]) -> None:
    """Refuses what open_clip has and farshot does not, by name.

    Raises:
        ModelError: names the variant.
    """
    vision = config.get("vision_cfg") or {}
    if isinstance(vision.get("layers"), list):
        raise ModelError(
            f"{source.name} has a ResNet as vision tower; farshot reads vision transformers only."
        )
    if config.get("multimodal_cfg") or vision.get("attentional_pool"):
        raise ModelError(f"{source.name} is a CoCa, which farshot does not read; use a CLIP or SigLIP.")
    if vision.get("pool_type", "tok") != "tok":
        raise ModelError(
            f"{source.name} pools images by {short(vision['pool_type'])}, which farshot does not have."
        )
    if native.truth(config.get("text_cfg", {}).get("embed_cls", False)):
        raise ModelError(
            f"{source.name} has a text tower with a class token (CoCa), which farshot does not read."
        )


def _gelu(source: Source) -> str:
    chosen = source.options.get("gelu")
    if chosen is None:
        raise ModelError(
            f"{source.name} does not say which GELU it was trained with, and the wrong one changes every "
            f"answer: write {source.name.split('@gelu=')[0]}@gelu=quick (weights tuned from OpenAI's CLIP as "
            "it was trained) or @gelu=exact (open_clip's plain models; RemoteCLIP)."
        )
    return chosen

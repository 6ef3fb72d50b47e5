"""The mini CLIP: a transformers CLIPModel small enough to bundle, and its passes in training and evaluation.

B images, L patches, D visual width, E joint width, U texts.
"""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AttentionInterface,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from farshot.storage.atomic import check_folder, whole_folder

_FILES = (
    *("config.json", "model.safetensors", "preprocessor_config.json", "vocab.json", "merges.txt"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
"""What `export` writes, with any version of transformers."""

WIDTH = 128
START_SCALE = 1.6  # natural logarithm of the first logit scale, 5
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def _attention_in_float32(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: object,
) -> tuple[Tensor, None]:
    """On a CPU the backward pass of attention is four times slower in bfloat16; other products are faster."""
    with torch.autocast(query.device.type, enabled=False):
        out, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
    return out.to(query.dtype), None


AttentionInterface.register("float32_sdpa", _attention_in_float32)


def build_model(tokenizer: CLIPTokenizer, seed: int = 0) -> CLIPModel:
    """A fresh model: 12 vision blocks and 4 text blocks of width 128 with heads of 64."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
        "hidden_act": "gelu",
    }
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=4,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=WIDTH,
        **tower,
        **ends,
    )
    vision = CLIPVisionConfig(
        num_hidden_layers=12, image_size=64, patch_size=8, projection_dim=WIDTH, **tower
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
        model = CLIPModel(config)
        _spread(model)
    return model


def _spread(model: CLIPModel) -> None:
    """A wider start than transformers': there all texts begin alike and the first steps make them one point.

    Queries, keys and values start at the scale of CLIP's published code, words far apart, and the temperature
    warm, so that the noise of untrained features is not worth silencing.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                weight.normal_(std=weight.shape[1] ** -0.5)
        model.text_model.embeddings.token_embedding.weight.normal_(std=0.1)
        model.logit_scale.fill_(START_SCALE)


def to_input(pixels: np.ndarray, device: torch.device | str = "cpu") -> Float[Tensor, "B 3 64 64"]:
    """uint8 (B, 64, 64, 3) as the model takes it."""
    planes = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    return (planes - planes.new_tensor(MEAN)[:, None, None]) / planes.new_tensor(STD)[:, None, None]


def image_tokens(
    model: CLIPModel, images: Float[Tensor, "B 3 64 64"], keep: Int[Tensor, "B kept"] | None = None
) -> Float[Tensor, "B tokens D"]:
    """The vision tower's last tokens, class token first, from all patches or those numbered in `keep`."""
    tower = model.vision_model
    tokens = tower.embeddings(images)
    if keep is not None:
        patches = torch.gather(tokens[:, 1:], 1, keep[:, :, None].expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([tokens[:, :1], patches], dim=1)
    return tower.encoder(inputs_embeds=tower.pre_layrnorm(tokens)).last_hidden_state


def project(model: CLIPModel, tokens: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
    """Visual tokens in the joint space, of unit length."""
    return torch.nn.functional.normalize(
        model.visual_projection(model.vision_model.post_layernorm(tokens)), dim=-1
    )


def text_features(
    model: CLIPModel, ids: Int[Tensor, "U length"], mask: Int[Tensor, "U length"]
) -> Float[Tensor, "U E"]:
    pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)


def export(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes what transformers reads: float16 safetensors, configuration, tokenizer, preprocessing.

    Raises:
        DataError: the place is taken by something else, or cannot be written.
    """
    with whole_folder(folder, check_place) as staging:
        _write(model, tokenizer, staging)


def check_place(folder: Path) -> None:
    """Refuses a place taken by something else than a CLIP of this module, before any work is done for it."""
    check_folder(folder, "a mini CLIP", lambda place: _FILES if _is_ours(place) else None)


def _is_ours(folder: Path) -> bool:
    try:
        about = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return False
    size = about.get("size") if isinstance(about, dict) else None
    return size == {"height": 64, "width": 64} and (folder / "vocab.json").is_file()


def _write(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    half = build_model(tokenizer)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": 64, "width": 64},
        "resample": 2,  # bilinear
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2) + "\n")

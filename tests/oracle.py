"""transformers' own CLIPModel with an encoder's weights: the oracle of the forward pass."""

from __future__ import annotations

import torch
from transformers import CLIPConfig, CLIPModel

from farshot.model.encoder import Encoder, normalise
from farshot.model.formats.clip_hf import config_json, state_dict


def transformers_clip(encoder: Encoder) -> CLIPModel:
    """A CLIPModel in evaluation mode, float32, that shares nothing with the encoder."""
    model = CLIPModel(CLIPConfig.from_dict(config_json(encoder)))
    model.load_state_dict({name: value.float().clone() for name, value in state_dict(encoder).items()})
    return model.eval().requires_grad_(False)


def planes(encoder: Encoder, pixels: torch.Tensor) -> torch.Tensor:
    """Normalised pixels, colours first, as CLIPModel takes them."""
    return normalise(pixels, encoder.preprocessing.mean, encoder.preprocessing.std)

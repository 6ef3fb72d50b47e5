"""Embeddings of images by a frozen encoder, which take half of a demo's time and write nothing, computed once
for all runs of a command.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from farshot.model.encoder import Encoder
from farshot.model.tower import Pass

_known: dict[str, Tensor] = {}  # by encoder and pixels; forks of this process begin with what it knows


def keep_features() -> None:
    """Let this process hand out the embeddings that are known, and remember new ones."""
    forward = Encoder.forward_images

    def kept(encoder: Encoder, pixels: Tensor, this: Pass | None = None) -> Tensor:
        if this is not None or torch.is_grad_enabled() or pixels.dtype != torch.uint8:
            return forward(encoder, pixels, this)
        flat = pixels.flatten(0, 1)
        keys = [f"{encoder.fingerprint} {hashlib.sha256(one.numpy()).hexdigest()}" for one in flat]
        if not all(key in _known for key in keys):
            _known.update(zip(keys, forward(encoder, pixels).flatten(0, 1).clone(), strict=True))
        return torch.stack([_known[key] for key in keys]).unflatten(0, pixels.shape[:2])

    Encoder.forward_images = kept  # type: ignore[method-assign]


def save_features(file: Path) -> None:
    """Write what is known, for `load_features` of another process."""
    torch.save(_known, file)


def load_features(file: Path) -> None:
    """Add what another process knew."""
    _known.update(torch.load(file, weights_only=True))

"""What identifies weights: their content, not their name."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def content_hash(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights, as float32; 32 hexadecimal digits of it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()[:32]

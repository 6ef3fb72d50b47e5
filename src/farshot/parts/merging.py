"""Parts that are nothing but other weights, written into a copy of the encoder: the same function without
them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import nn

from farshot.model.encoder import DualEncoder


@runtime_checkable
class Mergeable(Protocol):
    """A part whose values for one task can be put into the weights: LoRA, own weights."""

    def write_into(self, encoder: DualEncoder) -> None:
        """Changes the encoder in place."""
        ...


def merged(encoder: DualEncoder, parts: Mapping[str, nn.Module]) -> tuple[DualEncoder, dict[str, nn.Module]]:
    """A copy of the encoder with the mergeable parts in its weights, and copies of the parts that are left.

    Args:
        parts: of one task.
    """
    clip = copy.deepcopy(encoder.clip)
    out = DualEncoder(clip, encoder.tokeniser, source=encoder.source, mean=encoder.mean, std=encoder.std)
    left = {}
    for name, part in parts.items():
        if isinstance(part, Mergeable):
            part.write_into(out)
        else:
            left[name] = copy.deepcopy(part, {id(encoder): out})
    return out, left

"""Merge parts that only change weights into a copy of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from farshot.model.encoder import Encoder, TowerName

MergedTensors = dict[TowerName, dict[str, Tensor]]
"""Tower -> tensor name -> its new value."""


@runtime_checkable
class Mergeable(Protocol):
    """A part whose values for one task can replace frozen weights: LoRA, own weights."""

    def merged_tensors(self, encoder: Encoder) -> MergedTensors:
        """The tensors that change, by tower and name."""
        ...


def merged(encoder: Encoder, parts: Mapping[str, nn.Module]) -> tuple[Encoder, dict[str, nn.Module]]:
    """A copy of the encoder with the mergeable parts in its weights, and the remaining parts.

    The parts that are left keep the frozen encoder that they were made for: anchors of an alignment are those
    of its weights, not of the merged ones.

    Args:
        parts: of one task.
    """
    out, left = encoder, {}
    for name, part in parts.items():
        if isinstance(part, Mergeable):
            out = out.with_tensors(part.merged_tensors(out))
        else:
            left[name] = part
    return out, left

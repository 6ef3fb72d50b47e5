"""LoRA with a leading task dimension: every task has its own low-rank matrices on the shared frozen weights.

Sources: Hu et al., LoRA (2022); Kalajdzievski, rank-stabilised scale alpha / sqrt(rank) (2023); Zanella and
Ben Ayed, CLIP-LoRA (2024), for q, k, v of both towers and dropout on the LoRA input. Shapes: T tasks, B
images or prompts, L tokens, D width, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farshot.model.encoder import Encoder, TowerName
from farshot.model.tower import Hook, Pass
from farshot.parts.keyed import random_bits, row_keys, torch_generator
from farshot.parts.merging import MergedTensors
from farshot.randomness import key

PROJECTIONS = ("q", "k", "v")
"""Where LoRA acts by default; "out" is the projection behind the attention."""

TOWERS: tuple[TowerName, ...] = ("vision", "text")
Position = Literal["all", "top1", "top2", "top3", "bottom", "mid", "up", "half-up", "half-bottom"]
"""Blocks: the last one, two or three; the first, second or last third; the last or first half."""

_BITS = 10  # of a 32-bit hash, for each of the three masks of a block: dropout rates are multiples of 1/1024


class LoRA(nn.Module):
    """x W + b becomes x W + b + scale * dropout(x) A^T B^T, at the chosen projections of the chosen blocks.

    Args:
        encoder: gives depth and widths of the towers.
        keys: one number per task; initial values and dropout follow it.
        rank, alpha: scale = alpha / sqrt(rank).
        dropout: share of the LoRA input that is zeroed in training, rounded to 1/1024 and at most 1023/1024.
        towers, projections, position: where it acts.
    """

    def __init__(
        self,
        encoder: Encoder,
        keys: Sequence[int],
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        towers: Sequence[TowerName] = TOWERS,
        projections: Sequence[str] = PROJECTIONS,
        position: Position = "all",
    ) -> None:
        super().__init__()
        self.rank, self.alpha, self.scale = rank, alpha, alpha / math.sqrt(rank)
        self.dropout = dropout
        self.dropped = min(round(dropout * 2**_BITS), 2**_BITS - 1)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()  # A (T, r, D) and B (T, D, r)
        self._last = next((name for name in reversed(PROJECTIONS) if name in projections), None)
        for tower in towers:
            width = encoder.width(tower)
            for block in blocks_at(position, encoder.tower(tower).config.depth):
                for projection in projections:
                    self._add(f"{tower}_{block}_{projection}", keys, width, encoder.device)
        task_keys = torch.tensor([key("dropout", k) for k in keys], device=encoder.device)
        self.task_keys: Tensor
        self.register_buffer("task_keys", task_keys, persistent=False)

    def _add(self, name: str, keys: Sequence[int], width: int, device: torch.device) -> None:
        # Kaiming-uniform with a = sqrt(5) is uniform within 1 / sqrt(fan in); B = 0, so training starts at
        # the base model
        bound = 1 / math.sqrt(width)
        drawn = [
            torch.empty(self.rank, width).uniform_(-bound, bound, generator=torch_generator("lora", k, name))
            for k in keys
        ]
        self.down[name] = nn.Parameter(torch.stack(drawn).to(device))
        self.up[name] = nn.Parameter(torch.zeros(len(keys), width, self.rank, device=device))

    def places(self) -> dict[str, Hook]:
        """One hook per adapted projection."""
        return {name.replace("_", "."): partial(self._add_product, name) for name in self.down}

    def _add_product(self, name: str, out: Tensor, inputs: Tensor, this: Pass) -> Tensor:
        block, _, projection = name.rpartition("_")
        x = self._dropout(inputs, block, projection, this)
        scale = self.scale if x is inputs else self.scale / (1 - self.dropped / 2**_BITS)
        down, up = self.down[name].to(x.dtype), self.up[name].to(x.dtype)
        thin = scale * torch.bmm(x.flatten(1, 2), down.mT)  # (T, B L, r)
        return torch.baddbmm(out.flatten(1, 2), thin, up.mT).view_as(out)

    @torch.no_grad()
    def merged_tensors(self, encoder: Encoder) -> MergedTensors:
        """The frozen weights of one task plus scale * B A."""
        out: MergedTensors = {"vision": {}, "text": {}}
        for name, down in self.down.items():
            word, block, projection = name.split("_")
            tower: TowerName = "vision" if word == "vision" else "text"
            layer = f"blocks.{block}.{projection}.weight"
            weight = encoder.tower(tower).tensors[layer]
            out[tower][layer] = weight + (self.scale * self.up[name][0] @ down[0]).to(weight)
        return out

    def _dropout(
        self, x: Float[Tensor, "T B L D"], block: str, projection: str, this: Pass
    ) -> Float[Tensor, "T B L D"]:
        """Zeroes elements by a hash of (task, block, projection, step, sample, position); one hash serves q,
        k and v, which have the same input. What is left is not scaled up: that is cheaper done on the thin
        product's way out."""
        if this.step is None or not self.dropped:
            return x
        if this.samples is None:
            raise ValueError("dropout in training is keyed by sample: the pass needs `samples`")
        shared = projection in PROJECTIONS
        lane = PROJECTIONS.index(projection) if shared else 0
        source = block if shared else f"{block}_{projection}"
        name = (self, source, x.shape)
        if name not in this.memo:
            rows = row_keys(
                self.task_keys[:, None].expand_as(this.samples), key(source), this.step, this.samples
            )
            this.memo[name] = random_bits(rows, x.shape[2] * x.shape[3]).view(x.shape)
        bits = this.memo[name]
        if not shared or projection == self._last:
            del this.memo[name]  # the hash is needed no longer
        first = lane * _BITS
        kept = (bits & ((2**_BITS - 1) << first)).ge_(self.dropped << first)  # integers 0 and 1: booleans
        return x * kept.to(x.dtype)  # are slow to turn into numbers


def blocks_at(position: Position, depth: int) -> range:
    """The blocks of a tower, as the program of CLIP-LoRA's authors names them for 12 blocks."""
    first, behind = {
        "all": (0, depth),
        "bottom": (0, depth // 3),
        "mid": (depth // 3, 2 * depth // 3),
        "up": (2 * depth // 3, depth),
        "half-bottom": (0, depth // 2),
        "half-up": (depth // 2, depth),
    }.get(position) or (max(depth - int(position[3:]), 0), depth)
    return range(first, behind)

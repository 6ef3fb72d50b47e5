"""What a tower is: a frozen description, and the tensors that it implies.

A checkpoint format is read into one of these descriptions and tensors of the names listed by `tensor_shapes`;
`farshot.model.tower` runs them. Linear weights are (out, in), as in torch.nn.Linear.

    pre_norm.{weight,bias}                      the norm between embedding and first block, where there is one
    blocks.I.{norm1,norm2}.{weight,bias}
    blocks.I.{q,k,v,out,fc1,fc2}.{weight,bias}
    blocks.I.gate.{weight,bias}                 of a gated MLP: fc2(act(gate x) * fc1 x)
    blocks.I.{attention_norm,hidden_norm}.*     norms inside attention and MLP (EVA-02)
    blocks.I.{scale1,scale2}                    layer scale (DINO)
    final_norm.{weight,bias}
    projection.{weight,bias}                    or projection.{0,1}.weight of an MLP with GELU between

Vision only:
    patch.{weight,bias}                         (D, C, p, p); stem.I.{weight,bias}: convolutions before it
    class (D,), registers (n, D)
    position                                    (1 + L, D), the first row for the class token; (L, D) without
    pool.latent (1, D), pool.{q,k,v,out,norm,fc1,fc2}.*      attention pooling

Text only:
    token (vocabulary, D), position (length, D)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu"]
Shape = tuple[int, ...]
MOST_BLOCKS = 128  # no published tower comes near; a description beyond it is damaged


@dataclass(frozen=True)
class Biases:
    """Which layers have a bias; those not listed do."""

    patch: bool = True
    k: bool = True
    projection: bool = False


@dataclass(frozen=True)
class TowerConfig:
    """What both kinds of tower have in common.

    Attributes:
        width: D, of every token.
        depth: number of blocks.
        heads: of attention.
        hidden: width of the MLP's hidden layer.
        output: E, width of the embedding.
        activation: of the MLP.
        eps: of the layer norms.
        post_norm: x = norm(x + f(x)), as in BERT; else x = x + f(norm(x)).
        pre_norm: whether a norm follows the embedding.
        final_norm: whether a norm follows the last block.
        gated: the MLP is fc2(act(gate x) * fc1 x).
        inner_norms: norms on the output of attention before its last layer, and on the MLP's hidden layer.
        layer_scale: a learned factor per channel on what a block adds.
        projection: from D to E: "none", "linear" or "mlp" (two layers, GELU between).
        projection_hidden: width between the two layers of such an MLP.
        biases: which layers have one.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    output: int
    activation: Activation
    eps: float
    post_norm: bool = False
    pre_norm: bool = False
    final_norm: bool = True
    gated: bool = False
    inner_norms: bool = False
    layer_scale: bool = False
    projection: Literal["none", "linear", "mlp"] = "linear"
    projection_hidden: int = 0
    biases: Biases = Biases()

    def described(self) -> dict[str, Any]:
        """All that is not the default, for the encoder's identity: a new field with a default leaves it."""
        return {
            field.name: dataclasses.asdict(self)[field.name]
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def tensor_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the tower."""
        out = dict(_norm("pre_norm", self.width)) if self.pre_norm else {}
        for index in range(self.depth):
            out |= dict(self._block_shapes(f"blocks.{index}"))
        if self.final_norm:
            out |= dict(_norm("final_norm", self.width))
        if self.projection == "linear":
            out |= dict(_linear("projection", self.output, self.width, bias=self.biases.projection))
        if self.projection == "mlp":
            out |= dict(_linear("projection.0", self.projection_hidden, self.width, bias=False))
            out |= dict(_linear("projection.1", self.output, self.projection_hidden, bias=False))
        return out

    def _block_shapes(self, name: str) -> Iterator[tuple[str, Shape]]:
        width, hidden = self.width, self.hidden
        for layer in ("norm1", "norm2"):
            yield from _norm(f"{name}.{layer}", width)
        for layer in ("q", "k", "v", "out"):
            yield from _linear(f"{name}.{layer}", width, width, bias=layer != "k" or self.biases.k)
        for layer in ("fc1", "gate") if self.gated else ("fc1",):
            yield from _linear(f"{name}.{layer}", hidden, width)
        yield from _linear(f"{name}.fc2", width, hidden)
        if self.inner_norms:
            yield from _norm(f"{name}.attention_norm", width)
            yield from _norm(f"{name}.hidden_norm", hidden)
        if self.layer_scale:
            yield f"{name}.scale1", (width,)
            yield f"{name}.scale2", (width,)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions of the patches, on q and k of every block (farshot.model.positions).

    Attributes:
        coordinates: "grid": 1, 2, ... times `scale` / grid (PE; EVA-02 counts from 0); "unit": centres of
            patches in [-1, 1] (DINOv3).
        offset: number of the first row and column.
        scale: side of the trained grid, to which coordinates are scaled; None keeps them whole numbers.
        order: "xy": the column's angles come first; "yx": the row's.
        base: of the frequencies.
        pairs: neighbouring channels are rotated together; else channel i and channel i + d / 2.
    """

    coordinates: Literal["grid", "unit"]
    offset: int = 0
    scale: int | None = None
    order: Literal["xy", "yx"] = "xy"
    base: float = 10_000.0
    pairs: bool = True


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    """A vision tower.

    Attributes:
        size: R, the side of an image in pixels.
        patch: the side of a patch in pixels.
        class_token: whether one comes before the patches.
        registers: tokens between class token and patches.
        positions: whether learned ones are added to class token and patches.
        antialias: how learned positions are resized to another grid: the library's own manner.
        rotary: rotary positions, where there are any.
        stem: widths of the convolutions before the last one of the patch embedding, each followed by GELU,
            and their sides in pixels.
        pool: "class": the class token; "attention": a learned query over all tokens; "mean": of the patches.
        pool_heads: of attention pooling.
        pool_hidden: hidden width of the MLP behind attention pooling.
    """

    size: int = 224
    patch: int = 16
    class_token: bool = True
    registers: int = 0
    positions: bool = True
    antialias: bool = True
    rotary: Rotary | None = None
    stem: tuple[tuple[int, int], ...] = ()
    pool: Literal["class", "attention", "mean"] = "class"
    pool_heads: int = 0
    pool_hidden: int = 0

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size // self.patch

    @property
    def patches(self) -> int:
        """L, patches of an image."""
        return self.grid**2

    @property
    def prefix(self) -> int:
        """Tokens before the first patch."""
        return self.class_token + self.registers

    def tensor_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the tower."""
        width, out = self.width, super().tensor_shapes()
        channels, side = 3, self.patch
        for index, (wide, stride) in enumerate(self.stem):
            out |= {f"stem.{index}.weight": (wide, channels, stride, stride), f"stem.{index}.bias": (wide,)}
            channels, side = wide, side // stride
        out["patch.weight"] = (width, channels, side, side)
        if self.biases.patch:
            out["patch.bias"] = (width,)
        if self.class_token:
            out["class"] = (width,)
        if self.registers:
            out["registers"] = (self.registers, width)
        if self.positions:
            out["position"] = (self.class_token + self.patches, width)
        if self.pool == "attention":
            out["pool.latent"] = (1, width)
            for layer in ("q", "k", "v", "out"):
                out |= dict(_linear(f"pool.{layer}", width, width))
            out |= dict(_norm("pool.norm", width))
            out |= dict(_linear("pool.fc1", self.pool_hidden, width))
            out |= dict(_linear("pool.fc2", width, self.pool_hidden))
        return out


@dataclass(frozen=True)
class TextConfig(TowerConfig):
    """A text tower.

    Attributes:
        vocabulary: number of tokens it knows.
        length: most tokens of a prompt.
        causal: no token sees a later one.
        mask_padding: no token sees the padding.
    """

    vocabulary: int = 49408
    length: int = 77
    causal: bool = True
    mask_padding: bool = False

    def tensor_shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor of the tower."""
        embedding = {"token": (self.vocabulary, self.width), "position": (self.length, self.width)}
        return embedding | super().tensor_shapes()


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, wide: int, narrow: int, *, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (wide, narrow)
    if bias:
        yield f"{name}.bias", (wide,)

"""The forward pass of every tower, for T tasks at once, with named places at which parts act.

Nothing is attached to a tower: the parts travel in the `Pass`, so any number of threads may run any number of
adapted models on the same weights.

Places (I counts blocks from 0):
    vision.embedding, text.embedding    tokens before positions (text) or before the first norm (vision)
    TOWER.pre_norm, TOWER.final_norm
    TOWER.I.input                       the tokens before a block
    TOWER.I.{norm1,q,k,v,out,norm2,fc1,gate,fc2,attention_norm,hidden_norm}
    vision.pool.{q,k,v,out,norm,fc1,fc2}
    TOWER.projection                    from the tower's width to the joint space (projection.0, .1 of an MLP)

Shapes: T tasks, N classes, B images or prompts, L patches, S tokens of a prompt, P tokens of an image, D
width of a tower, E joint width, R side of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from farshot.model.attention import activate, attend
from farshot.model.config import TextConfig, TowerConfig, VisionConfig
from farshot.model.positions import rotary_tables, rotate
from farshot.model.tokenizer import Prompts


@dataclass(frozen=True)
class TextFeatures:
    """The text tower's embeddings of every class, float32.

    Attributes:
        final: text embeddings, not normalised, (T, N, E).
        tap: the same read-out (final norm, projection) of the pooled token before the last block, (T, N, E).
    """

    final: Float[Tensor, "T N E"]
    tap: Float[Tensor, "T N E"]

    def detached(self) -> TextFeatures:
        """Copies that are leaves of a new graph."""
        return TextFeatures(*(t.detach().requires_grad_(t.requires_grad) for t in (self.final, self.tap)))


Hook = Callable[[Tensor, Tensor, "Pass"], Tensor]
"""(value so far, input of the place, the pass) -> new value. At `...input` and `text.embedding` both are the
same tensor; the input of `vision.embedding` is the normalised pixels, (T, B, 3, R, R)."""


@runtime_checkable
class Part(Protocol):
    """Something that acts in a forward pass."""

    def places(self) -> Mapping[str, Hook]:
        """Place name -> what to do there."""
        ...


@dataclass
class Pass:
    """One forward pass: the parts that act in it, and what they may know about it.

    Attributes:
        parts: act in this order.
        texts: class texts, for parts of the vision tower that use them.
        step: the training step; None at prediction, where nothing is dropped.
        samples: number of each image (or class, in the text tower) within its task, (T, B): keys its dropout.
        images: number that identifies each image's content, (T, B).
        memo: for what a part computes once per pass.
    """

    parts: Sequence[Part] = ()
    texts: TextFeatures | None = None
    step: int | None = None
    samples: Int[Tensor, "T B"] | None = None
    images: Int[Tensor, "T B"] | None = None
    memo: dict[Any, Any] = field(default_factory=dict)
    _hooks: dict[str, list[Hook]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for part in self.parts:
            for place, hook in part.places().items():
                self._hooks.setdefault(place, []).append(hook)

    def at(self, place: str, value: Tensor, source: Tensor) -> Tensor:
        """The value at a place after the parts that act there."""
        for hook in self._hooks.get(place, ()):
            value = hook(value, source, self)
        return value


class Tower:
    """A frozen tower: its description and tensors (farshot.model.config).

    Args:
        name: "vision" or "text", the first word of its places.
        config: the description.
        tensors: of the names and shapes of `config.tensor_shapes()`.
    """

    def __init__(self, name: str, config: TowerConfig, tensors: Mapping[str, Tensor]) -> None:
        self.name, self.tensors = name, dict(tensors)
        self._config = config

    # Layers ------------------------------------------------------------------------------------------

    def linear(self, layer: str, place: str, x: Float[Tensor, "*B i"], this: Pass) -> Float[Tensor, "*B o"]:
        """A frozen linear layer and the parts that act at its place."""
        weight, bias = self.tensors[f"{layer}.weight"], self.tensors.get(f"{layer}.bias")
        return this.at(f"{self.name}.{place}", F.linear(x, weight, bias), x)

    def norm(self, layer: str, place: str, x: Float[Tensor, "*B D"], this: Pass) -> Float[Tensor, "*B D"]:
        """A frozen layer norm and the parts that act at its place."""
        weight, bias = self.tensors[f"{layer}.weight"], self.tensors[f"{layer}.bias"]
        return this.at(
            f"{self.name}.{place}", F.layer_norm(x, x.shape[-1:], weight, bias, self._config.eps), x
        )

    # Blocks ------------------------------------------------------------------------------------------

    def block(
        self,
        index: int,
        tokens: Float[Tensor, "T B P D"],
        this: Pass,
        *,
        causal: bool = False,
        mask: Bool[Tensor, "TB 1 1 P"] | None = None,
        first_only: bool = False,
    ) -> Float[Tensor, "T B out D"]:
        """One transformer block; with `first_only` only what its first token, the class token, needs."""
        config, layer, place = self._config, f"blocks.{index}", f"{index}"
        tokens = this.at(f"{self.name}.{place}.input", tokens, tokens)
        kept = tokens[:, :, :1] if first_only else tokens
        if config.post_norm:
            added = self._attention(layer, place, tokens, kept, this, causal, mask)
            kept = self.norm(f"{layer}.norm1", f"{place}.norm1", kept + added, this)
            return self.norm(
                f"{layer}.norm2", f"{place}.norm2", kept + self._mlp(layer, place, kept, this), this
            )
        normed = self.norm(f"{layer}.norm1", f"{place}.norm1", tokens, this)
        asking = normed[:, :, :1] if first_only else normed
        kept = kept + self._scaled(
            f"{layer}.scale1", self._attention(layer, place, normed, asking, this, causal, mask)
        )
        normed = self.norm(f"{layer}.norm2", f"{place}.norm2", kept, this)
        return kept + self._scaled(f"{layer}.scale2", self._mlp(layer, place, normed, this))

    def _scaled(self, name: str, x: Tensor) -> Tensor:
        return x * self.tensors[name] if self._config.layer_scale else x

    def _attention(
        self,
        layer: str,
        place: str,
        tokens: Float[Tensor, "T B P D"],
        asking: Float[Tensor, "T B Q D"],
        this: Pass,
        causal: bool,
        mask: Tensor | None,
    ) -> Float[Tensor, "T B Q D"]:
        """Attention of the asking tokens, the first of all tokens, to all tokens."""
        heads = self._config.heads
        q, k, v = (
            split_heads(self.linear(f"{layer}.{name}", f"{place}.{name}", value, this), heads)
            for name, value in (("q", asking), ("k", tokens), ("v", tokens))
        )  # (T B, heads, P, D / heads)
        q, k = self.rotated(q), self.rotated(k)
        mixed = attend(q, k, v, (self._config.width // heads) ** -0.5, causal, mask)
        mixed = mixed.transpose(1, 2).flatten(-2).unflatten(0, tokens.shape[:2])
        if self._config.inner_norms:
            mixed = self.norm(f"{layer}.attention_norm", f"{place}.attention_norm", mixed, this)
        return self.linear(f"{layer}.out", f"{place}.out", mixed, this)

    def rotated(self, x: Float[Tensor, "TB heads P d"]) -> Float[Tensor, "TB heads P d"]:
        """Queries or keys with their rotary positions; as they are where a tower has none."""
        return x

    def _mlp(
        self, layer: str, place: str, x: Float[Tensor, "T B Q D"], this: Pass
    ) -> Float[Tensor, "T B Q D"]:
        config = self._config
        hidden = self.linear(f"{layer}.fc1", f"{place}.fc1", x, this)
        if config.gated:
            gate = self.linear(f"{layer}.gate", f"{place}.gate", x, this)
            hidden = activate(gate, config.activation) * hidden
        else:
            hidden = activate(hidden, config.activation)
        if config.inner_norms:
            hidden = self.norm(f"{layer}.hidden_norm", f"{place}.hidden_norm", hidden, this)
        return self.linear(f"{layer}.fc2", f"{place}.fc2", hidden, this)

    # Read-out ----------------------------------------------------------------------------------------

    def final_norm(self, x: Float[Tensor, "*B D"], this: Pass | None = None) -> Float[Tensor, "*B D"]:
        """The norm before the projection (for attention pooling, before the pooling); none in BERT."""
        return self.norm("final_norm", "final_norm", x, this or Pass()) if self._config.final_norm else x

    def project(self, x: Float[Tensor, "*B D"], this: Pass | None = None) -> Float[Tensor, "*B E"]:
        """From the tower's width to the joint space, float32."""
        this = this or Pass()
        if self._config.projection == "mlp":
            hidden = F.gelu(self.linear("projection.0", "projection.0", x, this))
            return self.linear("projection.1", "projection.1", hidden, this).float()
        if self._config.projection == "linear":
            x = self.linear("projection", "projection", x, this)
        return x.float()


class VisionTower(Tower):
    """Normalised pixels -> image embeddings."""

    def __init__(self, config: VisionConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__("vision", config, tensors)
        self.config = config
        self._rotary: tuple[Tensor, Tensor] | None = None
        if config.rotary is not None:
            tables = rotary_tables(config.rotary, config.grid, config.width // config.heads)
            device = self.tensors["patch.weight"].device
            self._rotary = tables[0].to(device), tables[1].to(device)

    def __call__(self, pixels: Float[Tensor, "T B 3 R R"], this: Pass) -> Float[Tensor, "T B E"]:
        """Image embeddings, not normalised, float32."""
        tokens = self.embed(pixels, this)
        for index in range(self.config.depth):
            # a class token needs nothing of the other tokens behind the last block
            last = index == self.config.depth - 1 and self.config.pool == "class"
            tokens = self.block(index, tokens, this, first_only=last)
        return self.project(self.pool(tokens, this), this)

    def embed(self, pixels: Float[Tensor, "T B 3 R R"], this: Pass) -> Float[Tensor, "T B P D"]:
        """The tokens before the first block: class token, registers, patches row by row."""
        tensors, config = self.tensors, self.config
        x = pixels.flatten(0, 1)
        for index in range(len(config.stem)):
            weight = tensors[f"stem.{index}.weight"]
            x = F.gelu(F.conv2d(x, weight, tensors[f"stem.{index}.bias"], stride=weight.shape[-1]))
        weight = tensors["patch.weight"]
        x = F.conv2d(x, weight, tensors.get("patch.bias"), stride=weight.shape[-1])
        x = x.flatten(2).transpose(1, 2)  # (T B, L, D)
        if config.class_token:
            x = torch.cat([tensors["class"].expand(x.shape[0], 1, -1), x], dim=1)
        if config.positions:
            x = x + tensors["position"]
        if config.registers:
            at = int(config.class_token)
            x = torch.cat([x[:, :at], tensors["registers"].expand(x.shape[0], -1, -1), x[:, at:]], dim=1)
        x = this.at("vision.embedding", x.unflatten(0, pixels.shape[:2]), pixels)  # (T, B, P, D)
        return self.norm("pre_norm", "pre_norm", x, this) if config.pre_norm else x

    def pool(self, tokens: Float[Tensor, "T B P D"], this: Pass) -> Float[Tensor, "T B D"]:
        """One vector per image, after the final norm."""
        if self.config.pool == "class":
            return self.final_norm(tokens[:, :, 0], this)
        normed = self.final_norm(tokens, this)
        if self.config.pool == "mean":
            return normed[:, :, self.config.prefix : self.config.prefix + self.config.patches].mean(2)
        return self._attention_pool(normed, this)

    def _attention_pool(self, tokens: Float[Tensor, "T B P D"], this: Pass) -> Float[Tensor, "T B D"]:
        """A learned query attends to all tokens; an MLP follows, its residual from before its norm."""
        heads = self.config.pool_heads
        latent = self.tensors["pool.latent"].expand(*tokens.shape[:2], 1, -1)
        q, k, v = (
            split_heads(self.linear(f"pool.{name}", f"pool.{name}", value, this), heads)
            for name, value in (("q", latent), ("k", tokens), ("v", tokens))
        )
        mixed = attend(q, k, v, (self.config.width // heads) ** -0.5).transpose(1, 2).flatten(-2)
        return self._after_pooling(mixed.squeeze(1).unflatten(0, tokens.shape[:2]), this)

    def _after_pooling(self, mixed: Float[Tensor, "*B D"], this: Pass) -> Float[Tensor, "*B D"]:
        pooled = self.linear("pool.out", "pool.out", mixed, this)
        normed = self.norm("pool.norm", "pool.norm", pooled, this)
        hidden = activate(self.linear("pool.fc1", "pool.fc1", normed, this), self.config.activation)
        return pooled + self.linear("pool.fc2", "pool.fc2", hidden, this)

    def read_tokens(self, tokens: Float[Tensor, "*B D"]) -> Float[Tensor, "*B E"]:
        """Joint-space vectors of single tokens, each read out as if it were the pooled one, float32.

        Class token or mean: projection of the final norm. Attention pooling: as if the query attended to this
        token alone.
        """
        this, normed = Pass(), self.final_norm(tokens)
        if self.config.pool == "attention":
            normed = self._after_pooling(self.linear("pool.v", "pool.v", normed, this), this)
        return self.project(normed, this)

    def rotated(self, x: Float[Tensor, "TB heads P d"]) -> Float[Tensor, "TB heads P d"]:
        """Queries or keys, those of the patches rotated."""
        rotary, start = self.config.rotary, self.config.prefix
        if rotary is None or self._rotary is None or x.shape[2] <= start:
            return x  # a class token that asks alone has no position
        sin, cos = self._rotary
        before, patches, behind = x.tensor_split((start, start + len(sin)), dim=2)
        return torch.cat([before, rotate(patches, sin, cos, pairs=rotary.pairs), behind], dim=2)


class TextTower(Tower):
    """Token ids -> text embeddings."""

    def __init__(self, config: TextConfig, tensors: Mapping[str, Tensor]) -> None:
        super().__init__("text", config, tensors)
        self.config = config

    def __call__(self, prompts: Prompts, this: Pass) -> TextFeatures:
        """Class text embeddings, and what they are before the last block."""
        tokens = F.embedding(prompts.ids, self.tensors["token"])  # (T, N, S, D)
        tokens = this.at("text.embedding", tokens, tokens)
        tokens = tokens + self.tensors["position"][: tokens.shape[2]]
        if self.config.pre_norm:
            tokens = self.norm("pre_norm", "pre_norm", tokens, this)
        mask = prompts.kept.flatten(0, 1)[:, None, None] if self.config.mask_padding else None
        tap = tokens
        for index in range(self.config.depth):
            tap = tokens  # before the last block in the end
            tokens = self.block(index, tokens, this, causal=self.config.causal, mask=mask)
        return TextFeatures(self.read(tokens, prompts, this), self.read(tap, prompts, this))

    def read(
        self, tokens: Float[Tensor, "T N S D"], prompts: Prompts, this: Pass | None = None
    ) -> Float[Tensor, "T N E"]:
        """The pooled token of every prompt, after the final norm, in the joint space; float32."""
        at = prompts.pooled[..., None, None].expand(-1, -1, 1, tokens.shape[-1])
        return self.project(self.final_norm(tokens.gather(2, at).squeeze(2), this), this)


def split_heads(x: Float[Tensor, "T B P D"], heads: int) -> Float[Tensor, "TB heads P d"]:
    """Channels of each head; tasks and images become one dimension."""
    return x.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2)

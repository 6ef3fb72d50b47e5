"""DualEncoder: a frozen transformers CLIPModel, run for T tasks at once, with named places where parts
attach.

The weights and modules are transformers'; the few lines that string them together stand here, because parts
with a leading task dimension must meet the frozen weights in the middle of a block. Nothing of the CLIPModel
is ever replaced or changed: a part takes part in a pass only while it is attached, and afterwards outputs are
bit-identical to before.

Places (i counts blocks from 0; all but the last four in both towers, here named for vision):
    vision.i.input                     the tokens before a block
    vision.i.norm1|q|k|v|out           the norm and the four projections of its attention
    vision.i.norm2|fc1|fc2             the norm and the two layers of its multilayer perceptron
    vision.projection                  from the tower's width to the joint space
    text.embedding                     the token embeddings of the prompts, before positions are added
    vision.embedding                   the tokens before the first norm: class token, then patches
    vision.pre_norm, vision.post_norm  the norms before the first block and of the class token on its way out
    text.final_norm                    the norm of the end token on its way out

Shapes: T tasks, N classes, B images, L patches, S tokens of a prompt, D width of a tower, E joint width, R
side of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from farshot.data.table import ImageTable
from farshot.images.preprocess import normalise
from farshot.model.activation import activate
from farshot.model.anchors import pseudo_inverse
from farshot.model.attention import attend
from farshot.model.fingerprint import content_hash
from farshot.model.text import Prompts, Tokeniser

_PROJECTIONS = {"vision": "visual_projection", "text": "text_projection"}


@dataclass(frozen=True)
class TextFeatures:
    """What the text tower says of every class, float32.

    Attributes:
        final: text embeddings, not normalised, (T, N, E).
        tap: the same read-out (final norm, projection) of the end token before the last block, (T, N, E).
    """

    final: Float[Tensor, "T N E"]
    tap: Float[Tensor, "T N E"]

    def detached(self) -> TextFeatures:
        """Copies that are leaves of a graph of their own."""
        return TextFeatures(*(t.detach().requires_grad_(t.requires_grad) for t in (self.final, self.tap)))


@dataclass
class Pass:
    """What parts may know about the forward pass they take part in.

    Attributes:
        texts: class texts, for parts of the vision tower that look at them.
        step: the training step; None at prediction, where nothing is dropped.
        samples: number of each image (or class, in the text tower) within its task, (T, B): keys its dropout.
        images: number that stands for each image's content, (T, B).
        memo: for what a part computes once per pass.
    """

    texts: TextFeatures | None = None
    step: int | None = None
    samples: Int[Tensor, "T B"] | None = None
    images: Int[Tensor, "T B"] | None = None
    memo: dict[Any, Any] = field(default_factory=dict)


Hook = Callable[[Tensor, Tensor, Pass], Tensor]
"""(value so far, input of the place, the pass) -> new value. At `...input` and `text.embedding` both are the
same tensor; the input of `vision.embedding` is the normalised pixels, (T, B, 3, R, R)."""


@runtime_checkable
class Part(Protocol):
    """Something that attaches to the encoder for a while."""

    def places(self) -> dict[str, Hook]:
        """Place name -> what to do there."""
        ...


class DualEncoder:
    """A frozen CLIP.

    Args:
        clip: any CLIPModel; it is put in evaluation mode and frozen.
        tokeniser: turns prompts into token ids of this model.
        source: the hub name or path it came from.
        mean, std: of the pixel normalisation, one per colour.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokeniser: Tokeniser,
        *,
        source: str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.clip = clip.eval().requires_grad_(False)
        self.tokeniser, self.source = tokeniser, source
        self.mean, self.std = tuple(mean), tuple(std)
        self._hooks: dict[str, list[Hook]] = {}
        self._features: dict[tuple[str, str], Tensor] = {}

    # What it is --------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.clip.visual_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights and of the towers' activations."""
        return self.clip.visual_projection.weight.dtype

    @property
    def size(self) -> int:
        """R, the side of an input image in pixels."""
        return int(self.clip.config.vision_config.image_size)

    @property
    def vision_depth(self) -> int:
        """Number of vision blocks."""
        return len(self.clip.vision_model.encoder.layers)

    @property
    def text_depth(self) -> int:
        """Number of text blocks."""
        return len(self.clip.text_model.encoder.layers)

    @property
    def patches(self) -> int:
        """L, the number of patches of an image."""
        config = self.clip.config.vision_config
        return int((config.image_size // config.patch_size) ** 2)

    @property
    def vision_norm(self) -> nn.LayerNorm:
        """ln_post, the norm of the class token on its way out."""
        return self.clip.vision_model.post_layernorm

    @cached_property
    def projection(self) -> Float[Tensor, "D E"]:
        """W, CLIP's visual projection, float32."""
        return self.clip.visual_projection.weight.float().mT

    @cached_property
    def inverse_projection(self) -> Float[Tensor, "E D"]:
        """pinv(W), computed once: W is frozen."""
        return pseudo_inverse(self.projection)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights' content: two copies of one checkpoint agree, whatever they are called."""
        return content_hash(self.clip)

    def width(self, tower: str) -> int:
        """D of "vision" or "text"."""
        return int(getattr(self.clip.config, f"{tower}_config").hidden_size)

    def modules(self, tower: str) -> dict[str, nn.Linear | nn.LayerNorm]:
        """The frozen linear layers and norms of a tower, by their place."""
        model = getattr(self.clip, f"{tower}_model")
        out: dict[str, nn.Linear | nn.LayerNorm] = {}
        for i, block in enumerate(model.encoder.layers):
            attention, mlp = block.self_attn, block.mlp
            out |= {f"{tower}.{i}.norm1": block.layer_norm1, f"{tower}.{i}.norm2": block.layer_norm2}
            out |= {
                f"{tower}.{i}.{name}": getattr(attention, f"{name}_proj") for name in ("q", "k", "v", "out")
            }
            out |= {f"{tower}.{i}.fc1": mlp.fc1, f"{tower}.{i}.fc2": mlp.fc2}
        if tower == "vision":
            out |= {"vision.pre_norm": model.pre_layrnorm, "vision.post_norm": model.post_layernorm}
        else:
            out["text.final_norm"] = model.final_layer_norm
        return out | {f"{tower}.projection": getattr(self.clip, _PROJECTIONS[tower])}

    # Parts -------------------------------------------------------------------------------------------

    @contextmanager
    def attached(self, parts: Sequence[Part]) -> Iterator[None]:
        """The parts act in every pass inside this context, in the order given, and in none after it."""
        before = {place: list(hooks) for place, hooks in self._hooks.items()}
        try:
            for part in parts:
                for place, hook in part.places().items():
                    self._hooks.setdefault(place, []).append(hook)
            yield
        finally:
            self._hooks = before

    def _at(self, place: str, value: Tensor, source: Tensor, this: Pass) -> Tensor:
        for hook in self._hooks.get(place, ()):
            value = hook(value, source, this)
        return value

    def _through(self, place: str, module: nn.Module, value: Tensor, this: Pass) -> Tensor:
        """A frozen module, and whatever attaches to its place."""
        return self._at(place, module(value), value, this)

    # Text --------------------------------------------------------------------------------------------

    def prompts(self, texts: Sequence[Sequence[str]]) -> Prompts:
        """Token ids of the N prompts of each of T tasks, as long as the longest of them."""
        return self.tokeniser(texts).to(self.device)

    def encode_texts(self, prompts: Prompts, this: Pass | None = None) -> TextFeatures:
        """Class text embeddings; the tower is causal, so padding after the end token changes nothing."""
        this = this or Pass()
        tower = self.clip.text_model
        tokens = tower.embeddings.token_embedding(prompts.ids)  # (T, N, S, D)
        tokens = self._at("text.embedding", tokens, tokens, this)
        tokens = tokens + tower.embeddings.position_embedding.weight[: tokens.shape[2]]
        tap = tokens
        for index, block in enumerate(tower.encoder.layers):
            if index == self.text_depth - 1:
                tap = tokens
            tokens = self._block("text", index, block, tokens, this, causal=True)
        return TextFeatures(self._read_text(tokens, prompts, this), self._read_text(tap, prompts, this))

    def _read_text(
        self, tokens: Float[Tensor, "T N S D"], prompts: Prompts, this: Pass
    ) -> Float[Tensor, "T N E"]:
        ends = prompts.ends[..., None, None].expand(-1, -1, 1, tokens.shape[-1])
        pooled = tokens.gather(2, ends).squeeze(2)
        pooled = self._through("text.final_norm", self.clip.text_model.final_layer_norm, pooled, this)
        return self._through("text.projection", self.clip.text_projection, pooled, this).float()

    # Images ------------------------------------------------------------------------------------------

    def encode_images(self, pixels: Tensor, this: Pass | None = None) -> Float[Tensor, "T B E"]:
        """Image embeddings, not normalised, float32.

        Args:
            pixels: uint8 (T, B, R, R, 3), or floats (T, B, 3, R, R) that are normalised already.
        """
        this = this or Pass()
        return self.encode_tokens(self.image_tokens(pixels, this), this)

    def image_tokens(
        self, pixels: Tensor, this: Pass | None = None, until: int = 0
    ) -> Float[Tensor, "T B P D"]:
        """The tokens before vision block `until`: the first half of `encode_images`."""
        this = this or Pass()
        pixels = pixels.to(self.device)
        if not pixels.is_floating_point():
            pixels = normalise(pixels, self.mean, self.std)
        tower, pixels = self.clip.vision_model, pixels.to(self.dtype)
        tokens = tower.embeddings(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])  # (T, B, 1 + L, D)
        tokens = self._at("vision.embedding", tokens, pixels, this)
        tokens = self._through("vision.pre_norm", tower.pre_layrnorm, tokens, this)
        for index in range(until):
            tokens = self._block("vision", index, tower.encoder.layers[index], tokens, this)
        return tokens

    def encode_tokens(
        self, tokens: Float[Tensor, "T B P D"], this: Pass | None = None, start: int = 0
    ) -> Float[Tensor, "T B E"]:
        """Image embeddings from the tokens before vision block `start`: the second half of
        `encode_images`."""
        this = this or Pass()
        tower = self.clip.vision_model
        for index in range(start, self.vision_depth):
            block = tower.encoder.layers[index]
            last = index == self.vision_depth - 1
            tokens = self._block("vision", index, block, tokens, this, first_only=last)
        pooled = self._through("vision.post_norm", tower.post_layernorm, tokens[:, :, 0], this)
        return self._through("vision.projection", self.clip.visual_projection, pooled, this).float()

    @torch.no_grad()
    def features(
        self, table: ImageTable, rows: Sequence[int] | np.ndarray, reading: str = "squash", batch: int = 64
    ) -> Float[Tensor, "B E"]:
        """Embeddings of these rows without any part, normalised, on the CPU; each image is encoded once per
        encoder.

        Memoised by image content and reading; the encoder itself stands for model and preprocessing.
        """
        names = [(table.id(int(row)), reading) for row in rows]
        missing = {
            name: int(row) for name, row in zip(names, rows, strict=True) if name not in self._features
        }
        wanted = list(missing.items())
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            pixels = torch.from_numpy(table.pixels([row for _, row in part], reading, self.size))
            embedded = F.normalize(self.encode_images(pixels[None])[0], dim=-1).cpu()
            self._features.update({name: vector for (name, _), vector in zip(part, embedded, strict=True)})
        return torch.stack([self._features[name] for name in names])

    # Both towers -------------------------------------------------------------------------------------

    def _block(
        self,
        tower: str,
        index: int,
        block: Any,  # transformers' CLIPEncoderLayer
        tokens: Float[Tensor, "T B L D"],
        this: Pass,
        *,
        causal: bool = False,
        first_only: bool = False,
    ) -> Float[Tensor, "T B out D"]:
        """One pre-norm transformer block; with `first_only` just what its first token, the class token,
        needs."""
        place = f"{tower}.{index}"
        tokens = self._at(f"{place}.input", tokens, tokens, this)
        attention, mlp = block.self_attn, block.mlp
        normed = self._through(f"{place}.norm1", block.layer_norm1, tokens, this)
        asking = normed[:, :, :1] if first_only else normed
        q, k, v = (
            self._through(f"{place}.{name}", getattr(attention, f"{name}_proj"), value, this)
            .flatten(0, 1)
            .unflatten(-1, (attention.num_heads, -1))
            .transpose(1, 2)  # (T B, heads, L, D / heads)
            for name, value in (("q", asking), ("k", normed), ("v", normed))
        )
        mixed = attend(q, k, v, attention.scale, causal)
        mixed = mixed.transpose(1, 2).flatten(-2).unflatten(0, tokens.shape[:2])
        tokens = tokens[:, :, :1] if first_only else tokens
        tokens = tokens + self._through(f"{place}.out", attention.out_proj, mixed, this)
        normed = self._through(f"{place}.norm2", block.layer_norm2, tokens, this)
        hidden = activate(mlp.activation_fn, self._through(f"{place}.fc1", mlp.fc1, normed, this))
        return tokens + self._through(f"{place}.fc2", mlp.fc2, hidden, this)

"""A forward pass over images that also records tokens, head and tail, and attention.

It acts as a part before and after the method's own parts, reads, and changes nothing: the embeddings of such
a pass are those of a pass without it. What it notes is reduced at once to numbers per patch, so memory stays
that of prediction. Shapes: B images, L patches, N classes, D width, E joint width, R side of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.errors import SettingError
from farshot.explain.subject import Subject
from farshot.methods.base import row_batches
from farshot.methods.finetuned import acting
from farshot.model.config import VisionConfig
from farshot.model.encoder import Encoder
from farshot.model.tower import Hook, Pass, TextFeatures, split_heads
from farshot.parts.alignment import TokenChoice, split_patches
from farshot.training.batches import image_numbers
from farshot.training.loop import Progress

BATCH = 16  # bounds memory; a large model gains nothing from more


@dataclass
class PassView:
    """What was recorded in a pass over B images.

    Attributes:
        pixels: the images as the model read them, (B, R, R, 3).
        embedded: image embeddings, not normalised, (B, E).
        similarity: cosine of every patch, read out before the last block as if it were the pooled token, with
            the class directions, (B, L, N).
        attention: of the class token in each block asked for, (B, heads, prefix + L), its attention to itself
            first; rows sum to 1, or to less where a method adds prompt tokens, which are left out.
        pooling: where asked for, attention of what is read out to all tokens, (B, heads, prefix + L): of the
            class token in the last block, or of the query of attention pooling; equal for all patches where
            they are averaged.
        choices: head, tail and classes before each requested block that has the operator, (B, L).
        tokens: patch tokens before each block asked for, before the operator there moves them, (B, L, D).
    """

    pixels: UInt8[NDArray[np.uint8], "B R R 3"]
    embedded: Float[Tensor, "B E"]
    similarity: Float[Tensor, "B L N"]
    pooling: Float[Tensor, "B heads P"] | None = None
    attention: dict[int, Float[Tensor, "B heads P"]] = field(default_factory=dict)
    choices: dict[int, TokenChoice] = field(default_factory=dict)
    tokens: dict[int, Float[Tensor, "B L D"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What to record, by vision blocks counted from 0; see `PassView`."""

    choices: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    pooling: bool = False


@torch.no_grad()
def look(
    subject: Subject, pixels: UInt8[NDArray[np.uint8], "B R R 3"], ask: Ask, texts: TextFeatures | None = None
) -> PassView:
    """Pass images through the adapted model and record what was requested.

    Args:
        texts: class texts in place of the model's own, for images of other classes.
    """
    encoder = subject.encoder
    numbers = torch.from_numpy(image_numbers(pixels))[None].to(encoder.device)
    notes = _Notes(subject, ask)
    parts = [_Places(notes.before()), *acting(subject.parts), _Places(notes.after())]
    this = Pass(parts, texts=texts or subject.texts, images=numbers)
    embedded = encoder.forward_images(torch.from_numpy(pixels)[None], this)[0]
    assert notes.similarity is not None
    if ask.pooling and encoder.vision.config.pool == "mean":
        notes.pooling = _uniform(len(pixels), encoder.vision.config)
    return PassView(
        pixels,
        embedded.cpu(),
        notes.similarity.cpu(),
        notes.pooling,
        notes.attention,
        notes.choices,
        notes.tokens,
    )


def views(
    subject: Subject,
    table: ImageTable,
    ask: Ask,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    texts: TextFeatures | None = None,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> Iterator[PassView]:
    """`look` at these rows of a table, all where None, batch after batch."""
    chosen = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    for part in row_batches(len(chosen), batch):
        pixels = table.pixels(chosen[part], subject.adapted.reading, subject.encoder.size)
        yield look(subject, np.asarray(pixels), ask, texts)
        if progress:
            progress(part.stop, len(chosen))


def check_blocks(blocks: Sequence[int], encoder: Encoder) -> list[int]:
    """Sort the blocks; refuse numbers that the model does not have."""
    wrong = [block for block in blocks if not 0 <= block < encoder.vision_depth]
    if wrong:
        raise SettingError(
            f"There is no vision block {wrong[0]}: {encoder.source} has blocks 0 to "
            f"{encoder.vision_depth - 1}."
        )
    return sorted(set(blocks))


class _Places:
    """Hooks at places, as a part."""

    def __init__(self, hooks: dict[str, Hook]) -> None:
        self._hooks = hooks

    def places(self) -> dict[str, Hook]:
        return self._hooks


class _Notes:
    """The recordings of one pass."""

    def __init__(self, subject: Subject, ask: Ask) -> None:
        self.subject, self.ask = subject, ask
        self.similarity: Tensor | None = None
        self.attention: dict[int, Tensor] = {}
        self.pooling: Tensor | None = None
        self.choices: dict[int, TokenChoice] = {}
        self.tokens: dict[int, Tensor] = {}
        self._query: Tensor | None = None

    def before(self) -> dict[str, Hook]:
        """Record the tokens before the method's parts change them."""
        last = self.subject.encoder.vision_depth - 1
        blocks = {*self.ask.choices, *self.ask.tokens, last}
        return {f"vision.{block}.input": partial(self._read_tokens, block) for block in blocks}

    def after(self) -> dict[str, Hook]:
        """Record queries and keys after the method's parts changed them."""
        hooks: dict[str, Hook] = {}
        config = self.subject.encoder.vision.config
        blocks = set(self.ask.attention)
        if self.ask.pooling and config.pool == "class":
            blocks.add(config.depth - 1)
        for block in blocks:
            hooks[f"vision.{block}.q"] = self._read_query
            hooks[f"vision.{block}.k"] = partial(self._read_key, block)
        if self.ask.pooling and config.pool == "attention":
            hooks["vision.pool.q"] = self._read_query
            hooks["vision.pool.k"] = self._read_pool_key
        return hooks

    def _read_tokens(self, block: int, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        _, patches, _ = split_patches(self.subject.encoder, tokens)
        alignment = self.subject.alignment
        if block in self.ask.choices and alignment is not None and block in alignment.blocks:
            found = alignment.choose(patches, alignment.anchors(this), block, this)
            self.choices[block] = TokenChoice(*(value[0].cpu() for value in found))
        if block in self.ask.tokens:
            self.tokens[block] = patches[0].float().cpu()
        if block == self.subject.encoder.vision_depth - 1:
            self.similarity = read_out(self.subject, patches[0])
        return tokens

    def _read_query(self, value: Tensor, _input: Tensor, this: Pass) -> Tensor:
        self._query = value[0, :, :1]  # of the class token, or of the pooling, (B, 1, D)
        return value

    def _read_key(self, block: int, value: Tensor, _input: Tensor, this: Pass) -> Tensor:
        vision = self.subject.encoder.vision
        found = self._attention(value, vision.config.heads, vision.rotated)
        if block in self.ask.attention:
            self.attention[block] = found
        if block == vision.config.depth - 1 and vision.config.pool == "class":
            self.pooling = found
        return value

    def _read_pool_key(self, value: Tensor, _input: Tensor, this: Pass) -> Tensor:
        heads = self.subject.encoder.vision.config.pool_heads
        self.pooling = self._attention(value, heads, lambda keys: keys)
        return value

    def _attention(
        self, keys: Float[Tensor, "1 B P D"], heads: int, placed: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B heads P"]:
        """Attention of the noted query to class token, registers and patches.

        The query belongs to a class token or a pooling, which have no rotary position; the keys of patches
        have one where the tower has.
        """
        assert self._query is not None
        q, k = (split_heads(x[None].float(), heads) for x in (self._query, keys[0]))
        scores = (q @ placed(k).mT).squeeze(2) * (k.shape[-1] ** -0.5)  # (B, heads, P)
        config = self.subject.encoder.vision.config
        return scores.softmax(-1)[..., : config.prefix + config.patches].cpu()


def _uniform(images: int, config: VisionConfig) -> Float[Tensor, "B 1 P"]:
    shares = torch.zeros(images, 1, config.prefix + config.patches)
    shares[..., config.prefix :] = 1 / config.patches
    return shares


def read_out(subject: Subject, patches: Float[Tensor, "B L D"]) -> Float[Tensor, "B L N"]:
    """Cosine of patches, each read out as if it were the pooled token, with the class directions."""
    seen = F.normalize(subject.read_out.vision.read_tokens(patches), dim=-1)
    return seen @ F.normalize(subject.directions.float(), dim=-1).mT

"""The lens: one pass over images that also notes tokens, head and tail, and what the class token looks at.

It attaches like a part before and after the method's own parts, reads, and changes nothing: the embeddings of
such a pass are those of a pass without it. What it notes is reduced at once to numbers per patch, so memory
stays that of prediction. Shapes: B images, L patches, N classes, D width, E joint width, R side of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from farshot.data.table import ImageTable
from farshot.errors import SettingError
from farshot.explain.subject import Subject
from farshot.finetune import Progress
from farshot.methods.base import row_batches
from farshot.model.alignment import Choice
from farshot.model.encoder import DualEncoder, Hook, Pass, TextFeatures
from farshot.support import image_numbers

BATCH = 16  # bounds memory; a large model gains nothing from more


@dataclass
class View:
    """What a pass showed, for B images.

    Attributes:
        pixels: the images as the model read them, (B, R, R, 3).
        embedded: image embeddings, not normalised, (B, E).
        similarity: cosine of every patch, read out as ln_post(v) @ W before the last block, with the class
            directions, (B, L, N).
        attention: of the class token in each block asked for, (B, heads, 1 + L), the class token's attention
            to itself first; rows sum to 1, or to less where a method adds prompt tokens, which are left out.
        choices: head, tail and classes before each block asked for, where the operator stands, (B, L).
        tokens: patch tokens before each block asked for, before the operator there moves them, (B, L, D).
    """

    pixels: UInt8[NDArray[np.uint8], "B R R 3"]
    embedded: Float[Tensor, "B E"]
    similarity: Float[Tensor, "B L N"]
    attention: dict[int, Float[Tensor, "B heads P"]] = field(default_factory=dict)
    choices: dict[int, Choice] = field(default_factory=dict)
    tokens: dict[int, Float[Tensor, "B L D"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What to note, by vision blocks counted from 0; see `View`."""

    choices: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()


@torch.no_grad()
def look(
    subject: Subject, pixels: UInt8[NDArray[np.uint8], "B R R 3"], ask: Ask, texts: TextFeatures | None = None
) -> View:
    """Passes images through the adapted model and notes what was asked for.

    Args:
        texts: class texts in place of the model's own, for images of other classes.
    """
    encoder = subject.encoder
    numbers = torch.from_numpy(image_numbers(pixels))[None].to(encoder.device)
    notes = _Notes(subject, ask)
    lens = [_Places(notes.before()), *subject.parts.values(), _Places(notes.after())]
    with encoder.attached(lens):  # type: ignore[arg-type]
        this = Pass(texts=texts or subject.texts, images=numbers)
        embedded = encoder.encode_images(torch.from_numpy(pixels)[None], this)[0]
    assert notes.similarity is not None
    return View(pixels, embedded.cpu(), notes.similarity.cpu(), notes.attention, notes.choices, notes.tokens)


def views(
    subject: Subject,
    table: ImageTable,
    ask: Ask,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    texts: TextFeatures | None = None,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> Iterator[View]:
    """`look` at these rows of a table, all where None, batch after batch."""
    chosen = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    for part in row_batches(len(chosen), batch):
        pixels = table.pixels(chosen[part], subject.adapted.reading, subject.encoder.size)
        yield look(subject, np.asarray(pixels), ask, texts)
        if progress:
            progress(part.stop, len(chosen))


def check_blocks(blocks: Sequence[int], encoder: DualEncoder) -> list[int]:
    """The blocks, sorted; refuses numbers that the model does not have."""
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
    """What the hooks of one pass write down."""

    def __init__(self, subject: Subject, ask: Ask) -> None:
        self.subject, self.ask = subject, ask
        self.similarity: Tensor | None = None
        self.attention: dict[int, Tensor] = {}
        self.choices: dict[int, Choice] = {}
        self.tokens: dict[int, Tensor] = {}
        self._asking: Tensor | None = None

    def before(self) -> dict[str, Hook]:
        """Reads the tokens before the method's own parts touch them."""
        last = self.subject.encoder.vision_depth - 1
        blocks = {*self.ask.choices, *self.ask.tokens, last}
        return {f"vision.{block}.input": partial(self._read_tokens, block) for block in blocks}

    def after(self) -> dict[str, Hook]:
        """Reads queries and keys after the method's own parts changed them."""
        hooks: dict[str, Hook] = {}
        for block in self.ask.attention:
            hooks[f"vision.{block}.q"] = self._read_query
            hooks[f"vision.{block}.k"] = partial(self._read_key, block)
        return hooks

    def _read_tokens(self, block: int, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        patches = tokens[:, :, 1 : 1 + self.subject.encoder.patches]
        alignment = self.subject.alignment
        if block in self.ask.choices and alignment is not None and block in alignment.blocks:
            found = alignment.choose(patches, alignment.anchors(this), block, this)
            self.choices[block] = Choice(*(value[0].cpu() for value in found))
        if block in self.ask.tokens:
            self.tokens[block] = patches[0].float().cpu()
        if block == self.subject.encoder.vision_depth - 1:
            self.similarity = read_out(self.subject, patches[0])
        return tokens

    def _read_query(self, value: Tensor, _input: Tensor, this: Pass) -> Tensor:
        self._asking = value[0, :, 0]  # the class token's query, (B, D)
        return value

    def _read_key(self, block: int, value: Tensor, _input: Tensor, this: Pass) -> Tensor:
        assert self._asking is not None
        layer = self.subject.encoder.clip.vision_model.encoder.layers[block].self_attn
        q = self._asking.float().unflatten(-1, (layer.num_heads, -1))  # (B, heads, d)
        k = value[0].float().unflatten(-1, (layer.num_heads, -1))  # (B, 1 + L, heads, d)
        scores = torch.einsum("bhd,blhd->bhl", q, k) * layer.scale
        self.attention[block] = scores.softmax(-1)[..., : 1 + self.subject.encoder.patches].cpu()
        return value


def read_out(subject: Subject, patches: Float[Tensor, "B L D"]) -> Float[Tensor, "B L N"]:
    """Cosine of patches with the class directions, read out like the class token: ln_post(v) @ W."""
    encoder = subject.encoder
    seen = F.normalize(encoder.vision_norm(patches).float() @ encoder.projection, dim=-1)
    return seen @ F.normalize(subject.directions.float(), dim=-1).mT

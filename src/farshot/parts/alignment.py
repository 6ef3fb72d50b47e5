"""Head-tail alignment: pull the patches that resemble a class towards it, push away those that resemble none.

Source: Adaptive Tail-Head Alignment, ICML 2026 (arXiv 2605.29776); docs/method.md.
Shapes: T tasks, B images, L patches (class token and registers excluded), N classes, D visual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.errors import SettingError
from farshot.model.encoder import Encoder
from farshot.model.tower import Hook, Pass, TextFeatures
from farshot.parts.anchors import inverted_anchors, transposed_anchors
from farshot.parts.keyed import random_bits, row_keys
from farshot.randomness import key

Ratio = float | Float[Tensor, "*#T"]
"""A share of patches, the same for all tasks or one per task."""


class TokenChoice(NamedTuple):
    """Which patches are head and tail, and which class each patch resembles most and least."""

    head: Bool[Tensor, "*#T B L"]
    tail: Bool[Tensor, "*#T B L"]
    nearest: Int[Tensor, "*#T B L"]
    farthest: Int[Tensor, "*#T B L"]


def align_tokens(
    tokens: Float[Tensor, "*#T B L D"],
    anchors: Float[Tensor, "*#T N D"],
    pull: Float[Tensor, "*#T"],
    push: Float[Tensor, "*#T"],
    head_ratio: Ratio,
    tail_ratio: Ratio,
    ranking: Float[Tensor, "*#T B L"] | None = None,
) -> Float[Tensor, "*#T B L D"]:
    """Moves head tokens towards the class they resemble most, tail tokens away from the one they resemble
    least.

    The choice of tokens and classes is not differentiated; gradients flow through tokens, anchors, pull and
    push.

    Args:
        tokens: patch tokens before a transformer block, without the class token.
        anchors: one vector per class in patch space.
        pull: strength for head tokens; push: for tail tokens. Any sign.
        head_ratio: share of patches that are head, floor(ratio * L) of them; tail_ratio likewise; their sum
            is at most 1. One number, or one per task.
        ranking: orders the patches in place of their largest similarity.
    """
    choice = choose_tokens(patch_class_similarity(tokens, anchors), head_ratio, tail_ratio, ranking)
    return move_tokens(tokens, anchors, pull, push, choice)


def patch_class_similarity(
    tokens: Float[Tensor, "*#T B L D"], anchors: Float[Tensor, "*#T N D"]
) -> Float[Tensor, "*#T B L N"]:
    """Cosine of every patch with every anchor, in float32 at least, without gradient."""
    precision = torch.promote_types(tokens.dtype, torch.float32)
    with torch.no_grad():
        directions = F.normalize(anchors.detach().to(precision), dim=-1)
        return F.normalize(tokens.detach().to(precision), dim=-1) @ directions.mT.unsqueeze(-3)


def choose_tokens(
    similarity: Float[Tensor, "*#T B L N"],
    head_ratio: Ratio,
    tail_ratio: Ratio,
    ranking: Float[Tensor, "*#T B L"] | None = None,
) -> TokenChoice:
    """Head: the patches of largest maximal similarity; tail: of smallest.

    Args:
        ranking: orders the patches in place of their largest similarity.

    Ties: one stable descending sort, head from its front and tail from its end; among equal classes the
    lowest index.
    """
    check_ratios(head_ratio, tail_ratio)
    patches = similarity.shape[-2]
    order = (
        (similarity.amax(-1) if ranking is None else ranking)
        .sort(dim=-1, descending=True, stable=True)
        .indices
    )
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(patches, device=order.device).expand_as(order)
    )
    head = rank < _per_patch(token_count(head_ratio, patches), rank)
    tail = rank >= patches - _per_patch(token_count(tail_ratio, patches), rank)
    return TokenChoice(head, tail, similarity.argmax(-1), similarity.argmin(-1))


def move_tokens(
    tokens: Float[Tensor, "*#T B L D"],
    anchors: Float[Tensor, "*#T N D"],
    pull: Float[Tensor, "*#T"],
    push: Float[Tensor, "*#T"],
    choice: TokenChoice,
) -> Float[Tensor, "*#T B L D"]:
    """Adds pull * nearest anchor to the head tokens and subtracts push * farthest anchor from the tail
    tokens.

    Written as one thin product (L x N) @ (N x D) per image: it broadcasts over tasks and carries every
    gradient.
    """
    classes = torch.arange(anchors.shape[-2], device=anchors.device)
    towards = (choice.nearest.unsqueeze(-1) == classes) & choice.head.unsqueeze(-1)
    away = (choice.farthest.unsqueeze(-1) == classes) & choice.tail.unsqueeze(-1)
    share = _per_image(pull, anchors) * towards - _per_image(push, anchors) * away  # (*T, B, L, N)
    return tokens + (share @ anchors.unsqueeze(-3)).to(tokens.dtype)


def token_count(ratio: Ratio, patches: int) -> int | Int[Tensor, "*#T"]:
    """floor(ratio * L); the small term keeps 0.3 * 10 from being 2."""
    count = ratio * patches + 1e-9
    return count.long() if isinstance(count, Tensor) else int(count)


def check_ratios(head_ratio: Ratio, tail_ratio: Ratio) -> None:
    """Check that both ratios are in [0, 1] and their sum is at most 1."""
    head, tail = torch.as_tensor(head_ratio), torch.as_tensor(tail_ratio)
    if not ((head >= 0) & (tail >= 0) & (head + tail <= 1 + 1e-6)).all():
        raise SettingError(
            f"The shares of head and tail tokens, {head_ratio} and {tail_ratio}, must lie in [0, 1] and "
            "sum to at most 1."
        )


def _per_patch(count: int | Int[Tensor, "*#T"], like: Tensor) -> int | Int[Tensor, "*#T 1 1"]:
    return count[..., None, None].to(like.device) if isinstance(count, Tensor) else count


def _per_image(strength: Tensor, like: Tensor) -> Tensor:
    return strength.to(like.dtype)[..., None, None, None]


class HeadTailAlignment(nn.Module):
    """The operator before every vision block, as a part: T tasks, one learnable pull and push per block.

    Args:
        encoder: gives the depth and the frozen matrices of the anchors.
        keys: one number per task, for the ablation that draws tokens at random.
        anchors: "paper" or "released" (docs/method.md, "Two variants").
        pull, push: initial strengths, one per vision block.
        head_ratio, tail_ratio: rho and gamma; None: one per task and block, measured before training.
        described: number of classes, where the class texts of the anchors are set before training instead
            of taken from the pass.
        random: draw head and tail at random, keyed by task, image and block, instead of by similarity.
        blocks: the vision blocks before which it acts, counted from 0; all where None.
    """

    def __init__(
        self,
        encoder: Encoder,
        keys: Sequence[int],
        *,
        anchors: str,
        pull: Sequence[float],
        push: Sequence[float],
        head_ratio: float | None,
        tail_ratio: float | None,
        described: int | None = None,
        random: bool = False,
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        depth, tasks = encoder.vision_depth, len(keys)
        self.pull = nn.Parameter(torch.tensor([list(pull)] * tasks, device=encoder.device))  # (T, depth)
        self.push = nn.Parameter(torch.tensor([list(push)] * tasks, device=encoder.device))
        self.kind, self.head_ratio, self.tail_ratio, self.random = anchors, head_ratio, tail_ratio, random
        self.ratios: Tensor | None
        self.texts: Tensor | None
        if head_ratio is None or tail_ratio is None:
            # on the CPU, since not every device has float64
            self.register_buffer("ratios", torch.zeros(tasks, depth, 2, dtype=torch.float64))  # head, tail
        else:
            self.ratios = None
            check_ratios(head_ratio, tail_ratio)
        if described is not None:
            width = encoder.embed_dim
            self.register_buffer(
                "texts",
                torch.zeros(2, described, width, device=encoder.device).expand(tasks, -1, -1, -1).clone(),
            )  # final, tap
        else:
            self.texts = None
        self.blocks = list(range(depth)) if blocks is None else list(blocks)
        task_keys = torch.tensor([key("alignment", k) for k in keys], device=encoder.device)
        self.task_keys: Tensor
        self.register_buffer("task_keys", task_keys)  # saved: random tokens are equal at prediction
        self.encoder = encoder

    def anchors(self, this: Pass) -> Float[Tensor, "T N D"]:
        """The anchors, computed once per pass from its class texts or from those set before training."""
        if self not in this.memo:
            texts = this.texts if self.texts is None else TextFeatures(self.texts[:, 0], self.texts[:, 1])
            this.memo[self] = class_anchors(self.encoder, self.kind, texts)
        return this.memo[self]

    def places(self) -> dict[str, Hook]:
        """One hook before each chosen vision block."""
        return {f"vision.{block}.input": partial(self._align, block) for block in self.blocks}

    def _align(self, block: int, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        # neither class token and registers nor prompt tokens behind the patches take part
        kept, patches, prompts = split_patches(self.encoder, tokens)
        moved = align_tokens(
            patches,
            self.anchors(this),
            self.pull[:, block],
            self.push[:, block],
            *self._ratios(block),
            self._ranking(patches, block, this),
        )
        return torch.cat([kept, moved, prompts], dim=2)

    def choose(
        self, patches: Float[Tensor, "T B L D"], anchors: Float[Tensor, "T N D"], block: int, this: Pass
    ) -> TokenChoice:
        """Head, tail and classes of every patch before this block."""
        similarity = patch_class_similarity(patches, anchors)
        return choose_tokens(similarity, *self._ratios(block), self._ranking(patches, block, this))

    def _ratios(self, block: int) -> tuple[Ratio, Ratio]:
        if self.ratios is not None:
            head, tail = self.ratios[:, block].unbind(-1)
            return head, tail
        assert self.head_ratio is not None and self.tail_ratio is not None
        return self.head_ratio, self.tail_ratio

    def _ranking(self, patches: Tensor, block: int, this: Pass) -> Float[Tensor, "T B L"] | None:
        """A random order of the patches, for the ablation; None: by similarity."""
        if not self.random:
            return None
        if this.images is None:
            raise ValueError("random tokens are keyed by image: the pass needs `images`")
        rows = row_keys(self.task_keys[:, None].expand_as(this.images), this.images, block)
        return random_bits(rows, patches.shape[2]).float()


def split_patches(
    encoder: Encoder, tokens: Float[Tensor, "T B P D"]
) -> tuple[Float[Tensor, "T B a D"], Float[Tensor, "T B L D"], Float[Tensor, "T B b D"]]:
    """What precedes the patches (class token, registers), the patches, and what follows them (prompts)."""
    start = encoder.vision.config.prefix
    before, patches, behind = tokens.tensor_split((start, start + encoder.vision.config.patches), dim=2)
    return before, patches, behind


def class_anchors(encoder: Encoder, kind: str, texts: TextFeatures | None) -> Float[Tensor, "T N D"]:
    """Anchors of either kind from class texts.

    W, ln_post and the projection's bias are those of the frozen encoder (docs/method.md has a table per
    family of encoders).
    """
    if texts is None:
        raise ValueError("alignment needs class texts: forward_images(..., Pass(texts=...))")
    if kind == "paper":
        return transposed_anchors(texts.final, encoder.projection)
    tap, bias = texts.tap, encoder.projection_bias
    norm = encoder.vision.tensors
    return inverted_anchors(
        tap if bias is None else tap - bias,
        encoder.inverse_projection,
        norm["final_norm.weight"].float(),
        norm["final_norm.bias"].float(),
    )

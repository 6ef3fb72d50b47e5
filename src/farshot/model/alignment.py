"""The heart of ATHA: pull the patches that already resemble a class towards it, push those that resemble none
away.

Source: Adaptive Tail-Head Alignment, ICML 2026 (arXiv 2605.29776); docs/method.md.
Shapes: T tasks, B images, L patches (class token excluded), N classes, D visual width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.errors import SettingError
from farshot.model.anchors import inverted_anchors, transposed_anchors
from farshot.model.encoder import DualEncoder, Hook, Pass
from farshot.randomness import key, random_bits, row_keys


class Choice(NamedTuple):
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
    head_ratio: float,
    tail_ratio: float,
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
            is at most 1.
    """
    choice = choose_tokens(patch_class_similarity(tokens, anchors), head_ratio, tail_ratio)
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
    head_ratio: float,
    tail_ratio: float,
    ranking: Float[Tensor, "*#T B L"] | None = None,
) -> Choice:
    """Head: the patches of largest maximal similarity; tail: of smallest. `ranking` takes the similarity's
    place.

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
    head = rank < token_count(head_ratio, patches)
    tail = rank >= patches - token_count(tail_ratio, patches)
    return Choice(head, tail, similarity.argmax(-1), similarity.argmin(-1))


def move_tokens(
    tokens: Float[Tensor, "*#T B L D"],
    anchors: Float[Tensor, "*#T N D"],
    pull: Float[Tensor, "*#T"],
    push: Float[Tensor, "*#T"],
    choice: Choice,
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


def token_count(ratio: float, patches: int) -> int:
    """floor(ratio * L); the small term keeps 0.3 * 10 from being 2."""
    return int(ratio * patches + 1e-9)


def check_ratios(head_ratio: float, tail_ratio: float) -> None:
    """Refuses shares outside [0, 1] or together above 1."""
    if not (0 <= head_ratio <= 1 and 0 <= tail_ratio <= 1 and head_ratio + tail_ratio <= 1 + 1e-9):
        raise SettingError(
            f"The shares of head and tail tokens, {head_ratio} and {tail_ratio}, must lie in [0, 1] and "
            "sum to at most 1."
        )


def _per_image(strength: Tensor, like: Tensor) -> Tensor:
    return strength.to(like.dtype)[..., None, None, None]


class HeadTailAlignment(nn.Module):
    """The operator before every vision block, as a part: T tasks, one learnable pull and push per block.

    Args:
        encoder: where it will attach; gives the depth and the frozen matrices of the anchors.
        keys: one number per task, for the ablation that draws tokens at random.
        anchors: "paper" or "released" (docs/method.md, "Two variants").
        pull, push: initial strengths, one per vision block.
        head_ratio, tail_ratio: rho and gamma.
        random: draw head and tail at random, keyed by task, image and block, instead of by similarity.
        blocks: vision blocks it stands before, counted from 0; all where None.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        keys: Sequence[int],
        *,
        anchors: str,
        pull: Sequence[float],
        push: Sequence[float],
        head_ratio: float,
        tail_ratio: float,
        random: bool = False,
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_ratios(head_ratio, tail_ratio)
        depth = encoder.vision_depth
        self.pull = nn.Parameter(torch.tensor([list(pull)] * len(keys), device=encoder.device))  # (T, depth)
        self.push = nn.Parameter(torch.tensor([list(push)] * len(keys), device=encoder.device))
        self.kind, self.head_ratio, self.tail_ratio, self.random = anchors, head_ratio, tail_ratio, random
        self.blocks = list(range(depth)) if blocks is None else list(blocks)
        task_keys = torch.tensor([key("alignment", k) for k in keys], device=encoder.device)
        self.task_keys: Tensor
        self.register_buffer("task_keys", task_keys)  # saved: random tokens are the same at prediction
        self.encoder = encoder

    def anchors(self, texts: Pass) -> Float[Tensor, "T N D"]:
        """The anchors of this pass, computed once per pass from its class texts."""
        if self not in texts.memo:
            texts.memo[self] = class_anchors(self.encoder, self.kind, texts)
        return texts.memo[self]

    def places(self) -> dict[str, Hook]:
        """One hook before each chosen vision block."""
        return {f"vision.{block}.input": self._hook(block) for block in self.blocks}

    def _hook(self, block: int) -> Callable[[Tensor, Tensor, Pass], Tensor]:
        def align(tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
            anchors = self.anchors(this)  # (T, N, D)
            patches = tokens[:, :, 1:]  # the class token never takes part
            choice = self.choose(patches, anchors, block, this)
            moved = move_tokens(patches, anchors, self.pull[:, block], self.push[:, block], choice)
            return torch.cat([tokens[:, :, :1], moved], dim=2)

        return align

    def choose(
        self, patches: Float[Tensor, "T B L D"], anchors: Float[Tensor, "T N D"], block: int, this: Pass
    ) -> Choice:
        """Head, tail and classes of every patch before this block."""
        ranking = None
        if self.random:
            if this.images is None:
                raise ValueError("random tokens are keyed by image: the pass needs `images`")
            rows = row_keys(self.task_keys[:, None].expand_as(this.images), this.images, block)
            ranking = random_bits(rows, patches.shape[2]).float()
        return choose_tokens(
            patch_class_similarity(patches, anchors), self.head_ratio, self.tail_ratio, ranking
        )


def class_anchors(encoder: DualEncoder, kind: str, this: Pass) -> Float[Tensor, "T N D"]:
    """Anchors of either kind from the class texts of a pass."""
    if this.texts is None:
        raise ValueError("alignment needs class texts: encode_images(..., Pass(texts=...))")
    if kind == "paper":
        return transposed_anchors(this.texts.final, encoder.projection)
    norm = encoder.vision_norm
    return inverted_anchors(
        this.texts.tap, encoder.inverse_projection, norm.weight.float(), norm.bias.float()
    )

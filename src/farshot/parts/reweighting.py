"""TIR: reduce the weight of patches that many classes mark, raise that of patches that one class marks.

Source: token re-weighting of attention sinks (arXiv 2605.25799). Shapes: T tasks, B images, L patches, N
classes, D and E widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.model.encoder import Encoder
from farshot.model.tower import Hook, Pass
from farshot.parts.alignment import split_patches, token_count


class TokenReweighting(nn.Module):
    """Multiplies the patches before some vision blocks; it has no parameters.

    Args:
        encoder: reads tokens out.
        blocks: the blocks, counted from 0.
        share: of an image's patches that each class marks.
    """

    def __init__(self, encoder: Encoder, blocks: Sequence[int], share: float) -> None:
        super().__init__()
        self.encoder, self.blocks, self.share = encoder, list(blocks), share

    def places(self) -> dict[str, Hook]:
        """Before each of its blocks; class token and prompt tokens are left unchanged."""
        return {f"vision.{block}.input": self._reweight for block in self.blocks}

    def _reweight(self, tokens: Tensor, _input: Tensor, this: Pass) -> Tensor:
        if this.texts is None:
            raise ValueError("re-weighting needs class texts: forward_images(..., Pass(texts=...))")
        kept, patches, prompts = split_patches(self.encoder, tokens)
        with torch.no_grad():
            seen = self.encoder.vision.read_tokens(patches)
            texts = F.normalize(this.texts.tap.detach(), dim=-1)  # before the last text block
            factors = claim_factors(F.normalize(seen, dim=-1) @ texts.mT.unsqueeze(1), self.share)
        return torch.cat([kept, patches * factors.unsqueeze(-1).to(patches.dtype), prompts], dim=2)


def claim_factors(similarity: Float[Tensor, "*T B L N"], share: float) -> Float[Tensor, "*T B L"]:
    """1 for a patch that no class marks, else 1 - 2 (c - (N + 1) / 2) / (N - 1) for one that c classes mark.

    A class marks the floor(share * L) patches of an image that resemble it most; among equals the first.
    """
    patches, classes = similarity.shape[-2:]
    order = similarity.sort(dim=-2, descending=True, stable=True).indices
    marked = torch.zeros_like(similarity).scatter_(-2, order[..., : token_count(share, patches), :], 1.0)
    claims = marked.sum(-1)
    factors = 1 - 2 * (claims - (classes + 1) / 2) / (classes - 1)
    return torch.where(claims == 0, 1.0, factors)

"""What the mini CLIP learns from: captions chosen, and the losses that compare them with images.

B images, L patches, U texts, G backgrounds, E joint width; all features have unit length.
"""

import re

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softplus

ON = re.compile(r" on (\w+)\.$")


def choose_captions(
    captions: list[tuple[str, ...]], rng: np.random.Generator, plain: float
) -> tuple[list[str], Float[np.ndarray, "B U"]]:
    """Two wordings for each image, repeats removed, and which of them is true of which image."""
    chosen = []
    for wordings in captions:
        half = len(wordings) // 2
        for _ in range(2):
            low, high = (0, half) if rng.random() < plain else (half, len(wordings))
            chosen.append(wordings[int(rng.integers(low, high))])
    texts = list(dict.fromkeys(chosen))
    true = [frozenset(wordings) for wordings in captions]
    return texts, np.array([[text in wordings for text in texts] for wordings in true], np.float32)


def name_grounds(captions: list[tuple[str, ...]]) -> tuple[list[str], Int[np.ndarray, " B"]]:
    """The backgrounds that the captions name, as separate texts, and each image's."""
    found = [next(match[1] for text in wordings if (match := ON.search(text))) for wordings in captions]
    names = list(dict.fromkeys(found))
    return [f"{name}." for name in names], np.array([names.index(name) for name in found])


def contrast(logits: Float[Tensor, "B U"], fits: Float[Tensor, "B U"]) -> Float[Tensor, ""]:
    """Cross-entropy both ways; several texts true of an image, or images of a text, share the target."""
    to_text = -(log_softmax(logits, dim=1) * fits / fits.sum(dim=1, keepdim=True)).sum(dim=1).mean()
    to_image = -(log_softmax(logits, dim=0) * fits / fits.sum(dim=0, keepdim=True)).sum(dim=0).mean()
    return (to_text + to_image) / 2


def patch_loss(
    scale: Float[Tensor, ""],
    patches: Float[Tensor, "B L E"],
    words: Float[Tensor, "U E"],
    fits: Float[Tensor, "B U"],
    grounds: Float[Tensor, "G E"],
    on: Int[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Lets patches share out an image, knowing what its captions say: a noun, and what it is on.

    The quarter of the patches that a text fits best speaks for the image, the half that its background fits
    best for the background; patches nearer to the one than to the other are pushed further that way.
    """
    count = patches.shape[1]
    alike = patches @ words.T
    said = contrast(scale * alike.topk(count // 4, dim=1).values.mean(dim=1), fits)
    ground = patches @ grounds.T
    below = cross_entropy(scale * ground.topk(count // 2, dim=1).values.mean(dim=1), on)
    own = torch.einsum("blu,bu->bl", alike, fits / fits.sum(dim=1, keepdim=True))
    lead = own - ground.gather(2, on[:, None, None].expand(-1, count, 1))[..., 0]
    lead = scale * lead.sort(dim=1, descending=True).values
    split = softplus(-lead[:, : count // 4]).mean() + softplus(lead[:, -(count // 2) :]).mean()
    return said + 0.5 * below + 0.5 * split


def contrast_wordings(logits: Float[Tensor, "U U"], fits: Float[Tensor, "B U"]) -> Float[Tensor, ""]:
    """Cross-entropy from each text to the other texts that are true of an image it is true of."""
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    also = ((fits.T @ fits > 0) & ~itself).to(logits.dtype)
    some = also.sum(dim=1) > 0
    odds = log_softmax(logits.masked_fill(itself, -1e4), dim=1)
    return -((odds * also).sum(dim=1) / also.sum(dim=1).clamp(min=1))[some].mean()

"""Truth-based measures: do the tokens that an operator picks lie where the class is?

NumPy only; nothing here knows a model. B images, L patches, H and G picked tokens.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray


class TokenTruth(NamedTuple):
    """Shares in [0, 1], over all images together."""

    head_on_class: float  # of the head tokens, those on patches that show the class
    class_share: (
        float  # of all patches, those that show the class: what head tokens drawn blindly would reach
    )
    tail_on_background: float  # of the tail tokens, those on background
    background_share: float  # of all patches, background: what tail tokens drawn blindly would reach


def on_class(truth: Int[ndarray, "B ..."]) -> Bool[ndarray, "B L"]:
    """Which patches show the image's noun, row by row: a truth array holds -1 where there is background."""
    truth = np.asarray(truth)
    return (truth >= 0).reshape(len(truth), -1)


def token_truth(
    head: Int[ndarray, "_ H"], tail: Int[ndarray, "_ G"], truth: Int[ndarray, "B 8 8"] | Int[ndarray, "B L"]
) -> TokenTruth:
    """Compares picked tokens with the patch truth.

    Args:
        head: indices of the head tokens of each image, 0 to L - 1, row by row from the upper left; the class
            token does not count.
        tail: indices of the tail tokens.
        truth: `Images.truth`, or the same with the patches in one row.

    Returns:
        shares over all images; nan for a share of no tokens.

    Raises:
        ValueError: where numbers of images differ or an index is no patch.
    """
    shows = on_class(truth)
    shares = []
    for name, picked in (("head", np.asarray(head)), ("tail", np.asarray(tail))):
        if picked.ndim != 2 or len(picked) != len(shows):
            raise ValueError(
                f"{name} has shape {picked.shape}; it needs one row for each of the {len(shows)} images."
            )
        if picked.size and (picked.min() < 0 or picked.max() >= shows.shape[1]):
            raise ValueError(f"{name} holds an index outside 0 to {shows.shape[1] - 1}.")
        hits = np.take_along_axis(shows, picked.astype(np.int64), axis=1)
        shares.append(float(hits.mean()) if hits.size else float("nan"))
    share = float(shows.mean())
    return TokenTruth(shares[0], share, 1 - shares[1], 1 - share)

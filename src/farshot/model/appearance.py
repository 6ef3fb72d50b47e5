"""What a picture looks like without its content: brightness, colours, and how fine its structure is.

Eighteen numbers of the pixels that the encoder sees. An encoder is trained to be indifferent to most of this,
so features alone miss pictures of something else that any eye would tell apart
(farshot.evaluation.familiarity). Shapes: B images, R side of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from farshot.arrays import NDArray
from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder

SCALES = 4
"""Each of half the size of the one before."""

TOLERANCE = (0.06,) * 3 + (0.3,) * (3 + 3 * SCALES)
"""Standard deviation of each number that is not counted as a difference: as much as other light, sharpness or
compression changes it."""

_SIDE = 64  # larger images are first averaged to about this side, at which the tolerances were measured
_LEAST = 1 / 255  # a step of 8 bits: logarithms of less say nothing
_AT_ONCE = 64


def appearance(pixels: UInt8[Tensor, "B R R 3"]) -> Float[Tensor, "B numbers"]:
    """Mean of the brightness and of two differences of colours (red - green, yellow - blue); the logarithm of
    the standard deviation of each; and at every scale the logarithm of how much each changes from pixel to
    pixel."""
    x = pixels.float().movedim(-1, 1).contiguous() / 255
    red, green, blue = F.avg_pool2d(x, max(x.shape[-1] // _SIDE, 1)).unbind(1)
    x = torch.stack(((red + green + blue) / 3, red - green, (red + green) / 2 - blue), dim=1)
    mean = x.mean((2, 3), keepdim=True)
    found = [mean.flatten(1), _log((x - mean).square().mean((2, 3)).sqrt())]
    for scale in range(SCALES):
        if scale and x.shape[-1] >= 4:
            x = F.avg_pool2d(x, 2)
        across, down = x[:, :, :, 1:] - x[:, :, :, :-1], x[:, :, 1:] - x[:, :, :-1]
        found.append(_log((across.abs().mean((2, 3)) + down.abs().mean((2, 3))) / 2))
    return torch.cat(found, dim=1)


def image_appearance(
    encoder: Encoder, table: ImageTable, reading: str = "model"
) -> Float[NDArray[np.float32], "B numbers"]:
    """The numbers of a table's images, of the pixels that the encoder sees.

    Args:
        reading: as of `farshot.model.features.image_features`.
    """
    reading, found = encoder.reading(reading), [np.zeros((0, len(TOLERANCE)), dtype=np.float32)]
    for start in range(0, len(table), _AT_ONCE):
        rows: Sequence[int] = range(start, min(start + _AT_ONCE, len(table)))
        pixels = np.asarray(table.pixels(rows, reading, encoder.size))
        found.append(appearance(torch.from_numpy(pixels)).numpy())
    return np.concatenate(found)


def _log(change: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
    return (change + _LEAST).log()

"""What every domain draws with: pixel coordinates, soft edges, blending, and the patch truth.

n images, h = w = 64 pixels. Pictures under way are float32 planes (n, 3, h, w) in [0, 1]; masks are (n, h, w)
in [0, 1].
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8
from numpy import ndarray

SIDE = 64
PATCH = 8
GRID = SIDE // PATCH
Planes = Float[ndarray, "n 3 h w"]
Mask = Float[ndarray, "n h w"]

_AT = np.arange(SIDE, dtype=np.float32) + np.float32(0.5 - SIDE / 2)
ACROSS = _AT[None, None, :]  # pixels from the centre, to the right
DOWN = _AT[None, :, None]


@dataclass(frozen=True)
class Pose:
    """Where n things are: centre in pixels from the image's, radius in pixels, turn in radians."""

    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    radius: Float[ndarray, " n"]
    turn: Float[ndarray, " n"]
    flip: Float[ndarray, " n"]  # -1 mirrors

    def local(self) -> tuple[Mask, Mask]:
        """Unit coordinates of every pixel about the thing."""
        turn = self.turn.astype(np.float64)
        c = (np.cos(turn) / self.radius).astype(np.float32)[:, None, None]
        s = (np.sin(turn) / self.radius).astype(np.float32)[:, None, None]
        dx = ACROSS - self.x[:, None, None]
        dy = DOWN - self.y[:, None, None]
        return (dx * c + dy * s) * self.flip[:, None, None], dy * c - dx * s

    def rows(self, at: ndarray) -> "Pose":
        return Pose(self.x[at], self.y[at], self.radius[at], self.turn[at], self.flip[at])


def edge(distance: Mask, radius: Float[ndarray, " n"], soft: float = 1.0) -> Mask:
    """A signed distance in units of the radius becomes a mask whose edge is `soft` pixels wide."""
    return np.clip(np.float32(0.5) - distance * (radius / np.float32(soft))[:, None, None], 0, 1)


def blend(planes: Planes, mask: Mask, colour: Float[ndarray, "n 3"]) -> None:
    """Paints a colour through a mask, in place."""
    for c in range(3):
        planes[:, c] += mask * (colour[:, c, None, None] - planes[:, c])


def blend_planes(planes: Planes, mask: Mask, paint: Planes) -> None:
    """Paints a picture through a mask, in place."""
    planes += mask[:, None] * (paint - planes)


def mix(first: Float[ndarray, "n 3"], second: Float[ndarray, "n 3"], share: Mask) -> Planes:
    """Each pixel between two colours."""
    return first[:, :, None, None] + (second - first)[:, :, None, None] * share[:, None]


def to_pixels(planes: Planes) -> UInt8[ndarray, "n h w 3"]:
    return np.ascontiguousarray(
        (np.clip(planes, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1)
    )


def patch_truth(cover: Mask, labels: ndarray, least: float = 0.25) -> Int16[ndarray, "n 8 8"]:
    """The label where the noun covers at least `least` of a patch, else -1; the fullest always counts."""
    share = cover.reshape(len(cover), GRID, PATCH, GRID, PATCH).mean(axis=(2, 4))
    on = share >= least
    flat = share.reshape(len(cover), -1)
    none = ~on.any(axis=(1, 2))
    on.reshape(len(cover), -1)[np.flatnonzero(none), flat[none].argmax(axis=1)] = True
    return np.where(on, labels[:, None, None], -1).astype(np.int16)

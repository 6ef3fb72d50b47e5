"""The networks of `farshot export --student`: narrow residual networks (He et al., Deep Residual Learning
for Image Recognition, 2016), without torchvision.

    small    ResNet-10 of a quarter of the width: a block in each of four stages, 0.3 million weights
    medium   ResNet-18 of half the width: two blocks in each, 2.8 million

Shapes: B images, N classes, R side of an image, C channels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.export.predictor import PixelModel
from farshot.model.encoder import Preprocessing, normalise
from farshot.parts.keyed import torch_generator

STAGES = {"small": (16, 1), "medium": (32, 2)}
"""Channels of the first stage, which double in each, and blocks of a stage."""

_POOLED_FROM = 112  # side of an image from which on it is halved twice before the first stage


class Block(nn.Module):
    """Two 3x3 convolutions and a way past them."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.past = nn.Identity() if stride == 1 and inputs == width else _shortcut(inputs, width, stride)

    def forward(self, x: Float[Tensor, "B C r r"]) -> Float[Tensor, "B D s s"]:
        """Of half the side where the stride is 2."""
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.past(x))


class Student(PixelModel):
    """uint8 pixels (B, R, R, 3) -> probabilities (B, N), float32.

    Args:
        size: a key of STAGES.
        pixels: R.
        classes: N.
        preprocessing: of the teacher, whose normalisation is used.
        seed: of the initial weights.

    Attributes:
        temperature: by which `forward` divides the scores.
    """

    def __init__(self, size: str, pixels: int, classes: int, preprocessing: Preprocessing, seed: int) -> None:
        super().__init__()
        self.mean, self.std, self.temperature = preprocessing.mean, preprocessing.std, 1.0
        width, blocks = STAGES[size]
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced below
            self.stem = nn.Conv2d(3, width, 3, 2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(width)
            self.pool = nn.MaxPool2d(3, 2, padding=1) if pixels >= _POOLED_FROM else nn.Identity()
            self.blocks = nn.Sequential(*(Block(width, width, 1) for _ in range(blocks)))
            for _ in range(3):
                self.blocks.append(Block(width, 2 * width, 2))
                width *= 2
                self.blocks.extend(Block(width, width, 1) for _ in range(1, blocks))
            self.head = nn.Linear(width, classes)
        _initialise(self, seed)

    @property
    def weights(self) -> int:
        """How many it has."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, pixels: UInt8[Tensor, "B R R 3"]) -> Float[Tensor, "B N"]:
        """Probabilities."""
        return (self.logits(pixels) / self.temperature).softmax(-1)

    def logits(self, pixels: UInt8[Tensor, "B R R 3"]) -> Float[Tensor, "B N"]:
        """Class scores."""
        x = F.relu(self.norm(self.stem(normalise(pixels, self.mean, self.std))))
        return self.head(self.blocks(self.pool(x)).mean((2, 3)))


def _shortcut(inputs: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))


@torch.no_grad()
def _initialise(net: nn.Module, seed: int) -> None:
    """Convolutions as He et al. 2015; the head starts at zero, so that all classes are equal."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.normal_(0, math.sqrt(2 / fan), generator=torch_generator("student", seed, name))
        elif isinstance(module, nn.Linear):
            module.weight.zero_()
            module.bias.zero_()

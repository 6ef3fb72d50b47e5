"""Real encoders that the app offers to download: facts of each, and how long it takes on this computer.

Sizes follow from the number of parameters at four bytes each; the exact size is that of the hub's files, and
is shown once a download has begun. Licences are as far as known: what counts is the model's page on the hub.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from farshot.app.texts import Text
from farshot.model.config import VisionConfig
from farshot.model.tower import Pass, VisionTower
from farshot.training.forecast import spoken

_MLP = 4  # times as wide as the tokens, in all of them
TIMED = 4  # pictures, in one block of a ViT-B/16: a fraction of a second
_RUNS, _MOST_SECONDS = 4, 1.0
_SHOWN = 100  # pictures for which a time is given


@dataclass(frozen=True)
class Offer:
    """An encoder.

    Attributes:
        model: as `load_encoder` takes it.
        title: what the page calls it.
        good_for: the pictures that it was trained on, in words.
        licence: what is known of it.
        parameters: in millions, both towers.
        patch, width, depth: of the image tower, which sees 224 x 224 pixels.
    """

    model: str
    title: str
    good_for: str
    licence: str
    parameters: float
    patch: int
    width: int = 768
    depth: int = 12

    @property
    def size(self) -> str:
        """Of the download, in words."""
        megabytes = 4 * self.parameters
        if megabytes > 950:
            return Text("offer.gigabytes", size=f"{megabytes / 1000:.1f}")
        return Text("offer.megabytes", size=f"{megabytes:.0f}")

    @property
    def work(self) -> float:
        """Floating-point operations for one picture."""
        return _work((224 // self.patch) ** 2 + 1, self.width, self.depth)


_OPENAI = Text("offer.code_only")
_B32, _B16, _L14 = 151.3, 149.6, 427.6

OFFERS = (
    Offer(
        "openai/clip-vit-base-patch32",
        "CLIP B/32 (OpenAI)",
        Text("offer.clip_b32"),
        _OPENAI,
        _B32,
        32,
    ),
    Offer(
        "openai/clip-vit-base-patch16",
        "CLIP B/16 (OpenAI)",
        Text("offer.clip_b16"),
        _OPENAI,
        _B16,
        16,
    ),
    Offer(
        "hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "CLIP B/16 (LAION)",
        Text("offer.laion_b16"),
        "MIT",
        _B16,
        16,
    ),
    Offer(
        "openai/clip-vit-large-patch14",
        "CLIP L/14 (OpenAI)",
        Text("offer.clip_l14"),
        _OPENAI,
        _L14,
        14,
        1024,
        24,
    ),
    Offer(
        "google/siglip2-base-patch16-224",
        "SigLIP 2 B/16 (Google)",
        Text("offer.siglip2"),
        "Apache 2.0",
        375.2,
        16,
    ),
    Offer(
        "hf-hub:imageomics/bioclip",
        "BioCLIP B/16",
        Text("offer.bioclip"),
        "MIT",
        _B16,
        16,
    ),
    Offer(
        "hf-hub:imageomics/bioclip-2",
        "BioCLIP 2 L/14",
        Text("offer.bioclip2"),
        "MIT",
        _L14,
        14,
        1024,
        24,
    ),
    Offer(
        "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "BiomedCLIP B/16 (Microsoft)",
        Text("offer.biomed"),
        "MIT",
        195.9,
        16,
    ),
    Offer(
        "hf-hub:wisdomik/QuiltNet-B-32",
        "QuiltNet B/32",
        Text("offer.quilt"),
        "MIT",
        _B32,
        32,
    ),
    Offer(
        "chendelong/RemoteCLIP:RemoteCLIP-ViT-B-32.pt@gelu=exact",
        "RemoteCLIP B/32",
        Text("offer.remote"),
        "Apache 2.0",
        _B32,
        32,
    ),
)


def measured(device: torch.device) -> float:
    """Seconds that a floating-point operation of an image tower takes here, from one block with random
    weights: the best of a few runs, the first of which warms up."""
    config = VisionConfig(768, 1, 12, 768 * _MLP, 512, "gelu", 1e-5, pool="mean")
    draw = torch.Generator().manual_seed(0)
    tensors = {
        name: (0.02 * torch.randn(shape, generator=draw)).to(device)
        for name, shape in config.tensor_shapes().items()
    }
    tower, seconds = VisionTower(config, tensors), list[float]()
    pixels = torch.randn((1, TIMED, 3, config.size, config.size), generator=draw).to(device)
    with torch.no_grad():
        while len(seconds) < _RUNS and (len(seconds) < 2 or sum(seconds) < _MOST_SECONDS):
            begun = time.perf_counter()
            tower(pixels, Pass()).cpu()  # waits for the device
            seconds.append(time.perf_counter() - begun)
    return min(seconds) / (TIMED * _work(config.patches + 1, config.width, config.depth))


def how_long(offer: Offer, per_operation: float) -> str:
    """How long it takes to look at pictures, in words."""
    return Text("offer.how_long", time=spoken(_SHOWN * offer.work * per_operation), n=_SHOWN)


def _work(tokens: int, width: int, depth: int) -> float:
    """Operations of the blocks of a tower: four projections and an MLP, and the attention."""
    return depth * (2 * (4 + 2 * _MLP) * tokens * width**2 + 4 * tokens**2 * width)

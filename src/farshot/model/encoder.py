"""Encoder: a vision tower, a text tower where the checkpoint has one, and how they are fed.

    encoder = load_encoder("hf-hub:imageomics/bioclip")       # farshot.model.find
    encoder.encode_images(pixels)                             # uint8 (B, R, R, 3) -> (B, E)
    encoder.encode_texts(["a photo of a moth."])              # -> (N, E)

It is frozen and has no state that a prediction could change: parts travel in the `Pass`
(farshot.model.tower). Shapes: T tasks, N classes, B images, D width of a tower, E joint width, R side of an
image.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from farshot.arrays import NDArray
from farshot.errors import ModelError
from farshot.images import preprocess
from farshot.images.preprocess import CLIP_MEAN, CLIP_STD
from farshot.model.positions import resize_positions
from farshot.model.tokenizer import Prompts, Tokenizer
from farshot.model.tower import Pass, TextFeatures, TextTower, VisionTower
from farshot.sanitize import short

TowerName = Literal["vision", "text"]
_SERIALS = itertools.count()


@dataclass(frozen=True)
class Preprocessing:
    """How the checkpoint's authors feed images.

    Attributes:
        mean, std: of the pixel normalisation, one per colour.
        reading: how their own program resizes (farshot.images.preprocess).
    """

    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    reading: str = "shortest-bicubic"


@dataclass(frozen=True)
class Origin:
    """Where an encoder comes from.

    Attributes:
        source: the hub name, folder or file, as it was given.
        format: of the checkpoint, in words.
        layout: "transformers" where PEFT and transformers can take its weights back, and as which model type.
        old_fingerprint: the identity of version 0.1, of transformers' CLIPModel weights alone, which saved
            folders and stores of that version hold; None for formats it could not read.
    """

    source: str
    format: str
    layout: str = ""
    old_fingerprint: Callable[[Encoder], str] | None = None


class Encoder:
    """A frozen image-text encoder, or an image encoder alone.

    Args:
        vision: the vision tower.
        text: the text tower; None where the checkpoint has none.
        tokenizer: None where the checkpoint comes without one.
        preprocessing: of images.
        log_scale: logarithm of what multiplies the cosine, as trained.
        logit_bias: what is added to it; None for softmax models.
        origin: where it comes from.
        fingerprint: its identity, where it is known already; the weights may be rounded since.
    """

    def __init__(
        self,
        vision: VisionTower,
        text: TextTower | None,
        tokenizer: Tokenizer | None,
        *,
        preprocessing: Preprocessing,
        log_scale: float,
        origin: Origin,
        logit_bias: float | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.vision, self._text, self._tokenizer = vision, text, tokenizer
        self.preprocessing, self.origin = preprocessing, origin
        self.log_scale, self.logit_bias = log_scale, logit_bias
        self._fingerprint = fingerprint
        self.serial = next(_SERIALS)  # keys what is cached of this object, and of no other

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoder:
        """Return itself: nothing of it ever changes, and scikit-learn's `clone` copies every parameter."""
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled, but no serial of another process, which one of this process may have."""
        self.__dict__.update(state | {"serial": next(_SERIALS)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r}, {self.origin.format})"

    # What it is --------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The hub name, folder or file it was loaded from."""
        return self.origin.source

    @property
    def has_text(self) -> bool:
        """Whether class names can be encoded."""
        return self._text is not None and self._tokenizer is not None

    @property
    def text(self) -> TextTower:
        """The text tower.

        Raises:
            ModelError: there is none.
        """
        if self._text is None:
            raise ModelError(
                f"{self.source} ({self.origin.format}) has no text tower, so class names mean nothing to it; "
                "use a method that needs no text: prototypes, or linear-probe with start=zero."
            )
        return self._text

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ModelError: the checkpoint has none.
        """
        tower = self.text
        if self._tokenizer is None:
            raise ModelError(
                f"{self.source} has no tokenizer for its {tower.config.vocabulary} tokens; copy "
                "tokenizer.json, or vocab.json and merges.txt, into its folder."
            )
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vision.tensors["patch.weight"].device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights and of the towers' activations."""
        return self.vision.tensors["patch.weight"].dtype

    @property
    def size(self) -> int:
        """R, the side of an input image in pixels."""
        return self.vision.config.size

    @property
    def vision_depth(self) -> int:
        """Number of vision blocks."""
        return self.vision.config.depth

    @property
    def text_depth(self) -> int:
        """Number of text blocks."""
        return self.text.config.depth

    @property
    def embed_dim(self) -> int:
        """E, the width of the embeddings."""
        return self.vision.config.output

    @property
    def logit_scale(self) -> float:
        """What multiplies the cosine, as trained."""
        return float(torch.tensor(self.log_scale).exp())

    def width(self, tower: TowerName) -> int:
        """D of "vision" or "text"."""
        return self.tower(tower).config.width

    def tower(self, name: TowerName) -> VisionTower | TextTower:
        """The tower of this name."""
        return self.vision if name == "vision" else self.text

    @cached_property
    def projection(self) -> Float[Tensor, "D E"]:
        """W, the visual projection, float32; the identity where the checkpoint has none."""
        if self.vision.config.projection == "none":
            return torch.eye(self.vision.config.width, device=self.device)
        return self.vision.tensors["projection.weight"].float().mT

    @cached_property
    def projection_bias(self) -> Float[Tensor, " E"] | None:
        """What the visual projection adds, float32."""
        bias = self.vision.tensors.get("projection.bias")
        return None if bias is None else bias.float()

    @cached_property
    def inverse_projection(self) -> Float[Tensor, "E D"]:
        """The Moore-Penrose inverse of W, computed once, since W is frozen.

        In float64 on the CPU, because W is close to singular in some checkpoints and some devices have no
        float64.
        """
        return torch.linalg.pinv(self.projection.cpu().double()).float().to(self.device)

    @property
    def fingerprint(self) -> str:
        """Identity: hash of the weights in float32, both descriptions, the tokenizer and the preprocessing.

        Neither the file format nor the precision it is loaded in is part of it.
        """
        if self._fingerprint is None:
            self._fingerprint = self._hash()
        return self._fingerprint

    def fingerprint_of_version_1(self) -> str | None:
        """The identity that farshot 0.1 computed of the same checkpoint; None where it could not read it."""
        return None if self.origin.old_fingerprint is None else self.origin.old_fingerprint(self)

    def _hash(self) -> str:
        digest = hashlib.sha256()
        about: list[Any] = [self.vision.config.described(), asdict(self.preprocessing)]
        about += [self._text.config.described() if self._text else None, self.log_scale, self.logit_bias]
        about += [self._tokenizer.identity() if self._tokenizer else None]
        digest.update(json.dumps(about, sort_keys=True).encode())
        for tower in (self.vision, self._text):
            for name, tensor in sorted(tower.tensors.items()) if tower else ():
                digest.update(f"{name}{tuple(tensor.shape)}".encode())
                digest.update(tensor.to("cpu", torch.float32).contiguous().numpy().data)
        return digest.hexdigest()[:32]

    # Passes ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_images(self, pixels: UInt8[NDArray[np.uint8], "B R R 3"] | Tensor) -> Float[Tensor, "B E"]:
        """Image embeddings, not normalised, float32, on the encoder's device.

        Args:
            pixels: uint8 (B, R, R, 3), R = `size`.
        """
        given = torch.as_tensor(np.asarray(pixels)) if not isinstance(pixels, Tensor) else pixels
        wanted = (self.size, self.size, 3)
        if given.dtype != torch.uint8 or given.ndim != 4 or tuple(given.shape[1:]) != wanted:
            raise ModelError(
                f"encode_images takes uint8 pixels (B, {self.size}, {self.size}, 3), not {given.dtype} of "
                f"shape {tuple(given.shape)}; farshot.images.preprocess.prepare makes them of any picture."
            )
        return self.forward_images(given[None])[0]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "N E"]:
        """Text embeddings, not normalised, float32, on the encoder's device."""
        if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
            raise ModelError(
                f'encode_texts takes a list of texts, such as ["a photo of a moth."], not {short(texts)}.'
            )
        return self.forward_texts(self.prompts([list(texts)])).final[0]

    def prompts(self, texts: Sequence[Sequence[str]]) -> Prompts:
        """Token ids of the N prompts of each of T tasks."""
        return self.tokenizer(texts).to(self.device)

    def forward_texts(self, prompts: Prompts, this: Pass | None = None) -> TextFeatures:
        """Class text embeddings of T tasks."""
        return self.text(prompts, this or Pass())

    def forward_images(self, pixels: Tensor, this: Pass | None = None) -> Float[Tensor, "T B E"]:
        """Image embeddings of T tasks, not normalised, float32.

        Args:
            pixels: uint8 (T, B, R, R, 3), or floats (T, B, 3, R, R) that are normalised already.
        """
        pixels = pixels.to(self.device)
        if not pixels.is_floating_point():
            pixels = normalise(pixels, self.preprocessing.mean, self.preprocessing.std)
        return self.vision(pixels.to(self.dtype), this or Pass())

    # Variants ----------------------------------------------------------------------------------------

    def reading(self, name: str) -> str:
        """The reading (farshot.images.preprocess) of this name; "model" is that of the checkpoint's own
        program."""
        return self.preprocessing.reading if name == "model" else name

    @property
    def precision(self) -> str:
        """Of the weights: "float32" or "bf16"."""
        return "bf16" if self.dtype == torch.bfloat16 else "float32"

    def from_source(self, name: str) -> Encoder:
        """The same encoder under the name that it is loaded by."""
        other = copy.copy(self)
        other.origin = replace(self.origin, source=name)
        other.serial = next(_SERIALS)
        return other

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Encoder:
        """The same encoder elsewhere or in another precision; its identity stays that of the float32
        weights."""
        kept = self.fingerprint if dtype not in (None, self.dtype) else self._fingerprint
        return self._changed(lambda tower: {k: v.to(device, dtype) for k, v in tower.tensors.items()}, kept)

    def with_tensors(self, changed: Mapping[TowerName, Mapping[str, Tensor]]) -> Encoder:
        """A copy with some tensors replaced; all others are shared."""
        return self._changed(lambda tower: {**tower.tensors, **changed.get(tower.name, {})}, None)  # type: ignore[call-overload]

    def with_vocabulary(self, token: Float[Tensor, "words D"], tokenizer: Tokenizer) -> Encoder:
        """A copy with other word embeddings and the tokenizer that knows them."""
        text = TextTower(
            replace(self.text.config, vocabulary=len(token)), {**self.text.tensors, "token": token}
        )
        copied = self._rebuilt(self.vision, text, None)
        copied._tokenizer = tokenizer
        return copied

    def at_size(self, size: int, fed: int | None = None) -> Encoder:
        """The same encoder for images of another side, its learned positions resized.

        Args:
            fed: the side of images for which `preprocessing` holds; by default that of the positions.

        Raises:
            ModelError: the side is no multiple of the patch.
        """
        config = self.vision.config
        if size < config.patch or size % config.patch:
            raise ModelError(f"The size {size} is no multiple of the patch, {config.patch} pixels.")
        resized, tensors = replace(config, size=size), dict(self.vision.tensors)
        if config.positions and resized.grid != config.grid:
            tensors["position"] = resize_positions(
                tensors["position"], int(config.class_token), resized.grid, antialias=config.antialias
            )
        vision = VisionTower(resized, tensors)
        reading = preprocess.at_size(self.preprocessing.reading, fed or config.size, size)
        other = self._rebuilt(vision, self._text, None)
        other.preprocessing = replace(self.preprocessing, reading=reading)
        return other

    def _changed(
        self, tensors: Callable[[VisionTower | TextTower], Mapping[str, Tensor]], fingerprint: str | None
    ) -> Encoder:
        vision = VisionTower(self.vision.config, tensors(self.vision))
        text = None if self._text is None else TextTower(self._text.config, tensors(self._text))
        return self._rebuilt(vision, text, fingerprint)

    def _rebuilt(self, vision: VisionTower, text: TextTower | None, fingerprint: str | None) -> Encoder:
        return Encoder(
            vision,
            text,
            self._tokenizer,
            preprocessing=self.preprocessing,
            log_scale=self.log_scale,
            logit_bias=self.logit_bias,
            origin=self.origin,
            fingerprint=fingerprint,
        )


def normalise(
    pixels: UInt8[Tensor, "*images R R 3"],
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*images 3 R R"]:
    """(pixel / 255 - mean) / std, colours first."""
    centre = torch.tensor(mean, device=pixels.device)
    spread = torch.tensor(std, device=pixels.device)
    return ((pixels.float() / 255 - centre) / spread).movedim(-1, -3).to(dtype).contiguous()

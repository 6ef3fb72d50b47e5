"""An adapted model as a pure function of pixels, for export.

All that does not depend on the image is computed now: class texts, anchors, LoRA and own weights as part of
the tower. Shapes: B images, N classes, R side of an image, E joint width.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.classifier import FewShotClassifier
from farshot.errors import ModelError
from farshot.evaluation.familiarity import NEAREST, Familiarity
from farshot.methods import Adapted
from farshot.methods.finetuned import FinetunedAdapted, acting
from farshot.methods.frozen import FrozenAdapted
from farshot.model.appearance import appearance
from farshot.model.encoder import Encoder
from farshot.model.tower import Pass
from farshot.parts.alignment import HeadTailAlignment
from farshot.parts.merging import merged
from farshot.training.loop import class_logits


class PixelModel(nn.Module):
    """uint8 pixels (B, R, R, 3) -> probabilities (B, N), float32."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return ("probabilities",)

    def tensors(self) -> Iterable[Tensor]:
        """What takes nearly all of its memory."""
        return self.state_dict().values()


class Predictor(PixelModel, ABC):
    """An adapted model as a function of pixels.

    Args:
        encoder: that classifies.
        frozen: the encoder before it was adapted.
        familiarity: the labelled images; with them also the similarity to them is returned.
    """

    def __init__(
        self, encoder: Encoder, temperature: float, frozen: Encoder, familiarity: Familiarity | None
    ) -> None:
        super().__init__()
        self.encoder, self.temperature, self.frozen = encoder, temperature, frozen
        self.labelled = None if familiarity is None else torch.from_numpy(familiarity.features)
        self.look: tuple[Tensor, Tensor] | None = None
        if familiarity is not None and familiarity.look is not None:
            mean, whiten = familiarity.look.spread
            self.look = torch.from_numpy(mean).float(), torch.from_numpy(familiarity.weight * whiten).float()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Probabilities, and where labelled images are known the similarity."""
        return ("probabilities",) if self.labelled is None else ("probabilities", "similarity")

    def tensors(self) -> Iterable[Tensor]:
        """Those of the vision towers; what both share counts once."""
        encoders = (self.encoder,) if self.labelled is None else (self.encoder, self.frozen)
        return {
            tensor.data_ptr(): tensor for one in encoders for tensor in one.vision.tensors.values()
        }.values()

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Probabilities, and where labelled images are known the similarity to them
        (`Familiarity.scores`), (B,)."""
        if self.labelled is None:
            return (self.logits(pixels) / self.temperature).softmax(-1)
        features = self.features(pixels)
        nearest = (features @ self.labelled.T).topk(min(NEAREST, len(self.labelled)), dim=-1).values
        similarity = nearest.mean(-1)
        if self.look is not None:
            mean, whiten = self.look
            similarity = similarity - ((appearance(pixels) - mean) @ whiten).square().sum(-1).sqrt()
        return (self.logits(pixels, features) / self.temperature).softmax(-1), similarity

    def features(self, pixels: Tensor) -> Tensor:
        """Of the frozen encoder, to compare with those of the labelled images: of length 1, (B, E)."""
        return F.normalize(self.frozen.forward_images(pixels[None])[0], dim=-1)

    @abstractmethod
    def logits(self, pixels: Tensor, features: Tensor | None = None) -> Tensor:
        """Class scores, (B, N).

        Args:
            features: of these pixels, where they are known already.
        """


class FinetunedPredictor(Predictor):
    """An encoder with the merged weights, and the parts that are not weights; with the labelled images also
    the frozen encoder, which shares the weights that were not adapted."""

    def __init__(
        self, adapted: FinetunedAdapted, temperature: float, familiarity: Familiarity | None = None
    ) -> None:
        encoder, left = merged(adapted.encoder, adapted.parts)
        super().__init__(encoder, temperature, adapted.encoder, familiarity)
        self.left = left
        self.texts, self.scale = adapted.texts, adapted.scale
        known = Pass(texts=adapted.texts)
        with torch.no_grad():
            for part in left.values():
                if isinstance(part, HeadTailAlignment):
                    part.anchors(known)
        self.memo = known.memo

    def logits(self, pixels: Tensor, features: Tensor | None = None) -> Tensor:
        """s * cosine(image, text), with the parts that are not weights."""
        this = Pass(acting(self.left), texts=self.texts, memo=dict(self.memo))
        images = self.encoder.forward_images(pixels[None], this)
        return class_logits(images, self.texts.final, self.scale)[0]


class FrozenPredictor(Predictor):
    """A method on the features of the encoder as it is; with the features of the labelled images, also the
    similarity to them (`Familiarity.scores`)."""

    def __init__(
        self, adapted: FrozenAdapted, temperature: float, familiarity: Familiarity | None = None
    ) -> None:
        super().__init__(adapted.encoder, temperature, adapted.encoder, familiarity)
        self.method, self.state = adapted.method, adapted.state
        self.scale = adapted.method.scale_of(adapted.encoder)

    def logits(self, pixels: Tensor, features: Tensor | None = None) -> Tensor:
        """The method's scores."""
        known = self.features(pixels) if features is None else features
        return self.method.scores(known, self.state, self.scale)


def predictor(classifier: FewShotClassifier, p_values: bool = False) -> Predictor:
    """The adapted model as a pure function.

    Args:
        p_values: of a fine-tuned method compute the similarity to the labelled images, too; a method on
            frozen features always does, where they are known.

    Raises:
        ModelError: its predictions are no function of one image's pixels alone, or it is of a kind that is
            not known here; or p-values are asked for and the labelled images are not known.
    """
    adapted, name = classifier.adapted_, classifier.method_.name
    if classifier.method_.kind == "transductive":
        raise ModelError(
            f"{name} classifies all images of a task together, so no file can tell what a single image "
            "shows; adapt with another method to export it."
        )
    if any(isinstance(part, HeadTailAlignment) and part.random for part in parts_of(adapted).values()):
        raise ModelError(
            f"{name} with align=random draws its tokens by a hash of the image's bytes, which ONNX does not "
            "have; it is an ablation: adapt with align=both to export it."
        )
    if isinstance(adapted, FinetunedAdapted):
        familiarity = classifier.require_familiarity() if p_values else None
        return FinetunedPredictor(adapted, classifier.temperature_, familiarity).eval()
    if isinstance(adapted, FrozenAdapted):
        if p_values:
            classifier.require_familiarity()
        return FrozenPredictor(adapted, classifier.temperature_, classifier.familiarity_).eval()
    raise ModelError(
        f"{name} is neither a list of parts on the encoder nor a function of frozen features, so farshot "
        "does not know how to export it; predict with farshot itself."
    )


def parts_of(adapted: Adapted) -> Mapping[str, nn.Module]:
    """What acts in the forward pass; nothing where a method works on frozen features."""
    return adapted.parts if isinstance(adapted, FinetunedAdapted) else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings and log lines of PyTorch's exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

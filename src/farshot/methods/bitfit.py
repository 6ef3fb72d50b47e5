"""bitfit: biases and norms. Ben Zaken et al., BitFit: Simple Parameter-efficient Fine-tuning for
Transformer-based Masked Language-models, ACL 2022.

All biases of both towers are trained, and the weights of their norms. The paper searches the rate between
1e-4 and 1e-3 and tunes a language model; here the highest of its rates, and the steps and views of
prompt-lora, so that the two differ in what is trained.

    farshot adapt images/ --model openai/clip-vit-base-patch16 --method bitfit --shots 5 --out adapted/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farshot.methods.finetuned import Parts
from farshot.methods.registry import register
from farshot.methods.tuning import WeightMethod
from farshot.model.encoder import Encoder
from farshot.parts.lora import TOWERS
from farshot.parts.weights import OwnWeights
from farshot.task import Task


@register
@dataclass(frozen=True)
class BitFit(WeightMethod):
    """Settings of bitfit: those of every method that tunes the model's own weights."""

    name = "bitfit"
    kind = "fine-tuned"
    reference = "Ben Zaken et al. 2022 (arXiv 2106.10199)"
    doc = "biases and norms of both towers, nothing else"
    plain = "adjusts a few numbers in every layer of CLIP, nothing else"

    def parts(self, encoder: Encoder, tasks: Sequence[Task]) -> Parts:
        """Own biases and norms."""
        return {"weights": OwnWeights(encoder, len(tasks), TOWERS)}

"""An adapted model as explanations use it: encoder, parts and class directions.

Shapes: N classes, B images, E joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farshot.data.table import ImageTable
from farshot.errors import SettingError
from farshot.methods.base import Adapted
from farshot.methods.finetuned import FinetunedAdapted, acting, contexts
from farshot.model.encoder import Encoder
from farshot.model.tower import Pass, TextFeatures
from farshot.parts.alignment import HeadTailAlignment
from farshot.parts.merging import merged
from farshot.parts.weights import OwnWeights
from farshot.sanitize import short
from farshot.task import DEFAULT_TEMPLATE

OWN = "the method's own class directions (its texts, or class means)"
PROMPTS = "the prompts of the unadapted model, because the method keeps no direction per class"


@dataclass(frozen=True)
class Subject:
    """An adapted model as explanations use it; it is never changed.

    Attributes:
        adapted: the classifier.
        encoder: its base model.
        directions: one per class in the joint space, not normalised, (N, E).
        origin: where they come from, in words.
        parts: what acts in its forward pass, in order; empty for methods on frozen features.
        texts: class texts for parts that look at them.
    """

    adapted: Adapted
    encoder: Encoder
    directions: Float[Tensor, "N E"]
    origin: str
    parts: Mapping[str, nn.Module] = field(default_factory=dict)
    texts: TextFeatures | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The N names, in the order of the directions."""
        return self.adapted.class_names

    @property
    def alignment(self) -> HeadTailAlignment | None:
        """Its head-tail alignment, where it has one."""
        found = [part for part in self.parts.values() if isinstance(part, HeadTailAlignment)]
        return found[0] if found else None

    @cached_property
    def read_out(self) -> Encoder:
        """The encoder with what was trained of its final norm, pooling and projection."""
        trained = {name: part for name, part in self.parts.items() if isinstance(part, OwnWeights)}
        return merged(self.encoder, trained)[0]

    @torch.no_grad()
    def texts_of(self, class_names: Sequence[str], template: str = DEFAULT_TEMPLATE) -> TextFeatures:
        """Texts of any classes under this model's text tower, T = 1; only those that it was adapted to,
        in their order, where each class has learned a context.

        A learned context takes the place of words before the class name, so with one these words are those of
        the template that the model was adapted with, and the rest is the given template's.

        Raises:
            SettingError: there is no context for these classes, or it would take the place of a part of a
                name.
        """
        learned = contexts(self.parts)
        if any(context.class_specific for context in learned) and tuple(class_names) != self.class_names:
            raise SettingError(
                "This model learned a context for each of its classes, so it has no texts of others; give "
                f"these classes in their order ({short(', '.join(self.class_names))}), or adapt with "
                "class_specific=false."
            )
        if learned and isinstance(self.adapted, FinetunedAdapted):
            words, behind = self.adapted.template.partition("{}")[0], template.partition("{}")[2]
            template = f"{words}{{}}{behind}"
        prompts = [template.replace("{}", name) for name in class_names]
        for context in learned:
            context.check_names(self.encoder, template, prompts)
        return self.encoder.forward_texts(self.encoder.prompts([prompts]), Pass(acting(self.parts)))


def subject(adapted: Adapted, encoder: Encoder, template: str = DEFAULT_TEMPLATE) -> Subject:
    """Split an adapted model into encoder, parts and class directions.

    Args:
        encoder: the base model it was adapted from.
        template: of the prompts that are used if the method keeps no direction per class.
    """
    parts: Mapping[str, nn.Module] = {}
    texts = None
    if isinstance(adapted, FinetunedAdapted):
        parts, texts = adapted.parts, adapted.texts
    directions = adapted.class_directions()
    origin = OWN if directions is not None else PROMPTS
    if directions is None:
        bare = Subject(adapted, encoder, torch.zeros(0, 0), PROMPTS)
        directions = bare.texts_of(adapted.class_names, template).final[0]
    return Subject(adapted, encoder, directions.detach().to(encoder.device), origin, parts, texts)


@dataclass(frozen=True)
class Domain:
    """Images of one kind, and how the classes that they show are called.

    Attributes:
        name: in legends.
        table: the images.
        class_names: for prompts.
        template: the prompt.
    """

    name: str
    table: ImageTable
    class_names: tuple[str, ...]
    template: str = DEFAULT_TEMPLATE

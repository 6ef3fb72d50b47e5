"""One labelled picture, as the formats of other tools give and take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Labelled:
    """A picture with at most one label.

    Attributes:
        image: path or URL as written.
        label: None where it has none.
        score: of a model's label; None where it is not calibrated or a person gave the label.
        by: who gave the label.
        split: as the format calls it.
        group: what the picture shows a part of.
    """

    image: str
    label: str | None
    score: float | None = None
    by: Literal["person", "model"] = "person"
    split: str | None = None
    group: str | None = None

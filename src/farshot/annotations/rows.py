"""One labelled picture, as the formats of other tools give and take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Labelled:
    """A picture with its label.

    Attributes:
        image: path or URL, as written.
        label: None where there is none.
        score: probability of the label; None where it is not calibrated or a person gave the label.
        by: who gave the label.
        split: such as "train".
        group: of pictures that belong together.
    """

    image: str
    label: str | None
    score: float | None = None
    by: Literal["person", "model"] = "person"
    split: str | None = None
    group: str | None = None

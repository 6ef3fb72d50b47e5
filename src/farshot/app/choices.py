"""What the page offers to choose from, in words."""

from __future__ import annotations

from dataclasses import replace

from farshot.app.texts import decimal, text
from farshot.app.workspace.picture import Setup
from farshot.methods.base import Method
from farshot.methods.catalogue import FAST, THOROUGH
from farshot.training.forecast import spoken

LATER = "decide later"
OTHER = "other"
"""The way of training where method and settings are chosen one by one."""

KINDS = {"features": "train.kind_features", "fine-tuned": "train.kind_fine_tuned"}
"""What each kind of method is like, as the catalogue has it; of other kinds none is offered."""

_WAYS = {FAST: "train.about_fast", THOROUGH: "train.about_thorough", OTHER: "train.about_other"}


def ways(seconds: float | None = None) -> list[tuple[str, str]]:
    """The ways of training, as shown and by name.

    Args:
        seconds: that the thorough one takes with these pictures on this computer; None while it is not known.
    """
    thorough = (
        text("train.thorough")
        if seconds is None
        else text("train.thorough_time", time=decimal(spoken(seconds)))
    )
    return [(text("train.fast"), FAST), (thorough, THOROUGH), (text("train.other"), OTHER)]


def way_of(choice: Setup) -> str:
    """The way of training that is chosen."""
    if choice.method == THOROUGH and choice.quick:
        return OTHER
    return choice.method if choice.method in (FAST, THOROUGH) else OTHER


def about_way(way: str) -> str:
    """A sentence about a way of training."""
    return text(_WAYS[way])


def by_way(choice: Setup, way: str) -> Setup:
    """What a way of training makes of what is set under Advanced."""
    return choice if way == OTHER else replace(choice, method=way, quick=False)


def about_method(method: type[Method]) -> str:
    """A sentence about a method, in English as methods describe themselves, and one on its duration."""
    words = method.plain or method.doc
    return f"{words[0].upper()}{words[1:].rstrip('.')}. {text(KINDS[method.kind])}"

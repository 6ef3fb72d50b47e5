"""What the page offers to choose from, in words."""

from __future__ import annotations

from dataclasses import replace

from farshot.app.workspace.picture import Setup
from farshot.methods.base import Method
from farshot.methods.catalogue import FAST, THOROUGH
from farshot.training.forecast import spoken

LATER = "decide later"
OTHER = "other"
"""The way of training where method and settings are chosen one by one."""

KINDS = {
    "features": "It looks at what CLIP sees already: done in seconds.",
    "fine-tuned": "It trains inside CLIP: seconds with the bundled model, minutes with a real one on a "
    "graphics card, much longer without.",
}
"""What each kind of method is like; of other kinds none is offered."""

_WAYS = {
    FAST: "Learns from what the model sees already. A good start, and often as good.",
    THOROUGH: "Also changes what the model looks at. It can be better; Check shows whether it was.",
    OTHER: "With the method and settings that are chosen under Advanced.",
}


def ways(seconds: float | None = None) -> list[tuple[str, str]]:
    """The ways of training, as shown and by name.

    Args:
        seconds: that the thorough one takes with these pictures on this computer; None while it is not known.
    """
    how_long = "" if seconds is None else f" (about {spoken(seconds)})"
    return [("Fast", FAST), (f"Thorough{how_long}", THOROUGH), ("As set under Advanced", OTHER)]


def way_of(choice: Setup) -> str:
    """The way of training that is chosen."""
    if choice.method == THOROUGH and choice.quick:
        return OTHER
    return choice.method if choice.method in (FAST, THOROUGH) else OTHER


def about_way(way: str) -> str:
    """A sentence about a way of training."""
    return _WAYS[way]


def by_way(choice: Setup, way: str) -> Setup:
    """What a way of training makes of what is set under Advanced."""
    return choice if way == OTHER else replace(choice, method=way, quick=False)


def about_method(method: type[Method]) -> str:
    """A sentence about a method and its duration."""
    words = method.plain or method.doc
    return f"{words[0].upper()}{words[1:].rstrip('.')}. {KINDS[method.kind]}"

"""What the page offers to choose from, in words."""

from __future__ import annotations

from farshot.methods.base import Method

LATER = "decide later"
WANTED = {
    f"unless {share} of its answers are right": wanted
    for share, wanted in (("4 of 5", 0.8), ("2 of 3", 2 / 3), ("9 of 10", 0.9), ("19 of 20", 0.95))
}
"""The limits to choose from, as `Setup.wanted`."""

KINDS = {
    "features": "It looks at what CLIP sees already: done in seconds.",
    "fine-tuned": "It trains inside CLIP: seconds with the bundled model, minutes with a real one on a "
    "graphics card, much longer without.",
}
"""What each kind of method is like; of other kinds none is offered."""


def about_method(method: type[Method]) -> str:
    """A sentence about a method and its duration."""
    words = method.plain or method.doc
    return f"{words[0].upper()}{words[1:].rstrip('.')}. {KINDS[method.kind]}"

"""Which encoder and method to use for these images: `farshot choose`."""

from farshot.choose.selection import (
    METHODS,
    Candidate,
    Comparison,
    Selection,
    choose,
    compare_two,
    corrected_estimate,
    select,
)

__all__ = [
    "METHODS",
    "Candidate",
    "Comparison",
    "Selection",
    "choose",
    "compare_two",
    "corrected_estimate",
    "select",
]

"""Which encoder and method to use for these images: `farshot choose`."""

from farshot.choose.selection import METHODS, Candidate, Selection, choose, corrected_estimate, select

__all__ = ["METHODS", "Candidate", "Selection", "choose", "corrected_estimate", "select"]

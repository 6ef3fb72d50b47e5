"""Balance the chosen images over the classes that the unadapted encoder predicts.

Shapes: B images, N classes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from farshot.arrays import NDArray
from farshot.pick.rules import Candidates, Rows, Rule


def balanced(
    seen: Candidates, guess: Int[NDArray[np.int64], " B"], classes: int, shots: int, rule: Rule
) -> tuple[Rows, int]:
    """K images of each guessed class by the rule, the first of every class first; where too few are guessed,
    the rule fills up from all others. And how many were balanced, before those that fill up."""
    ranked = []
    for c in range(classes):
        members = np.flatnonzero(guess == c)
        if not len(members):
            continue
        own = Candidates(seen.features[members], seen.labelled, seed=seen.seed)
        ranked.append(members[rule(own, min(shots, len(members)))])
    chosen = np.array([of[k] for k in range(shots) for of in ranked if k < len(of)], dtype=np.int64)
    missing = min(classes * shots, len(guess)) - len(chosen)
    if missing:
        rest = np.setdiff1d(np.arange(len(guess)), chosen)
        known = np.concatenate([seen.labelled, seen.features[chosen]])
        others = Candidates(seen.features[rest], known, seed=seen.seed)
        return np.concatenate([chosen, rest[rule(others, missing)]]), len(chosen)
    return chosen, len(chosen)

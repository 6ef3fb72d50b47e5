"""What every trainable part has in common: a leading task dimension on all it keeps."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def one_task(part: M, t: int) -> M:
    """The part with the values of task t alone, T = 1, frozen; the original is left as it is."""
    alone = copy.copy(part)
    alone._parameters = {
        name: None if value is None else nn.Parameter(value[t : t + 1].detach().clone(), requires_grad=False)
        for name, value in part._parameters.items()
    }
    alone._buffers = {
        name: None if value is None else value[t : t + 1].clone() for name, value in part._buffers.items()
    }
    alone._modules = {
        name: None if child is None else one_task(child, t) for name, child in part._modules.items()
    }
    return alone

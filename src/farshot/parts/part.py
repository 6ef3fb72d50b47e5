"""The leading task dimension that all trainable parts have."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def one_task(part: M, t: int) -> M:
    """Return a frozen copy of the part with the values of task t only, T = 1."""
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

"""The bridge of VtT: from the class tokens of all vision layers and the class texts of all text layers to one
vector per image, by one selective state-space block.

Source: Reclaiming Lost Text Layers (VtT, arXiv 2603.05235); Gu and Dao, Mamba (2023), for the block. Shapes:
T tasks, B images, P = 2 L + 1 tokens of L layers, E joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from farshot.parts.keyed import torch_generator
from farshot.parts.selective_scan import selective_scan

Fill = Callable[[Tensor, torch.Generator], Tensor]
"""Draws the values of a tensor in place."""

_KERNEL, _EPS, _SLOPE = 4, 1e-5, 0.1
_FASTEST, _SLOWEST = 0.001, 0.1  # time steps of the block at its start


class Bridge(nn.Module):
    """One vector per image from its tokens; each task has its own weights.

    Args:
        keys: one number per task, which its initial values follow.
        width: E.
        places: P. They lie row by row on a square grid; of a number that is no square the last row is
            shorter.
        state, rank: of the state-space block.
    """

    def __init__(
        self, keys: Sequence[int], width: int, places: int, *, state: int = 256, rank: int = 256
    ) -> None:
        super().__init__()
        self.state, self.rank = state, rank
        columns = math.ceil(math.sqrt(places))
        by_column = sorted(range(places), key=lambda place: (place % columns, place // columns))
        orders = torch.tensor([list(range(places)), by_column])
        self.orders = torch.cat([orders, orders.flip(1)])  # (4, P)
        self._keys, hidden = list(keys), 2 * width
        self.mean = self._uniform("mean", (width, width), width)
        self.widen = self._uniform("widen", (hidden, width), width)
        self.widen_bias = self._uniform("widen bias", (hidden,), width)
        self.gain = nn.Parameter(torch.ones(len(keys), places, hidden))
        self.shift = nn.Parameter(torch.zeros(len(keys), places, hidden))
        self.narrow = self._uniform("narrow", (width, hidden), hidden)
        self.position = self._drawn(
            "position", (places, width), lambda x, g: x.normal_(std=0.02, generator=g)
        )
        self.enter = self._uniform("enter", (2 * width, width), width)
        self.kernel = self._uniform("kernel", (width, _KERNEL), _KERNEL)
        self.kernel_bias = self._uniform("kernel bias", (width,), _KERNEL)
        self.select = self._uniform("select", (rank + 2 * state, width), width)
        self.time = self._uniform("time", (width, rank), rank)
        log_times = self._drawn(
            "time bias",
            (width,),
            lambda x, g: x.uniform_(math.log(_FASTEST), math.log(_SLOWEST), generator=g),
        )
        times = log_times.detach().exp()
        self.time_bias = nn.Parameter(times + torch.log(-torch.expm1(-times)))  # softplus gives `times`
        decay = torch.arange(1, state + 1).float().log()
        self.log_decay = nn.Parameter(decay.expand(len(keys), width, state).clone())
        self.skip = nn.Parameter(torch.ones(len(keys), width))
        self.leave = self._uniform("leave", (width, width), width)

    def forward(self, tokens: Float[Tensor, "T B P E"]) -> Float[Tensor, "T B E"]:
        """The vector of every image."""
        hidden = _linear(tokens, self.widen, self.widen_bias)
        hidden = F.layer_norm(hidden, hidden.shape[-2:], eps=_EPS)  # over all places of an image
        hidden = hidden * self.gain[:, None] + self.shift[:, None]
        placed = _linear(F.leaky_relu(hidden, _SLOPE), self.narrow) + self.position[:, None]
        out = _linear(tokens.mean(2), self.mean)
        for order in self.orders:
            out = out + self._block(placed[:, :, order]).mean(2)
        return out

    def _block(self, x: Float[Tensor, "T B P E"]) -> Float[Tensor, "T B P E"]:
        """Mamba: a selective scan of the places in this order."""
        u, gate = _linear(x, self.enter).chunk(2, dim=-1)
        before = F.pad(u, (0, 0, _KERNEL - 1, 0))
        taps = [before[:, :, k : k + x.shape[2]] * self.kernel[:, None, None, :, k] for k in range(_KERNEL)]
        u = F.silu(torch.stack(taps).sum(0) + self.kernel_bias[:, None, None])
        rate, write, read = _linear(u, self.select).split([self.rank, self.state, self.state], dim=-1)
        delta = F.softplus(_linear(rate, self.time, self.time_bias))  # (T, B, P, E)
        decay = -self.log_decay.exp()  # (T, E, state)
        y = selective_scan(delta, u, decay, write, read) + self.skip[:, None, None] * u
        return _linear(y * F.silu(gate), self.leave)

    def _uniform(self, name: str, shape: tuple[int, ...], inputs: int) -> nn.Parameter:
        bound = 1 / math.sqrt(inputs)
        return self._drawn(name, shape, lambda x, g: x.uniform_(-bound, bound, generator=g))

    def _drawn(self, name: str, shape: tuple[int, ...], fill: Fill) -> nn.Parameter:
        drawn = [fill(torch.empty(shape), torch_generator("bridge", key, name)) for key in self._keys]
        return nn.Parameter(torch.stack(drawn))


def _linear(
    x: Float[Tensor, "T *B i"], weight: Float[Tensor, "T o i"], bias: Float[Tensor, "T o"] | None = None
) -> Float[Tensor, "T *B o"]:
    """A linear layer of every task."""
    out = torch.bmm(x.flatten(1, -2), weight.mT).view(*x.shape[:-1], weight.shape[1])
    return out if bias is None else out + bias.view(len(bias), *[1] * (out.ndim - 2), -1)

"""The selective scan of a state-space block, with gradients that are written out.

    h_i = exp(delta_i A) h_(i-1) + delta_i u_i B_i        y_i = h_i C_i

Automatic differentiation keeps about ten tensors as large as the state for each place and passes over them
one by one; written out, the gradients take a third of the time, and states live only while one scan passes
back. Source: Gu and Dao, Mamba (2023). Shapes: T tasks, B images, P places, E channels, S states of each.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def selective_scan(
    delta: Float[Tensor, "T B P E"],
    u: Float[Tensor, "T B P E"],
    decay: Float[Tensor, "T E S"],
    write: Float[Tensor, "T B P S"],
    read: Float[Tensor, "T B P S"],
) -> Float[Tensor, "T B P E"]:
    """y of all places.

    Args:
        delta: time step of every place and channel.
        u: input.
        decay: A.
        write: B, which writes the input into the states.
        read: C, which reads the output from them.
    """
    out: Tensor = _Scan.apply(delta, u, decay, write, read)
    return out


class _Scan(torch.autograd.Function):
    """Keeps the inputs; states are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, u: Tensor, decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
        ctx.save_for_backward(delta, u, decay, write, read)
        inflow, state, seen = delta * u, None, []
        for i in range(delta.shape[2]):
            state, _ = _advance(state, delta, inflow, decay, write, i)
            seen.append((state @ read[:, :, i, :, None]).squeeze(-1))
        return torch.stack(seen, dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (grad,) = gradients
        delta, u, decay, write, read = ctx.saved_tensors
        inflow = delta * u
        states: list[Tensor] = []
        kept: list[Tensor | None] = []
        for i in range(delta.shape[2]):
            state, share = _advance(states[-1] if states else None, delta, inflow, decay, write, i)
            states.append(state)
            kept.append(share)
        of_inflow, of_delta, of_decay, of_write, of_read = (
            torch.zeros_like(x) for x in (inflow, delta, decay, write, read)
        )
        of_state = torch.zeros_like(states[0])
        for i in reversed(range(delta.shape[2])):
            of_state.addcmul_(grad[:, :, i, :, None], read[:, :, i, None])
            of_read[:, :, i] = (grad[:, :, i, None] @ states[i]).squeeze(-2)
            of_inflow[:, :, i] = (of_state @ write[:, :, i, :, None]).squeeze(-1)
            of_write[:, :, i] = (inflow[:, :, i, None] @ of_state).squeeze(-2)
            share = kept[i]
            if share is not None:  # there is a place before this one
                of_state *= share
                of_exponent = torch.mul(states[i - 1], of_state, out=share)
                of_decay += torch.einsum("tbe,tbes->tes", delta[:, :, i], of_exponent)
                of_delta[:, :, i] = (of_exponent * decay[:, None]).sum(-1)
        return of_delta + of_inflow * u, of_inflow * delta, of_decay, of_write, of_read


def _advance(
    state: Tensor | None, delta: Tensor, inflow: Tensor, decay: Tensor, write: Tensor, place: int
) -> tuple[Float[Tensor, "T B E S"], Float[Tensor, "T B E S"] | None]:
    """The state behind a place, and the share of the one before that is kept in it."""
    added, into = inflow[:, :, place, :, None], write[:, :, place, None]
    if state is None:
        return added * into, None
    share = (delta[:, :, place, :, None] * decay[:, None]).exp_()
    return (share * state).addcmul_(added, into), share

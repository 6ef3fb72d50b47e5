"""What a frozen block computes in another way than transformers: same values, same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from farshot.model.attention import activate, attend, explicit_attention

SCALE = 16**-0.5


def _draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _with_gradients(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    out = function(*leaves)
    out.backward(_draw(*out.shape, seed=9).to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("asking", [1, 7])
def test_attention_written_out_is_attention(asking: int):
    q, k, v = _draw(2, 3, asking, 16, seed=0), _draw(2, 3, 7, 16, seed=1), _draw(2, 3, 7, 16, seed=2)
    ours = _with_gradients(lambda *x: explicit_attention(*x, SCALE), q, k, v)
    theirs = _with_gradients(lambda *x: nn.functional.scaled_dot_product_attention(*x, scale=SCALE), q, k, v)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_half_precision_rounds_at_most_twice_as_much_as_pytorchs_attention():
    q, k, v = (3 * _draw(2, 3, 50, 16, seed=seed) for seed in range(3))
    exact = _with_gradients(lambda *x: explicit_attention(*x, SCALE), q, k, v)
    half = [x.bfloat16() for x in (q, k, v)]
    ours = _with_gradients(lambda *x: attend(*x, SCALE), *half)
    theirs = _with_gradients(lambda *x: nn.functional.scaled_dot_product_attention(*x, scale=SCALE), *half)
    for want, a, b in zip(exact, ours, theirs, strict=True):
        assert (a - want).abs().mean() < 2 * (b - want).abs().mean()


def test_causal_attention_does_not_look_ahead():
    q, k, v = (_draw(1, 1, 5, 16, seed=seed).bfloat16() for seed in range(3))
    later = k.clone()
    later[..., -1, :] += 1
    before, after = (attend(q, keys, v, SCALE, causal=True) for keys in (k, later))
    assert torch.equal(before[..., :-1, :], after[..., :-1, :])


def test_quick_gelu_is_transformers_own():
    x = 4 * _draw(2, 3, 5, 8, seed=0)
    ours, theirs = (
        _with_gradients(f, x) for f in (lambda x: activate(x, "quick_gelu"), ACT2FN["quick_gelu"])
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("gelu", "gelu"), ("gelu_tanh", "gelu_pytorch_tanh"), ("silu", "silu")]
)
def test_other_activations_are_transformers_own(ours, theirs):
    x = _draw(1, 1, 2, 8, seed=0)
    torch.testing.assert_close(activate(x, ours), ACT2FN[theirs](x), rtol=1e-12, atol=1e-12)


def test_masked_keys_are_not_seen():
    q, k, v = (_draw(2, 1, 5, 16, seed=seed) for seed in range(3))
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    changed = k.clone()
    changed[1, :, 3:] += 9
    before, after = (attend(q, keys, v, SCALE, mask=mask) for keys in (k, changed))
    assert torch.equal(before, after)
    torch.testing.assert_close(before[1:], attend(q[1:], k[1:, :, :3], v[1:, :, :3], SCALE))

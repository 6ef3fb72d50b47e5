"""What our speed is measured against does the same work: its losses are ours."""

from __future__ import annotations

import pytest
import torch
from benchmarks.speed.models import random_tasks
from benchmarks.speed.plain_loop import PlainLoop
from benchmarks.speed.products import Notes

from farshot.methods import create
from farshot.model.encoder import Encoder

SETTINGS = {"variant": "released", "views": "none", "steps": 4, "lora_dropout": 0.0}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT and transformers
def test_the_obvious_loop_learns_what_ours_learns(mini: Encoder):
    """From equal initial values, without dropout, which the two draw differently; within 1e-5 in float32."""
    (task,) = random_tasks(mini, 1, 1)
    loop, method = PlainLoop(mini, task, dropout=0.0), create("atha", SETTINGS)
    theirs = dict(loop.peft.named_parameters())
    with torch.no_grad():
        for name, down in method.parts(mini, [task])["lora"].down.items():
            tower, block, projection = name.split("_")
            place = f"{tower}_model.encoder.layers.{block}.self_attn.{projection}_proj.lora_A.default.weight"
            theirs[f"base_model.model.{place}"].copy_(down[0])
    (ours,) = method.adapt(mini, [task])
    losses = [loop.step() for _ in range(SETTINGS["steps"])]
    assert losses[-1] < losses[0]
    torch.testing.assert_close(torch.tensor(losses).double(), torch.as_tensor(ours.losses), rtol=1e-5, atol=0)


def test_products_are_counted_both_ways():
    """x W with gradients to both: three products of 2 * 4 * 3 * 5 operations; attention as four and four."""
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    with Notes() as notes:
        (x @ w).sum().backward()
    assert [product.flop for product in notes.products] == [120, 120, 120]
    q = torch.randn(2, 3, 4, 8, requires_grad=True)
    with Notes() as notes:
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    assert sum(product.flop for product in notes.products) == (2 + 4) * 2 * 6 * 4 * 4 * 8

"""LoRA with a leading task dimension: its formula, its start, its dropout, where it acts."""

import math
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot.model.encoder import Encoder
from farshot.model.tower import Pass
from farshot.parts.lora import PROJECTIONS, LoRA, Position, blocks_at
from farshot.parts.part import one_task
from tests.oracle import planes, transformers_clip
from tests.toy import world_table

TABLE = world_table(count=30)
PROMPTS = [["a photo of a mole.", "a photo of a long and winding road."]]


def pixels(rows: list[int]) -> torch.Tensor:
    return torch.from_numpy(TABLE.pixels(rows, "squash", 64))


def grown(encoder: Encoder, keys: list[int], std: float = 0.02, **settings) -> LoRA:
    """A LoRA far from its start; the values of a task follow its key."""
    lora = LoRA(encoder, keys, **({"rank": 4, "alpha": 8} | settings))
    with torch.no_grad():
        for place, up in lora.up.items():
            for t, key in enumerate(keys):
                seed = torch.Generator().manual_seed(1000 * key + sum(map(ord, place)))
                up[t] = std * torch.randn(up[t].shape, generator=seed)
    return lora


@torch.no_grad()
@pytest.mark.parametrize("projections", [PROJECTIONS, ("q", "out")])
def test_it_is_the_base_model_with_a_product_added_to_the_weights(mini: Encoder, projections):
    """Merged into a copy of the model, W + alpha / sqrt(rank) * B A, and run by transformers alone."""
    lora = grown(mini, [1, 2], projections=projections)
    images, prompts = pixels([0, 1, 2]), mini.prompts(PROMPTS * 2)
    seen = mini.forward_images(images.expand(2, -1, -1, -1, -1), Pass([lora]))
    told = mini.forward_texts(prompts, Pass([lora])).final
    for t in range(2):
        merged = transformers_clip(mini)
        for name in lora.down:
            tower, block, projection = name.split("_")
            layer = getattr(merged, f"{tower}_model").encoder.layers[int(block)].self_attn
            weight = getattr(layer, f"{projection}_proj").weight
            weight += 8 / math.sqrt(4) * lora.up[name][t] @ lora.down[name][t]
        expected = merged.visual_projection(merged.vision_model(planes(mini, images)).pooler_output)
        torch.testing.assert_close(seen[t], expected, rtol=1e-3, atol=1e-3)
        texts = merged.text_projection(merged.text_model(input_ids=prompts.ids[t]).pooler_output)
        torch.testing.assert_close(told[t], texts, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(seen[0], seen[1], atol=0.05)


@torch.no_grad()
def test_it_starts_as_the_base_model(mini: Encoder):
    lora = LoRA(mini, [3], rank=16, alpha=8, dropout=0.25)
    images, prompts = pixels([0, 1])[None], mini.prompts(PROMPTS)
    training = Pass([lora], step=0, samples=torch.arange(2)[None])
    before = mini.forward_images(images), mini.forward_texts(prompts).final
    assert torch.equal(mini.forward_images(images, training), before[0])
    assert torch.equal(
        mini.forward_texts(prompts, Pass([lora], step=0, samples=torch.arange(2)[None])).final, before[1]
    )


def test_initial_values_follow_the_task_alone_and_are_kaiming_uniform(mini: Encoder):
    pair, single = LoRA(mini, [4, 9], rank=16, alpha=8), LoRA(mini, [9], rank=16, alpha=8)
    for name, down in pair.down.items():
        assert torch.equal(down[1], single.down[name][0])
        assert not torch.equal(down[0], down[1])
        bound = 1 / math.sqrt(down.shape[-1])  # a = sqrt(5): sqrt(6 / (1 + 5) / fan in)
        assert 0.98 * bound < down.abs().max() <= bound
    assert len({tuple(down[0, 0, :2].tolist()) for down in pair.down.values()}) == len(pair.down)
    assert all(not up.any() for up in pair.up.values())


def test_it_acts_where_it_is_asked_to(mini: Encoder):
    everywhere = LoRA(mini, [1], rank=2, alpha=2)
    assert len(everywhere.places()) == 3 * (mini.vision_depth + mini.text_depth)
    some = LoRA(mini, [1], rank=2, alpha=2, towers=("vision",), projections=("q", "v"))
    assert set(some.places()) == {f"vision.{block}.{name}" for block in range(12) for name in "qv"}
    last = LoRA(mini, [1], rank=2, alpha=2, towers=("text",), projections=("out",), position="top2")
    depth = mini.text_depth
    assert set(last.places()) == {f"text.{depth - 2}.out", f"text.{depth - 1}.out"}


def test_positions_are_those_of_the_authors_program():
    """loralib/utils.py of CLIP-LoRA, for 12 blocks."""
    theirs = {
        "top1": [11],
        "top2": [10, 11],
        "top3": [9, 10, 11],
        "bottom": [0, 1, 2, 3],
        "mid": [4, 5, 6, 7],
        "up": [8, 9, 10, 11],
        "half-up": [6, 7, 8, 9, 10, 11],
        "half-bottom": [0, 1, 2, 3, 4, 5],
        "all": list(range(12)),
    }
    assert {name: list(blocks_at(name, 12)) for name in theirs} == theirs
    assert set(theirs) == set(get_args(Position))


@torch.no_grad()
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_of_one_tower_the_other_is_left_alone(mini: Encoder, tower):
    images, prompts = pixels([0])[None], mini.prompts(PROMPTS)
    before = mini.forward_images(images), mini.forward_texts(prompts).final
    after = (
        mini.forward_images(images, Pass([grown(mini, [1], towers=(tower,))])),
        mini.forward_texts(prompts, Pass([grown(mini, [1], towers=(tower,))])).final,
    )
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [tower == "text", tower == "vision"]


@torch.no_grad()
def test_one_task_is_cut_out_without_the_others(mini: Encoder):
    lora = grown(mini, [5, 6, 7])
    images = pixels([0, 1])
    together = mini.forward_images(images.expand(3, -1, -1, -1, -1), Pass([lora]))[2]
    torch.testing.assert_close(
        mini.forward_images(images[None], Pass([one_task(lora, 2)]))[0], together, rtol=1e-4, atol=1e-4
    )
    assert lora.down["vision_0_q"].shape[0] == 3


# Dropout ---------------------------------------------------------------------------------------------


@torch.no_grad()
def dropped(encoder: Encoder, keys: list[int], rows: list[int], step: int | None) -> torch.Tensor:
    """Images under a LoRA with dropout, (T, rows, E)."""
    this = Pass([grown(encoder, keys, dropout=0.25)], step=step, samples=torch.tensor([rows] * len(keys)))
    return encoder.forward_images(pixels(rows).expand(len(keys), -1, -1, -1, -1), this)


def test_dropout_follows_task_step_and_sample_whatever_their_companions(mini: Encoder):
    alone = dropped(mini, [5], [1], 0)[0, 0]
    torch.testing.assert_close(dropped(mini, [4, 5], [0, 1, 2], 0)[1, 1], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(dropped(mini, [5], [1], 1)[0, 0], alone, atol=1e-3)
    assert not torch.allclose(dropped(mini, [6], [1], 0)[0, 0], alone, atol=1e-3)


def test_nothing_is_dropped_at_prediction(mini: Encoder):
    with torch.no_grad():
        expected = mini.forward_images(pixels([1])[None], Pass([grown(mini, [5])]))
    assert torch.equal(dropped(mini, [5], [1], None), expected)


@torch.no_grad()
def test_dropout_of_a_prompt_does_not_depend_on_longer_companions(mini: Encoder):
    def text(prompts: list[str], classes: list[int]) -> torch.Tensor:
        this = Pass([grown(mini, [5], dropout=0.25)], step=2, samples=torch.tensor([classes]))
        return mini.forward_texts(mini.prompts([prompts]), this).final[0, -1]

    alone = text(["a mole"], [1])
    together = text(["a photo of a very long and winding road", "a mole"], [0, 1])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_dropout_zeroes_the_share_asked_for_and_keeps_the_mean(mini: Encoder):
    names = (*PROJECTIONS, "out")
    lora = LoRA(mini, [1], rank=128, alpha=2, dropout=0.25, projections=names)
    this = Pass(step=0, samples=torch.arange(4)[None])
    images, masks = torch.ones(1, 4, 65, 128), []
    for name in names:  # with A = B = 1 the product is what is left of the input
        lora.down[f"vision_0_{name}"].copy_(torch.eye(128)[None])
        lora.up[f"vision_0_{name}"].copy_(torch.eye(128)[None])
        left = lora.places()[f"vision.0.{name}"](torch.zeros_like(images), images, this)
        assert float(left.max()) == pytest.approx(lora.scale / 0.75)
        masks.append(left / left.max())
    for mask in masks:
        # 33,280 draws: three standard deviations are 0.007
        assert abs(float((mask == 0).float().mean()) - 0.25) < 0.01
        assert set(mask.unique().tolist()) == {0.0, 1.0}
    for i, j in combinations(range(4), 2):  # independently of each other
        both = float(((masks[i] == 0) & (masks[j] == 0)).float().mean())
        assert abs(both - 0.0625) < 0.005
    lora.down["vision_0_q"].fill_(1 / 128)
    lora.up["vision_0_q"].fill_(1)
    hook = lora.places()["vision.0.q"]
    kept, all_of_it = hook(torch.zeros_like(images), images, this), hook(0 * images, images, Pass())
    assert abs(float(kept.mean() / all_of_it.mean()) - 1) < 0.01


def test_dropout_in_training_needs_to_know_its_samples(mini: Encoder):
    lora = LoRA(mini, [1], rank=2, alpha=2, dropout=0.5)
    with pytest.raises(ValueError, match="keyed by sample"):
        mini.forward_images(pixels([0])[None], Pass([lora], step=0))


def test_gradients_agree_with_a_merged_layer(mini: Encoder):
    """Of one projection in float64: d loss / d A and d B against autograd through W + scale * B A."""
    lora = LoRA(mini, [1], rank=3, alpha=2, towers=("vision",), projections=("q",)).double()
    down, up = lora.down["vision_0_q"], lora.up["vision_0_q"]
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        up.copy_(torch.randn(up.shape, generator=g, dtype=torch.float64))
    x = torch.randn(1, 2, 5, 128, generator=g, dtype=torch.float64)
    weight = torch.randn(128, 128, generator=g, dtype=torch.float64)
    ours = lora.places()["vision.0.q"](F.linear(x, weight), x, Pass())
    ours.square().sum().backward()
    a, b = (value[0].detach().clone().requires_grad_() for value in (down, up))
    theirs = F.linear(x, weight + lora.scale * b @ a)
    theirs.square().sum().backward()
    torch.testing.assert_close(ours, theirs)
    np.testing.assert_allclose(down.grad[0], a.grad, rtol=1e-9)
    np.testing.assert_allclose(up.grad[0], b.grad, rtol=1e-9)


def test_the_names_of_the_projections_are_clips(mini: Encoder):
    attention = transformers_clip(mini).vision_model.encoder.layers[0].self_attn
    assert all(hasattr(attention, f"{projection}_proj") for projection in PROJECTIONS)


@pytest.mark.parametrize("rate", [0.9995, 0.9996, 0.99999])
def test_the_highest_rates_of_dropout_leave_something(rate: float, mini: Encoder):
    part = LoRA(mini, [3], rank=2, alpha=2, dropout=rate)
    assert part.dropped == 1023
    x = torch.ones(1, 64, 64, mini.width("vision"))
    name = "vision_0_q"
    torch.nn.init.ones_(part.up[name])
    out = part.places()["vision.0.q"](torch.zeros_like(x), x, Pass(step=0, samples=torch.arange(64)[None]))
    assert out.isfinite().all() and out.any()

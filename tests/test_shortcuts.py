"""What a run leaves out gives the numbers of the run that leaves nothing out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from farshot.errors import FarshotError, SettingError
from farshot.methods import create
from farshot.methods.base import Method
from farshot.model.encoder import Encoder
from farshot.parts.lora import LoRA
from farshot.parts.prompt import VisualPrompts
from farshot.training.batches import SupportImages
from farshot.training.loop import finetune
from farshot.training.recipe import AdamW, Group, Recipe
from tests.toy import toy_task, world_table

TABLE = world_table("mini-crops", 100, ("canker", "rust"))
TASKS = [toy_task(TABLE, shots=2, seed=1, key=1), toy_task(TABLE, shots=3, seed=2, key=2)]
ALIKE = [toy_task(TABLE, shots=2, seed=s, key=s) for s in (1, 2, 3)]


def logits(adapted) -> np.ndarray:
    return adapted.logits(TABLE, TASKS[0].query[:10])


def uncached(monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    """The same model, all blocks in every step."""
    recipe = type(method).recipe
    monkeypatch.setattr(type(method), "recipe", lambda *a: replace(recipe(*a), first_block=0))


@pytest.mark.parametrize("views", ["none", "five", "turn"])
@pytest.mark.parametrize("name", ["prompt-lora", "atha", "clip-lora", "tir"])
def test_blocks_before_the_first_are_computed_once_and_change_nothing(mini, monkeypatch, name, views):
    settings = {"views": views, "steps": 6 if views == "turn" else 3, "first_block": 8}
    method = create(name, settings | ({"batch": 3} if name == "clip-lora" else {}))
    passed, block = dict.fromkeys(("ahead", "plain"), 0), Encoder._block
    now = "ahead"

    def counting(self, tower, index, module, tokens, *rest, **options):
        passed[now] += tokens.shape[:2].numel() if (tower, index) == ("vision", 0) else 0
        return block(self, tower, index, module, tokens, *rest, **options)

    monkeypatch.setattr(Encoder, "_block", counting)
    ahead = method.adapt(mini, TASKS)
    now = "plain"
    uncached(monkeypatch, method)
    plain = method.adapt(mini, TASKS)
    assert passed["ahead"] < passed["plain"]
    for one, other in zip(ahead, plain, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)
        np.testing.assert_allclose(logits(one), logits(other), atol=1e-3)


def test_blocks_ahead_in_micro_batches(mini):
    method = create("atha", {"views": "five", "steps": 2, "first_block": 6})
    whole, parts = (method.adapt(mini, ALIKE[:2], micro_batch=size) for size in (None, 7))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-5)


def test_with_a_first_block_nothing_acts_before_it(mini):
    adapted = create("atha", {"views": "none", "steps": 1, "first_block": 8}).adapt(mini, ALIKE[:1])[0]
    places = [place for part in adapted.parts.values() for place in part.places() if "vision" in place]
    assert min(int(place.split(".")[1]) for place in places) == 8
    pull = adapted.parts["alignment"].pull[0]
    assert pull[8] > 0.7 and pull[:8].abs().max() == 0
    late = create("atha", {"views": "none", "steps": 1, "first_block": 4}).adapt(mini, ALIKE[:1])[0]
    assert late.parts["alignment"].pull[0].argmax() == 7
    prompts = VisualPrompts(mini, [1], count=2, depth=3)
    with pytest.raises(FarshotError, match=r"acts at vision\.embedding, before the first block"):
        finetune(
            mini,
            ALIKE[:1],
            [prompts],
            [Group([prompts.values], AdamW(1e-3))],
            Recipe(steps=1, scale=1.0, views="none", first_block=2),
        )


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("clip-lora", {"first_block": 3}, "of a fresh crop nothing can be computed ahead"),
        ("atha", {"first_block": 6, "block": 2}, "block of atha is 2, before first_block"),
        ("atha", {"settle": 1.5}, "settle of atha must lie in \\[0, 1\\)"),
    ],
)
def test_settings_that_leave_out_the_wrong_thing_are_refused(name, settings, words):
    with pytest.raises(SettingError, match=words):
        create(name, settings)


def test_a_first_block_that_the_model_does_not_have_is_refused(mini):
    with pytest.raises(SettingError, match=r"no vision block 12 to begin at.*blocks 0 to 11"):
        create("prompt-lora", {"first_block": 12}).adapt(mini, ALIKE[:1])


def test_views_in_turn_are_the_five_one_after_the_other():
    five = SupportImages(ALIKE[:1], 64, "five").at(0)
    turn = SupportImages(ALIKE[:1], 64, "turn")
    count = len(ALIKE[0].support)
    for step in range(7):
        found = turn.at(step)
        assert torch.equal(found.pixels[0], five.pixels[0].unflatten(0, (count, 5))[:, step % 5])
        assert torch.equal(found.samples[0], five.samples[0].view(count, 5)[:, step % 5])
        assert torch.allclose(found.weights, torch.full((1, count), 1 / count))


def test_a_task_that_settled_keeps_what_it_had_whatever_its_companions_do(mini):
    recipe = Recipe(steps=32, scale=2.0, views="none", settle=0.5)
    keys, ends = [task.key for task in ALIKE], []

    def run(tasks, keys):
        lora = LoRA(mini, keys, rank=2, alpha=4)
        losses = finetune(mini, tasks, [lora], [Group(list(lora.parameters()), AdamW(4e-3))], recipe)
        return lora, losses

    together, losses = run(ALIKE[:2], keys[:2])
    for t, task in enumerate(ALIKE[:2]):
        alone, own = run([task], [task.key])
        ends.append(int(np.isfinite(own).sum()))
        assert np.isfinite(losses[:, t]).sum() == ends[-1]
        np.testing.assert_allclose(losses[: ends[-1], t], own[: ends[-1], 0], atol=1e-4)
        for name, up in together.up.items():
            torch.testing.assert_close(up[t], alone.up[name][0], atol=1e-3, rtol=1e-2)
    assert min(ends) >= 20 and min(ends) < 32
    adapted = create("prompt-lora", {"views": "none", "steps": 60, "settle": 0.9}).adapt(mini, ALIKE[:1])[0]
    assert len(adapted.losses) == 20 and np.isfinite(adapted.losses).all()

"""The one loop: tasks side by side, micro-batches, what is keyed by what, interruption."""

import numpy as np
import pytest
import torch

from farshot.errors import FarshotError
from farshot.finetune import SGD, AdamW, Group, Recipe, finetune
from farshot.methods import create
from farshot.model.checkpoint import load_encoder
from farshot.model.encoder import DualEncoder, Pass
from farshot.model.lora import LoRA
from farshot.model.prompt import PromptContext
from tests.toy import toy_task, world_table

TABLE = world_table(count=60)
TASKS = [toy_task(TABLE, seed=s, key=100 + s) for s in range(3)]
SPECS = {
    "atha": {"views": "five", "steps": 3, "pull": 0.8, "push": 0.1},
    "prompt-lora": {"views": "none", "steps": 3},
    "clip-lora": {"steps": 3, "batch": 3},
}


def state(adapted) -> dict[str, torch.Tensor]:
    return adapted.tensors()


@pytest.mark.parametrize("name", SPECS)
def test_tasks_together_equal_the_same_tasks_alone(mini: DualEncoder, name):
    """Labels equal in 99.9 % of queries and probabilities within 1e-3 in 99 %; losses within 1e-4."""
    method = create(name, SPECS[name])
    together = method.adapt(mini, TASKS)
    for task, one in zip(TASKS, together, strict=True):
        (alone,) = method.adapt(mini, [task])
        np.testing.assert_allclose(one.losses, alone.losses, atol=1e-4)
        a, b = (torch.from_numpy(x.logits(TABLE, task.query)).softmax(-1).numpy() for x in (one, alone))
        assert (a.argmax(1) == b.argmax(1)).mean() >= 0.999
        assert np.quantile(np.abs(a - b), 0.99) <= 1e-3


@pytest.mark.parametrize("name", SPECS)
def test_micro_batches_equal_the_full_batch(mini: DualEncoder, name):
    method = create(name, SPECS[name])
    whole = method.adapt(mini, TASKS[:2])
    parts = method.adapt(mini, TASKS[:2], micro_batch=4)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.losses, b.losses, atol=1e-4)
        np.testing.assert_allclose(a.logits(TABLE, [0, 1, 2]), b.logits(TABLE, [0, 1, 2]), atol=2e-3)


def test_tasks_of_unequal_size_are_padded_without_effect(mini: DualEncoder):
    big, small = TASKS[0], toy_task(TABLE, shots=1, seed=5, key=7)
    uneven = type(big)(
        TABLE, big.class_names, big.support[:3], big.labels[:3], big.query, key=9
    )  # two images of one class, one of the other
    method = create("prompt-lora", {"views": "none", "steps": 3})
    together = method.adapt(mini, [small, uneven])
    for task, one in zip([small, uneven], together, strict=True):
        (alone,) = method.adapt(mini, [task])
        np.testing.assert_allclose(one.losses, alone.losses, atol=1e-4)


def test_the_loss_of_every_step_and_task_is_returned_and_falls(mini: DualEncoder):
    parts = [LoRA(mini, [1, 2, 3], rank=4, alpha=8)]
    group = Group(list(parts[0].parameters()), AdamW(lr=2e-3, weight_decay=0.0))
    losses = finetune(mini, TASKS, parts, [group], Recipe(steps=6, scale=4.0, views="none"))
    assert losses.shape == (6, 3)
    assert (losses[-1] < losses[0]).all()


def test_parts_can_be_given_their_initial_values(mini: DualEncoder):
    def first_losses(start: float) -> np.ndarray:
        lora, context = LoRA(mini, [1], rank=2, alpha=2), PromptContext(mini, ["a photo of a {}."])
        with torch.no_grad():
            for up in lora.up.values():
                up.fill_(start)
        groups = [
            Group(list(lora.parameters()), AdamW(lr=1e-3, weight_decay=0.0)),
            Group(list(context.parameters()), SGD(lr=1e-3, momentum=0.9, weight_decay=0.0)),
        ]
        return finetune(mini, TASKS[:1], [lora, context], groups, Recipe(steps=1, scale=2.0, views="none"))

    assert first_losses(0.0) != first_losses(0.05)


def test_lora_is_the_base_model_at_the_start(mini: DualEncoder):
    images = torch.from_numpy(TABLE.pixels([0, 1], "squash", 64))[None]
    with torch.no_grad():
        before = mini.encode_images(images)
        with mini.attached([LoRA(mini, [3], rank=16, alpha=8)]):
            assert torch.equal(mini.encode_images(images), before)


def test_dropout_follows_task_step_and_sample_only(mini: DualEncoder):
    images = torch.from_numpy(TABLE.pixels([0, 1, 2], "squash", 64))

    def encoded(keys: list[int], rows: list[int], step: int) -> torch.Tensor:
        lora = LoRA(mini, keys, rank=4, alpha=8, dropout=0.25)
        with torch.no_grad():
            for up in lora.up.values():
                up.fill_(0.05)
            this = Pass(step=step, samples=torch.tensor([rows] * len(keys)))
            with mini.attached([lora]):
                return mini.encode_images(images[rows].expand(len(keys), -1, -1, -1, -1), this)

    alone = encoded([5], [1], 0)[0, 0]
    torch.testing.assert_close(encoded([4, 5], [0, 1, 2], 0)[1, 1], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(encoded([5], [1], 1)[0, 0], alone, atol=1e-3)
    assert not torch.allclose(encoded([6], [1], 0)[0, 0], alone, atol=1e-3)


def test_dropout_zeroes_the_share_that_was_asked_for(mini: DualEncoder):
    lora = LoRA(mini, [1], rank=2, alpha=2, dropout=0.25)
    this = Pass(step=0, samples=torch.arange(4)[None])
    x = torch.ones(1, 4, 65, 128)
    for lane in range(3):
        dropped = lora._dropout(x, "vision_0", lane, this)
        share = float((dropped == 0).float().mean())
        assert abs(share - 0.25) < 0.01  # 33,280 draws: three standard deviations are 0.007
        torch.testing.assert_close(dropped.max(), torch.tensor(1 / 0.75))


def test_bf16_gives_nearly_the_same_losses(mini: DualEncoder):
    method = create("atha", {"views": "none", "steps": 3})
    half = load_encoder("mini", precision="bf16")
    (a,), (b,) = method.adapt(mini, TASKS[:1]), method.adapt(half, TASKS[:1])
    np.testing.assert_allclose(a.losses, b.losses, atol=0.03)


def test_ctrl_c_leaves_the_encoder_as_it_was(mini: DualEncoder):
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create("atha", {"views": "none", "steps": 5}).adapt(mini, TASKS[:1], progress=stop)
    assert not any(mini._hooks.values())


def test_a_loss_that_is_not_a_number_is_one_sentence(mini: DualEncoder):
    method = create("prompt-lora", {"views": "none", "steps": 30, "lora_lr": 1e30, "lora_dropout": 0.0})
    with pytest.raises(FarshotError, match="not finite at step"):
        method.adapt(mini, TASKS[:1])

"""The one loop: tasks side by side, micro-batches, what is keyed by what, interruption."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot.errors import FarshotError
from farshot.methods import create
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.model.find import load_encoder
from farshot.parts.lora import LoRA
from farshot.parts.prompt import PromptContext
from farshot.training.batches import SupportImages
from farshot.training.loop import finetune
from farshot.training.recipe import SGD, AdamW, ParameterGroup, Recipe, schedule
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


@pytest.mark.parametrize(
    "name", ["prompt-lora", *(pytest.param(n, marks=pytest.mark.slow) for n in ("atha", "clip-lora"))]
)
def test_tasks_together_equal_the_same_tasks_alone(mini: Encoder, name):
    """Labels equal in 99.9 % of queries and probabilities within 1e-3 in 99 %; losses within 1e-4."""
    method = create(name, SPECS[name])
    together = method.adapt(mini, TASKS)
    for task, one in zip(TASKS, together, strict=True):
        (alone,) = method.adapt(mini, [task])
        np.testing.assert_allclose(one.losses, alone.losses, atol=1e-4)
        a, b = (torch.from_numpy(x.logits(TABLE, task.query)).softmax(-1).numpy() for x in (one, alone))
        assert (a.argmax(1) == b.argmax(1)).mean() >= 0.999
        assert np.quantile(np.abs(a - b), 0.99) <= 1e-3


@pytest.mark.parametrize(
    "name", ["prompt-lora", *(pytest.param(n, marks=pytest.mark.slow) for n in ("atha", "clip-lora"))]
)
def test_micro_batches_equal_the_full_batch(mini: Encoder, name):
    """Losses within 1e-4; logits, of scale 2 or 100, within 2e-3; in float32."""
    method = create(name, SPECS[name])
    whole = method.adapt(mini, TASKS[:2])
    parts = method.adapt(mini, TASKS[:2], micro_batch=4)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.losses, b.losses, atol=1e-4)
        np.testing.assert_allclose(a.logits(TABLE, [0, 1, 2]), b.logits(TABLE, [0, 1, 2]), atol=2e-3)


def test_a_micro_batch_of_one_image_is_enough_for_several_tasks(mini: Encoder):
    method = create("prompt-lora", {"views": "none", "steps": 2})
    whole, parts = method.adapt(mini, TASKS[:2]), method.adapt(mini, TASKS[:2], micro_batch=1)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.losses, b.losses, atol=1e-4)


def test_tasks_of_unequal_size_are_padded_without_effect(mini: Encoder):
    big, small = TASKS[0], toy_task(TABLE, shots=1, seed=5, key=7)
    uneven = type(big)(
        TABLE, big.class_names, big.support[:3], big.labels[:3], big.query, key=9
    )  # two images of one class, one of the other
    method = create("prompt-lora", {"views": "none", "steps": 3})
    together = method.adapt(mini, [small, uneven])
    for task, one in zip([small, uneven], together, strict=True):
        (alone,) = method.adapt(mini, [task])
        np.testing.assert_allclose(one.losses, alone.losses, atol=1e-4)


def test_the_loss_of_every_step_and_task_is_returned_and_falls(mini: Encoder):
    parts = [LoRA(mini, [1, 2, 3], rank=4, alpha=8)]
    group = ParameterGroup(list(parts[0].parameters()), AdamW(lr=2e-3, weight_decay=0.0))
    losses = finetune(mini, TASKS, parts, [group], Recipe(steps=6, scale=4.0, views="none"))
    assert losses.shape == (6, 3)
    assert (losses[-1] < losses[0]).all()


def test_the_first_loss_is_that_of_the_base_model(mini: Encoder):
    """LoRA starts as nothing, so step 1 has the cross-entropy of zero-shot logits of scale s."""
    lora = LoRA(mini, [1, 2, 3], rank=4, alpha=8)
    group = ParameterGroup(list(lora.parameters()), AdamW(lr=2e-3))
    losses = finetune(mini, TASKS, [lora], [group], Recipe(steps=1, scale=4.0, views="none"))
    for t, task in enumerate(TASKS):
        with torch.no_grad():
            texts = F.normalize(mini.forward_texts(mini.prompts([task.prompts])).final[0], dim=-1)
            logits = 4 * image_features(mini, TABLE, task.support, "centre") @ texts.T
        expected = F.cross_entropy(logits, torch.from_numpy(task.labels))
        np.testing.assert_allclose(losses[0, t], expected, atol=1e-5)


def test_rates_fall_along_a_cosine_or_stay():
    def rates(cosine_to: float | None) -> list[float]:
        optimiser = SGD(lr=0.2).build([torch.zeros(1, requires_grad=True)])
        falling, out = schedule(optimiser, 4, cosine_to), []
        for _ in range(4):
            out.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            falling.step()
        return out

    assert rates(None) == [0.2] * 4
    half = (1 + math.cos(math.pi / 4)) / 2
    np.testing.assert_allclose(rates(0.1), [0.2, 0.1 + 0.1 * half, 0.15, 0.2 - 0.1 * half])


def test_a_step_takes_the_same_number_of_every_class_where_a_class_is_too_large():
    task = toy_task(TABLE, shots=4, key=3)
    source = SupportImages([task], 64, "none", batch=2)
    drawn = [source.at(step) for step in range(6)]
    for step in drawn:
        assert step.labels[0].sort().values.tolist() == [0, 0, 1, 1]
        assert torch.allclose(step.weights.sum(1), torch.ones(1))
    assert len({tuple(step.samples[0].tolist()) for step in drawn}) > 1
    padded = SupportImages([toy_task(TABLE, shots=3, key=8), task], 64, "none", batch=2).at(5)
    assert torch.equal(padded.samples[1], drawn[5].samples[0])
    few = SupportImages([task], 64, "none", batch=32, batch_total=3).at(0)
    assert few.labels.shape == (1, 3)


def test_parts_can_be_given_their_initial_values(mini: Encoder):
    def first_losses(start: float) -> np.ndarray:
        lora, context = LoRA(mini, [1], rank=2, alpha=2), PromptContext(mini, ["a photo of a {}."])
        with torch.no_grad():
            for up in lora.up.values():
                up.fill_(start)
        groups = [
            ParameterGroup(list(lora.parameters()), AdamW(lr=1e-3, weight_decay=0.0)),
            ParameterGroup(list(context.parameters()), SGD(lr=1e-3, momentum=0.9, weight_decay=0.0)),
        ]
        return finetune(mini, TASKS[:1], [lora, context], groups, Recipe(steps=1, scale=2.0, views="none"))

    assert first_losses(0.0) != first_losses(0.05)


def test_bf16_gives_nearly_the_same_losses(mini: Encoder):
    method = create("atha", {"views": "none", "steps": 3})
    half = load_encoder("mini", precision="bf16")
    (a,), (b,) = method.adapt(mini, TASKS[:1]), method.adapt(half, TASKS[:1])
    np.testing.assert_allclose(a.losses, b.losses, atol=0.03)


def test_ctrl_c_leaves_the_encoder_as_it_was(mini: Encoder):
    """Between two steps, as a progress bar is updated; and in the middle of a block."""
    images, prompts = torch.from_numpy(TABLE.pixels([0, 1], "squash", 64))[None], mini.prompts([["a mole"]])

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return mini.forward_images(images), mini.forward_texts(prompts).final

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    class Interrupted(LoRA):
        def places(self):
            def halt(*_given):
                raise KeyboardInterrupt

            return super().places() | {"vision.5.k": halt}

    before = outputs()
    with pytest.raises(KeyboardInterrupt):
        create("atha", {"views": "none", "steps": 5}).adapt(mini, TASKS[:1], progress=stop)
    assert all(map(torch.equal, outputs(), before))
    part = Interrupted(mini, [1], rank=2, alpha=2)
    group = ParameterGroup(list(part.parameters()), AdamW(lr=1e-3))
    with pytest.raises(KeyboardInterrupt):
        finetune(mini, TASKS[:1], [part], [group], Recipe(steps=2, scale=4.0, views="none"))
    assert all(map(torch.equal, outputs(), before))


def test_progress_is_told_after_every_step_of_all_batches(mini: Encoder):
    seen: list[tuple[int, int]] = []
    tasks = [TASKS[0], toy_task(TABLE, shots=1, key=4)]  # of unequal shots: two batches
    create("prompt-lora", {"views": "none", "steps": 2}).adapt(
        mini, tasks, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 6), (4, 6), (5, 6), (6, 6)]  # steps of 4 images and of 2


def test_a_loss_that_is_not_a_number_is_one_sentence(mini: Encoder):
    method = create("prompt-lora", {"views": "none", "steps": 30, "lora_lr": 1e30, "lora_dropout": 0.0})
    with pytest.raises(FarshotError, match="not finite at step"):
        method.adapt(mini, TASKS[:1])

"""Folds are adapted to with the settings of the whole task."""

from __future__ import annotations

import numpy as np
import pytest

from farshot.evaluation.crossval import hold_out
from farshot.methods import create
from farshot.methods.tip_adapter import AT_ONE_SHOT
from farshot.model.encoder import Encoder
from tests.toy import toy_task, world_table

TABLE = world_table(count=60)
FROZEN = {"steps": 1, "views": "none", "lora_lr": 0, "context_lr": 0}


@pytest.mark.parametrize("shots", [5, 6])
@pytest.mark.parametrize("name", ["prompt-lora", "tir"])
def test_held_out_scores_have_the_scale_of_the_models(name: str, shots: int, mini: Encoder):
    """Nothing is learned, so that both are the same."""
    task, method = toy_task(TABLE, shots=shots), create(name, FROZEN)
    (whole,) = method.adapt(mini, [task])
    held = hold_out(method, mini, task, TABLE.classes)
    np.testing.assert_allclose(held.logits, whole.logits(TABLE, task.support), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shots", "derived"),
    [
        ("prompt-lora", 5, {"scale": 4.0}),
        ("prompt-lora", 4, {"scale": 2.0}),
        ("atha", 5, {"scale": 4.0, "base": "prompt-lora"}),
        ("atha+clip-lora", 5, {"steps": 2500}),
        ("clip-lora", 5, {"steps": 2500}),
        ("mind", 2, {"steps": 500}),
        ("2sfs", 5, {"steps": 1500, "scale": 0.0}),
        ("coop", 5, {"steps": 200}),
        ("clip-adapter", 5, {"steps": 200}),
        ("clip-adapter", 4, {"steps": 100}),
        ("prolip", 5, {"weight": 0.2}),
        ("zero-shot", 5, {}),
    ],
)
def test_settings_that_follow_from_the_number_of_images_are_filled_in(
    name: str, shots: int, derived: dict[str, object], mini: Encoder
):
    name, _, base = name.partition("+")
    method = create(name, {"base": base} if base else {})
    filled = method.for_task(mini, toy_task(TABLE, shots=shots))
    assert filled.settings() == method.settings() | derived


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])
def test_folds_of_two_shots_have_the_strengths_of_the_model(name: str, mini: Encoder):
    """A fold has one shot, at which the rule cannot choose."""
    task, method = toy_task(TABLE, shots=2), create(name)
    state = method.adapt(mini, [task])[0].tensors()
    given = create(name, {"alpha": float(state["alpha"]), "beta": float(state["beta"])})
    assert (given.settings()["alpha"], given.settings()["beta"]) != AT_ONE_SHOT
    held, expected = (hold_out(one, mini, task, TABLE.classes) for one in (method, given))
    np.testing.assert_array_equal(held.logits, expected.logits)
    assert given.for_task(mini, task) == given
    assert method.for_task(mini, toy_task(TABLE, shots=3)) == method  # every fold has two


@pytest.mark.parametrize("name", ["prompt-lora", "2sfs", "clip-adapter", "prolip"])
def test_settings_that_are_given_are_kept(name: str, mini: Encoder):
    given = {"steps": 7, "weight" if name == "prolip" else "scale": 3.0}
    method = create(name, given)
    assert method.for_task(mini, toy_task(TABLE, shots=5)) == method


def test_progress_counts_a_step_by_the_images_of_all_its_tasks(mini: Encoder):
    """One fold of 2 x 4 images is a batch, and four of 2 x 5 are another: 8 and 40 images in a step."""
    task, calls = toy_task(TABLE, shots=6), []
    method = create("prompt-lora", {**FROZEN, "steps": 2})
    hold_out(method, mini, task, TABLE.classes, progress=lambda *call: calls.append(call))
    assert calls == [(1, 12), (2, 12), (7, 12), (12, 12)]

"""The contract that every registered method keeps, third parties' included."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from farshot import FewShotClassifier, load
from farshot.bench.tasks import query_labels
from farshot.errors import SettingError
from farshot.methods import available, create
from farshot.methods.base import Method
from farshot.model.encoder import Encoder
from tests.toy import toy_task, world_table

TABLE = world_table("mini-crops", 100, ("canker", "rust"))
TASKS = [toy_task(TABLE, shots=2, seed=s, key=s) for s in (1, 2)]
METHODS = sorted(available())
LONG = ("vtt", "limo", "full", "mind", "bitfit", "tir", "maple", "vpt", "2sfs")
FEW = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in METHODS]
"""Methods; those whose step takes longest in the slow tests only."""
QUICK = {"steps": 4, "views": "none", "epochs": 4}
"""Where a method has such a setting: enough steps to move, few enough to wait for."""


def quick(name: str) -> Method:
    """The method with its defaults, but short."""
    known = create(name).settings()
    wanted = {key: value for key, value in QUICK.items() if key in known}
    if available()[name].name == "clip-lora":
        del wanted["views"]
    wanted |= {"vtt": {"batch": 5}, "limo": {"unlabelled": 4}}.get(name, {})
    return create(name, wanted)


def probabilities(adapted, task) -> np.ndarray:
    return torch.from_numpy(adapted.logits(TABLE, task.query[:12])).softmax(-1).numpy()


@pytest.mark.parametrize("name", FEW)
def test_a_method_adapts_beats_chance_and_is_deterministic(mini: Encoder, name):
    """And leaves the encoder as it found it, which the fixture sees to in every test that has it."""
    method = quick(name)
    first, again = method.adapt(mini, TASKS[:1])[0], method.adapt(mini, TASKS[:1])[0]
    assert np.array_equal(probabilities(first, TASKS[0]), probabilities(again, TASKS[0]))
    assert first.class_names == TASKS[0].class_names
    assert first.trained >= 0
    right = first.logits(TABLE, TASKS[0].query).argmax(1) == query_labels(TASKS[0])
    # two classes: 50 % is chance, and the mini CLIP knows these two
    assert right.mean() > 0.75


@pytest.mark.parametrize("name", FEW)
def test_a_task_does_not_depend_on_its_companions(mini: Encoder, name):
    method = quick(name)
    together = method.adapt(mini, TASKS)
    assert len(together) == 2
    alone = method.adapt(mini, TASKS[1:])[0]
    np.testing.assert_allclose(
        probabilities(together[1], TASKS[1]), probabilities(alone, TASKS[1]), atol=1e-3
    )


@pytest.mark.parametrize("name", FEW)
def test_a_method_saves_and_loads(name, tmp_path: Path):
    method = quick(name)
    task = TASKS[0]
    if name == "limo":  # it needs the queries
        with pytest.raises(SettingError, match="choose another method"):
            FewShotClassifier("mini", name).fit(TABLE.subset(task.support))
        return
    made = FewShotClassifier("mini", name, settings=method.settings()).fit(TABLE.subset(task.support))
    made.save(tmp_path / "model")
    images = [TABLE.images[row] for row in task.query[:6]]
    again = load(tmp_path / "model")
    if available()[name].kind != "transductive":  # those depend on which images come together
        assert np.array_equal(again.predict_proba(images[:2]), made.predict_proba(images[:2]))
    assert np.array_equal(again.predict_proba(images), made.predict_proba(images))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_settings_it_does_not_have(name):
    with pytest.raises(SettingError, match="has no setting"):
        create(name, {"no_such_setting": 1})


SIGNED = {("atha", "pull"), ("atha", "push")}  # settings in which a negative number has a meaning


@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_values_that_its_settings_cannot_have(name):
    """Every setting of every method: another type, a word that is no choice, nothing finite, below range."""
    kinds = typing.get_type_hints(available()[name])
    for field in dataclasses.fields(available()[name]):
        wrong = ["sideways"]
        if kinds[field.name] not in (bool, str):
            wrong += ["nan", "inf"] + ([] if (name, field.name) in SIGNED else [-1])
        for value in wrong:
            with pytest.raises(SettingError, match=rf"\b{field.name}\b|'{value}' needs"):
                create(name, {field.name: value})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    method = available()[name]
    assert method.kind in ("features", "fine-tuned", "transductive")
    assert method.doc and method.reference
    assert method.__doc__
    own = {field.name for field in dataclasses.fields(method)}
    base = method().base if "base" in own else None  # whose settings are given as the method's own are
    assert set(method().settings()) == own | (set(base.settings()) if base else set())


def test_a_method_is_one_short_file_and_no_loop_stands_in_two():
    """Loops count as the same when they differ in names alone; training loops are in shared files."""
    ours = [m for m in available().values() if m.__module__.startswith("farshot.methods.")]
    files = {Path(inspect.getfile(method)) for method in ours}
    assert len(files) == len(ours)
    seen: dict[str, Path] = {}
    for file in sorted(files):
        source = file.read_text(encoding="utf-8")
        most = 250 if file.name == "atha.py" else 150  # its settings were in a second file before
        assert len(source.splitlines()) <= most, file.name
        assert ".backward(" not in source and "optimiser.step(" not in source, file.name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.For | ast.While):
                shape = shape_of(node)
                assert shape not in seen, f"a loop of {seen[shape].name} is in {file.name} too"
                seen[shape] = file
    assert seen


def shape_of(loop: ast.AST) -> str:
    """The loop with its variables numbered in the order in which they come."""
    numbers: dict[str, str] = {}
    for node in ast.walk(loop):
        if isinstance(node, ast.Name):
            node.id = numbers.setdefault(node.id, f"name {len(numbers)}")
    return ast.dump(loop)


def test_the_registry_takes_wildcards_and_names_its_choices():
    assert {"clip-lora", "prompt-lora"} <= set(available("*lora*"))
    with pytest.raises(SettingError, match=r"choose one of.*atha"):
        create("athena")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("atha", {"rho": "a lot"}, "rho of atha must be a number"),
        ("atha", {"rho": 0.8, "gamma": 0.5}, "sum to at most 1"),
        ("atha", {"variant": "final"}, "variant"),
        ("atha", {"align": "sideways"}, "align"),
        ("atha", {"fixed": "maybe"}, "true or false"),
        ("prompt-lora", {"steps": "2.5"}, "a whole number"),
        ("prompt-lora", {"views": "six"}, "views"),
        ("zero-shot", {"reading": "upside down"}, "reading"),
    ],
)
def test_values_that_do_not_fit_are_refused_where_they_are_made(name, settings, words):
    with pytest.raises(SettingError, match=words):
        create(name, settings)


def test_strings_from_the_command_line_mean_the_same_as_values():
    from_strings = create("atha", {"rho": "0.2", "fixed": "true", "block": "none", "steps": "7"})
    assert from_strings == create("atha", {"rho": 0.2, "fixed": True, "block": None, "steps": 7})


@pytest.mark.slow
def test_every_ablation_of_atha_is_a_model_of_its_own(mini: Encoder):
    settings = {"views": "none", "steps": 2, "push": 0.3}
    changes = [{}, {"variant": "released"}, {"block": 3}, {"fixed": True, "strength_lr": 0.0}] + [
        {"align": kind} for kind in ("push", "pull", "uniform", "random")
    ]
    found = [
        probabilities(create("atha", settings | change).adapt(mini, TASKS[:1])[0], TASKS[0])
        for change in changes
    ]
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert not np.array_equal(one, other)


def test_atha_without_strength_is_prompt_lora(mini: Encoder):
    quiet = create("atha", {"views": "none", "steps": 3, "pull": 0.0, "push": 0.0, "fixed": True})
    base = create("prompt-lora", {"views": "none", "steps": 3})
    a, b = quiet.adapt(mini, TASKS[:1])[0], base.adapt(mini, TASKS[:1])[0]
    np.testing.assert_allclose(a.losses, b.losses, atol=1e-5)
    np.testing.assert_allclose(probabilities(a, TASKS[0]), probabilities(b, TASKS[0]), atol=1e-4)

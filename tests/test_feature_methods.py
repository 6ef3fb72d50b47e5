"""What every method on frozen features keeps: tasks, settings, prompts, and one encoding per image."""

import dataclasses
import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot.bench.grid import label, parse_method
from farshot.bench.load import choose_load
from farshot.bench.tasks import Shape, query_labels
from farshot.errors import SettingError
from farshot.methods import available, create
from farshot.methods.base import Method
from farshot.methods.frozen import CLIP_TEMPLATES, class_texts, rate_factor
from farshot.methods.size import trained_parameters
from farshot.model import features
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache
from farshot.world import class_names
from tests.features import FROZEN, E, N, drawn, frozen, state_of
from tests.features import queries as drawn_queries
from tests.toy import toy_task, world_table

TABLE = world_table("mini-land", 60)


# What all share --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FROZEN)
def test_tasks_fitted_together_are_fitted_as_if_alone(name):
    method, support = frozen(name), drawn()
    alone = dataclasses.replace(
        support, images=support.images[1:], labels=support.labels[1:], texts=support.texts[1:], keys=(2,)
    )
    together, single = state_of(method, support, 1), state_of(method, alone)
    for key, value in single.items():
        torch.testing.assert_close(together[key], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_trained_is_counted(name, mini: Encoder):
    method = frozen(name)
    state = state_of(method, drawn())
    shapes = method.learned(N, 3 * N, E)
    assert shapes == {key: tuple(state[key].shape) for key in shapes}
    task = toy_task(TABLE)
    assert method.adapt(mini, [task])[0].trained == method.parameters(mini, task)


def test_parameters_of_the_reference_model():
    found = {name: trained_parameters(method()) for name, method in available().items()}
    width, lora = 512, 12 * 3 * 2 * (768 + 512)  # q, k, v of 12 blocks of both towers, A and B, per rank
    expected = {
        "zero-shot": 0,
        "prototypes": 0,
        "simpleshot": 0,
        "bd-cspn": 0,
        "tim": 0,
        "tip-adapter": 0,
        "transclip": 0,
        "linear-probe": 5 * width,
        "clap": 5 * width,
        "lp++": 5 * width + 5,
        "tip-adapter-f": 25 * width,
        "clip-adapter": 2 * width * width // 4,
        "clip-lora": 2 * lora,
        "prompt-lora": 16 * lora + 4 * 512,
        "atha": 16 * lora + 4 * 512 + 24,
    }
    assert found | expected == found


@pytest.mark.parametrize("name", FROZEN)
def test_restored_scores_are_the_same_to_the_bit(name, mini: Encoder):
    task = toy_task(TABLE)
    made = frozen(name).adapt(mini, [task])[0]
    again = frozen(name).restore(mini, task, made.tensors())
    assert np.array_equal(made.logits(TABLE, task.query), again.logits(TABLE, task.query))
    assert again.trained == made.trained


def test_tasks_of_several_sizes_in_one_call(mini: Encoder):
    tasks = [toy_task(TABLE, shots=s, key=s) for s in (1, 3, 1)]
    method = frozen("clap")
    for one, task in zip(method.adapt(mini, tasks), tasks, strict=True):
        alone = method.adapt(mini, [task])[0]
        np.testing.assert_allclose(one.logits(TABLE, task.query), alone.logits(TABLE, task.query), atol=1e-3)


def test_an_image_is_encoded_once_for_all_methods(mini_encoder: Encoder, monkeypatch):
    encoder = mini_encoder.to("cpu")
    monkeypatch.setattr(features, "SHARED", FeatureCache())
    seen = []
    encode = encoder.forward_images
    monkeypatch.setattr(
        encoder, "forward_images", lambda pixels: seen.append(pixels.shape[1]) or encode(pixels)
    )
    for seed in (1, 2):
        task = toy_task(TABLE, seed=seed)
        for name in ("prototypes", "tip-adapter", "transclip"):
            frozen(name).adapt(encoder, [task])[0].logits(TABLE, task.query)
    assert sum(seen) == len(TABLE)


@pytest.mark.parametrize("name", FROZEN)
def test_without_rows_there_are_no_scores(name, mini: Encoder):
    made = frozen(name).adapt(mini, [toy_task(TABLE)])[0]
    assert made.logits(TABLE, []).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("zero-shot", {"templates": "no place"}, r"'no place' needs {} exactly once"),
        ("zero-shot", {"templates": "a {}.|"}, r"'' needs {}"),
        ("zero-shot", {"scale": -1}, "scale of zero-shot must be at least 0"),
        ("linear-probe", {"start": "one"}, "start"),
        ("linear-probe", {"C": 0}, "C of linear-probe must be positive"),
        ("tip-adapter", {"alpha": -1}, "alpha of tip-adapter must be at least 0"),
        ("tip-adapter", {"augment": -1}, "augment of tip-adapter must lie in 0 to 1000, not -1"),
        ("clap", {"augment": 1001}, "augment of clap must lie in 0 to 1000"),
        ("tip-adapter-f", {"steps": 0}, "steps of tip-adapter-f must be at least 1"),
        ("clip-adapter", {"ratio": 1.5}, "ratio of clip-adapter must lie in 0 to 1"),
        ("lp++", {"blend_every": 0}, "blend_every"),
        ("clap", {"constraint": "l1"}, "constraint"),
        ("transclip", {"neighbours": 0}, "neighbours of transclip must be at least 1"),
        ("bd-cspn", {"sharpness": -1}, "sharpness of bd-cspn must be at least 0"),
        ("tim", {"sharpness": 0}, "sharpness of tim must be positive"),
        ("tim", {"steps": 10**9}, "steps of tim must lie in 0 to 100000"),
        ("transclip", {"rounds": 10**9}, "rounds of transclip must lie in 0 to 1000"),
        ("tim", {"marginal_weight": -1}, "marginal_weight of tim must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(name, settings, words):
    with pytest.raises(SettingError, match=words):
        create(name, settings)


def test_the_benchmark_takes_many_tasks_at_once(mini: Encoder):
    shape = Shape(5, 1, 15)
    assert (
        choose_load(create("clap"), mini, shape).tasks == choose_load(create("transclip"), mini, shape).tasks
    )


# Prompts -------------------------------------------------------------------------------------------------


def unit_texts(encoder: Encoder, prompts: list[str]) -> torch.Tensor:
    return F.normalize(encoder.forward_texts(encoder.prompts([prompts])).final[0], dim=-1)


def test_several_templates_make_an_ensemble(mini: Encoder):
    spec = "zero-shot[templates=a photo of a {}.|a drawing of the {}.]"
    method, task = parse_method(spec), toy_task(TABLE)
    assert label(method) == spec
    prompts = [[f"a photo of a {n}.", f"a drawing of the {n}."] for n in task.class_names]
    directions = torch.stack([F.normalize(unit_texts(mini, pair).mean(0), dim=-1) for pair in prompts])
    rows = task.query[:5]
    expected = mini.logit_scale * features.image_features(mini, TABLE, rows) @ directions.mT
    np.testing.assert_allclose(method.adapt(mini, [task])[0].logits(TABLE, rows), expected, atol=1e-4)


def test_a_data_sets_name_means_its_usual_prompt(mini: Encoder):
    task = toy_task(TABLE)
    named, written = (
        frozen("zero-shot", templates=templates)
        for templates in ("eurosat", "a centered satellite photo of {}.")
    )
    found = [method.adapt(mini, [task])[0].logits(TABLE, task.query[:5]) for method in (named, written)]
    assert np.array_equal(*found)
    with pytest.raises(SettingError, match="or write task, clip, aircraft,"):
        frozen("zero-shot", templates="mars")


def test_the_tasks_own_template_as_a_list_of_one_is_the_default(mini: Encoder):
    task = toy_task(TABLE)
    own, named = frozen("zero-shot"), frozen("zero-shot", templates=task.template)
    assert np.array_equal(*(m.adapt(mini, [task])[0].logits(TABLE, task.query) for m in (own, named)))


def test_descriptions_stand_in_every_template(mini: Encoder):
    task = dataclasses.replace(toy_task(TABLE), descriptions={"orchard": "rows of trees"})
    found = class_texts(mini, [task], CLIP_TEMPLATES)
    prompts = [[t.replace("{}", words) for t in CLIP_TEMPLATES] for words in ("highway", "rows of trees")]
    expected = torch.stack(
        [F.normalize(unit_texts(mini, all_seven).mean(0), dim=-1) for all_seven in prompts]
    )
    torch.testing.assert_close(F.normalize(found[0], dim=-1), expected, atol=1e-5, rtol=0)


# On images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("shots", [1, 5])
def test_an_easy_task_is_read_above_chance(name, shots, mini: Encoder):
    method: Method = frozen(name)
    task = toy_task(TABLE, shots=shots)
    right = method.adapt(mini, [task])[0].logits(TABLE, task.query).argmax(1) == query_labels(task)
    assert right.mean() > 0.65  # of two classes


def test_only_transductive_methods_see_other_queries(mini: Encoder):
    task = toy_task(TABLE)
    for name in FROZEN:
        made = frozen(name).adapt(mini, [task])[0]
        few, all_of_them = made.logits(TABLE, task.query[:4]), made.logits(TABLE, task.query)[:4]
        alike = np.allclose(few, all_of_them, atol=1e-4)
        assert alike == (available()[name].kind == "features")


# Documentation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(available()))
def test_docs_list_every_method_with_all_its_settings(name):
    page = (Path(__file__).parents[1] / "docs/methods.md").read_text(encoding="utf-8")
    method = available()[name]
    row = re.search(rf"^\| `{re.escape(name)}` \| (\S+) \| ([\d,]+) \|", page, flags=re.MULTILINE)
    assert row, f"docs/methods.md has no row that begins with | `{name}` | kind | trained parameters |"
    assert (row[1], int(row[2].replace(",", ""))) == (method.kind, trained_parameters(method()))
    assert [f.name for f in dataclasses.fields(method) if f"`{f.name}`" not in page] == []


def settings_table() -> list[list[str]]:
    """The cells of the rows on settings of methods on frozen features: setting, of, default, meaning."""
    page = (Path(__file__).parents[1] / "docs/methods.md").read_text(encoding="utf-8")
    rows = page.partition("## Settings of methods on frozen features")[2].partition("## ")[0].splitlines()
    return [re.split(r" *(?<!\\)\| *", row)[1:-1] for row in rows if row.startswith("| `")]


@pytest.mark.parametrize("name", FROZEN)
def test_docs_say_of_every_setting_which_methods_have_it(name: str):
    for setting in create(name).settings():
        rows = [of for settings, of, *_ in settings_table() if f"`{setting}`" in settings]
        assert any(of == "all" or f"`{name}`" in of for of in rows), setting


@pytest.mark.parametrize(("setting", "one", "other"), [("scale", 3, 50), ("templates", "a {}.", "no {}!")])
def test_docs_say_where_a_setting_of_all_has_no_effect(
    setting: str, one: object, other: object, mini: Encoder
):
    task, found = toy_task(TABLE), set[str]()
    for name in [*FROZEN, "linear-probe[start=zero]"]:
        made, logits = parse_method(name), []
        few = {"steps": 1} if "steps" in made.settings() else {}
        for value in (one, other):
            method = dataclasses.replace(made, **few, **{setting: value})
            logits.append(method.adapt(mini, [task])[0].logits(TABLE, task.query))
        if np.array_equal(*logits):
            found.add(name)
    (meaning,) = (row[-1] for row in settings_table() if row[0] == f"`{setting}`")
    assert found == set(re.findall(r"`([^`]+)`", meaning.partition("No effect in ")[2]))


# The encoder's scale -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clap", "clip-adapter"])
@pytest.mark.parametrize("scale", [3.0, 10.0, 30.0])
def test_training_does_not_depend_on_a_scale_of_100(name: str, scale: float, mini: Encoder):
    table = world_table("mini-xray", 210, class_names("mini-xray"))
    task = toy_task(table, shots=5)
    made = frozen(name, scale=scale).adapt(mini, [task])[0]
    untrained = frozen("zero-shot", scale=scale).adapt(mini, [task])[0]
    assert table.labels is not None
    truth = table.labels[task.query]
    right, right_before = (
        (one.logits(table, task.query).argmax(1) == truth).mean() for one in (made, untrained)
    )
    assert made.losses[-1] < 0.8 * made.losses[0]
    assert right > right_before + 0.1


@pytest.mark.parametrize("name", ["clap", "clip-adapter"])
def test_training_at_a_scale_of_100_is_as_published(name: str, monkeypatch: pytest.MonkeyPatch):
    support = dataclasses.replace(drawn(), scale=100.0)
    found = frozen(name).fit(support)
    module = importlib.import_module(f"farshot.methods.{name.replace('-', '_')}")
    monkeypatch.setattr(module, "rate_factor", lambda scale: 1.0)
    as_published = frozen(name).fit(support)
    assert np.array_equal(found.losses, as_published.losses)
    assert all(torch.equal(value, as_published.state[key]) for key, value in found.state.items())


def test_the_rate_follows_the_scale():
    assert [rate_factor(s) for s in (100.0, math.exp(4.6052), 99.99)] == [1.0] * 3
    assert rate_factor(10.0) == pytest.approx(100)
    assert rate_factor(200.0) == pytest.approx(0.25)
    assert rate_factor(1e-30) == rate_factor(1.0)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 20.0, 1000.0])
def test_bd_cspn_weighs_the_members_of_a_class_whatever_the_sharpness(sharpness: float):
    """Against the sum of exponentials in double precision."""
    made, support = frozen("bd-cspn", sharpness=sharpness), drawn()
    state, queries = state_of(made, support), drawn_queries()
    images, labels = state["support"], state["targets"].argmax(-1)
    found = made.scores(queries, state, 1.0)
    every = torch.cat([images, queries + images.mean(0) - queries.mean(0)]).double()
    cosines = F.normalize(every, dim=-1) @ F.normalize(state["means"], dim=-1).double().mT
    own = torch.cat([labels, cosines[len(images) :].argmax(-1)])
    for c in range(N):
        members = own == c
        weights = (sharpness * (cosines[members, c] - cosines[members, c].max())).exp()
        mean = F.normalize((weights / weights.sum()) @ every[members], dim=-1)
        np.testing.assert_allclose(found[:, c], queries.double() @ mean, atol=1e-4)

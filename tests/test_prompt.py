"""The learnable prompt context, and prompts as token ids."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer

from farshot.errors import DataError, SettingError
from farshot.methods import create
from farshot.model.encoder import Encoder
from farshot.model.find import bundled_folder, load_encoder
from farshot.model.tower import Pass
from farshot.parts.prompt import PromptContext
from farshot.task import Task
from farshot.training.loop import finetune
from farshot.training.recipe import SGD, ParameterGroup, Recipe
from tests.toy import toy_task, world_table

TEMPLATE = "a photo of a {}."
TABLE = world_table(count=30)


def prompts(names: list[str], template: str = TEMPLATE) -> list[str]:
    return [template.replace("{}", name) for name in names]


@torch.no_grad()
@pytest.mark.parametrize("template", [TEMPLATE, "an aerial picture of {}, seen from far above", "one {}"])
def test_it_starts_as_the_words_it_takes_the_place_of(mini: Encoder, template):
    ids = mini.prompts([prompts(["mole", "scar on a leg"], template)])
    before = mini.forward_texts(ids).final
    torch.testing.assert_close(
        mini.forward_texts(ids, Pass([PromptContext(mini, [template])])).final, before, rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_it_stands_after_the_start_token_and_leaves_all_else(mini: Encoder):
    part = PromptContext(mini, [TEMPLATE, TEMPLATE])
    assert part.values.shape == (2, 4, mini.width("text"))
    part.values[0] = 1.0
    part.values[1] = 2.0
    tokens = torch.zeros(2, 3, 9, mini.width("text"))
    replaced = part.places()["text.embedding"](tokens, tokens, Pass())
    assert (replaced[0, :, 1:5] == 1).all() and (replaced[1, :, 1:5] == 2).all()
    assert not replaced[:, :, 0].any() and not replaced[:, :, 5:].any()


@torch.no_grad()
def test_every_task_has_its_own(mini: Encoder):
    templates = [TEMPLATE, "photo of a a {}."]
    ids = mini.prompts([prompts(["mole", "scar"])] * 2)
    texts = mini.forward_texts(ids, Pass([PromptContext(mini, templates)])).final
    plain = mini.forward_texts(mini.prompts([prompts(["mole", "scar"], each) for each in templates])).final
    torch.testing.assert_close(texts, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(plain[0], plain[1], atol=1e-2)


def test_it_is_shared_by_the_classes_and_is_all_that_learns(mini: Encoder):
    task = toy_task(TABLE)
    part = PromptContext(mini, [task.template])
    before = part.values.detach().clone()
    group = ParameterGroup([part.values], SGD(lr=0.1, momentum=0.0, weight_decay=0.0))
    finetune(mini, [task], [part], [group], Recipe(steps=1, scale=2.0, views="none"))
    moved = (part.values.detach() - before).abs().amax(-1)
    assert (moved > 0).all()  # each of its vectors
    assert not any(
        weight.requires_grad for weight in (*mini.vision.tensors.values(), *mini.text.tensors.values())
    )


def test_words_to_start_from_are_needed(mini: Encoder):
    with pytest.raises(SettingError, match=r"'\{\} in a photo' needs at least one"):
        PromptContext(mini, [TEMPLATE, "{} in a photo"])


def test_contexts_of_several_lengths_are_adapted_one_after_the_other(mini: Encoder):
    with pytest.raises(SettingError, match=r"have one length, but .* are 1 to 4 tokens"):
        PromptContext(mini, [TEMPLATE, "photo {}."])
    tasks = [toy_task(TABLE), replace(toy_task(TABLE), template="photo {}.")]
    made = create("prompt-lora", {"views": "none", "steps": 1}).adapt(mini, tasks)
    assert [one.parts["context"].length for one in made] == [4, 1]


@torch.no_grad()
def test_it_takes_the_precision_of_the_model():
    half = load_encoder("mini", precision="bf16")
    part = PromptContext(half, [TEMPLATE])
    assert part.values.dtype == torch.float32  # learns in float32
    assert half.forward_texts(half.prompts([prompts(["mole"])]), Pass([part])).final.isfinite().all()


# The words around it --------------------------------------------------------------------------------


def test_a_description_takes_the_place_of_the_name():
    rows = TABLE.draw(1, 0)[0]
    task = Task(TABLE, TABLE.names, rows, TABLE.labels[rows], descriptions={"highway": "wide straight road"})
    assert task.prompts == ["a photo of a wide straight road.", "a photo of a orchard."]


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_names_the_class_exactly_once(template):
    rows = TABLE.draw(1, 0)[0]
    with pytest.raises(DataError, match="exactly once"):
        Task(TABLE, TABLE.names, rows, TABLE.labels[rows], template=template)


def test_prompts_are_as_long_as_the_longest_and_end_with_the_end_token(mini: Encoder):
    ids = mini.prompts([["a dog", "a cat"], ["a mole", "a photo of a mole on a leg"]])
    end = mini.tokenizer.rules.end
    theirs = AutoTokenizer.from_pretrained(bundled_folder("mini"))
    lengths = [
        [len(theirs(p)["input_ids"]) for p in task]
        for task in (["a dog", "a cat"], ["a mole", "a photo of a mole on a leg"])
    ]
    assert (ids.pooled + 1).tolist() == lengths
    assert ids.ids.shape == (2, 2, max(map(max, lengths)))
    for t in range(2):
        for n in range(2):
            assert (ids.ids[t, n, ids.pooled[t, n] :] == end).all()


@pytest.mark.parametrize("name", ["prompt-lora", "atha", "tir", "maple", "coop"])
def test_words_that_run_into_the_class_name_are_refused(name: str, mini: Encoder):
    task = replace(toy_task(TABLE), class_names=("leaf", "tomato"), template="a{}.")
    settings = {"steps": 1, "tokens": 1} if name == "maple" else {"steps": 1, "views": "none"}
    method = create(name, settings | ({"context": 0} if name == "coop" else {}))
    with pytest.raises(SettingError, match=r"In 'atomato\.', .* write a space before \{\} in .* 'a\{\}\.'"):
        method.adapt(mini, [task])


def test_words_before_the_class_name_are_counted_as_they_are_within_the_prompt(mini: Encoder):
    count = mini.tokenizer.words_before
    assert [count("a{}", f"a{name}") for name in ("tomato", "leaf", "-x", " tomato")] == [0, 1, 1, 1]
    assert count("a photo of a {}.", "a photo of a tomato.") == 4
    assert count("  a   photo of '{}'", "  a   photo of 'tomato'") == 4
    assert count("{} texture", "tomato texture") == 0

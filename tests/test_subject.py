"""Adapted models as explanations use them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from farshot.errors import SettingError
from farshot.explain import Domain, domain_similarity, similarity_curves, state_similarity, subject
from farshot.explain.lens import Ask, views
from farshot.methods import create
from farshot.model.encoder import Encoder
from farshot.parts.merging import merged
from tests.toy import toy_task, world_table

TABLE = world_table(count=40)
TASK = replace(toy_task(TABLE), template="a centered satellite photo taken from the air of a {}.")


@pytest.mark.parametrize("name", ["coop", "atha+coop", "prompt-lora", "maple"])
def test_texts_of_the_models_classes_are_its_own_for_a_template_of_another_length(name: str, mini: Encoder):
    name, _, base = name.partition("+")
    settings = {"steps": 1, "views": "none"} | ({"base": base} if base else {})
    (made,) = create(name, settings).adapt(mini, [TASK])
    restored = create(name, settings).restore(mini, TASK, made.tensors())
    for adapted in (made, restored):
        found = subject(adapted, mini).texts_of(TABLE.names).final[0]  # by the default template
        torch.testing.assert_close(found, made.class_directions(), rtol=0, atol=1e-5)
        assert float(F.cosine_similarity(found[0], found[1], dim=0)) < 0.999


@pytest.mark.parametrize("name", ["coop", "atha+coop"])
def test_the_context_of_a_class_is_used_for_no_other_class(name: str, mini: Encoder):
    name, _, base = name.partition("+")
    settings = {"steps": 1, "views": "none", "class_specific": True} | ({"base": base} if base else {})
    (made,) = create(name, settings).adapt(mini, [TASK])
    model, few = subject(made, mini), TABLE.subset(range(4))
    torch.testing.assert_close(model.texts_of(TABLE.names).final[0], model.directions, rtol=0, atol=1e-5)
    own = Domain("own", few, TABLE.names)
    assert similarity_curves({"after": model}, [own], 0)["after", "own"].mean[0] > 0
    for names in (TABLE.names[:1], TABLE.names[::-1], tuple(map(str, range(len(TABLE.names))))):
        other = Domain("other", few, names)
        for call in (
            partial(similarity_curves, {"after": model}, [other], 0),
            partial(domain_similarity, {"after": model}, own, other),
            partial(state_similarity, {"after": model}, other, reference="after"),
        ):
            with pytest.raises(SettingError, match="a context for each of its classes"):
                call()


def test_without_a_learned_context_the_given_template_is_used(mini: Encoder):
    (made,) = create("clip-lora", {"steps": 1}).adapt(mini, [TASK])
    found = subject(made, mini)
    torch.testing.assert_close(
        found.texts_of(TABLE.names, TASK.template).final[0], found.directions, rtol=0, atol=1e-5
    )
    assert not torch.allclose(found.texts_of(TABLE.names).final[0], found.directions, atol=1e-2)


@pytest.mark.parametrize(("name", "settings"), [("prolip", {}), ("full", {"views": "none"}), ("bitfit", {})])
def test_patches_are_read_out_with_what_was_trained(name: str, settings: dict[str, str], mini: Encoder):
    (made,) = create(name, {"steps": 2, "lr": 0.01, **settings}).adapt(mini, [TASK])
    last, found = mini.vision_depth - 1, subject(made, mini)
    view = next(views(found, TABLE, Ask(tokens=(last,)), rows=[0, 1]))
    trained = merged(mini, made.parts)[0].vision.read_tokens(view.tokens[last])
    frozen = mini.vision.read_tokens(view.tokens[last])
    directions = F.normalize(found.directions, dim=-1)
    right, wrong = (F.normalize(seen, dim=-1) @ directions.mT for seen in (trained, frozen))
    torch.testing.assert_close(view.similarity, right, rtol=0, atol=1e-5)
    assert (view.similarity - wrong).abs().max() > 1e-3


def test_embeddings_need_no_text_tower(mini: Encoder):
    bare = Encoder(
        mini.vision, None, None, preprocessing=mini.preprocessing, log_scale=4.6, origin=mini.origin
    )
    (made,) = create("prototypes").adapt(bare, [TASK])
    one = Domain("one", TABLE.subset(range(4)), TABLE.names)
    model, whole = subject(made, bare), subject(create("prototypes").adapt(mini, [TASK])[0], mini)
    assert domain_similarity({"bare": model}, one, one) == pytest.approx({"bare": 1.0})
    assert state_similarity({"a": model, "b": whole}, one, reference="a") == pytest.approx({"b": 1.0})

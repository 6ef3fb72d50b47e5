"""The operator against a loop written from its definition (docs/method.md), and its gradients."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch.autograd import gradcheck

from farshot.errors import SettingError
from farshot.model.encoder import Encoder
from farshot.model.tower import Pass, TextFeatures
from farshot.parts.alignment import (
    HeadTailAlignment,
    align_tokens,
    choose_tokens,
    patch_class_similarity,
    token_count,
)
from farshot.parts.anchors import inverted_anchors, transposed_anchors

MARGIN = 1e-5  # similarities closer than this may sort either way in float32


def loop(
    tokens: np.ndarray, anchors: np.ndarray, pull: float, push: float, rho: float, gamma: float
) -> np.ndarray:
    """The definition, one token at a time, in float64."""
    out = tokens.astype(np.float64).copy()
    for b, image in enumerate(tokens.astype(np.float64)):
        similarity = [[_cosine(v, a) for a in anchors.astype(np.float64)] for v in image]
        most = [max(row) for row in similarity]
        order = sorted(range(len(image)), key=lambda i: -most[i])
        for i in order[: math.floor(rho * len(image) + 1e-9)]:
            out[b, i] += pull * anchors[similarity[i].index(max(similarity[i]))]
        for i in order[len(image) - math.floor(gamma * len(image) + 1e-9) :]:
            out[b, i] -= push * anchors[similarity[i].index(min(similarity[i]))]
    return out


def _cosine(v: np.ndarray, a: np.ndarray) -> float:
    return float(v @ a / (np.linalg.norm(v) * np.linalg.norm(a)))


def clear(tokens: np.ndarray, anchors: np.ndarray) -> bool:
    """No two similarities that matter are within the margin."""
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    similarity = unit(tokens.astype(np.float64)) @ unit(anchors.astype(np.float64)).T
    ranked = np.sort(similarity.max(-1), axis=-1)
    classes = np.sort(similarity, axis=-1)
    gaps = [np.diff(ranked, axis=-1), np.diff(classes, axis=-1)]
    return all(gap.size == 0 or gap.min() > MARGIN for gap in gaps)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(2, 9),
    st.integers(1, 6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.integers(0, 2**32 - 1),
)
def test_the_operator_is_the_loop(images, patches, width, classes, rho, share, pull, push, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((images, patches, width)).astype(np.float32)
    anchors = rng.standard_normal((classes, width)).astype(np.float32)
    gamma = share * (1 - rho)
    assume(clear(tokens, anchors))
    found = align_tokens(
        torch.from_numpy(tokens),
        torch.from_numpy(anchors),
        torch.tensor(pull),
        torch.tensor(push),
        rho,
        gamma,
    )
    np.testing.assert_allclose(found.numpy(), loop(tokens, anchors, pull, push, rho, gamma), atol=1e-5)


def test_tasks_are_aligned_with_their_own_anchors_and_strengths():
    g = torch.Generator().manual_seed(0)
    tokens, anchors = torch.randn(3, 2, 10, 8, generator=g), torch.randn(3, 4, 8, generator=g)
    pull, push = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.1, 0.2, -0.3])
    together = align_tokens(tokens, anchors, pull, push, 0.3, 0.2)
    for t in range(3):
        alone = align_tokens(tokens[t], anchors[t], pull[t], push[t], 0.3, 0.2)
        torch.testing.assert_close(together[t], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_leading_dimensions_broadcast(lead):
    """Tokens of many tasks with one set of anchors and strengths; one set of tokens with those of many."""
    g = torch.Generator().manual_seed(4)
    tokens, anchors = torch.randn(2, 10, 8, generator=g), torch.randn(4, 8, generator=g)
    pull, push = torch.tensor(0.7), torch.tensor(0.4)
    alone = align_tokens(tokens, anchors, pull, push, 0.3, 0.2)
    wide = {
        "tokens": (tokens.expand(*lead, 2, 10, 8), anchors, pull, push),
        "anchors": (tokens, anchors.expand(*lead, 4, 8), pull, push),
        "strengths": (tokens, anchors, pull.expand(lead), push.expand(lead)),
        "one of them": (tokens, anchors, pull.expand(lead), push),
        "all": (tokens.expand(*lead, 2, 10, 8), anchors.expand(*lead, 4, 8), pull.expand(lead), push),
    }
    for inputs in wide.values():
        found = align_tokens(*inputs, 0.3, 0.2)
        assert found.shape == (*lead, 2, 10, 8)
        torch.testing.assert_close(found, alone.expand_as(found), rtol=0, atol=1e-6)


def test_similarities_are_taken_in_float32_whatever_the_tokens_are():
    """In bfloat16, of 8 bits, these two anchors would be as similar to the token as one another."""
    token, near, far = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.001]), torch.tensor([1.0, 0.01])
    similarity = patch_class_similarity(token.bfloat16().view(1, 1, 2), torch.stack([far, near]))
    assert similarity.dtype == torch.float32
    assert similarity[0, 0, 1] > similarity[0, 0, 0]
    moved = align_tokens(
        token.bfloat16().view(1, 1, 2),
        torch.stack([far, near]),
        torch.tensor(1.0),
        torch.tensor(0.0),
        1.0,
        0.0,
    )
    assert moved.dtype == torch.bfloat16


def test_tokens_between_head_and_tail_pass_unchanged_and_length_does_not_choose():
    g = torch.Generator().manual_seed(5)
    tokens, anchors = torch.randn(2, 20, 8, generator=g), torch.randn(3, 8, generator=g)
    one = torch.tensor(1.0)
    moved = (align_tokens(tokens, anchors, one, one, 0.25, 0.25) != tokens).any(-1)
    assert moved.sum(-1).tolist() == [10, 10]
    longer = tokens * (1 + 9 * torch.rand(2, 20, 1, generator=g))
    assert torch.equal((align_tokens(longer, anchors, one, one, 0.25, 0.25) != longer).any(-1), moved)


def test_the_choice_is_not_differentiated():
    tokens = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(6), requires_grad=True)
    anchors = torch.randn(3, 4, generator=torch.Generator().manual_seed(7), requires_grad=True)
    assert not patch_class_similarity(tokens, anchors).requires_grad
    align_tokens(tokens, anchors, torch.tensor(0.8), torch.tensor(0.3), 0.5, 0.5).sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))  # a token moves itself along, nothing else


def test_gradients_of_several_tasks_agree_with_finite_differences():
    g = torch.Generator().manual_seed(8)
    kind = {"generator": g, "dtype": torch.float64, "requires_grad": True}
    tokens, anchors = torch.randn(2, 2, 5, 3, **kind), torch.randn(2, 3, 3, **kind)
    pull, push = torch.randn(2, **kind), torch.randn((), **kind)
    assert gradcheck(lambda *x: align_tokens(*x, 0.4, 0.4), (tokens, anchors, pull, push), eps=1e-7)


def test_gradients_agree_with_finite_differences():
    g = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, 6, 4, generator=g, dtype=torch.float64, requires_grad=True)
    anchors = torch.randn(3, 4, generator=g, dtype=torch.float64, requires_grad=True)
    pull = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    push = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    # steps far below the gaps between similarities: the choice stays what it is
    assert gradcheck(lambda *x: align_tokens(*x, 0.34, 0.34), (tokens, anchors, pull, push), eps=1e-7)


def test_equal_tokens_are_taken_in_order_and_equal_classes_by_lowest_index():
    choice = choose_tokens(torch.zeros(1, 5, 3), 0.4, 0.4)
    assert choice.head.tolist() == [[True, True, False, False, False]]
    assert choice.tail.tolist() == [[False, False, False, True, True]]
    assert choice.nearest.unique().tolist() == choice.farthest.unique().tolist() == [0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=12), st.floats(0, 0.5)
)
def test_ties_are_broken_as_by_one_stable_sort(rows, ratio):
    similarity = torch.tensor(rows, dtype=torch.float32)[None]
    choice, count = choose_tokens(similarity, ratio, ratio), math.floor(ratio * len(rows) + 1e-9)
    order = sorted(range(len(rows)), key=lambda i: -max(rows[i]))  # Python's sort is stable
    assert set(choice.head[0].nonzero()[:, 0].tolist()) == set(order[:count])
    assert set(choice.tail[0].nonzero()[:, 0].tolist()) == set(order[len(order) - count :])
    assert choice.nearest[0].tolist() == [row.index(max(row)) for row in rows]
    assert choice.farthest[0].tolist() == [row.index(min(row)) for row in rows]


@pytest.mark.parametrize(
    ("ratio", "patches", "count"), [(0.3, 10, 3), (0.1, 196, 19), (0.29, 10, 2), (1, 7, 7), (0, 7, 0)]
)
def test_the_number_of_tokens_is_the_floor(ratio, patches, count):
    assert token_count(ratio, patches) == count


@pytest.mark.parametrize(("head", "tail"), [(-0.1, 0.2), (0.6, 0.5), (0.2, 1.1)])
def test_shares_that_overlap_are_refused(head, tail):
    with pytest.raises(SettingError, match="shares of head and tail"):
        choose_tokens(torch.zeros(1, 5, 3), head, tail)


def test_paper_anchors_are_layer_norm_times_the_transposed_projection(mini: Encoder):
    texts = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(2))
    t = texts.double()
    normed = (t - t.mean(-1, keepdim=True)) / (t.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    found = transposed_anchors(texts, mini.projection)
    torch.testing.assert_close(found, (normed @ mini.projection.double().T).float(), rtol=1e-4, atol=1e-4)


def test_released_anchors_undo_projection_and_norm(mini: Encoder):
    texts = torch.randn(1, 3, 128, generator=torch.Generator().manual_seed(3))
    weight, bias = torch.rand(128) + 0.5, torch.randn(128)
    found = inverted_anchors(texts, mini.inverse_projection, weight, bias)
    # an anchor, scaled by the norm's affine map and projected, is the text again (W has full rank)
    torch.testing.assert_close((found * weight + bias) @ mini.projection, texts, rtol=1e-3, atol=1e-3)


def test_the_class_token_never_moves(mini: Encoder):
    part = HeadTailAlignment(
        mini, [7], anchors="paper", pull=[0.8] * 12, push=[0.3] * 12, head_ratio=0.5, tail_ratio=0.5
    )
    texts = TextFeatures(
        *(torch.randn(1, 4, 128, generator=torch.Generator().manual_seed(s)) for s in (4, 5))
    )
    tokens = torch.randn(1, 2, 65, 128, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        moved = part.places()["vision.3.input"](tokens, tokens, Pass(texts=texts))
    assert torch.equal(moved[:, :, 0], tokens[:, :, 0])
    assert (moved[:, :, 1:] != tokens[:, :, 1:]).any(-1).all()


def test_random_tokens_depend_on_task_image_and_block_only(mini: Encoder):
    def head(task: int, image: int, block: int) -> torch.Tensor:
        part = HeadTailAlignment(
            mini,
            [task],
            anchors="paper",
            pull=[0.0] * 12,
            push=[0.0] * 12,
            head_ratio=0.3,
            tail_ratio=0.2,
            random=True,
        )
        this = Pass(images=torch.tensor([[image]]))
        return part.choose(torch.ones(1, 1, 64, 128), torch.ones(1, 2, 128), block, this).head

    assert torch.equal(head(1, 5, 2), head(1, 5, 2))
    for other in (head(2, 5, 2), head(1, 6, 2), head(1, 5, 3)):
        assert not torch.equal(head(1, 5, 2), other)

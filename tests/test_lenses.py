"""Lenses for research agree with the textbook, and with what is counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from farshot.explain import (
    Domain,
    attention_entropy,
    class_token_entropy,
    domain_cka,
    domain_similarity,
    draw_class_token_entropy,
    draw_similarities,
    draw_similarity_curves,
    draw_strengths,
    draw_token_agreement,
    explain_images,
    learned_strengths,
    linear_cka,
    outline_truth,
    panels,
    similarity_curves,
    state_similarity,
    token_agreement,
)
from farshot.world import generate
from tests.explain_helpers import SHORT, WORLD, adapted, images_of, seen


def textbook_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 3: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), linear kernels."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ centre @ m @ centre)) / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_linear_cka_is_the_textbooks() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 7)), generator.normal(size=(40, 5))
    y[:, :3] += x[:, :3]
    assert linear_cka(x, y) == pytest.approx(textbook_cka(x, y), rel=1e-10)
    turn = np.linalg.qr(generator.normal(size=(7, 7)))[0]
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    with pytest.raises(ValueError, match="40 and 39 rows"):
        linear_cka(x, y[1:])
    assert np.isnan(linear_cka(x, np.ones((40, 2))))


def test_domain_cka_needs_no_partners() -> None:
    generator = np.random.default_rng(1)
    source, target = generator.normal(size=(30, 6)), generator.normal(size=(50, 6))
    value = domain_cka(source, target)
    assert value == pytest.approx(textbook_cka(source.T, target.T), rel=1e-10)
    assert domain_cka(source, target[::-1]) == pytest.approx(value)
    assert domain_cka(source, source) == pytest.approx(1)


def test_entropy_is_scipys() -> None:
    weights = torch.rand(2, 3, 17, generator=torch.Generator().manual_seed(0)).softmax(-1)
    np.testing.assert_allclose(attention_entropy(weights), stats.entropy(weights, axis=-1), rtol=1e-5)
    assert attention_entropy(torch.tensor([0.0, 1.0])).item() == 0
    assert attention_entropy(torch.full((8,), 1 / 8)).item() == pytest.approx(np.log(8))


def test_class_token_entropy_has_a_number_per_block_and_head(
    zero_shot: FewShotClassifier, queries: ImageTable
) -> None:
    found = class_token_entropy(seen(zero_shot), queries)
    assert found.shape == (12, 2)
    assert ((found > 0) & (found < np.log(65))).all()
    assert draw_class_token_entropy({"zero-shot": found}).axes[0].lines[0].get_ydata()[3] == found[3].mean()


def test_similarity_curves_fall_and_are_those_of_each_state(
    atha: FewShotClassifier, zero_shot: FewShotClassifier, queries: ImageTable
) -> None:
    source = images_of("photo", range(5))
    domains = [Domain("photo", source, source.names), Domain("crops", queries, queries.names)]
    curves = similarity_curves({"before": seen(zero_shot), "atha": seen(atha)}, domains, 9)
    assert set(curves) == {(s, d) for s in ("before", "atha") for d in ("photo", "crops")}
    for curve in curves.values():
        assert len(curve.mean) == 64
        assert (curve.mean.diff() <= 0).all()
        assert ((curve.low <= curve.mean + 1e-9) & (curve.mean <= curve.high + 1e-9)).any()
    # after the pull before block 7, the head differs more than before adaptation
    assert curves["atha", "crops"].mean[0] > curves["before", "crops"].mean[0]
    drawn = draw_similarity_curves(curves)
    assert [axes.get_title() for axes in drawn.axes] == ["photo", "crops"]


def test_cka_of_domains_and_states(atha: FewShotClassifier, zero_shot: FewShotClassifier, queries) -> None:
    states = {"before": seen(zero_shot), "same": seen(zero_shot), "atha": seen(atha)}
    source = images_of("photo", range(8))
    domain = Domain("crops", queries, queries.names)
    between = domain_similarity(states, Domain("photo", source, source.names), domain)
    assert between["before"] == between["same"] != between["atha"]
    assert all(0 <= value <= 1 for value in between.values())
    own = state_similarity(states, domain, reference="before")
    assert own["same"] == pytest.approx(1)
    assert own["atha"] < 1
    labels = [label.get_text() for label in draw_similarities(between).axes[0].get_yticklabels()]
    assert labels == ["atha", "same", "before"]


def test_strengths_are_read_with_their_sign(zero_shot: FewShotClassifier) -> None:
    turned = adapted("atha", **SHORT, fixed=True, push=-0.5)
    found = learned_strengths(seen(turned))
    assert found.blocks == tuple(range(12))
    np.testing.assert_allclose(found.push, -0.5)
    assert found.pull[7] == pytest.approx(0.8)
    assert found.turned()[0] == "push before block 0 is -0.500: it pulls"
    assert len(found.turned()) == 12
    assert len(draw_strengths({"turned": found}).axes) == 2
    shown = panels(next(explain_images(seen(turned), images_of(WORLD, range(1)), blocks=[7])))[-1]
    assert "head tokens moved towards" in shown.alt
    assert "tail tokens moved towards" in shown.alt  # a negative push pulls
    with pytest.raises(SettingError, match="this has none"):
        learned_strengths(seen(zero_shot))


def test_agreement_with_the_truth_is_counted_by_hand(atha: FewShotClassifier) -> None:
    indices = range(100, 106)
    drawn = generate(WORLD, "test", indices)
    found = token_agreement(seen(atha), WORLD, indices, [7])
    shown = explain_images(seen(atha), images_of(WORLD, indices), blocks=[7])
    heads = [truth.ravel()[one.moved[0].head] >= 0 for truth, one in zip(drawn.truth, shown, strict=True)]
    assert found[7].head_on_class == pytest.approx(np.concatenate(heads).mean())
    assert found[7].class_share == pytest.approx((drawn.truth >= 0).mean())
    assert len(draw_token_agreement({"atha": found}).axes) == 2


def test_the_truth_is_outlined_where_it_is(atha: FewShotClassifier) -> None:
    explanation = next(explain_images(seen(atha), images_of(WORLD, range(1))))
    drawn = panels(explanation)[0]
    truth = np.full((8, 8), -1)
    truth[2:4, 3] = 5
    marked = outline_truth(drawn, truth)
    changed = np.asarray(marked.picture) != np.asarray(drawn.picture)
    rows, columns = np.nonzero(changed.any(-1))
    assert (rows.min(), columns.min()) == pytest.approx((80, 120), abs=3)
    assert (rows.max(), columns.max()) == pytest.approx((160, 160), abs=3)
    assert not changed[90:110, 130:150].any()  # the inside stays
    assert "patches that show the class" in marked.alt


def test_without_alignment_agreement_is_that_of_would_be_tokens(zero_shot: FewShotClassifier) -> None:
    found = token_agreement(seen(zero_shot), WORLD, range(100, 110), [0, 11])
    assert list(found) == [0, 11]
    assert 0 <= found[11].head_on_class <= 1
    with pytest.raises(DataError, match="None of these images of mini-skin"):
        token_agreement(seen(zero_shot), "mini-skin", range(3))

"""Methods on frozen features compute what their papers say: each against an independent computation."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch.nn import functional as F

from farshot.methods.clap import multipliers
from farshot.methods.frozen import Support
from farshot.methods.tip_adapter import ALPHAS, BETAS
from tests.features import (
    SCALE,
    E,
    N,
    as_tensor,
    drawn,
    frozen,
    numpy_of,
    queries,
    scores,
    state_of,
    zero_shot_scores,
)

# prototypes ----------------------------------------------------------------------------------------------


def test_prototypes_of_one_shot_are_the_nearest_neighbour():
    support, images = drawn(shots=1), queries(50)
    neighbour = KNeighborsClassifier(1, metric="cosine").fit(
        support.images[0].numpy(), support.labels[0].numpy()
    )
    found = scores(frozen("prototypes"), support, images).argmax(1)
    assert np.array_equal(found, neighbour.predict(images.numpy()))


def test_prototypes_are_class_means():
    support, images = drawn(), queries()
    features, labels, _, _ = numpy_of(support)
    means = np.stack([features[labels == c].mean(0) for c in range(N)])
    cosines = images.numpy() @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(scores(frozen("prototypes"), support, images), SCALE * cosines, atol=1e-4)


# simpleshot ----------------------------------------------------------------------------------------------


def test_simpleshot_is_the_nearest_mean_of_centred_features():
    """CL2N by scikit-learn's nearest centroid."""
    support, images = drawn(shots=4), queries(50)
    features, labels, _, _ = numpy_of(support)
    centre = np.mean([features[labels == c].mean(0) for c in range(N)], axis=0)

    def centred(rows):
        return (rows - centre) / np.linalg.norm(rows - centre, axis=1, keepdims=True)

    theirs = NearestCentroid().fit(centred(features), labels)
    found = scores(frozen("simpleshot"), support, images)
    assert np.array_equal(found.argmax(1), theirs.predict(centred(images.double().numpy())))
    distances = np.linalg.norm(centred(images.double().numpy())[:, None] - theirs.centroids_, axis=2) ** 2
    np.testing.assert_allclose(found, -SCALE / 2 * distances, atol=1e-4)


# bd-cspn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_bd_cspn_rectifies_the_means_image_by_image(sharpness):
    support, images = drawn(), queries(20)
    features, labels, _, _ = numpy_of(support)
    asked = images.double().numpy()
    shifted = asked + features.mean(0) - asked.mean(0)
    means = [features[labels == c].mean(0) for c in range(N)]

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    guessed = [max(range(N), key=lambda c: cosine(x, means[c])) for x in shifted]
    rectified = []
    for c in range(N):
        mine = [x for x, j in zip(features, labels, strict=True) if j == c]
        mine += [x for x, j in zip(shifted, guessed, strict=True) if j == c]
        weights = [np.exp(sharpness * cosine(x, means[c])) for x in mine]
        rectified.append(np.average(mine, axis=0, weights=weights))
    expected = [[SCALE * cosine(x, mean) for mean in rectified] for x in asked]
    found = scores(frozen("bd-cspn", sharpness=sharpness), support, images)
    np.testing.assert_allclose(found, expected, atol=1e-4)


# tim -----------------------------------------------------------------------------------------------------


def test_tim_starts_at_the_distances_to_the_class_means():
    support, images = drawn(), queries(20)
    features, labels, _, _ = numpy_of(support)
    means = np.stack([features[labels == c].mean(0) for c in range(N)])
    distances = np.linalg.norm(images.numpy()[:, None] - means, axis=2) ** 2
    found = scores(frozen("tim", steps=0), support, images)
    np.testing.assert_allclose(found, -7.5 * distances, atol=1e-4)


def test_tim_takes_adam_steps_on_its_loss():
    """The loss in NumPy, its gradient by differences, Adam written out."""
    support, images = drawn(), queries(20)
    features, labels, _, _ = numpy_of(support)
    asked = images.double().numpy()

    def logits(rows, weights):
        return -7.5 * ((rows[:, None] - weights) ** 2).sum(2)

    def loss(weights):
        known = log_softmax(logits(features, weights), axis=1)[np.arange(len(labels)), labels]
        p = softmax(logits(asked, weights), axis=1)
        mean = p.mean(0)
        marginal, conditional = -(mean * np.log(mean)).sum(), -(p * np.log(p)).sum(1).mean()
        return -0.1 * known.mean() - (marginal - 0.1 * conditional)

    weights = np.stack([features[labels == c].mean(0) for c in range(N)])
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 6):
        slope = np.zeros_like(weights)
        for place in np.ndindex(*weights.shape):
            away = np.zeros_like(weights)
            away[place] = 1e-6
            slope[place] = (loss(weights + away) - loss(weights - away)) / 2e-6
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        weights = weights - 0.01 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    found = scores(frozen("tim", steps=5, lr=0.01), support, images)
    np.testing.assert_allclose(found, logits(asked, weights), atol=2e-3)


# ss-text ---------------------------------------------------------------------------------------------------


def test_ss_text_adds_the_text_as_one_example():
    support, images = drawn(), queries()
    features, labels, _, texts = numpy_of(support)
    mu = np.stack([SCALE * features[labels == c].sum(0) + texts[c] for c in range(N)])
    cosines = images.numpy() @ (mu / np.linalg.norm(mu, axis=1, keepdims=True)).T
    np.testing.assert_allclose(scores(frozen("ss-text"), support, images), SCALE * cosines, atol=1e-4)


def test_ss_text_plus_weighs_classes_by_size_and_repels_them():
    whole, images = drawn(shots=4), queries()
    kept = [0, 1, 2, 3, 4, 6, 9]  # four, two and one image
    support = Support(whole.images[:, kept], whole.labels[:, kept], whole.texts, whole.keys, 1, SCALE)
    features, labels, _, texts = numpy_of(support)
    assert np.bincount(labels).tolist() == [4, 2, 1]
    mu = np.stack(
        [
            (labels == c).mean() * SCALE * sum(features[i] for i in range(7) if labels[i] == c) + texts[c]
            for c in range(N)
        ]
    )
    away = [2 * mu[c] - sum(mu) / N for c in range(N)]
    mu = np.stack([mu[c] - away[c] / np.linalg.norm(away[c]) for c in range(N)])
    cosines = images.numpy() @ (mu / np.linalg.norm(mu, axis=1, keepdims=True)).T
    np.testing.assert_allclose(scores(frozen("ss-text+"), support, images), SCALE * cosines, atol=1e-4)


# linear-probe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [0.5, 31.6])
def test_linear_probe_from_zero_is_that_of_scikit_learn(C):
    support = drawn()
    features, labels, _, _ = numpy_of(support)
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-9, max_iter=10_000).fit(features, labels)
    ours = state_of(frozen("linear-probe", start="zero", C=C), support)["weights"]
    np.testing.assert_allclose(ours.numpy(), theirs.coef_, atol=1e-3)


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_linear_probe_weighs_classes_of_unequal_size_as_scikit_learn_does(class_weight):
    whole, kept = drawn(shots=6), [0, 1, 2, 3, 4, 6, 9, 12, 15]  # six, two and one image
    support = Support(whole.images[:, kept], whole.labels[:, kept], whole.texts, whole.keys, 1, SCALE)
    features, labels, _, _ = numpy_of(support)
    assert np.bincount(labels).tolist() == [6, 2, 1]
    weight = "balanced" if class_weight == "balanced" else None
    theirs = LogisticRegression(C=3.0, fit_intercept=False, tol=1e-9, max_iter=10_000, class_weight=weight)
    theirs.fit(features, labels)
    ours = state_of(frozen("linear-probe", start="zero", C=3.0, class_weight=class_weight), support)[
        "weights"
    ]
    np.testing.assert_allclose(ours.numpy(), theirs.coef_, atol=1e-3)


def test_linear_probe_ends_where_penalty_and_images_balance():
    support = drawn()
    features, _, targets, texts = numpy_of(support)
    weights = state_of(frozen("linear-probe", C=2.0), support)["weights"].double().numpy()
    pull = 2.0 * (targets - softmax(features @ weights.T, axis=1)).T @ features
    np.testing.assert_allclose(weights - SCALE * texts, pull, atol=1e-4)


def test_linear_probe_that_hardly_looks_at_images_is_zero_shot():
    support, images = drawn(), queries()
    found = scores(frozen("linear-probe", C=1e-6), support, images)
    np.testing.assert_allclose(found, zero_shot_scores(support, images), atol=1e-4)


# tip-adapter ---------------------------------------------------------------------------------------------


def tip(images, keys, targets, texts, alpha, beta) -> np.ndarray:
    """Tip-Adapter's logits, written out one by one."""
    out = SCALE * images @ texts.T
    for q, image in enumerate(images):
        for key, target in zip(keys, targets, strict=True):
            out[q] += alpha * np.exp(-beta * (1 - image @ key)) * target
    return out


def test_tip_adapter_is_its_formula():
    support, images = drawn(), queries()
    features, _, targets, texts = numpy_of(support)
    expected = tip(images.double().numpy(), features, targets, texts, 1.7, 3.0)
    np.testing.assert_allclose(
        scores(frozen("tip-adapter", alpha=1.7, beta=3.0), support, images), expected, atol=1e-4
    )


def test_tip_adapters_rule_takes_the_pair_that_predicts_left_out_images_best():
    support = drawn(shots=2, seed=3)
    features, labels, targets, texts = numpy_of(support)
    fold = np.repeat([0, 1], N)  # `drawn` goes round the classes once for each shot
    best = None
    for alpha in ALPHAS:
        for beta in BETAS:
            loss = 0.0
            for f in (0, 1):
                logits = tip(features[fold == f], features[fold != f], targets[fold != f], texts, alpha, beta)
                loss -= log_softmax(logits, axis=1)[np.arange(N), labels[fold == f]].sum()
            best = min(best or (np.inf,), (loss, alpha, beta))
    state = state_of(frozen("tip-adapter"), support)
    assert (float(state["alpha"]), float(state["beta"])) == pytest.approx(best[1:])


def test_tip_adapters_rule_keeps_what_is_given_and_has_constants_at_one_shot():
    state = state_of(frozen("tip-adapter", alpha=2.5), drawn())
    assert float(state["alpha"]) == 2.5 and float(state["beta"]) == pytest.approx(
        min(BETAS, key=lambda b: abs(b - float(state["beta"])))
    )
    state = state_of(frozen("tip-adapter"), drawn(shots=1))
    assert (float(state["alpha"]), float(state["beta"])) == (1.0, 5.5)
    state = state_of(frozen("tip-adapter", beta=3.0), drawn(shots=1))
    assert (float(state["alpha"]), float(state["beta"])) == (1.0, 3.0)


def test_tip_adapter_f_takes_the_first_step_that_its_gradient_says():
    support, lr, decay, eps = drawn(), 0.01, 0.1, 1e-4
    settings = {"alpha": 1.5, "beta": 2.0, "steps": 1, "lr": lr, "weight_decay": decay, "eps": eps}
    features, labels, targets, texts = numpy_of(support)
    logits = tip(features, features, targets, texts, 1.5, 2.0)
    wrong = (softmax(logits, axis=1) - targets) / len(labels)
    cached = np.exp(-2.0 * (1 - features @ features.T))
    slope = 1.5 * 2.0 * ((wrong @ targets.T) * cached).T @ features
    # AdamW's first step: the moments are corrected to the gradient itself
    expected = features * (1 - lr * decay) - lr * slope / (np.abs(slope) + eps)
    fitted = frozen("tip-adapter-f", **settings).fit(support)
    np.testing.assert_allclose(fitted.state["keys"][0].detach().numpy(), expected, atol=1e-5)
    expected_loss = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
    assert fitted.losses is not None and fitted.losses[0, 0] == pytest.approx(expected_loss, abs=1e-5)


def test_tip_adapter_f_untrained_is_tip_adapter():
    support, images = drawn(), queries()
    still = frozen("tip-adapter-f", lr=0.0)
    np.testing.assert_allclose(scores(still, support, images), scores(frozen("tip-adapter"), support, images))


# clip-adapter --------------------------------------------------------------------------------------------


def test_clip_adapter_takes_the_first_step_that_its_gradient_says():
    support, lr, ratio = drawn(), 0.002, 0.4
    rate = lr * (100 / SCALE) ** 2
    features, labels, targets, texts = numpy_of(support)
    still = frozen("clip-adapter", steps=1, lr=0.0, ratio=ratio)
    start = {k: v.double().numpy() for k, v in state_of(still, support).items()}
    hidden = np.maximum(features @ start["down"].T, 0)
    out = np.maximum(hidden @ start["up"].T, 0)
    mixed = ratio * out + (1 - ratio) * features
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    unit = mixed / length
    logits = SCALE * unit @ texts.T
    np.testing.assert_allclose(scores(still, support, support.images[0]), logits, atol=1e-4)
    by_unit = SCALE * (softmax(logits, axis=1) - targets) / len(labels) @ texts
    by_out = ratio * (out > 0) * (by_unit - (by_unit * unit).sum(1, keepdims=True) * unit) / length
    by_hidden = (hidden > 0) * (by_out @ start["up"])
    found = state_of(frozen("clip-adapter", steps=1, lr=lr, ratio=ratio, weight_decay=0.0), support)
    np.testing.assert_allclose(found["up"].numpy(), start["up"] - rate * by_out.T @ hidden, atol=1e-5)
    np.testing.assert_allclose(
        found["down"].numpy(), start["down"] - rate * by_hidden.T @ features, atol=1e-5
    )


def test_clip_adapter_of_share_zero_is_zero_shot_and_length_does_not_matter():
    support, images = drawn(), queries()
    found = scores(frozen("clip-adapter", ratio=0.0, steps=2), support, images)
    np.testing.assert_allclose(found, zero_shot_scores(support, images), atol=1e-4)
    method = frozen("clip-adapter", steps=2)
    np.testing.assert_allclose(
        scores(method, support, 10 * images), scores(method, support, images), atol=1e-4
    )


# lp++ ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lp_plus_plus_is_its_algorithm(momentum):
    support, steps = drawn(), 25
    features, labels, targets, texts = numpy_of(support)
    count = len(labels)
    weights = np.stack([features[labels == c].sum(0) for c in range(N)])
    cosines = features @ texts.T
    blend = np.full(N, 250 * np.mean([cosines[labels == c, c].mean() for c in range(N)]))
    rate = 4 * count / np.linalg.eigvalsh(features.T @ features).max()
    blend_rate = count / (4 * (cosines**2).sum(0).max())
    velocity = np.zeros_like(weights)
    for step in range(1, steps + 1):
        wrong = (softmax(features @ weights.T + cosines * blend, axis=1) - targets) / count
        velocity = momentum * velocity + wrong.T @ features
        weights = weights - rate * velocity
        if step % 10 == 0:
            blend = blend - blend_rate * (wrong * cosines).sum(0)
    state = state_of(frozen("lp++", steps=steps, momentum=momentum), support)
    np.testing.assert_allclose(state["weights"].numpy(), weights, atol=2e-3)
    np.testing.assert_allclose(state["blend"].numpy(), blend, atol=2e-3)
    images = queries()
    expected = images.double().numpy() @ (weights + blend[:, None] * texts).T
    np.testing.assert_allclose(
        scores(frozen("lp++", steps=steps, momentum=momentum), support, images), expected, atol=5e-3
    )


def test_lp_plus_plus_never_climbs():
    losses = frozen("lp++", steps=60).fit(drawn()).losses
    assert losses is not None
    assert all((after <= before + 1e-6).all() for before, after in pairwise(losses))


# clap ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["l2", "none"])
def test_clap_takes_the_steps_that_its_gradient_says(constraint):
    support, steps, momentum = drawn(), 3, 0.9
    lr, factor = 0.012, (100 / SCALE) ** 2
    features, labels, targets, texts = numpy_of(support)
    start = support.texts[0].double().numpy()
    zero_shot = softmax(SCALE * features @ texts.T, axis=1)
    held = np.array([zero_shot[labels == c, c].mean() for c in range(N)])
    np.testing.assert_allclose(multipliers(support)[0].numpy(), held, atol=1e-5)
    weights, velocity = start.copy(), np.zeros_like(start)
    for step in range(steps):
        length = np.linalg.norm(weights, axis=1, keepdims=True)
        unit = weights / length
        wrong = (softmax(SCALE * features @ unit.T, axis=1) - targets) / len(labels)
        by_unit = SCALE * wrong.T @ features
        slope = (by_unit - (by_unit * unit).sum(1, keepdims=True) * unit) / length
        if constraint == "l2":
            slope += 2 * held[:, None] / factor * (weights - start) / N
        velocity = momentum * velocity + slope
        weights = weights - lr * factor * (1 + np.cos(np.pi * step / steps)) / 2 * velocity
    found = state_of(frozen("clap", steps=steps, lr=lr, constraint=constraint), support)
    np.testing.assert_allclose(found["weights"].numpy(), weights, atol=1e-4)


def test_clap_holds_what_clip_knows():
    support = drawn()
    away = {
        constraint: (
            state_of(frozen("clap", constraint=constraint), support)["weights"] - support.texts[0]
        ).norm()
        for constraint in ("l2", "none")
    }
    assert away["l2"] < away["none"]


# transclip -----------------------------------------------------------------------------------------------


def transduction(
    images, features, targets, texts, gamma=0.02, brake=0.5, k=3, rounds=10, inner=5
) -> np.ndarray:
    """TransCLIP's shares, image by image."""
    q, s = len(images), len(features)
    every = np.concatenate([images, features])
    w = np.zeros((q + s, q))
    for i, x in enumerate(every):
        cosines = images @ x
        near = [j for j in np.argsort(-cosines) if j != i][:k]
        w[i, near] = cosines[near]
    prior = softmax(SCALE * images @ texts.T, axis=1)
    z, mean = prior.copy(), targets.T @ features
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    variance = np.full(E, 1 / E)
    for turn in range(rounds + 1):
        fit = np.array([[-0.5 * ((x - m) ** 2 / variance).sum() for m in mean] for x in images])
        for _ in range(inner):
            shares = np.concatenate([z, targets])
            pulled = 50 / (2 * k) * (w.T @ shares + w[:q] @ z)
            z = prior**brake * np.exp((fit + pulled - (fit + pulled).max(1, keepdims=True)) / 50)
            z /= z.sum(1, keepdims=True)
        if turn < rounds:
            shares = np.concatenate([z / q, 50 * gamma / s * targets])
            mean = shares.T @ every
            mean /= np.linalg.norm(mean, axis=1, keepdims=True)
            squares = [
                share * (x - m) ** 2
                for x, row in zip(every, shares, strict=True)
                for m, share in zip(mean, row, strict=True)
            ]
            variance = np.sum(squares, axis=0) / shares.sum()
    return z


@pytest.mark.parametrize(
    "settings",
    [{}, {"rounds": 0}, {"rounds": 1}, {"support_weight": 0.2, "brake": 1.0, "neighbours": 2, "rounds": 3}],
)
def test_transclip_is_its_algorithm(settings):
    support, images = drawn(), queries(20)
    features, _, targets, texts = numpy_of(support)
    names = {"support_weight": "gamma", "brake": "brake", "neighbours": "k", "rounds": "rounds"}
    expected = transduction(
        images.double().numpy(), features, targets, texts, **{names[k]: v for k, v in settings.items()}
    )
    found = scores(frozen("transclip", **settings), support, images)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-4)


def test_transclip_does_not_depend_on_the_order_of_queries_and_takes_a_single_one():
    support, images = drawn(), queries(20)
    method, order = frozen("transclip"), np.random.default_rng(0).permutation(20)
    np.testing.assert_allclose(
        scores(method, support, images)[order], scores(method, support, images[order]), atol=1e-3
    )
    assert scores(method, support, images[:1]).shape == (1, N)


def test_transclip_gains_where_features_cluster_and_texts_are_poor():
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(N, E))
    labels = np.repeat(np.arange(N), 20)
    images = F.normalize(as_tensor(centres[labels] + 0.3 * generator.normal(size=(60, E))), dim=-1)
    texts = as_tensor(centres + 2 * generator.normal(size=(N, E)))[None]
    support = Support(images[::20][None], torch.arange(N)[None], texts, (1,), 1, 2.0)
    right = {
        name: float(
            (
                frozen(name).scores(images, state_of(frozen(name), support), 2.0).argmax(1).numpy() == labels
            ).mean()
        )
        for name in ("zero-shot", "transclip")
    }
    assert right["zero-shot"] < 0.9
    assert right["transclip"] > right["zero-shot"] + 0.1

"""Methods on frozen features compute what their papers say: each against an independent computation."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from farshot.bench.executors import choose_load
from farshot.bench.grid import label, parse_method
from farshot.bench.tasks import Shape, query_labels
from farshot.errors import SettingError
from farshot.methods import available, create
from farshot.methods.base import Method
from farshot.methods.clap import multipliers
from farshot.methods.frozen import CLIP_TEMPLATES, FrozenMethod, Support, class_texts
from farshot.methods.size import trained_parameters
from farshot.methods.tip_adapter import ALPHAS, BETAS
from farshot.model.encoder import DualEncoder
from tests.toy import toy_task, world_table

T, N, E = 2, 3, 12
SCALE = 20.0
FROZEN = sorted(name for name, method in available().items() if issubclass(method, FrozenMethod))
TABLE = world_table("mini-land", 60)


def frozen(name: str, **settings) -> FrozenMethod:
    method = create(name, settings)
    assert isinstance(method, FrozenMethod)
    return method


def drawn(shots: int = 3, seed: int = 0) -> Support:
    """Clustered features of two tasks, texts of any length that lean towards their class."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(T, N, E))
    labels = np.tile(np.arange(N), shots)
    images = F.normalize(
        as_tensor(centres[:, labels] + 0.7 * generator.normal(size=(T, N * shots, E))), dim=-1
    )
    texts = as_tensor(3 * centres + 4 * generator.normal(size=(T, N, E)))
    return Support(images, torch.from_numpy(labels).repeat(T, 1), texts, (1, 2), shots, SCALE)


def as_tensor(values) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values)).float()


def numpy_of(support: Support, t: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels, one-hot targets and unit texts of one task, in float64."""
    texts = support.texts[t].double().numpy()
    labels = support.labels[t].numpy()
    unit = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
    return support.images[t].double().numpy(), labels, np.eye(N)[labels], unit


def queries(count: int = 7, seed: int = 5) -> torch.Tensor:
    return F.normalize(as_tensor(np.random.default_rng(seed).normal(size=(count, E))), dim=-1)


def state_of(method: FrozenMethod, support: Support, t: int = 0) -> dict[str, torch.Tensor]:
    return {name: value[t].detach() for name, value in method.fit(support).state.items()}


def scores(method: FrozenMethod, support: Support, images: torch.Tensor) -> np.ndarray:
    return method.scores(images, state_of(method, support), SCALE).detach().numpy()


def zero_shot_scores(support: Support, images: torch.Tensor) -> np.ndarray:
    return SCALE * images.double().numpy() @ numpy_of(support)[3].T


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
def test_what_is_trained_is_counted(name, mini: DualEncoder):
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
def test_restored_scores_are_the_same_to_the_bit(name, mini: DualEncoder):
    task = toy_task(TABLE)
    made = frozen(name).adapt(mini, [task])[0]
    again = frozen(name).restore(mini, task, made.tensors())
    assert np.array_equal(made.logits(TABLE, task.query), again.logits(TABLE, task.query))
    assert again.trained == made.trained


def test_tasks_of_several_sizes_in_one_call(mini: DualEncoder):
    tasks = [toy_task(TABLE, shots=s, key=s) for s in (1, 3, 1)]
    method = frozen("clap")
    for one, task in zip(method.adapt(mini, tasks), tasks, strict=True):
        alone = method.adapt(mini, [task])[0]
        np.testing.assert_allclose(one.logits(TABLE, task.query), alone.logits(TABLE, task.query), atol=1e-3)


def test_an_image_is_encoded_once_for_all_methods(mini_encoder: DualEncoder, monkeypatch):
    encoder = DualEncoder(
        mini_encoder.clip, mini_encoder.tokeniser, source="mini", mean=mini_encoder.mean, std=mini_encoder.std
    )
    seen = []
    encode = encoder.encode_images
    monkeypatch.setattr(
        encoder, "encode_images", lambda pixels: seen.append(pixels.shape[1]) or encode(pixels)
    )
    for seed in (1, 2):
        task = toy_task(TABLE, seed=seed)
        for name in ("prototypes", "tip-adapter", "transclip"):
            frozen(name).adapt(encoder, [task])[0].logits(TABLE, task.query)
    assert sum(seen) == len(TABLE)


@pytest.mark.parametrize("name", FROZEN)
def test_without_rows_there_are_no_scores(name, mini: DualEncoder):
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
        ("tip-adapter-f", {"steps": 0}, "steps of tip-adapter-f must be at least 1"),
        ("clip-adapter", {"ratio": 1.5}, "ratio of clip-adapter must lie in 0 to 1"),
        ("lp++", {"blend_every": 0}, "blend_every"),
        ("clap", {"constraint": "l1"}, "constraint"),
        ("transclip", {"neighbours": 0}, "neighbours of transclip must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(name, settings, words):
    with pytest.raises(SettingError, match=words):
        create(name, settings)


def test_the_benchmark_takes_many_tasks_at_once(mini: DualEncoder):
    shape = Shape(5, 1, 15)
    assert (
        choose_load(create("clap"), mini, shape).tasks == choose_load(create("transclip"), mini, shape).tasks
    )


# Prompts -------------------------------------------------------------------------------------------------


def unit_texts(encoder: DualEncoder, prompts: list[str]) -> torch.Tensor:
    return F.normalize(encoder.encode_texts(encoder.prompts([prompts])).final[0], dim=-1)


def test_several_templates_make_an_ensemble(mini: DualEncoder):
    spec = "zero-shot[templates=a photo of a {}.|a drawing of the {}.]"
    method, task = parse_method(spec), toy_task(TABLE)
    assert label(method) == spec
    prompts = [[f"a photo of a {n}.", f"a drawing of the {n}."] for n in task.class_names]
    directions = torch.stack([F.normalize(unit_texts(mini, pair).mean(0), dim=-1) for pair in prompts])
    rows = task.query[:5]
    expected = mini.clip.logit_scale.exp() * mini.features(TABLE, rows) @ directions.mT
    np.testing.assert_allclose(method.adapt(mini, [task])[0].logits(TABLE, rows), expected, atol=1e-4)


def test_the_tasks_own_template_as_a_list_of_one_is_the_default(mini: DualEncoder):
    task = toy_task(TABLE)
    own, named = frozen("zero-shot"), frozen("zero-shot", templates=task.template)
    assert np.array_equal(*(m.adapt(mini, [task])[0].logits(TABLE, task.query) for m in (own, named)))


def test_descriptions_stand_in_every_template(mini: DualEncoder):
    task = dataclasses.replace(toy_task(TABLE), descriptions={"orchard": "rows of trees"})
    found = class_texts(mini, [task], CLIP_TEMPLATES)
    prompts = [[t.replace("{}", words) for t in CLIP_TEMPLATES] for words in ("highway", "rows of trees")]
    expected = torch.stack(
        [F.normalize(unit_texts(mini, all_seven).mean(0), dim=-1) for all_seven in prompts]
    )
    torch.testing.assert_close(F.normalize(found[0], dim=-1), expected, atol=1e-5, rtol=0)


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


# linear-probe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [0.5, 31.6])
def test_linear_probe_from_zero_is_that_of_scikit_learn(C):
    support = drawn()
    features, labels, _, _ = numpy_of(support)
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-9, max_iter=10_000).fit(features, labels)
    ours = state_of(frozen("linear-probe", start="zero", C=C), support)["weights"]
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
    support, lr, ratio = drawn(), 0.05, 0.4
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
    np.testing.assert_allclose(found["up"].numpy(), start["up"] - lr * by_out.T @ hidden, atol=1e-5)
    np.testing.assert_allclose(found["down"].numpy(), start["down"] - lr * by_hidden.T @ features, atol=1e-5)


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
    support, steps, lr, momentum = drawn(), 3, 0.3, 0.9
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
            slope += 2 * held[:, None] * (weights - start) / N
        velocity = momentum * velocity + slope
        weights = weights - lr * (1 + np.cos(np.pi * step / steps)) / 2 * velocity
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
    "settings", [{}, {"support_weight": 0.2, "brake": 1.0, "neighbours": 2, "rounds": 3}]
)
def test_transclip_is_its_algorithm(settings):
    support, images = drawn(), queries(20)
    features, _, targets, texts = numpy_of(support)
    names = {"support_weight": "gamma", "brake": "brake", "neighbours": "k", "rounds": "rounds"}
    expected = transduction(
        images.double().numpy(), features, targets, texts, **{names[k]: v for k, v in settings.items()}
    )
    found = scores(frozen("transclip", **settings), support, images)
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-3)


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


def test_only_transclip_sees_other_queries(mini: DualEncoder):
    task = toy_task(TABLE)
    for name in FROZEN:
        made = frozen(name).adapt(mini, [task])[0]
        few, all_of_them = made.logits(TABLE, task.query[:4]), made.logits(TABLE, task.query)[:4]
        alike = np.allclose(few, all_of_them, atol=1e-4)
        assert alike == (available()[name].kind == "features")


# On images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("shots", [1, 5])
def test_an_easy_task_is_read_above_chance(name, shots, mini: DualEncoder):
    method: Method = frozen(name)
    task = toy_task(TABLE, shots=shots)
    right = method.adapt(mini, [task])[0].logits(TABLE, task.query).argmax(1) == query_labels(task)
    assert right.mean() > 0.65  # of two classes

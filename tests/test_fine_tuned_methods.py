"""Methods that train inside CLIP, beyond what every method promises: their losses, rates and settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot.data.table import ImageTable
from farshot.errors import SettingError
from farshot.methods import create
from farshot.methods.mind import MIND
from farshot.model.encoder import Encoder
from farshot.parts.alignment import choose_tokens
from farshot.parts.prompt import PromptContext, VisualPrompts
from farshot.parts.ratios import curve_ratios, support_ratios
from farshot.task import Task
from farshot.training.batches import StepImages, SupportImages
from farshot.training.loop import clip_each, finetune
from farshot.training.recipe import SGD, ParameterGroup, Recipe, cosine, recipe_schedule
from tests.toy import toy_task, world_table

TABLE = world_table("mini-crops", 100, ("canker", "rust"))
TASKS = [toy_task(TABLE, shots=2, seed=s, key=s) for s in (1, 2)]
QUICK = {"views": "none", "steps": 3}


def logits(adapted) -> np.ndarray:
    return adapted.logits(TABLE, TASKS[0].query[:12])


# mind ------------------------------------------------------------------------------------------------


def mind_by_loops(before, step, steps, images, texts, labels, picked, views):
    """The loss of one task as the paper's page says it, term by term, in double precision."""
    f, t = F.normalize(images.double(), dim=-1), F.normalize(texts.double(), dim=-1)
    count = len(labels) * views
    viewed, plain = f[:count], f[count:]
    named = [labels[i // views] for i in range(count)]
    loss = sum(F.cross_entropy(100 * viewed[i] @ t.T, torch.tensor(named[i])) for i in range(count)) / count
    r = viewed @ plain.T
    if step < 0.6 * steps:
        p = f[picked]
        loss += (
            0.1
            * sum(F.cross_entropy(100 * viewed[i] @ p.T, torch.tensor(named[i])) for i in range(count))
            / count
        )
        if before is not None:
            w = 1 - step / (0.6 * steps)
            total = 0.0
            for i in range(count):
                for j in range(len(labels)):
                    target = w * before[i, j] + (1 - w) * (t[named[i]] @ t[labels[j]])
                    total += torch.exp(target) * (target - r[i, j])
            loss += 3 * total / (count * len(labels))
    return loss, r


def test_the_loss_of_mind_is_that_of_its_page_with_and_without_padding(mini: Encoder):
    generator = torch.Generator().manual_seed(0)
    sizes, views, steps = [3, 2], 2, 5
    labels = [[0, 1, 1], [1, 0]]
    batch_labels = torch.zeros(2, 9, dtype=torch.long)
    weights = torch.zeros(2, 9)
    for t, size in enumerate(sizes):
        batch_labels[t, : size * views] = torch.tensor(labels[t]).repeat_interleave(views)
        batch_labels[t, 6 : 6 + size] = torch.tensor(labels[t])
        weights[t, : size * views] = 1 / (size * views)
    nothing = torch.zeros(2, 9, dtype=torch.long)
    batch = StepImages(torch.zeros(2, 9, 3, 1, 1), batch_labels, weights, nothing, nothing)
    recipe = Recipe(steps=steps, scale=100.0, views="none", plain=True)
    objective = MIND().objective(
        mini, [replace(task, key=k) for k, task in zip((5, 6), TASKS, strict=True)], recipe
    )
    objective.views = views
    before = [None, None]
    for step in range(steps):
        images = torch.randn(2, 9, 7, generator=generator)
        texts = torch.randn(2, 2, 7, generator=generator)
        found = objective(images, texts, batch, step, 100.0)
        picked = objective.random_images(weights[:, :6], 2, step)
        for t, size in enumerate(sizes):
            rows = [*range(size * views), *range(6, 6 + size)]
            expected, before[t] = mind_by_loops(
                before[t], step, steps, images[t, rows], texts[t], labels[t], picked[t], views
            )
            torch.testing.assert_close(found[t].double(), expected, rtol=1e-4, atol=1e-4)


def test_random_images_are_among_the_viewed_and_change_with_the_step(mini: Encoder):
    recipe = Recipe(steps=9, scale=100.0, views="none", plain=True)
    objective = MIND().objective(mini, TASKS, recipe)
    weights = torch.tensor([[0.25] * 4 + [0.0] * 2, [1 / 6] * 6])
    drawn = torch.stack([objective.random_images(weights, 5, step) for step in range(40)])
    assert drawn[:, 0].max() == 3 and drawn[:, 1].max() == 5 and drawn.min() == 0
    assert len({tuple(row) for row in drawn[:, 1].tolist()}) > 30


@pytest.mark.slow
@pytest.mark.parametrize("views", ["none", pytest.param("five", marks=pytest.mark.slow)])
def test_mind_in_micro_batches_is_mind_at_once(mini: Encoder, views):
    method = create("mind", {"views": views, "steps": 3 if views == "none" else 2, "lr": 2e-3})
    whole, parts = (method.adapt(mini, TASKS, micro_batch=size) for size in (None, 5))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, atol=1e-4)
        np.testing.assert_allclose(logits(one), logits(other), atol=2e-2)  # of logits near 100


def test_plain_images_stand_behind_the_views_without_weight():
    source = SupportImages(TASKS, 64, "five", plain=True).at(0)
    count = len(TASKS[0].support)
    assert source.pixels.shape[1] == 6 * count
    assert torch.equal(
        source.pixels[0, 5 * count :], torch.from_numpy(TABLE.pixels(TASKS[0].support, "squash", 64))
    )
    assert source.weights[:, 5 * count :].sum() == 0
    assert torch.allclose(source.weights.sum(1), torch.ones(2))
    assert source.labels[0, 5 * count :].tolist() == TASKS[0].labels.tolist()
    assert len(set(source.samples[0].tolist())) == 6 * count


# Prompts ---------------------------------------------------------------------------------------------


def test_images_that_nothing_touches_pass_once_and_train_the_same(mini: Encoder, monkeypatch):
    """Against the same run with prompts in the vision tower that are so few that there are none."""
    recipe, counted = Recipe(steps=3, scale=20.0, views="none"), []
    encode = Encoder.forward_images
    monkeypatch.setattr(Encoder, "forward_images", lambda *a, **k: counted.append(1) or encode(*a, **k))
    losses = []
    for extra in ([], [VisualPrompts(mini, [1, 2], count=0, depth=1)]):
        context = PromptContext(mini, [task.template for task in TASKS])
        group = ParameterGroup([context.values], SGD(lr=0.01))
        losses.append(finetune(mini, TASKS, [context, *extra], [group], recipe))
        counted.append("|")
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)
    assert losses[0][2].sum() < losses[0][0].sum()
    assert "".join(map(str, counted)) == "1|111|"


def test_coop_writes_its_prompt_in_as_many_words_as_it_learns(mini: Encoder):
    for context, length in ((16, 16), (4, 4), (0, 4)):
        adapted = create("coop", QUICK | {"context": context}).adapt(mini, TASKS[:1])[0]
        assert adapted.parts["context"].values.shape[1] == length
        assert adapted.trained == length * mini.width("text")
    own = create("coop", QUICK | {"context": 4, "class_specific": True}).adapt(mini, TASKS[:1])[0]
    assert own.trained == len(TASKS[0].prompts) * 4 * mini.width("text")


def test_rates_start_warm_and_may_fall_along_part_of_a_cosine():
    def rates(**settings) -> list[float]:
        recipe = Recipe(steps=4, scale=1.0, **settings)
        optimiser = SGD(lr=0.2).build([torch.zeros(1, requires_grad=True)])
        falling, out = recipe_schedule(optimiser, recipe), []
        for _ in range(4):
            out.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            falling.step()
        return out

    whole = [0.2 * cosine(0.2, 4, 0.0)(step) for step in range(4)]
    assert rates(cosine_to=0.0) == pytest.approx(whole)
    assert rates(cosine_to=0.0, warm_steps=2) == pytest.approx([1e-5, 1e-5, *whole[:2]])
    assert rates(cosine_to=0.0, cosine_over=2.0)[2] == pytest.approx(whole[1])
    assert rates(rising_steps=2) == pytest.approx([0.1, 0.2, 0.2, 0.2])
    three = [0.2 * cosine(0.2, 3, 0.0)(step) for step in range(3)]
    assert rates(cosine_to=0.0, rising_steps=1) == pytest.approx([0.2, *three])


def test_rates_of_dassls_programs_change_after_each_pass():
    """Its cosine starts after the warm pass and is torch's own over all passes."""
    for name, lr in (("maple", 3.5e-3), ("vpt", 2.5e-3)):
        method = create(name)
        recipe = method.recipe(5, 5)  # 25 images in batches of 4, the last one dropped: 6 steps a pass
        assert (recipe.steps, recipe.pass_steps, recipe.warm_steps) == (30, 6, 6)
        optimiser = SGD(lr=lr).build([torch.zeros(1, requires_grad=True)])
        ours = recipe_schedule(optimiser, recipe)
        other = torch.optim.SGD([torch.zeros(1)], lr=lr)
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(other, 5)
        expected = [1e-5]
        for _ in range(4):
            expected.append(other.param_groups[0]["lr"])
            other.step()
            theirs.step()
        found = []
        for _ in range(recipe.steps):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            ours.step()
        assert found == pytest.approx(np.repeat(expected, 6).tolist())
        assert [round(rate / lr, 3) for rate in found[6::6]] == [1.0, 0.905, 0.655, 0.345]


@pytest.mark.parametrize(("passes", "steps", "covered"), [("drop", 6, 24), ("keep", 7, 25)])
def test_a_pass_takes_each_image_once(passes: str, steps: int, covered: int):
    table = ImageTable(
        tuple(np.full((8, 8, 3), 9 * i, np.uint8) for i in range(25)),
        np.repeat(np.arange(5), 5),
        ("",) * 5,
        ("",) * 5,
    )
    task = Task(table, tuple("abcde"), np.arange(25), np.repeat(np.arange(5), 5), key=3)
    source = SupportImages([task], 8, "none", batch=25, batch_total=4, passes=passes)
    seen = []
    for number in range(3):
        rows = [source.at(number * steps + step).samples[0].tolist() for step in range(steps)]
        assert [len(row) for row in rows] == [4] * 6 + [1] * (steps - 6)
        assert len({image for row in rows for image in row}) == covered
        seen.append(rows)
    assert seen[0] != seen[1] != seen[2]


def test_gradients_of_each_task_are_bounded_by_themselves():
    torch.manual_seed(0)
    parameters = [torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(2, 5, requires_grad=True)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
        parameter.grad[1] *= 1e-2  # a task whose gradient is small already
    expected = [[p.grad[t].clone() for p in parameters] for t in (0, 1)]
    for grads in expected:
        alone = [torch.zeros_like(grad, requires_grad=True) for grad in grads]
        for one, grad in zip(alone, grads, strict=True):
            one.grad = grad
        torch.nn.utils.clip_grad_norm_(alone, 1.0)
    clip_each([ParameterGroup(parameters, SGD(0.1))], 1.0)
    for t in (0, 1):
        for parameter, grad in zip(parameters, expected[t], strict=True):
            torch.testing.assert_close(parameter.grad[t], grad)


def test_a_scale_of_0_is_the_checkpoints_own(mini: Encoder):
    for name in ("coop", "maple", "vpt", "full", "bitfit"):
        method = create(name, {"steps": 1})
        assert method.settings()["scale"] == 0
        assert method.adapt(mini, TASKS[:1])[0].scale == mini.logit_scale
        assert create(name, {"steps": 1, "scale": 7}).adapt(mini, TASKS[:1])[0].scale == 7


def test_epochs_become_steps_of_the_task_at_hand():
    assert create("maple").recipe(5, 1).steps == 5  # the fifth image waits for another pass
    assert create("maple").recipe(5, 5).steps == 30
    assert create("vpt", {"steps": 7}).recipe(5, 5).steps == 7
    assert [create("coop").recipe(5, shots).steps for shots in (1, 2, 5, 16)] == [50, 100, 200, 400]
    assert create("mind").recipe(5, 2).steps == 500


@pytest.mark.parametrize(
    ("name", "steps", "warm"),
    [
        ("maple", 1, 0),
        ("maple", 6, 2),  # a pass has 6 steps
        ("vpt", 10, 2),
        ("vpt", 30, 6),
        ("maple", 100, 6),
        ("coop", 1, 0),
        ("coop", 2, 1),
        ("coop", 200, 1),
    ],
)
def test_a_short_run_is_not_spent_on_warming_up(name: str, steps: int, warm: int):
    assert create(name, {"steps": steps}).recipe(5, 5).warm_steps == warm
    assert create(name, {"steps": steps, "warm_epochs": 0}).recipe(5, 5).warm_steps == 0


def test_a_single_step_trains(mini: Encoder):
    (made,) = create("coop", {"steps": 1, "lr": 1.0, "views": "none", "context": 0}).adapt(mini, TASKS[:1])
    start = PromptContext(mini, [TASKS[0].template]).values
    assert (made.parts["context"].values - start).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["maple", "vpt", "coop"])
@pytest.mark.parametrize("sizes", [(3, 200, 200), (1, 60, 60)])
def test_a_pass_goes_through_all_images_of_unequal_classes(name: str, sizes: tuple[int, ...]):
    labels = np.repeat(np.arange(3), sizes)
    task = Task(ImageTable((), None, (), ()), ("a", "b", "c"), np.arange(len(labels)), labels)
    method = create(name)
    recipe, each = method.recipe_for(task), len(labels) // method.batch
    assert (recipe.pass_steps, recipe.warm_steps) == (each, each)
    assert recipe.steps == each * (5 if name != "coop" else 50 if sizes[0] == 1 else 100)
    assert create("atha", {"base": name}).recipe_for(task) == recipe
    balanced = replace(task, support=np.arange(15), labels=np.repeat(np.arange(3), 5))
    assert method.recipe_for(balanced) == method.recipe(3, 5)


def test_tasks_of_equal_shots_and_unequal_size_are_trained_for_their_own_passes(mini: Encoder):
    rows = [np.flatnonzero(TABLE.labels == c) for c in (0, 1)]
    few, many = (
        Task(
            TABLE,
            TABLE.names,
            np.concatenate([rows[0][:2], rows[1][:count]]),
            np.repeat([0, 1], [2, count]),
            key=3,
        )
        for count in (2, 6)
    )
    made = create("maple", {"views": "none", "tokens": 1, "depth": 1}).adapt(mini, [few, many, few])
    assert [len(one.losses) for one in made] == [5, 10, 5]  # 4 and 8 images in batches of 4


# ATHA beyond its paper -------------------------------------------------------------------------------


def test_strengths_that_keep_their_sign_stop_at_zero(mini: Encoder):
    settings = {"views": "none", "steps": 6, "strength_lr": 0.05}
    free = create("atha", settings).adapt(mini, TASKS[:1])[0].parts["alignment"]
    held = create("atha", settings | {"signed": False}).adapt(mini, TASKS[:1])[0].parts["alignment"]
    assert min(free.pull.min(), free.push.min()) < 0
    assert min(held.pull.min(), held.push.min()) == 0


def test_shares_end_where_the_curve_bends():
    curve = torch.cat([torch.linspace(1, 0.5, 11)[:-1], torch.full((70,), 0.5), torch.linspace(0.5, 0.2, 20)])
    head, tail = curve_ratios(curve)
    assert head * 100 == pytest.approx(10, abs=1)
    assert tail * 100 == pytest.approx(19, abs=1)
    head, tail = curve_ratios(torch.linspace(1, 0, 64)[None])  # no bend
    assert head.max() <= 0.5 and tail.max() <= 0.5
    similarity = torch.randn(1, 3, 49, 2)
    shares = torch.tensor([7 / 49], dtype=torch.float64)
    assert (choose_tokens(similarity, shares, shares).head.sum(-1) == 7).all()


def test_measured_ratios_are_those_of_each_task_alone(mini: Encoder):
    method = create("atha", QUICK | {"ratios": "curve"})
    together = method.adapt(mini, TASKS)
    for task, adapted in zip(TASKS, together, strict=True):
        ratios = adapted.parts["alignment"].ratios
        torch.testing.assert_close(ratios[0], support_ratios(mini, task, "centre", "paper"))
        assert (ratios.sum(-1) <= 1).all() and ratios.max() > 0
    assert not torch.equal(together[0].parts["alignment"].ratios, together[1].parts["alignment"].ratios)


def test_anchors_of_descriptions_stay_while_images_meet_plain_names(mini: Encoder):
    described = [
        replace(task, descriptions={"canker": "leaf with round spots", "rust": "leaf"}) for task in TASKS
    ]
    method = create("atha", QUICK | {"anchor_texts": "descriptions"})
    adapted = method.adapt(mini, described[:1])[0]
    alignment = adapted.parts["alignment"]
    texts = mini.forward_texts(mini.prompts([described[0].prompts]))
    torch.testing.assert_close(alignment.texts[:, 0], texts.final)
    torch.testing.assert_close(alignment.texts[:, 1], texts.tap)
    none = create("atha", QUICK | {"pull": 0.0, "push": 0.0, "fixed": True, "anchor_texts": "descriptions"})
    plain = create("prompt-lora", QUICK).adapt(mini, TASKS[:1])[0]
    np.testing.assert_allclose(logits(none.adapt(mini, described[:1])[0]), logits(plain), atol=1e-4)
    with pytest.raises(SettingError, match=r"needs a description of every class.*rust"):
        method.adapt(mini, [replace(TASKS[0], descriptions={"canker": "a leaf"})])
    restored = method.restore(mini, described[0], adapted.tensors())
    assert np.array_equal(logits(restored), logits(adapted))


@pytest.mark.parametrize(
    "base",
    [
        "clip-lora",
        "coop",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("maple", "vpt", "bitfit", "full")),
    ],
)
def test_alignment_without_strength_leaves_the_method_it_joins(mini: Encoder, base):
    quiet = create("atha", QUICK | {"base": base, "pull": 0.0, "push": 0.0, "fixed": True})
    a, b = quiet.adapt(mini, TASKS[:1])[0], create(base, QUICK).adapt(mini, TASKS[:1])[0]
    np.testing.assert_allclose(a.losses, b.losses, atol=1e-4)
    np.testing.assert_allclose(logits(a), logits(b), atol=2e-2)
    loud = create("atha", QUICK | {"base": base}).adapt(mini, TASKS[:1])[0]
    assert not np.allclose(logits(loud), logits(b), atol=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": "tir"}, "base of atha must be one of"),
        ({"base": "vpt", "lora_lr": 1e-3}, "atha with base=vpt has no setting 'lora_lr'"),
        ({"ratios": "curve", "align": "random"}, "has no meaning with align=random"),
        ({"anchor_texts": "poems"}, "anchor_texts of atha must be one of"),
    ],
)
def test_settings_of_atha_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        create("atha", settings)

"""Random crops of support images for methods on frozen features: drawn as in the authors' programs, and the
same in any company."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from farshot import FewShotClassifier, load
from farshot.data.table import ImageTable
from farshot.evaluation.crossval import hold_out
from farshot.images.views import crop_box
from farshot.methods import augmented, clap
from farshot.methods.frozen import Support
from farshot.methods.tip_adapter import held_out_losses
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.randomness import numpy_generator
from farshot.task import Task
from tests.features import E, N, as_tensor, drawn, frozen, queries, scores, state_of
from tests.toy import toy_task, world_table

METHODS: dict[str, dict[str, int]] = {"tip-adapter": {}, "tip-adapter-f": {"steps": 3}, "clap": {"steps": 3}}
SMALL = world_table("mini-land", 20)
assert SMALL.labels is not None
# photographs are much larger than the model's input and not square
LARGE = ImageTable(
    tuple(Image.fromarray(np.asarray(image)).resize((290, 260)) for image in SMALL.images),
    SMALL.labels,
    SMALL.classes,
    SMALL.classes,
)


def embedded(
    encoder: Encoder, table: ImageTable, row: int, key: int, copy: int, least: float
) -> torch.Tensor:
    """The feature of one crop, by Pillow and one image at a time."""
    picture = table.image(row)
    if min(picture.size) >= 4 * encoder.size:
        picture = picture.reduce(2)
    generator = numpy_generator("augment", key, table.id(row), copy)
    box = crop_box(*picture.size, generator, scale=(least, 1.0))
    assert (box[2] - box[0]) * (box[3] - box[1]) > 0.9 * least * picture.width * picture.height
    crop = picture.crop(box).resize((encoder.size, encoder.size), Image.Resampling.BICUBIC)
    if generator.random() < 0.5:
        crop = ImageOps.mirror(crop)
    with torch.no_grad():
        return encoder.forward_images(torch.from_numpy(np.asarray(crop).copy())[None, None])[0, 0]


def with_crops(shots: int = 3, crops: int = 4) -> Support:
    """`drawn` with crops near its images, of any length."""
    support, generator = drawn(shots), np.random.default_rng(9)
    shape = (2, crops, shots * N, E)
    near = support.images[:, None] + as_tensor(0.2 * generator.normal(size=shape))
    return dataclasses.replace(support, crops=near * as_tensor(generator.uniform(0.5, 9, (*shape[:3], 1))))


def test_keys_are_the_mean_features_of_the_crops_of_each_image(mini: Encoder):
    task = toy_task(LARGE, shots=1, key=7)
    keys = frozen("tip-adapter", augment=2).adapt(mini, [task])[0].tensors()["keys"]
    expected = [
        torch.stack([embedded(mini, LARGE, int(row), 7, copy, 0.5) for copy in range(2)]).mean(0)
        for row in task.support
    ]
    torch.testing.assert_close(keys, F.normalize(torch.stack(expected), dim=-1), atol=1e-5, rtol=0)
    plain = frozen("tip-adapter").adapt(mini, [task])[0].tensors()["keys"]
    assert (keys - plain).norm(dim=-1).min() > 1e-2


def test_clap_trains_on_crops_as_small_as_those_of_its_authors(mini: Encoder):
    task = toy_task(SMALL, shots=1, key=7)
    crops = frozen("clap", augment=2).support(mini, [task]).crops
    assert crops is not None
    for copy, (place, row) in itertools.product(range(2), enumerate(task.support)):
        expected = embedded(mini, SMALL, int(row), 7, copy, 0.08)
        torch.testing.assert_close(crops[0, copy, place], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["tip-adapter-f", "clap"])
def test_companions_and_order_do_not_matter(name: str, mini: Encoder, monkeypatch: pytest.MonkeyPatch):
    tasks = [toy_task(SMALL, shots=1, seed=seed, key=seed) for seed in (1, 2)]
    method = frozen(name, augment=2, **METHODS[name])
    together = method.adapt(mini, tasks)
    order = np.array([1, 0])
    turned = dataclasses.replace(tasks[1], support=tasks[1].support[order], labels=tasks[1].labels[order])
    monkeypatch.setattr(augmented, "images_at_once", lambda encoder: 1)
    monkeypatch.setattr(augmented, "MOST_BYTES", 1)
    done = []
    alone = method.adapt(mini, [turned, tasks[0]], progress=lambda *seen: done.append(seen))
    assert done == [(1, 2), (2, 2)]
    for one, other in zip(alone, together[::-1], strict=True):
        found, expected = (made.logits(SMALL, tasks[0].query[:2]) for made in (one, other))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    if name == "tip-adapter-f":
        keys, others = alone[0].tensors()["keys"], together[1].tensors()["keys"]
        torch.testing.assert_close(keys, others[order], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["tip-adapter", "clap"])
def test_by_default_nothing_is_cropped(name: str, mini: Encoder, monkeypatch: pytest.MonkeyPatch):
    task, settings = toy_task(SMALL), METHODS[name]
    assert frozen(name).support(mini, [task]).crops is None
    monkeypatch.setattr(augmented, "crop_features", None)
    made = frozen(name, **settings).adapt(mini, [task])[0].tensors()
    if name == "tip-adapter":
        assert torch.equal(made["keys"], image_features(mini, task.table, task.support))
    whole = frozen(name, augment=0, **settings).adapt(mini, [task])[0].tensors()
    assert all(torch.equal(value, made[key]) for key, value in whole.items())


def test_tip_adapters_rule_scores_what_it_holds_out_as_it_is():
    support = with_crops()
    assert support.crops is not None
    state = state_of(frozen("tip-adapter"), support)
    keys = F.normalize(support.crops[0].mean(0), dim=-1)
    torch.testing.assert_close(state["keys"], keys)
    losses = held_out_losses(support, state["keys"][None].expand(2, -1, -1), (2.0,), (8.0,))
    given, expected = frozen("tip-adapter"), 0.0
    for left in range(3):  # of K shots, fold k holds the image k of each class
        kept = torch.tensor([i // N != left for i in range(3 * N)])
        cache = {"keys": keys[kept], "values": support.targets[0, kept], "texts": support.texts[0]}
        strengths = {"alpha": torch.tensor(2.0), "beta": torch.tensor(8.0)}
        logits = given.scores(support.images[0, ~kept], cache | strengths, support.scale)
        expected += float(F.cross_entropy(logits, support.labels[0, ~kept])) / 3
    assert float(losses[0, 0]) == pytest.approx(expected, abs=1e-5)


def test_tip_adapter_f_takes_the_crops_in_turn():
    support = with_crops(crops=2)
    given = {"alpha": 1.5, "beta": 2.0}
    losses = frozen("tip-adapter-f", steps=3, lr=0.0, weight_decay=0.0, **given).fit(support).losses
    assert support.crops is not None and losses is not None
    for step in range(3):
        crop = F.normalize(support.crops[0, step % 2], dim=-1)
        logits = torch.from_numpy(scores(frozen("tip-adapter", **given), support, crop))
        assert losses[step, 0] == pytest.approx(float(F.cross_entropy(logits, support.labels[0])), abs=1e-5)
    assert losses[0, 0] != pytest.approx(losses[1, 0], abs=1e-3)


@pytest.mark.parametrize("constraint", ["l2", "none"])
def test_clap_trains_on_crops_as_on_so_many_images(constraint: str):
    support = with_crops()
    assert support.crops is not None
    crops = F.normalize(support.crops, dim=-1).flatten(1, 2)
    images = dataclasses.replace(support, images=crops, labels=support.labels.repeat(1, 4), crops=None)
    method = frozen("clap", steps=5, constraint=constraint)
    found = scores(method, support, queries())
    np.testing.assert_allclose(found, scores(method, images, queries()), atol=1e-3)
    plain = scores(method, dataclasses.replace(support, crops=None), queries())
    assert np.abs(found - plain).max() > 0.1


def test_a_step_of_clap_takes_so_many_crops_at_random(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clap, "BATCH", 20)
    support = with_crops()  # 36 crops of 9 images
    assert support.crops is not None
    crops = F.normalize(support.crops, dim=-1).flatten(1, 2)
    alone = dataclasses.replace(
        support,
        images=support.images[1:],
        labels=support.labels[1:],
        texts=support.texts[1:],
        crops=support.crops[1:],
        keys=support.keys[1:],
    )
    taken = []
    for (images, labels), (same, _) in itertools.islice(
        zip(clap.steps_of(support), clap.steps_of(alone), strict=True), 2
    ):
        assert images.shape == (2, 20, E) and torch.equal(images[1:], same)
        rows = torch.cdist(images, crops).argmin(-1)
        assert torch.equal(images, crops.take_along_dim(rows[..., None], 1))
        assert all(len(set(task)) == 20 for task in rows.tolist())
        assert torch.equal(labels, support.labels.repeat(1, 4).take_along_dim(rows, 1))
        taken += [set(task) for task in rows.tolist()]
    assert all(a != b for a, b in itertools.combinations(taken, 2))
    monkeypatch.setattr(clap, "BATCH", 5)
    assert next(clap.steps_of(support))[0].shape == (2, 9, E)  # as many as there are images


def test_saved_models_and_estimates_have_crops(tmp_path: Path, mini: Encoder):
    task, settings = toy_task(SMALL, shots=2), {"augment": 1}
    made = FewShotClassifier(mini, "tip-adapter", settings=settings).fit(SMALL.subset(task.support))
    made.save(tmp_path / "model")
    again = load(tmp_path / "model")
    rows = [SMALL.images[row] for row in task.query[:3]]
    np.testing.assert_allclose(again.predict_proba(rows), made.predict_proba(rows), atol=1e-6)
    assert again.get_params()["settings"]["augment"] == 1
    given = (frozen("tip-adapter"), frozen("tip-adapter", **settings))
    plain, held = (hold_out(method, mini, task, SMALL.classes).logits for method in given)
    assert np.abs(held - plain).max() > 1e-4


def test_the_first_crops_do_not_depend_on_how_many_follow(mini: Encoder):
    task = Task(SMALL, SMALL.names, np.arange(4), SMALL.labels[:4], key=3)
    few, many = (augmented.crop_features(mini, task, count, 0.5) for count in (1, 3))
    torch.testing.assert_close(few, many[:1], atol=1e-4, rtol=1e-4)
    assert (many[1] - many[0]).norm(dim=-1).min() > 0.1

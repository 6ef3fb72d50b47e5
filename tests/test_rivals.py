"""Rival methods that train inside CLIP, each against an independent computation on a CLIPModel."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot import FewShotClassifier
from farshot.bench.load import cost, images_per_step
from farshot.bench.tasks import Shape
from farshot.choose import choose
from farshot.choose.curve import learning_curve
from farshot.errors import SettingError
from farshot.methods import create
from farshot.methods.finetuned import FinetunedAdapted, acting
from farshot.model.encoder import Encoder
from farshot.model.tower import VisionTower
from farshot.parts.bridge import Bridge
from farshot.parts.selective_scan import selective_scan
from farshot.training.batches import SupportImages
from tests.input_helpers import Farshot, refusal
from tests.oracle import planes, transformers_clip
from tests.toy import toy_task, world_table

TABLE = world_table("mini-crops", 100, ("canker", "rust"))
TASK = toy_task(TABLE, shots=2, seed=1, key=1)
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


def falling(top: float, low: float, steps: int) -> list[float]:
    return [low + (top - low) * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


def stepped(optimiser: torch.optim.Optimizer, rate: float, loss: torch.Tensor) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def word_ids(mini: Encoder) -> torch.Tensor:
    return mini.prompts([TASK.prompts]).ids[0]


def images_of(clip, mini: Encoder, pixels: torch.Tensor) -> torch.Tensor:
    return F.normalize(clip.visual_projection(clip.vision_model(planes(mini, pixels)).pooler_output), dim=-1)


def texts_of(clip, mini: Encoder) -> torch.Tensor:
    return F.normalize(clip.text_projection(clip.text_model(word_ids(mini)).pooler_output), dim=-1)


def test_prolip_moves_the_projection_alone_and_is_held(mini: Encoder):
    """By torch's own Adam on features of the same views, each used once."""
    steps, lr = 5, 1e-2
    adapted = create("prolip", {"steps": steps, "lr": lr}).adapt(mini, [TASK])[0]
    clip = transformers_clip(mini)
    views = SupportImages([TASK], mini.size, "crops", batch=99, least_crop=0.5)
    start = clip.visual_projection.weight.detach().clone()
    weight = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([weight], lr=lr, eps=1e-4)
    labels, losses = torch.as_tensor(TASK.labels), []
    for step, rate in enumerate(falling(lr, 0.0, steps)):
        with torch.no_grad():
            features = clip.vision_model(planes(mini, views.at(step).pixels[0])).pooler_output
        seen = F.normalize(features @ weight.T, dim=-1)
        loss = F.cross_entropy(mini.logit_scale * seen @ texts_of(clip, mini).T, labels)
        loss = loss + ((weight - start) ** 2).sum() / 2  # 1 / K
        stepped(adam, rate, loss)
        losses.append(loss.item())
    np.testing.assert_allclose(adapted.losses, losses, rtol=1e-3)
    assert isinstance(adapted, FinetunedAdapted)
    moved = adapted.parts["projection"].own["vision_projection_weight"][0]
    assert (moved - start).abs().max() > 1e-3
    torch.testing.assert_close(moved, weight, **CLOSE)
    assert adapted.trained == start.numel()


def test_prolip_names_an_encoder_without_a_projection(mini: Encoder):
    bare = replace(mini.vision.config, projection="none")

    changed = copy.copy(mini)
    changed.vision = VisionTower(bare, mini.vision.tensors)
    with pytest.raises(SettingError, match="mini has none"):
        create("prolip").adapt(changed, [TASK])


def test_2sfs_trains_the_norms_of_the_blocks_and_then_class_vectors(mini: Encoder):
    """By torch's own AdamW on transformers' CLIPModel, stage by stage."""
    lr, images = 1e-3, SupportImages([TASK], mini.size, "none")
    method = create("2sfs", {"steps": 6, "views": "none", "lr": lr})
    assert (method.recipe(2, 2).steps, method.later_steps(2, 2)) == (3, 3)
    adapted = method.adapt(mini, [TASK])[0]
    clip, labels, losses = transformers_clip(mini), torch.as_tensor(TASK.labels), []
    norms = {
        name: parameter
        for name, parameter in clip.named_parameters()
        if ".layers." in name and "layer_norm" in name
    }
    pixels = images.at(0).pixels[0]
    optimiser = torch.optim.AdamW([p.requires_grad_() for p in norms.values()], lr=lr, weight_decay=0.01)
    for rate in falling(lr, 1e-6, 3):
        loss = F.cross_entropy(
            mini.logit_scale * images_of(clip, mini, pixels) @ texts_of(clip, mini).T, labels
        )
        stepped(optimiser, rate, loss)
        losses.append(loss.item())
    with torch.no_grad():
        seen, vectors = images_of(clip, mini, pixels), torch.nn.Parameter(texts_of(clip, mini))
    vectors.requires_grad_()
    optimiser = torch.optim.AdamW([vectors], lr=lr, weight_decay=0.01)
    for rate in falling(lr, 1e-6, 3):
        loss = F.cross_entropy(mini.logit_scale * seen @ F.normalize(vectors, dim=-1).T, labels)
        stepped(optimiser, rate, loss)
        losses.append(loss.item())
    np.testing.assert_allclose(adapted.losses, losses, rtol=2e-3)
    torch.testing.assert_close(adapted.class_directions(), vectors.detach(), **CLOSE)
    with torch.no_grad():
        found = images_of(clip, mini, torch.from_numpy(TABLE.pixels(TASK.query[:6], "centre", mini.size)))
        expected = mini.logit_scale * found @ F.normalize(vectors, dim=-1).T
    np.testing.assert_allclose(adapted.logits(TABLE, TASK.query[:6]), expected, atol=5e-3)
    assert adapted.trained == sum(p.numel() for p in norms.values()) + vectors.numel()


def test_2sfs_counts_its_steps_by_shots():
    for shots, stages in ((1, (180, 120)), (5, (900, 600)), (16, (2880, 1920))):
        method = create("2sfs")
        assert (method.recipe(5, shots).steps, method.later_steps(5, shots)) == stages
    with pytest.raises(SettingError, match="at least 2"):
        create("2sfs", {"steps": 1})


# vtt -----------------------------------------------------------------------------------------------------


def bridge_by_loops(bridge: Bridge, tokens: np.ndarray, t: int, columns: int) -> np.ndarray:
    """The page's formulas for the tokens (P, E) of one image, channel by channel, in double precision."""
    w = {name: value[t].detach().double().numpy() for name, value in bridge.named_parameters()}
    places, width = tokens.shape
    hidden = tokens @ w["widen"].T + w["widen_bias"]
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * w["gain"] + w["shift"]
    z = np.where(hidden > 0, hidden, 0.1 * hidden) @ w["narrow"].T + w["position"]
    rows = [list(range(start, min(start + columns, places))) for start in range(0, places, columns)]
    by_row = [place for row in rows for place in row]
    by_column = [row[c] for c in range(columns) for row in rows if c < len(row)]
    out = w["mean"] @ tokens.mean(0)
    for order in (by_row, by_column, by_row[::-1], by_column[::-1]):
        x = z[order]
        u, gate = np.split(x @ w["enter"].T, 2, axis=1)
        padded = np.concatenate([np.zeros((3, width)), u])
        mixed = np.stack(
            [
                w["kernel_bias"] + sum(w["kernel"][:, k] * padded[i + k] for k in range(4))
                for i in range(places)
            ]
        )
        u = mixed / (1 + np.exp(-mixed))
        chosen = u @ w["select"].T
        p, b, c = np.split(chosen, [bridge.rank, bridge.rank + bridge.state], axis=1)
        y = np.zeros_like(u)
        for channel in range(width):
            h = np.zeros(bridge.state)
            for i in range(places):
                delta = np.log1p(np.exp(w["time"][channel] @ p[i] + w["time_bias"][channel]))
                h = np.exp(-delta * np.exp(w["log_decay"][channel])) * h + delta * b[i] * u[i, channel]
                y[i, channel] = c[i] @ h + w["skip"][channel] * u[i, channel]
        out = out + ((y * gate / (1 + np.exp(-gate))) @ w["leave"].T).mean(0)
    return out


@pytest.mark.parametrize(("places", "columns"), [(9, 3), (25, 5), (7, 3)])
def test_the_bridge_is_the_selective_scan_of_its_page(places: int, columns: int):
    bridge = Bridge([3, 4], 6, places, state=5, rank=4)
    with torch.no_grad():
        for number, parameter in enumerate(bridge.parameters()):  # norms and skips too
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    tokens = torch.randn(2, 3, places, 6, generator=torch.Generator().manual_seed(0))
    found = bridge(tokens).detach().numpy()
    for t in (0, 1):
        for b in range(3):
            expected = bridge_by_loops(bridge, tokens[t, b].double().numpy(), t, columns)
            np.testing.assert_allclose(found[t, b], expected, atol=2e-5)


@pytest.mark.parametrize("places", [1, 4])
def test_the_gradients_of_the_scan_are_those_of_its_formula(places: int):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    channels, states = 5, 6
    inputs = (
        drawn(2, 3, places, channels),
        drawn(2, 3, places, channels) - 0.5,
        -3 * drawn(2, channels, states),
        drawn(2, 3, places, states) - 0.5,
        drawn(2, 3, places, states) - 0.5,
    )
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(selective_scan, inputs)  # numerical differences


def test_the_bridge_starts_as_its_page_says():
    bridge = Bridge([1], 512, 25)
    assert sum(parameter[0].numel() for parameter in bridge.parameters()) == 2_821_120
    times = F.softplus(bridge.time_bias)[0].detach()
    assert 0.00099 <= times.min() < 0.002 and 0.05 < times.max() <= 0.1001
    assert torch.equal(bridge.log_decay[0, 7].exp().round(), torch.arange(1, 257).float())
    assert bridge.time.abs().max() <= 1 / 16 and bridge.kernel.abs().max() <= 1 / 2
    assert bridge.position.std().item() == pytest.approx(0.02, rel=0.05)
    other = Bridge([2], 512, 25)
    assert not torch.equal(bridge.enter, other.enter)


def test_vtt_adds_the_text_that_absorbed_all_layers(mini: Encoder):
    """CE and V of a step, against hidden states and embeddings of transformers' own model."""
    method = create("vtt", {"batch": 7, "lora_dropout": 0.0})
    parts, helpers = method.parts(mini, [TASK]), method.helpers(mini, [TASK])
    stepper = method.stepper(mini, [TASK], parts | helpers)
    recipe = method.recipe(2, 2)
    batch = SupportImages([TASK], mini.size, "single", batch_total=7, passes="keep").at(1)
    texts = mini.forward_texts(mini.prompts([TASK.prompts]))
    with torch.no_grad():
        entropy, towards = stepper.losses(acting(parts), texts, batch, 0, recipe.scale)
        clip = transformers_clip(mini)
        vision, text = clip.vision_model, clip.text_model
        states = vision(planes(mini, batch.pixels[0]), output_hidden_states=True).hidden_states
        v = {
            level: clip.visual_projection(vision.post_layernorm(states[level][:, 0]))
            for level in (3, 6, 9, 12)
        }
        ids = word_ids(mini)
        at = ids.argmax(1)  # the end token has the largest number
        states = text(ids, output_hidden_states=True).hidden_states
        t = {
            level: clip.text_projection(text.final_layer_norm(states[level][torch.arange(len(ids)), at]))
            for level in (1, 2, 3, 4)
        }
        labels = batch.labels[0]
        images, names = F.normalize(v[12], dim=-1), F.normalize(t[4], dim=-1)
        expected = F.cross_entropy(100 * images @ names.T, labels)
        row = [v[12]]
        for vision_level, text_level in ((12, 4), (9, 3), (6, 2), (3, 1)):
            row += [t[text_level][labels], v[vision_level]]
        vectors = helpers["bridge"](torch.stack(row, dim=1)[None])[0]
        x = mini.prompts([["a photo of a x."]]).ids[0].expand(7, -1)
        assert (
            mini.prompts([["a photo of a x."]]).ids[0, 0, 5]
            != mini.prompts([["a photo of a y."]]).ids[0, 0, 5]
        )
        clip.text_model.embeddings.token_embedding.register_forward_hook(
            lambda _module, _inputs, out: torch.cat([out[:, :5], vectors[:, None], out[:, 6:]], dim=1)
        )
        absorbed = F.normalize(clip.text_projection(text(x).pooler_output), dim=-1)
        expected_towards = -(images * absorbed).sum(1).mean()
    assert entropy[0].item() == pytest.approx(expected.item(), abs=2e-3)
    assert towards[0].item() == pytest.approx(expected_towards.item(), abs=1e-4)


def test_vtt_takes_out_what_points_against_the_cross_entropy_and_stops(mini: Encoder):
    method = create("vtt", {"rank": 2})
    two = [TASK, toy_task(TABLE, shots=2, seed=2, key=2)]
    parts = method.parts(mini, two)
    stepper = method.stepper(mini, two, parts | method.helpers(mini, two))
    first = next(iter(parts["lora"].parameters()))
    generator = torch.Generator().manual_seed(0)
    plain = [torch.randn(p.shape, generator=generator) for p in stepper.lora]
    against = [
        torch.randn(p.shape, generator=generator) - 2 * a for p, a in zip(stepper.lora, plain, strict=True)
    ]
    along = [a + 0.1 * torch.randn(a.shape, generator=generator) for a in plain]
    led = [torch.stack([x[0], y[1]]) for x, y in zip(against, along, strict=True)]
    stepper.set_gradients(stepper.lora, plain, led)
    a, b = plain[0][0].flatten(), led[0][0].flatten()
    assert a @ b < 0
    torch.testing.assert_close(first.grad[0].flatten(), b - (b @ a) / (a @ a) * a)
    assert first.grad[0].flatten() @ a == pytest.approx(0, abs=1e-2)
    torch.testing.assert_close(first.grad[1], led[0][1])
    assert stepper.alone.tolist() == [False, False]  # (1 + c_1) / 1 is still positive
    for _ in range(2):
        stepper.set_gradients(stepper.lora, plain, led)
    assert stepper.alone.tolist() == [True, False]
    stepper.set_gradients(stepper.lora, plain, led)
    torch.testing.assert_close(first.grad[0], plain[0][0])
    torch.testing.assert_close(first.grad[1], led[0][1])


def test_vtt_predicts_with_its_lora_alone(mini: Encoder):
    adapted = create("vtt", {"steps": 2}).adapt(mini, [TASK])[0]
    assert list(adapted.parts) == ["lora"]
    assert not any(name.startswith("bridge") for name in adapted.tensors())


def test_views_one_by_one_go_through_all_five_of_every_image():
    source = SupportImages([TASK], 64, "single", batch_total=7, passes="keep")
    whole = SupportImages([TASK], 64, "five").at(0)
    seen = [source.at(step) for step in range(3)]
    assert [batch.labels.shape[1] for batch in seen] == [7, 7, 6]
    samples = torch.cat([batch.samples[0] for batch in seen])
    assert sorted(samples.tolist()) == list(range(20))
    for batch in seen:
        for place, sample in enumerate(batch.samples[0].tolist()):
            where = whole.samples[0].tolist().index(sample)
            assert torch.equal(batch.pixels[0, place], whole.pixels[0, where])
            assert batch.labels[0, place] == whole.labels[0, where]
        assert batch.weights[0].sum().item() == pytest.approx(1)


# limo ----------------------------------------------------------------------------------------------------


def test_limo_is_clip_lora_with_three_terms_of_the_queries(mini: Encoder):
    method = create("limo", {"unlabelled": 5})
    recipe = method.recipe(2, 2)
    assert recipe == create("clip-lora").recipe(2, 2)
    source = method.images(mini, [TASK], recipe)
    batch = source.at(3)
    assert batch.labels.shape == (1, 4 + 5)
    assert batch.weights[0].tolist() == [0.25] * 4 + [0.0] * 5
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(1, 9, 128, generator=generator), torch.randn(1, 2, 128, generator=generator)
    found = method.objective(mini, [TASK], recipe)(images, texts, batch, 3, 100.0)
    clip = transformers_clip(mini)
    with torch.no_grad():
        before = 100 * images_of(clip, mini, batch.pixels[0, 4:]) @ texts_of(clip, mini).T
    logits = 100 * F.normalize(images[0], dim=-1) @ F.normalize(texts[0], dim=-1).T
    loss = F.cross_entropy(logits[:4], torch.as_tensor(TASK.labels))
    p, p0 = logits[4:].softmax(1), before.softmax(1)
    loss = loss + torch.distributions.Categorical(probs=p).entropy().mean()
    loss = loss + 0.1 * F.kl_div(p.log(), p0, reduction="batchmean")
    mean = p.mean(0) + 1e-5
    loss = loss + 10 * F.kl_div(mean.log(), torch.full((2,), 0.5), reduction="batchmean")  # divides by N
    assert found[0].item() == pytest.approx(loss.item(), rel=1e-4)


def test_limo_draws_other_queries_in_each_step_and_no_label_of_them(mini: Encoder):
    recipe = create("limo").recipe(2, 2)
    source = create("limo", {"unlabelled": 6}).images(mini, [TASK], recipe)
    drawn = [tuple(source.at(step).samples[0, 4:].tolist()) for step in range(4)]
    assert len(set(drawn)) == 4
    assert all(len(set(numbers)) == 6 and min(numbers) >= 4 for numbers in drawn)
    assert source.at(0).labels[0, 4:].sum() == 0
    hidden = replace(TASK, table=replace(TABLE, labels=None))
    other = create("limo", {"unlabelled": 6}).images(mini, [hidden], recipe)
    assert torch.equal(other.at(0).pixels, source.at(0).pixels)
    few = create("limo", {"unlabelled": 99}).images(mini, [TASK], recipe)
    assert few.at(0).labels.shape[1] == 4 + len(TASK.query)


def test_the_benchmark_plans_for_all_images_of_a_step():
    shape = Shape(5, 1, 15)
    assert images_per_step(create("clip-lora"), shape) == 5
    assert images_per_step(create("limo"), shape) == 5 + 24
    assert images_per_step(create("atha", {"base": "limo"}), shape) == 5 + 24
    assert images_per_step(create("vtt"), shape) == 25
    assert images_per_step(create("prolip"), Shape(5, 5, 15)) == 25
    assert cost(create("2sfs"), shape, 75) == 2 * 5 * 300 + 75


def test_limo_says_that_it_needs_the_queries(mini: Encoder):
    with pytest.raises(SettingError, match="only `farshot bench` knows"):
        create("limo").adapt(mini, [replace(TASK, query=np.zeros(0, dtype=np.int64))])
    assert create("atha", {"base": "limo"}).kind == "transductive"


@pytest.mark.parametrize(("name", "more"), [("limo", {}), ("atha", {"base": "limo", "views": "none"})])
def test_a_method_that_needs_queries_is_refused_where_only_folds_have_them(
    mini: Encoder, name: str, more: dict[str, str]
):
    settings = {"steps": 1, "unlabelled": 1, **more}
    classifier = FewShotClassifier(mini, name, settings=settings, calibrate=True)
    for call in (
        classifier.fit,
        classifier.estimate,
        classifier.held_out,
        partial(learning_curve, create(name, settings), mini, repeats=2),
    ):
        with pytest.raises(SettingError, match="only `farshot bench` knows"):
            call(TABLE)
    few = TABLE.subset(range(12))
    found = choose(few, {"mini": lambda: mini}, ("zero-shot", name), settings={name: settings})
    assert [one.method for one in found.candidates] == ["zero-shot"]
    assert [what for what, _ in found.skipped] == [f"mini with {name}"]


@pytest.mark.parametrize("command", [("adapt", "--out", "adapted"), ("curve",)])
@pytest.mark.parametrize("method", [("limo",), ("atha", "--set", "base=limo")])
def test_the_commands_refuse_it_before_they_read_images(
    farshot: Farshot, command: tuple[str, ...], method: tuple[str, ...]
):
    name, *options = command
    told = refusal(farshot(name, "no such folder", "--model", "mini", *options, "--method", *method))
    assert "only `farshot bench` knows" in told

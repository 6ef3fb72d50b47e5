"""Rival methods that train inside CLIP, each against an independent computation on a CLIPModel."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from farshot.errors import SettingError
from farshot.methods import create
from farshot.methods.finetuned import FinetunedAdapted
from farshot.model.encoder import Encoder
from farshot.model.tower import VisionTower
from farshot.training.batches import SupportImages
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

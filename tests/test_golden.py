"""Our `released` variant against the numbers of the released arithmetic: twelve training steps, to its
tolerances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from farshot.model.tokenizer import Prompts, TextRules, Tokenizer, pooled_positions
from farshot.model.tower import Pass
from farshot.parts.alignment import HeadTailAlignment
from farshot.parts.lora import LoRA
from farshot.parts.prompt import PromptContext
from farshot.task import Task
from farshot.training.batches import StepImages
from farshot.training.loop import class_logits, finetune
from farshot.training.recipe import SGD, AdamW, ParameterGroup, Recipe
from tests import golden
from tests.helpers import empty_table


class GoldenTokenizer(Tokenizer):
    """Gives the fixture's own token ids, so that no vocabulary is needed."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = torch.from_numpy(ids)
        self.rules = TextRules(length=77, start=golden.START, end=golden.END, pad=golden.END)

    def __call__(self, texts):
        ids = self.ids.expand(len(texts), -1, -1)
        pooled = pooled_positions(self.ids, self.rules).expand(len(texts), -1)
        return Prompts(ids, pooled, torch.ones_like(ids, dtype=torch.bool))

    def words(self, texts):
        return [self.ids[0, 1 : 1 + len(text.split())].tolist() for text in texts]


class FixedImages:
    """The same images in every step."""

    def __init__(self, pixels: torch.Tensor, tasks: int) -> None:
        labels = torch.arange(5).repeat_interleave(2).expand(tasks, -1)
        each = torch.arange(10).expand(tasks, -1)
        self.step = StepImages(
            pixels.expand(tasks, -1, -1, -1, -1), labels, torch.full((tasks, 10), 0.1), each, each
        )

    def at(self, step: int) -> StepImages:
        return self.step


@pytest.mark.parametrize(("tasks", "micro_batch"), [(2, 8), pytest.param(1, None, marks=pytest.mark.slow)])
def test_twelve_steps_of_the_released_arithmetic(tasks: int, micro_batch: int | None) -> None:
    expected = np.load(Path(__file__).parent / "fixtures" / "released_r03_02.npz")
    encoder = golden.encoder(GoldenTokenizer(expected["ids"]))
    support, query = golden.images()
    none = np.zeros(0, dtype=np.int64)
    task = Task(empty_table(), tuple(expected["names"].tolist()), none, none)
    keys = [0] * tasks

    lora = LoRA(encoder, keys, rank=8, alpha=8)
    for name, down in lora.down.items():
        tower, block, projection = name.split("_")
        down.data = golden.lora_down(tower, int(block), projection).expand(tasks, -1, -1).clone()
    context = PromptContext(encoder, ["a photo of a {}."] * tasks)
    pull = [0.8 if block == 6 else 0.0 for block in range(12)]
    alignment = HeadTailAlignment(
        encoder,
        keys,
        anchors="released",
        pull=pull,
        push=[float(expected["beta0"])] * 12,
        head_ratio=0.3,
        tail_ratio=0.2,
    )
    parts = [lora, context, alignment]
    groups = [
        ParameterGroup(list(lora.parameters()), AdamW(1e-3)),
        ParameterGroup([context.values], SGD(2e-3)),
        ParameterGroup([alignment.pull, alignment.push], SGD(1e-2)),
    ]

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            texts = encoder.forward_texts(encoder.prompts([task.prompts] * tasks), Pass(parts))
            images = encoder.forward_images(pixels.expand(tasks, -1, -1, -1, -1), Pass(parts, texts=texts))
            return class_logits(images, texts.final, 2.0)

    for t in range(tasks):
        np.testing.assert_allclose(logits(query)[t], expected["query_logits0"], atol=1e-5)
        np.testing.assert_allclose(logits(support)[t], expected["support_logits0"], atol=1e-5)
    recipe = Recipe(steps=12, scale=2.0, micro_batch=micro_batch)
    losses = finetune(encoder, [task] * tasks, parts, groups, recipe, images=FixedImages(support, tasks))
    for t in range(tasks):
        np.testing.assert_allclose(losses[:, t], expected["losses"], atol=1e-4)
        np.testing.assert_allclose(logits(query)[t], expected["query_logits1"], atol=1e-3)
        np.testing.assert_allclose(alignment.pull[t].detach(), expected["alpha"], atol=1e-5)
        np.testing.assert_allclose(alignment.push[t].detach(), expected["beta"], atol=1e-5)
        np.testing.assert_allclose(context.values[t].detach(), expected["ctx"], atol=1e-5)

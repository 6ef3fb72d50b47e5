"""Does the work of a batch of tasks; knows nothing of stores, so it can run anywhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from farshot.bench.records import Result
from farshot.bench.tasks import Shape, query_labels
from farshot.errors import FarshotError
from farshot.finetune import Progress
from farshot.methods import Method
from farshot.methods.base import softmax
from farshot.methods.size import parameters_for
from farshot.model.encoder import DualEncoder
from farshot.task import Task

_SHARE_OF_MEMORY = 0.4  # the rest is for weights, optimisers, pixels and whatever else the machine does
_MOST_TASKS = {"cpu": 8, "cuda": 64, "mps": 16}  # on two cores, more than four bring no speed
_FEATURE_TASKS = 50
# float32 values of width D that one block keeps per token for the backward pass: norms, q, k, v with their
# LoRA inputs, attention, and the two halves of an MLP of width 4 D
_VALUES_KEPT = 24


@dataclass(frozen=True)
class Load:
    """How much is done at once.

    Attributes:
        tasks: adapted together.
        micro_batch: most images forwarded at once while training; None for all.
    """

    tasks: int
    micro_batch: int | None = None


def run_tasks(
    method: Method,
    encoder: DualEncoder,
    tasks: Sequence[Task],
    indices: Sequence[int],
    *,
    micro_batch: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Adapts to T tasks together and classifies the queries of each in one call.

    Args:
        tasks: as `sample_task` gives them.
        indices: the number of each in its series.

    Raises:
        FarshotError: from the method, or scores that are not finite.
    """
    on_gpu = encoder.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(encoder.device)
    start = time.perf_counter()
    adapted = method.adapt(encoder, tasks, micro_batch=micro_batch, progress=progress)
    logits = [one.logits(task.table, task.query) for one, task in zip(adapted, tasks, strict=True)]
    seconds = (time.perf_counter() - start) / len(tasks)
    memory = torch.cuda.max_memory_allocated(encoder.device) if on_gpu else _largest_size()
    device = torch.cuda.get_device_name(encoder.device) if on_gpu else encoder.device.type
    results = []
    for one, task, index, scores in zip(adapted, tasks, indices, logits, strict=True):
        if not np.isfinite(scores).all():
            raise FarshotError(f"{method.name} gave scores that are not finite in task {index}; use float32.")
        predictions = scores.argmax(1).astype(np.uint8)
        results.append(
            Result(
                index=index,
                predictions=predictions,
                probabilities=softmax(scores).astype(np.float16),
                accuracy=float((predictions == query_labels(task)).mean()),
                loss=float(one.losses[-1]) if len(one.losses) else None,
                seconds=seconds,
                peak_memory=memory,
                batch=len(tasks),
                device=device,
            )
        )
    return results


def choose_load(
    method: Method,
    encoder: DualEncoder,
    shape: Shape,
    tasks: int | None = None,
    micro_batch: int | None = None,
) -> Load:
    """How many tasks side by side: what is asked for, or what the machine's memory holds.

    It looks at the memory the machine has, not at what is free, so the same command makes the same batches.
    """
    images = images_per_step(method, shape)
    if not images:
        most = _FEATURE_TASKS if method.kind != "fine-tuned" else _MOST_TASKS.get(encoder.device.type, 1)
        return Load(tasks or most, micro_batch)
    element = 4 if encoder.dtype == torch.float32 else 2
    per_image = (
        encoder.vision_depth * (1 + encoder.patches) * encoder.width("vision") * _VALUES_KEPT * element
    )
    budget = _SHARE_OF_MEMORY * _memory(encoder.device)
    per_task = _learned_bytes(method, encoder, shape)
    most = max(1, int(budget / (images * per_image + per_task)))
    chosen = tasks or min(most, _MOST_TASKS.get(encoder.device.type, 1))
    room = max(1, int((budget - chosen * per_task) / per_image))  # images
    return Load(chosen, micro_batch or (room if room < chosen * images else None))


def _learned_bytes(method: Method, encoder: DualEncoder, shape: Shape) -> int:
    """Bytes of what one task learns, with its gradients and the optimiser's two averages, in float32."""
    return 4 * 4 * parameters_for(method, encoder, shape.ways, shape.shots)


def images_per_step(method: Method, shape: Shape) -> int:
    """Images that one task forwards in a training step; 0 for methods that do not train on pixels."""
    recipe = getattr(method, "recipe", None)
    if recipe is None:
        return 0
    plan = recipe(shape.ways, shape.shots)
    images = shape.ways * min(shape.shots, plan.batch)
    images = min(images, plan.batch_total) if plan.batch_total is not None else images
    return int(images * plan.views_per_image)


def cost(method: Method, shape: Shape) -> float:
    """What a task costs, in images forwarded; a training step counts twice, for its way back.

    Twice and not three times: the frozen weights take no gradients of their own.
    """
    queries = shape.ways * shape.queries
    if not images_per_step(method, shape):
        return queries
    return 2 * images_per_step(method, shape) * method.recipe(shape.ways, shape.shots).steps + queries  # type: ignore[attr-defined]


def _memory(device: torch.device) -> int:
    """Bytes that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 << 30


def _largest_size() -> int:
    """The most memory this process has held so far, bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024

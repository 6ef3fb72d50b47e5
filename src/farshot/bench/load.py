"""How much to compute at once, from a device's memory and the cost of a task."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from farshot.bench.tasks import Shape
from farshot.methods import Method
from farshot.methods.finetuned import FinetunedMethod
from farshot.methods.size import parameters_for
from farshot.model.encoder import Encoder
from farshot.model.features import memory_of_machine

_SHARE_OF_MEMORY = 0.4  # the rest is for weights, optimisers, pixels and other programs
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


def choose_load(
    method: Method,
    encoder: Encoder,
    shape: Shape,
    tasks: int | None = None,
    micro_batch: int | None = None,
    share: float = 1.0,
) -> Load:
    """Choose the number of tasks per batch: the given one, or what fits into memory.

    It looks at the memory the machine has, not at what is free, so the same command makes the same batches.

    Args:
        share: of the device's memory that is ours, where several workers use it.
    """
    images = images_per_step(method, shape)
    if not images:
        most = _FEATURE_TASKS if method.kind != "fine-tuned" else _MOST_TASKS.get(encoder.device.type, 1)
        return Load(tasks or most, micro_batch)
    element = 4 if encoder.dtype == torch.float32 else 2
    tokens = encoder.vision.config.prefix + encoder.vision.config.patches
    per_image = encoder.vision_depth * tokens * encoder.width("vision") * _VALUES_KEPT * element
    budget = share * _SHARE_OF_MEMORY * _memory(encoder.device)
    per_task = _learned_bytes(method, encoder, shape)
    most = max(1, int(budget / (images * per_image + per_task)))
    chosen = tasks or min(most, _MOST_TASKS.get(encoder.device.type, 1))
    room = max(1, int((budget - chosen * per_task) / per_image))  # images
    return Load(chosen, micro_batch or (room if room < chosen * images else None))


def _learned_bytes(method: Method, encoder: Encoder, shape: Shape) -> int:
    """Bytes of one task's parameters with gradients and the optimiser's two averages, in float32."""
    return 4 * 4 * parameters_for(method, encoder, shape.ways, shape.shots)


def images_per_step(method: Method, shape: Shape) -> int:
    """Images that one task forwards in a training step; 0 for methods that do not train on pixels."""
    recipe = getattr(method, "recipe", None)
    if recipe is None:
        return 0
    images = recipe(shape.ways, shape.shots).images_in_step([shape.shots] * shape.ways)
    further = method.further_images if isinstance(method, FinetunedMethod) else 0
    return int(images) + further


def cost(method: Method, shape: Shape, queries: int) -> float:
    """The cost of a task in forwarded images; a training step counts twice, for the backward pass.

    Twice and not three times: the frozen weights have no gradients.

    Args:
        queries: of the task.
    """
    if not images_per_step(method, shape):
        return queries
    assert isinstance(method, FinetunedMethod)
    steps = method.recipe(shape.ways, shape.shots).steps + method.later_steps(shape.ways, shape.shots)
    return 2 * images_per_step(method, shape) * steps + queries


def _memory(device: torch.device) -> int:
    """Total memory of the device in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory_of_machine()

"""Features of small made-up tasks, in torch and in NumPy, for tests of methods on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from farshot.methods import available, create
from farshot.methods.frozen import FrozenMethod, Support

T, N, E = 2, 3, 12
SCALE = 20.0
FROZEN = sorted(name for name, method in available().items() if issubclass(method, FrozenMethod))


def frozen(name: str, **settings) -> FrozenMethod:
    """A method; tim takes few steps if nothing else is said."""
    method = create(name, ({"steps": 20} if name == "tim" else {}) | settings)
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

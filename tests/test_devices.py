"""Devices without float64, such as Apple GPUs: fake tensors that refuse it until they are on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from farshot.methods import create
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, use_cache
from tests.toy import toy_task, world_table

TABLE = world_table("mini-land", 60)


class NoDouble(Tensor):
    """A tensor that refuses float64, as do all that are computed from it, until `cpu` is called."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            with torch._C.DisableTorchFunctionSubclass():
                return args[0].as_subclass(Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert to float64: the device does not support it")
        return found


@pytest.fixture
def encoder(mini: Encoder) -> Encoder:
    towers = {"vision": mini.vision.tensors, "text": mini.text.tensors}
    return mini.with_tensors(
        {
            name: {key: value.as_subclass(NoDouble) for key, value in kept.items()}
            for name, kept in towers.items()
        }
    )


def test_the_stand_in_refuses_float64(encoder: Encoder):
    weight = encoder.vision.tensors["position"]
    for spoilt in (
        lambda: weight.double(),
        lambda: (weight + 1).to(torch.float64),
        lambda: weight.sum().double(),
    ):
        with pytest.raises(TypeError, match="does not support it"):
            spoilt()
    assert weight.cpu().double().dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("atha", {"steps": 2, "views": "none"}),
        pytest.param("atha", {"steps": 2, "views": "none", "ratios": "curve"}, marks=pytest.mark.slow),
        pytest.param("atha", {"steps": 2, "views": "none", "base": "bitfit"}, marks=pytest.mark.slow),
        ("tir", {"steps": 2, "views": "none"}),
        ("mind", {"steps": 2, "views": "none"}),
        ("full", {"steps": 2, "views": "none"}),
        ("linear-probe", {}),
        ("tip-adapter-f", {"steps": 2}),
        ("transclip", {}),
    ],
)
def test_a_method_needs_no_float64_on_the_device(
    encoder: Encoder, mini: Encoder, name: str, settings: dict[str, Any]
):
    task = toy_task(TABLE, shots=2)
    found = []
    for which in (encoder, mini):
        with use_cache(FeatureCache()):  # features from other batches differ in the last bits
            found.append(create(name, settings).adapt(which, [task])[0].logits(TABLE, task.query[:4]))
    np.testing.assert_array_equal(*found)

"""The cache of frozen image features: bounded, one encoding per image, safe to share between threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from farshot.data.table import ImageTable
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, image_features
from farshot.model.find import load_encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("mini")


@pytest.fixture(scope="module")
def table() -> ImageTable:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), dtype=np.uint8)
    return ImageTable(tuple(pixels), None, ("x",), ("x",))


class Counting:
    """How many images an encoder was given."""

    def __init__(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images, forward = 0, encoder.forward_images

        def counted(images, *args, **kwargs):
            self.images += images.shape[1]
            return forward(images, *args, **kwargs)

        monkeypatch.setattr(encoder, "forward_images", counted)


def bytes_of(count: int, encoder: Encoder) -> int:
    return count * (4 * encoder.embed_dim + 200)


@pytest.mark.parametrize("kept", [1, 5])
def test_the_cache_keeps_no_more_than_its_limit_and_drops_the_oldest(encoder, table, kept: int):
    cache = FeatureCache(limit=bytes_of(kept, encoder))
    everything = image_features(encoder, table, range(24), cache=cache)
    assert len(cache) == kept
    newest = image_features(encoder, table, range(24 - kept, 24), cache=cache)
    assert torch.equal(newest, everything[-kept:])


def test_what_is_asked_for_again_is_not_encoded_again(encoder, table, monkeypatch):
    cache, counting = FeatureCache(), Counting(encoder, monkeypatch)
    first = image_features(encoder, table, [0, 1, 0, 2], cache=cache)
    again = image_features(encoder, table, [2, 1, 0], cache=cache)
    assert counting.images == 3
    assert torch.equal(again, first[[3, 1, 0]])


def test_what_was_used_last_stays(encoder, table, monkeypatch):
    cache = FeatureCache(limit=bytes_of(3, encoder))
    image_features(encoder, table, [0, 1, 2], cache=cache)
    image_features(encoder, table, [0], cache=cache)
    image_features(encoder, table, [3], cache=cache)
    counting = Counting(encoder, monkeypatch)
    image_features(encoder, table, [0, 2, 3], cache=cache)
    assert counting.images == 0
    image_features(encoder, table, [1], cache=cache)
    assert counting.images == 1


def test_a_limit_of_nothing_still_answers(encoder, table):
    cache = FeatureCache(limit=0)
    assert torch.equal(
        image_features(encoder, table, range(4), cache=cache), image_features(encoder, table, range(4))
    )
    assert len(cache) == 0


def test_readings_and_encoders_do_not_mix(encoder, table):
    cache = FeatureCache()
    other = load_encoder("mini")
    image_features(encoder, table, [0], cache=cache)
    image_features(encoder, table, [0], "centre", cache=cache)
    image_features(other, table, [0], cache=cache)
    assert len(cache) == 3


def test_threads_that_share_a_small_cache_get_the_same_features(encoder, table):
    cache = FeatureCache(limit=bytes_of(4, encoder))
    expected = image_features(encoder, table, range(24), cache=FeatureCache())
    orders = [np.random.default_rng(seed).permutation(24) for seed in range(8)]

    def features(order: np.ndarray) -> torch.Tensor:
        return torch.cat([image_features(encoder, table, [int(row)], cache=cache) for row in order])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(features, orders))
    for order, features_found in zip(orders, found, strict=True):
        torch.testing.assert_close(features_found, expected[order], atol=1e-6, rtol=0)
    assert len(cache) <= 4

"""The cache of frozen image features: bounded, one encoding per image, safe for threads; and on disk."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from farshot.bench.store import Store
from farshot.data.cache import cached
from farshot.data.pool import Pool
from farshot.data.pools import open_pool
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.model.encoder import Encoder
from farshot.model.features import FeatureCache, image_features
from farshot.model.find import load_encoder
from tests.input_helpers import class_folders
from tests.same_rows import difference


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


@pytest.mark.slow
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


# On disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    class_folders(tmp_path / "photos", ("cat", "dog"), images=4)
    found = open_pool(f"photos={tmp_path / 'photos'}")
    return cached(found, tmp_path / "cache", keep_features=True)


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("features-*.db"))


def test_features_are_kept_on_disk_only_when_asked_for(encoder, pool, tmp_path: Path):
    without = cached(open_pool(f"photos={tmp_path / 'photos'}"), tmp_path / "cache")
    image_features(encoder, without.table, range(8), cache=FeatureCache())
    assert stored(tmp_path) == []
    image_features(encoder, pool.table, range(8), cache=FeatureCache())
    assert len(stored(tmp_path)) == 1


def test_features_on_disk_are_those_that_were_computed(encoder, pool, monkeypatch):
    first = image_features(encoder, pool.table, range(8), cache=FeatureCache())
    counting = Counting(encoder, monkeypatch)
    again = image_features(encoder, pool.table, [3, 3, *range(8)], cache=FeatureCache())
    assert counting.images == 0
    assert torch.equal(again[2:], first) and torch.equal(again[0], first[3])


def test_readings_and_precisions_have_files_of_their_own(encoder, pool, tmp_path: Path):
    for reading in ("squash", "centre"):
        image_features(encoder, pool.table, [0], reading, cache=FeatureCache())
    image_features(load_encoder("mini", precision="bf16"), pool.table, [0], cache=FeatureCache())
    assert len(stored(tmp_path)) == 3


@pytest.mark.parametrize("data", [b"no database", b"\0" * 5000])
def test_a_damaged_file_is_refused_with_the_way_out(encoder, pool, tmp_path: Path, data: bytes):
    image_features(encoder, pool.table, range(4), cache=FeatureCache())
    (file,) = stored(tmp_path)
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"{file.name} cannot be read .*remove the file"):
        image_features(encoder, pool.table, range(4), cache=FeatureCache())


def test_an_empty_file_is_filled(encoder, pool, tmp_path: Path):
    expected = image_features(encoder, pool.table, range(4), cache=FeatureCache())
    (file,) = stored(tmp_path)
    file.write_bytes(b"")
    assert torch.equal(image_features(encoder, pool.table, range(4), cache=FeatureCache()), expected)
    assert file.stat().st_size


def test_a_damaged_feature_is_computed_again(encoder, pool, tmp_path: Path):
    expected = image_features(encoder, pool.table, range(4), cache=FeatureCache())
    (file,) = stored(tmp_path)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE features SET feature = zeroblob(length(feature))")
    found = image_features(encoder, pool.table, range(4), cache=FeatureCache())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_several_processes_may_write_the_same_features(encoder, pool):
    expected = image_features(encoder, pool.table, range(8), cache=FeatureCache())

    def features(seed: int) -> torch.Tensor:
        order = np.random.default_rng(seed).permutation(8)
        return image_features(encoder, pool.table, order, cache=FeatureCache())[np.argsort(order)]

    with ThreadPoolExecutor(4) as workers:
        for found in workers.map(features, range(8)):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_benchmark_with_kept_features_gives_the_same_table(farshot, tmp_path: Path):
    class_folders(tmp_path / "photos", ("a", "b", "c"), images=5)
    command = ["bench", "--pools", f"p={tmp_path / 'photos'}", "--ways", 3, "--methods", "prototypes"]
    command += ["--shots", 1, "--tasks", 3, "--queries", 2, "--model", "mini", "--cache", tmp_path / "cache"]
    told = [
        farshot(*command, "--store", tmp_path / f"{name}.db", *more)
        for name, more in (("a", []), ("b", ["--keep-features"]), ("c", ["--keep-features"]))
    ]
    assert [one.code for one in told] == [0, 0, 0]
    assert len(stored(tmp_path)) == 1
    with (
        Store(tmp_path / "a.db", read_only=True) as a,
        Store(tmp_path / "b.db", read_only=True) as b,
        Store(tmp_path / "c.db", read_only=True) as c,
    ):
        assert difference(a, b).same and difference(a, c).same

"""How a picture of any size becomes the square that CLIP looks at, against Pillow and CLIP's processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

from farshot.errors import ModelError
from farshot.images.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    READINGS,
    at_size,
    is_reading,
    prepare,
    reduced_size,
)
from farshot.model.encoder import normalise
from farshot.model.formats.files import Source
from farshot.model.formats.preprocessing_hf import read_resizing
from tests.input_helpers import picture, pixels_of


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("shape", [(400, 300), (10, 300), (1, 1), (64, 64)])
def test_squash_fits_the_whole_picture_into_the_square(size: int, shape: tuple[int, int]) -> None:
    image = picture(0, *shape)
    expected = image.resize((size, size), Image.Resampling.BILINEAR)
    assert np.array_equal(prepare(image, "squash", size), pixels_of(expected))


@pytest.mark.parametrize(("size", "side", "edge"), [(224, 257, 16), (64, 73, 4), (32, 37, 2), (336, 386, 25)])
def test_centre_is_the_middle_of_a_slightly_larger_square(size: int, side: int, edge: int) -> None:
    image = picture(1, 300, 200)
    larger = pixels_of(image.resize((side, side), Image.Resampling.BILINEAR))
    found = prepare(image, "centre", size)
    assert found.shape == (size, size, 3)
    assert np.array_equal(found, larger[edge : edge + size, edge : edge + size])


@pytest.mark.parametrize(
    ("shape", "factor"),
    [((512, 256), 2), ((100, 300), 1), ((127, 90), 1), ((257, 300), 2), ((511, 600), 2), ((9000, 4000), 8)],
)
def test_reduced_halves_while_the_short_side_is_twice_the_input(shape: tuple[int, int], factor: int) -> None:
    image = picture(2, *shape)
    found = prepare(image, "reduced", 64)
    assert np.array_equal(found, pixels_of(image.reduce(factor)))
    assert min(found.shape[:2]) >= min(128, *shape)


def test_a_line_does_not_fill_the_memory() -> None:
    line = np.zeros((1, 1000, 3), np.uint8)
    line[:, 468:532] = 255  # the middle 64 pixels
    found = prepare(Image.fromarray(line), "reduced", 64)
    assert found.shape == (1, 64, 3)
    assert found.min() == 255
    assert prepare(Image.fromarray(line).rotate(90, expand=True), "reduced", 64).shape == (64, 1, 3)
    assert prepare(Image.fromarray(line), "shortest-bicubic", 64).shape == (64, 64, 3)


@given(st.integers(1, 5000), st.integers(1, 5000))
@settings(deadline=None)
def test_the_announced_size_is_the_size(width: int, height: int) -> None:
    w, h = reduced_size(width, height, 64)
    assert min(w, h) >= min(128, width, height)
    assert min(w, h) <= 256 or min(width, height) >= 2048  # 511 becomes 256, as 511 / 4 is below 128
    assert max(w, h) <= 64 * min(w, h)
    if width * height <= 100_000:
        assert prepare(Image.new("RGB", (width, height)), "reduced", 64).shape == (h, w, 3)


def test_an_unknown_reading_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown reading 'crop'"):
        prepare(picture(3), "crop", 64)
    for reading in ("model", "shortest0-bicubic", "longest-bicubic", "squash-cubic", "shortest-bicubic-up"):
        assert not is_reading(reading)
    for reading in (*READINGS, "shortest256-lanczos-floor", "squash-bilinear"):
        assert is_reading(reading)


@pytest.mark.parametrize("shape", [(97, 40), (40, 97), (64, 64), (33, 500), (20, 31), (41, 40)])
@pytest.mark.parametrize(
    "config",
    [
        {"size": 40, "crop_size": 40},  # as openai/clip-vit-base-patch16 is published
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}},
        {"size": {"shortest_edge": 46}, "crop_size": {"height": 40, "width": 40}},
        {"size": {"shortest_edge": 31}, "crop_size": {"height": 40, "width": 40}},  # with a black frame
        {"size": {"height": 40, "width": 40}, "do_center_crop": False},
        {"size": {"height": 47, "width": 47}, "crop_size": {"height": 40, "width": 40}, "resample": 2},
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}, "resample": 1},
    ],
)
def test_a_checkpoints_own_resizing_is_that_of_transformers(
    config: dict[str, Any], shape: tuple[int, int]
) -> None:
    image, source = picture(5, *shape), Source("a model", Path())
    reading = read_resizing(source, config, 40, square=False)
    found = prepare(image, reading, 40)
    processor = CLIPImageProcessorPil(**config, do_normalize=False, do_rescale=False)
    expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_a_reading_that_no_library_knows_is_refused_by_name() -> None:
    source = Source("a model", Path())
    for config, message in (
        ({"resample": 9}, "resizes images by 9"),
        ({"resample": "x"}, "resizes images by 'x'"),
        ({"size": {"shortest_edge": -1}}, "to {'shortest_edge': -1} pixels"),
        ({"size": [1, 2]}, r"to \[1, 2\] pixels"),
        ({"size": {"height": 3, "width": 4}}, "square ones only"),
    ):
        with pytest.raises(ModelError, match=message):
            read_resizing(source, config, 40, square=False)


def test_the_own_reading_of_a_resized_encoder_keeps_its_proportions() -> None:
    assert at_size("shortest256-bicubic-floor", 224, 336) == "shortest384-bicubic-floor"
    assert at_size("shortest-bicubic", 224, 336) == "shortest-bicubic"
    assert at_size("squash", 224, 336) == "squash"


def test_normalised_pixels_are_those_of_clips_own_processor() -> None:
    image = picture(4, 224, 224)
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    found = normalise(torch.from_numpy(pixels_of(image).copy())[None])
    assert found.shape == (1, 3, 224, 224)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_normalisation_takes_other_means_and_leading_dimensions() -> None:
    pixels = torch.full((2, 3, 4, 4, 3), 51, dtype=torch.uint8)
    found = normalise(pixels, mean=(0.2, 0.1, 0.0), std=(1.0, 0.5, 0.1))
    assert found.shape == (2, 3, 3, 4, 4)
    torch.testing.assert_close(found[1, 2, :, 0, 0], torch.tensor([0.0, 0.2, 2.0]))
    assert normalise(pixels, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert len(CLIP_MEAN) == len(CLIP_STD) == 3

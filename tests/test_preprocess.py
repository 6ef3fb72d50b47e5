"""How a picture of any size becomes the square that CLIP looks at, against Pillow and CLIP's processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor

from farshot.images.preprocess import CLIP_MEAN, CLIP_STD, prepare, short256_size
from farshot.model.encoder import normalise
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
    ("shape", "expected"), [((512, 256), (512, 256)), ((100, 300), (256, 768)), ((300, 100), (768, 256))]
)
def test_short256_keeps_the_shape(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = picture(2, *shape)
    found = prepare(image, "short256", 64)
    assert np.array_equal(found, pixels_of(image.resize(expected, Image.Resampling.BILINEAR)))


def test_a_line_does_not_fill_the_memory() -> None:
    line = np.zeros((1, 1000, 3), np.uint8)
    line[:, 468:532] = 255  # the middle 64 pixels
    found = prepare(Image.fromarray(line), "short256", 64)
    assert found.shape == (256, 256 * 64, 3)
    assert found.min() == 255
    assert prepare(Image.fromarray(line).rotate(90, expand=True), "short256", 64).shape == (256 * 64, 256, 3)


@given(st.integers(1, 5000), st.integers(1, 5000))
@settings(deadline=None)
def test_the_announced_size_is_the_size(width: int, height: int) -> None:
    w, h = short256_size(width, height)
    assert min(w, h) == 256
    assert max(w, h) <= 256 * 64
    if max(width, height) <= 64 * min(width, height):
        assert abs(w * min(width, height) - 256 * width) <= min(width, height) / 2
    if width * height <= 10_000:
        assert prepare(Image.new("RGB", (width, height)), "short256", 64).shape == (h, w, 3)


def test_an_unknown_reading_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown reading 'crop'"):
        prepare(picture(3), "crop", 64)


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

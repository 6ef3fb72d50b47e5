"""The five fixed views and the fresh crop, against Pillow's own operations; drawn by keys alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from farshot.data.table import ImageTable
from farshot.images import views
from farshot.parts.keyed import random_bits, row_keys, torch_generator
from farshot.randomness import key, numpy_generator
from farshot.task import Task
from farshot.training.batches import SupportImages
from tests.input_helpers import picture, pixels_of
from tests.toy import toy_task, world_table


def by_hand(image: Image.Image, kinds: str, generator: np.random.Generator) -> np.ndarray:
    """One view, by Pillow's operations and the formulas of the base recipe."""
    for kind in kinds:
        if kind == "r":
            image = image.rotate(generator.uniform(-45, 45))
        elif kind == "j":
            for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = enhance(image).enhance(1 + 0.4 * generator.uniform(-1, 1))
        elif generator.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return pixels_of(image)


@pytest.mark.parametrize("number", range(5))
def test_five_views_are_plain_all_rotation_jitter_flip(number: int) -> None:
    image = picture(number, 32, 32)
    generator = numpy_generator("test", number)
    expected = [by_hand(image, kinds, generator) for kinds in ("", "rjf", "r", "j", "f")]
    found = views.five_views(pixels_of(image), numpy_generator("test", number))
    assert found.shape == (5, 32, 32, 3)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_rotation_is_black_outside_and_makes_no_new_colours() -> None:
    image = picture(0, 32, 32)
    corners, angles = 0, set()
    for seed in range(20):
        found = pixels_of(views.rotate(image, np.random.default_rng(seed)))
        known = {tuple(pixel) for pixel in pixels_of(image).reshape(-1, 3)} | {(0, 0, 0)}
        assert {tuple(pixel) for pixel in found.reshape(-1, 3)} <= known
        corners += int((found[0, 0] == 0).all())
        angles.add(found.tobytes())
    assert corners >= 15
    assert len(angles) == 20


class Fixed(np.random.Generator):
    """A generator that always draws the same share of its range."""

    def __init__(self, share: float) -> None:
        super().__init__(np.random.PCG64())
        self.share = share

    def uniform(self, low: float, high: float) -> float:
        return low + self.share * (high - low)

    def random(self) -> float:
        return self.share


def test_jitter_follows_the_luminance_of_itu_601() -> None:
    # factor 1.4 each: brightness, then contrast about the mean grey, then saturation about each pixel's grey
    pixel = np.array([100.0, 60.0, 50.0])

    def grey(p: np.ndarray) -> float:
        return float(p @ [0.299, 0.587, 0.114])

    bright = np.floor(pixel * 1.4)
    mean = int(grey(bright) + 0.5)
    contrast = np.floor(mean + 1.4 * (bright - mean))
    expected = grey(contrast) + 1.4 * (contrast - grey(contrast))
    image = Image.new("RGB", (4, 4), (100, 60, 50))
    found = pixels_of(views.jitter(image, Fixed(1.0)))
    assert np.abs(found - expected).max() <= 2
    assert np.array_equal(pixels_of(views.jitter(image, Fixed(0.5))), pixels_of(image))


def test_jitter_is_clamped() -> None:
    found = pixels_of(views.jitter(Image.new("RGB", (2, 2), (250, 250, 5)), Fixed(1.0)))
    assert found[0, 0, 0] == 255
    assert found[0, 0, 2] <= 5


def test_half_are_flipped() -> None:
    image = picture(1, 8, 8)
    mirrored = pixels_of(image)[:, ::-1]
    flips = [
        np.array_equal(pixels_of(views.flip(image, numpy_generator("flip", i))), mirrored) for i in range(400)
    ]
    assert 160 <= sum(flips) <= 240


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 1000))
@settings(deadline=None, max_examples=200)
def test_crops_lie_within_the_picture(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = views.crop_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_published_sizes_and_shapes() -> None:
    boxes = [views.crop_box(1000, 1000, numpy_generator("box", i)) for i in range(500)]
    widths = np.array([right - left for left, _, right, _ in boxes])
    heights = np.array([bottom - top for _, top, _, bottom in boxes])
    areas, shapes = widths * heights / 1e6, widths / heights
    assert 0.079 <= areas.min() < 0.15
    assert 0.85 < areas.max() <= 1.0
    assert 0.745 <= shapes.min() < 0.8 < 1.25 < shapes.max() <= 1.34


def test_where_no_crop_fits_it_is_the_centre() -> None:
    assert views.crop_box(1000, 10, Fixed(0.99)) == (493, 0, 506, 10)


def test_crop_and_flip_is_pillows_resize_of_the_crop() -> None:
    image = picture(2, 300, 256)
    generator = numpy_generator("crop", 1)
    box = views.crop_box(300, 256, generator)
    expected = image.crop(box).resize((64, 64), Image.Resampling.BICUBIC)
    if generator.random() < 0.5:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = views.crop_and_flip(pixels_of(image), 64, numpy_generator("crop", 1))
    assert np.array_equal(found, pixels_of(expected))


# Randomness ----------------------------------------------------------------------------------------------


def task_of(start: int, key_: int, images: int = 4) -> Task:
    table = ImageTable(
        tuple(picture(start + i) for i in range(images)), np.arange(images) % 2, ("a", "b"), ("a", "b")
    )
    return Task(table, table.names, np.arange(images), np.arange(images) % 2, key=key_)


@pytest.mark.parametrize("kind", ["five", "crops"])
def test_a_tasks_images_do_not_depend_on_its_companions_or_their_order(kind: str) -> None:
    tasks = [task_of(10, 1), task_of(20, 2, 6), task_of(30, 3, 2)]
    for step in (0, 3):
        together = SupportImages(tasks, 32, kind).at(step)
        reverse = SupportImages(tasks[::-1], 32, kind).at(step)
        for t, task in enumerate(tasks):
            alone = SupportImages([task], 32, kind).at(step)
            count = alone.pixels.shape[1]
            for found, row in ((together, t), (reverse, len(tasks) - 1 - t)):
                assert torch.equal(found.pixels[row, :count], alone.pixels[0])
                assert torch.equal(found.weights[row, :count], alone.weights[0])
                assert not found.weights[row, count:].any()


def test_another_seed_draws_other_views_and_the_plain_one_stays() -> None:
    first, second = (SupportImages([task_of(10, key_)], 32).at(0).pixels[0] for key_ in (1, 2))
    assert torch.equal(first[::5], second[::5])
    assert not torch.equal(first, second)


def test_fixed_views_are_the_same_in_every_step_and_crops_are_fresh() -> None:
    five, crops = SupportImages([task_of(10, 1)], 32), SupportImages([task_of(10, 1)], 32, "crops")
    assert torch.equal(five.at(0).pixels, five.at(7).pixels)
    assert not torch.equal(crops.at(0).pixels, crops.at(7).pixels)
    assert torch.equal(crops.at(7).pixels, SupportImages([task_of(10, 1)], 32, "crops").at(7).pixels)


def test_keys_tell_their_parts_apart() -> None:
    assert len({key("a", 1), key("a", 11), key("a1", 1), key("a", 1, 1), key(1, "a")}) == 5
    assert numpy_generator("x", 1).random() == numpy_generator("x", 1).random()
    assert torch.equal(
        torch.rand(3, generator=torch_generator(5)), torch.rand(3, generator=torch_generator(5))
    )


def test_random_bits_depend_on_row_and_place_alone() -> None:
    rows = row_keys(torch.arange(5), 7)
    assert torch.equal(random_bits(rows, 100)[:, :30], random_bits(rows, 30))
    assert torch.equal(random_bits(rows[2:3], 100)[0], random_bits(rows, 100)[2])
    shares = (random_bits(row_keys(torch.arange(64), 1, 2), 4096) >= 0).float().mean(1)
    assert abs(shares.mean() - 0.5) < 0.01
    assert shares.std() < 0.02


def test_global_seeds_play_no_part() -> None:
    torch.manual_seed(0)
    first = SupportImages([task_of(10, 1)], 32).at(0).pixels
    torch.manual_seed(1)
    assert torch.equal(first, SupportImages([task_of(10, 1)], 32).at(0).pixels)


def test_views_in_turn_are_the_five_one_after_the_other():
    task = toy_task(world_table("mini-crops", 100, ("canker", "rust")), shots=2, seed=1, key=1)
    five = SupportImages([task], 64, "five").at(0)
    turn = SupportImages([task], 64, "turn")
    count = len(task.support)
    for step in range(7):
        found = turn.at(step)
        assert torch.equal(found.pixels[0], five.pixels[0].unflatten(0, (count, 5))[:, step % 5])
        assert torch.equal(found.samples[0], five.samples[0].view(count, 5)[:, step % 5])
        assert torch.allclose(found.weights, torch.full((1, count), 1 / count))

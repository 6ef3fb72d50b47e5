"""The overlay of an explanation lies where the model looked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot.explain.explanation import Explanation
from farshot.explain.overlay import LONGER, MARKED, marked_patches, overlay
from farshot.explain.page import About, write_explanations
from farshot.images.preprocess import prepare, seen_box


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, from 0 to 250 over the picture."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 250, width)[None]
    pixels[..., 1] = np.linspace(0, 250, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "reading",
    [
        "squash",
        "centre",
        "shortest-bicubic",
        "shortest-bicubic-floor",
        "shortest256-bilinear",
        "squash256-bicubic",
    ],
)
@pytest.mark.parametrize("size", [(600, 400), (400, 600), (500, 500)])
def test_the_box_is_what_a_reading_shows(reading: str, size: tuple[int, int]) -> None:
    width, height = size
    pixels = prepare(ramp(width, height), reading, 224).astype(float)
    left, top, right, bottom = seen_box(width, height, reading, 224)
    for at in (20, 112, 200):  # the ramps are straight: their value tells the place
        x = left + (at + 0.5) / 224 * (right - left)
        y = top + (at + 0.5) / 224 * (bottom - top)
        assert pixels[112, at, 0] == pytest.approx(250 * x / width, abs=1.5)
        assert pixels[at, 112, 1] == pytest.approx(250 * y / height, abs=1.5)


def test_the_box_of_a_very_long_picture_is_its_middle() -> None:
    left, top, right, bottom = seen_box(10_000, 10, "shortest-bicubic", 224)
    assert (left + right) / 2 == pytest.approx(5000, abs=1)
    assert (right - left, top, bottom) == (pytest.approx(10), 0, 10)


def shown(picture: Image.Image, reading: str, similarity: list[float]) -> Explanation:
    values = np.array(similarity, dtype=np.float32)
    return Explanation(
        image=picture,
        pixels=prepare(picture, reading, 64),
        class_names=("shoe", "hat"),
        probabilities=np.array([0.9, 0.1], dtype=np.float32),
        similarity=np.stack([values, -values], axis=1),
        attention=np.full(len(values), 1 / len(values), dtype=np.float32),
        reading=reading,
    )


def test_the_overlay_has_the_proportions_of_the_original_and_pales_what_was_cut_off() -> None:
    grey = Image.new("RGB", (300, 100), (60, 60, 60))
    drawn = overlay(shown(grey, "shortest-bicubic", [0.0] * 15 + [1.0]))
    assert (drawn.picture.size, drawn.marked, drawn.is_cut) == ((LONGER, LONGER // 3), True, True)
    pixels = np.asarray(drawn.picture).astype(int)
    assert (pixels[80, [5, -5]] > 150).all()  # left and right of the middle third
    assert pixels[40, 200].max() < 150
    whole = overlay(shown(grey, "squash", [0.0] * 15 + [1.0]))
    assert not whole.is_cut
    assert np.asarray(whole.picture)[40, 20].max() < 150


def test_the_patches_that_are_most_similar_are_marked_in_the_frame_of_the_original() -> None:
    grey = Image.new("RGB", (300, 100), (60, 60, 60))
    values = [0.0] * 16
    values[15] = values[14] = values[11] = 1.0  # three of sixteen are a fifth
    pixels = np.asarray(overlay(shown(grey, "squash", values)).picture).astype(int)
    blue = (np.abs(pixels - (0x00, 0x72, 0xB2)) < 12).all(-1)  # the colour of the first class
    rows, columns = np.nonzero(blue)
    assert len(rows) > 0
    assert columns.min() == pytest.approx(LONGER / 2, abs=4)
    assert rows.min() == pytest.approx(LONGER / 3 / 2, abs=4)
    light = pixels[145, 450] - pixels[20, 20]  # the map: yellow against dark blue
    assert light[0] > 30


def test_equal_patches_are_not_marked() -> None:
    flat = overlay(shown(Image.new("RGB", (50, 80)), "squash", [0.3] * 16))
    assert not flat.marked
    assert marked_patches(np.arange(100, dtype=np.float32)).sum() == MARKED * 100


def test_a_page_begins_with_one_sentence_and_folds_the_rest(tmp_path: Path) -> None:
    one = shown(Image.new("RGB", (300, 100), (60, 60, 60)), "shortest-bicubic", [0.0] * 15 + [1.0])
    about = About("mini", "linear-probe", one.class_names, calibrated=False)
    assert write_explanations(tmp_path / "out", [one], about, "its texts") == 1
    page = (tmp_path / "out" / "index.html").read_text()
    assert "The marked regions look most like <b><bdi>shoe</bdi></b> to the model." in page
    assert "pale edge" in page
    article = page[page.index("<article>") :]
    assert article.index("The marked regions") < article.index("<details>") < article.index("Similarity to A")
    assert "not why it is right" in page[: page.index("<article>")]

"""What a picture may cost: time, memory and bytes are bounded for all that reads pictures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farshot.images.costs import MOST_PIXELS, passes
from farshot.images.decode import check_size
from farshot.images.depth import scaled
from farshot.images.faults import Unreadable
from farshot.images.options import ReadOptions
from farshot.images.reading import image_id, read_image
from tests.image_bytes import encoded, refused
from tests.input_helpers import picture


def seconds_to(read, *arguments) -> float:
    began = time.process_time()
    read(*arguments)
    return time.process_time() - began


def test_a_line_of_deep_values_is_scaled_at_once_and_not_row_by_row() -> None:
    tall = np.random.default_rng(0).integers(0, 4096, (3_000_000, 1), dtype=np.uint16)
    wide = tall.reshape(1000, 3000)
    found = seconds_to(scaled, tall, ReadOptions()), seconds_to(scaled, wide, ReadOptions())
    assert found[0] < 10 * found[1] + 0.5  # row by row it was a hundred times
    assert np.array_equal(scaled(tall, ReadOptions())[0].ravel(), scaled(wide, ReadOptions())[0].ravel())


def test_a_jpeg_of_many_passes_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    whole = encoded(picture(3, 64, 64), "JPEG", progressive=True)
    assert 1 < passes(whole) < 30
    assert read_image(whole).size == (64, 64)
    scan = whole.index(b"\xff\xda")
    following = whole.index(b"\xff", scan + 2)
    while whole[following + 1] in (0, *range(0xD0, 0xD8)):
        following = whole.index(b"\xff", following + 2)
    many = whole[:following] + whole[scan:following] * 100 + whole[following:]
    (tmp_path / "many.jpg").write_bytes(many)
    for source in (many, tmp_path / "many.jpg"):
        assert "it is a JPEG in over 64 passes; save it again as an ordinary one" in refused(source)


@pytest.mark.parametrize(("kind", "most"), [("WEBP", 50), ("JPEG2000", 25)])
def test_formats_that_take_more_memory_may_have_fewer_pixels(kind: str, most: int) -> None:
    image = Image.new("L", (1, 1))
    image.format = kind
    with pytest.raises(Unreadable, match=f"is over {most} megapixels"):
        check_size(_sized(image, 10_000, 100 * most + 1), MOST_PIXELS)
    check_size(_sized(image, 10_000, 100 * most), MOST_PIXELS)


def _sized(image: Image.Image, width: int, height: int) -> Image.Image:
    image._size = (width, height)  # of a header, without the pixels
    return image


def test_a_file_of_gigabytes_is_refused_and_hashed_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(encoded(picture(1), "PNG"))
        file.truncate((2 << 30) + 1)
    assert "the file has over 2 GB; scale the picture down first" in refused(path)
    path.write_bytes(encoded(picture(1), "PNG"))
    assert image_id(path) == image_id(path.read_bytes())

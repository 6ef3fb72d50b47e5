"""An image that the caller opened with Pillow is read as its file is, or refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from farshot.images.identity import content_id
from farshot.images.options import ReadOptions
from farshot.images.reading import image_id, read_picture
from tests.image_bytes import encoded, png, refused, tiff

DEEP = np.array([[0, 100, 2000, 4095]], np.uint16)


def stored(values: np.ndarray, photometric: int, *more: tuple[int, int]) -> bytes:
    """A TIFF of these values, (height, width) or (height, width, bands)."""
    height, width, bands = (*values.shape, 1)[:3]
    entries = [(256, width), (257, height), (258, 8 * values.itemsize), (259, 1), (262, photometric)]
    entries += [(277, bands), (278, height), (279, values.nbytes), *more]
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    return tiff(*entries, (273, start), data=values.tobytes())


COLOURS = np.stack([DEEP, DEEP // 2, DEEP // 4], -1)
CLEAR = np.stack([DEEP, np.full_like(DEEP, 65535)], -1)
FILES = {
    "white at zero": stored(DEEP, 0),
    "fractions, white at zero": stored(np.array([[0, 0.25, 0.5, 1]], np.float32), 0, (339, 3)),
    "a declared largest value": stored(DEEP // 16, 1, (281, 4095)),
    "signed": stored(np.array([[-128, 0, 64, 127]], np.int8), 1, (339, 2)),
    "colours": stored(COLOURS, 2),
    "colours of a PNG": png(4, 1, 16, 2, b"\0" + COLOURS.astype(">u2").tobytes()),
    "clear grey of a PNG": png(4, 1, 16, 4, b"\0" + CLEAR.astype(">u2").tobytes()),
}


@pytest.mark.parametrize("kind", FILES)
def test_an_opened_image_is_the_picture_that_its_file_is(kind: str) -> None:
    image = Image.open(io.BytesIO(FILES[kind]))
    for _ in range(2):  # its id and its pixels may be asked for in any order
        found, wanted = read_picture(image), read_picture(FILES[kind])
        assert np.array_equal(np.asarray(found.image), np.asarray(wanted.image))
        assert found.notes == wanted.notes
        assert image_id(image) == image_id(FILES[kind])
        assert content_id(image) == content_id(FILES[kind])
    image.load()  # what was read did not disturb the image
    assert image.size == (4, 1)


def test_the_range_of_an_opened_ppm_is_of_the_values_that_it_stores() -> None:
    data = b"P5 2 1 1000\n" + struct.pack(">2H", 100, 500)
    found = read_picture(Image.open(io.BytesIO(data)), ReadOptions(range=(0, 500)))
    assert np.asarray(found.image)[0, :, 0].tolist() == [51, 255]


@pytest.mark.parametrize("kind", [kind for kind in FILES if "PNG" not in kind])
def test_a_decoded_tiff_whose_pixels_are_not_the_picture_is_refused(kind: str) -> None:
    image = Image.open(io.BytesIO(FILES[kind]))
    image.load()
    if kind == "a declared largest value":  # the pixels and the tag are all that is needed
        assert np.array_equal(
            np.asarray(read_picture(image).image), np.asarray(read_picture(FILES[kind]).image)
        )
    else:
        assert "give the file" in refused(image)
    read_picture(image.copy())


WIDE = np.random.default_rng(0).integers(0, 65536, (5, 6, 3), dtype=np.uint16)
NEAR = np.random.default_rng(1).integers(0, 256, (5, 6, 4), dtype=np.uint8)  # red, green, blue, near infrared


@pytest.mark.parametrize(("data", "most"), [(stored(WIDE, 2), 1), (stored(NEAR, 2, (338, 0)), 0)])
def test_a_decoded_tiff_whose_pixels_are_the_picture_is_read(data: bytes, most: int) -> None:
    image = Image.open(io.BytesIO(data))
    image.load()
    found, wanted = (np.asarray(read_picture(source).image).astype(int) for source in (image, data))
    assert np.abs(found - wanted).max() <= most


def test_a_later_page_of_an_opened_tiff_with_a_further_band_is_read() -> None:
    pages = [Image.fromarray(NEAR[::turn], "RGBX") for turn in (1, -1)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    wanted = read_picture(data, ReadOptions(page=2)).image
    assert np.array_equal(np.asarray(read_picture(image).image), np.asarray(wanted))
    assert np.array_equal(np.asarray(wanted), NEAR[::-1, :, :3])


def test_an_image_that_was_edited_is_read_as_it_is_now() -> None:
    image = Image.open(io.BytesIO(encoded(Image.fromarray(DEEP), "TIFF")))
    image.putpixel((0, 0), 4095)
    assert np.asarray(read_picture(image).image)[0, :, 0].tolist() == [255, 6, 125, 255]


@pytest.mark.parametrize("frame", [0, 2])
def test_the_note_on_an_opened_animation_names_its_frame(frame: int) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    image = Image.open(io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    image.seek(frame)
    found = read_picture(image)
    assert found.image.getpixel((0, 0)) == ((255, 0, 0), None, (0, 0, 255))[frame]
    assert found.notes[0].endswith(
        ("the first frame is read.", "", "the frame at which it is open is read.")[frame]
    )
